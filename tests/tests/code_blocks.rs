//! Every block of code in the documentation is compiled, run, read or compared by a test: this says by which.

use std::fs;
use std::path::{Path, PathBuf};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A page, or a folder and all pages in it; a language, or any; a test that looks at such blocks there, and the file that it is in.
type Checked = (&'static str, &'static str, &'static str, &'static str);

const CHECKED: &[Checked] = &[
    ("README.md", "ts", "all_compile", SCRIPTS),
    (
        "docs/browser.md",
        "csp",
        "the_docs_hold",
        "tests/tests/browser_docs.rs",
    ),
    (
        "docs/browser.md",
        "",
        "a_session_tells_its_story_and_no_secret",
        "tests/tests/browser_diagnostics.rs",
    ),
    ("docs/browser.md", "js", "what_is_javascript_runs", SCRIPTS),
    ("docs/browser.md", "ts", "all_compile", SCRIPTS),
    (
        "docs/dpop.md",
        "js",
        "a_token_is_of_use_to_its_device_only",
        "tests/tests/browser_dpop.rs",
    ),
    ("docs/events.md", "ts", "all_compile", SCRIPTS),
    (
        "docs/isolation.md",
        "csp",
        "the_policies_in_the_docs_hold",
        "tests/tests/browser_worker.rs",
    ),
    ("docs/isolation.md", "js", "all_compile", SCRIPTS),
    ("docs/isolation.md", "ts", "all_compile", SCRIPTS),
    ("docs/patching.md", "js", "all_compile", SCRIPTS),
    ("docs/patching.md", "ts", "all_compile", SCRIPTS),
    (
        "docs/service-worker.md",
        "csp",
        "what_is_to_be_copied_works",
        WORKER,
    ),
    (
        "docs/service-worker.md",
        "html",
        "what_is_to_be_copied_works",
        WORKER,
    ),
    ("docs/service-worker.md", "js", "all_compile", SCRIPTS),
    (
        "docs/operations.md",
        "haproxy",
        "requests_pass_sealed_and_signed",
        "tests/tests/proxies.rs",
    ),
    (
        "docs/operations.md",
        "nginx",
        "requests_pass_sealed_and_signed",
        "tests/tests/proxies.rs",
    ),
    (
        "docs/gateway/other-proxies.md",
        "nginx",
        "what_is_signed_passes_with_whose_it_is",
        DECISION,
    ),
    (
        "docs/gateway/other-proxies.md",
        "yaml",
        "what_is_signed_passes_with_whose_it_is",
        DECISION,
    ),
    (
        "docs/gateway/",
        "toml",
        "every_piece_of_configuration_in_the_docs_is_read",
        CONFIG,
    ),
    (
        "docs/gateway/configuration.md",
        "text",
        "what_the_docs_say_of_what_is_wrong_is_said",
        CONFIG,
    ),
    (
        "docs/protocol.md",
        "http",
        "the_worked_example_is_that_of_the_vectors",
        VECTORS,
    ),
    (
        "docs/protocol.md",
        "json",
        "the_worked_example_is_that_of_the_vectors",
        VECTORS,
    ),
    (
        "docs/protocol.md",
        "text",
        "the_worked_example_is_that_of_the_vectors",
        VECTORS,
    ),
    (
        "docs/use/",
        "*",
        "every_page_shows_its_example_whole",
        "tests/tests/npm_docs.rs",
    ),
    (
        "examples/python/README.md",
        "python",
        "what_its_page_shows_runs",
        "tests/tests/interop_python.rs",
    ),
    ("npm/README.md", "js", "all_compile", SCRIPTS),
];

const SCRIPTS: &str = "examples/tests/scripts.rs";
const WORKER: &str = "tests/tests/browser_sw_docs.rs";
const DECISION: &str = "tests/tests/gateway_decision.rs";
const CONFIG: &str = "crates/gateway/tests/config.rs";
const VECTORS: &str = "vectors/tests/vectors.rs";

#[test]
fn every_block_is_looked_at_by_a_test() -> Outcome {
    let mut pages = ["README.md", "npm/README.md", "examples/python/README.md"]
        .map(PathBuf::from)
        .to_vec();
    pages_below(Path::new("docs"), &mut pages)?;
    let mut used = [false; CHECKED.len()];
    let mut missed = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(root().join(page))?;
        let page = page.to_str().ok_or("a path that is no text")?;
        for Block { language, content } in blocks(&text) {
            let is_checked = match language.split(',').next() {
                Some("rust") => is_compiled(page)?,
                Some("sh") => content.lines().all(|line| is_known(line).unwrap_or(false)),
                Some("toml") if !page.starts_with("docs/gateway/") => content.lines().all(is_there),
                _ => {
                    let fits = |(place, of, ..): &Checked| {
                        is_at(page, place) && [language, "*"].contains(of)
                    };
                    let at = CHECKED.iter().position(fits);
                    at.map(|at| used[at] = true).is_some()
                }
            };
            if !is_checked {
                missed.push(format!("{page}, {language}: {content}"));
            }
        }
    }
    assert_eq!(missed, [""; 0]);
    for ((place, language, test, file), used) in CHECKED.iter().zip(used) {
        assert!(used, "there is no {language} in {place}");
        let text = fs::read_to_string(root().join(file))?;
        assert!(
            text.contains(&format!("fn {test}(")),
            "{file} has no {test}"
        );
        let name = place.rsplit('/').next().filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| place.trim_end_matches('/'));
        assert!(text.contains(name), "{file} does not speak of {place}");
    }
    Ok(())
}

struct Block<'a> {
    language: &'a str,
    content: &'a str,
}

fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    // Within a line it is no fence.
    let pieces = text.split("\n```").skip(1).step_by(2);
    pieces.filter_map(|piece| {
        let (language, content) = piece.split_once('\n')?;
        Some(Block { language, content })
    })
}

fn is_at(page: &str, place: &str) -> bool {
    page == place || (place.ends_with('/') && page.starts_with(place))
}

/// Whether a page's Rust is a documentation test.
fn is_compiled(page: &str) -> Outcome<bool> {
    let pages = fs::read_to_string(root().join("examples/src/lib.rs"))?;
    Ok(pages.contains(&format!("\"../../{page}\"")))
}

/// Whether a dependency is where it is said to be.
fn is_there(line: &str) -> bool {
    let path = line.split_once("path = \"../bulla/");
    let path = path.and_then(|(_, rest)| rest.split('"').next());
    path.is_none_or(|path| root().join(path).join("Cargo.toml").exists())
}

/// Whether what somebody is to type is there.
fn is_known(line: &str) -> Outcome<bool> {
    let command = line.split('#').next().unwrap_or_default();
    let words: Vec<_> = command
        .split_whitespace()
        .skip_while(|word| word.contains('='))
        .collect();
    let says = |path: &str, what: String| {
        fs::read_to_string(root().join(path)).map(|text| text.contains(&what))
    };
    Ok(match words[..] {
        ["cargo", "xtask", name] | ["cargo", "xtask", name, ..] => {
            says("xtask/src/main.rs", format!("\n  {name} "))?
        }
        ["cargo", "build", "--release", "--package", name] => {
            says("crates/gateway/Cargo.toml", format!("name = \"{name}\""))?
        }
        ["cargo", "run", "-p", "bulla-examples", "--bin", name, ..] => {
            says("examples/Cargo.toml", format!("name = \"{name}\""))?
        }
        ["npm", "install", tarball] => {
            let version = tarball.strip_prefix("../bulla/target/package/bulla-");
            let version = version.and_then(|version| version.strip_suffix(".tgz"));
            says(
                "npm/package.json",
                format!("\"version\": \"{}\"", version.unwrap_or_default()),
            )?
        }
        ["bulla-gateway", ref rest @ ..] => {
            let options = rest.iter().filter_map(|word| word.strip_prefix("--"));
            let known = |name| says("crates/gateway/src/cli/mod.rs", format!("\n    {name}: "));
            options.map(known).all(|known| known.unwrap_or(false))
        }
        // As the set-up of its tests does it.
        ["python3", "-m", "venv", "venv"] | ["venv/bin/pip", ..] => {
            says("xtask/src/apps.rs", "--only-binary".to_owned())?
        }
        // A file of the same page.
        ["node", "main.js", ..] => true,
        _ => false,
    })
}

fn pages_below(folder: &Path, into: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(root().join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            pages_below(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.push(path);
        }
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
