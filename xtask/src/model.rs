use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::Outcome;
use crate::project::{self, Project, ask, say, since};

const FOLDER: &str = "docs/model";

/// The checker. That its crate asks for a later Rust than ours is a wish: it compiles with ours.
const VERIFPAL: &str = "1.6.7";

/// How often each side runs at once in what is checked. With one alone nothing can be replayed.
const SESSIONS: &str = "2";

/// A model and the variants of it, which are written between its lines: see `docs/model/README.md`.
struct Model {
    name: String,
    text: String,
    variants: Vec<Variant>,
}

struct Variant {
    name: String,
    /// Verifpal's result code: a letter and a digit for each query, 1 where there is an attack.
    expected: String,
    /// Where the same is shown of the real thing, or said of it: a file, `#`, and a test or a sentence.
    shown: Vec<String>,
}

/// Has each variant of each model checked, or of those whose names are given, and compares what is found with
/// what the model says is found.
pub(crate) fn run(project: &mut Project, names: &[&str]) -> Outcome {
    let models = read(Path::new(FOLDER))?;
    if let Some(unknown) = names
        .iter()
        .find(|name| !models.iter().any(|model| model.name == **name))
    {
        return Err(format!("there is no model `{unknown}` in {FOLDER}").into());
    }
    set_up(project)?;

    let folder = project.target.join("model");
    fs::create_dir_all(&folder)?;
    let mut wrong = Vec::new();
    let chosen = |model: &&Model| names.is_empty() || names.contains(&model.name.as_str());
    for model in models.iter().filter(chosen) {
        for variant in &model.variants {
            let name = format!("{}.{}", model.name, variant.name);
            let file = folder.join(format!("{name}.vp"));
            fs::write(&file, model.with(&variant.name))?;
            let start = Instant::now();
            let mut verifpal = project.command("verifpal");
            verifpal.args(["verify", "--quiet", "--result-code", "--sessions", SESSIONS]);
            let output = ask(verifpal.arg(&file));
            let found = output.as_deref().and_then(|output| output.lines().last());
            let found = found.unwrap_or("nothing, but an error");
            say(&format!("{name}: {found} ({})", since(start)));
            if found != variant.expected {
                let file = file.display();
                wrong.push(format!("{file}: {found}, not {}", variant.expected));
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n  ").into())
    }
}

fn set_up(project: &mut Project) -> Outcome {
    let root = project.tools().join("verifpal");
    project.prefer(root.join("bin"));
    let version = ask(project.command("verifpal").arg("--version"));
    if version.is_some_and(|version| version.split(' ').nth(1) == Some(VERIFPAL)) {
        return Ok(());
    }
    say(&format!(
        "missing: Verifpal {VERIFPAL}; compiling it takes about 4 minutes"
    ));
    let mut install = project.cargo(&["install", "verifpal", "--version", VERIFPAL]);
    install
        .args(["--locked", "--ignore-rust-version", "--root"])
        .arg(root);
    project::run(&mut install)
}

fn read(folder: &Path) -> Outcome<Vec<Model>> {
    let mut models = Vec::new();
    for file in project::files(folder, "vp")? {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(&file)?;
        models.push(Model::parse(&name, text));
    }
    Ok(models)
}

impl Model {
    fn parse(name: &str, text: String) -> Self {
        let mut variants: Vec<Variant> = Vec::new();
        for line in text.lines() {
            if let Some((name, expected)) = line
                .strip_prefix("//= ")
                .and_then(|line| line.split_once(": "))
            {
                variants.push(Variant {
                    name: name.to_owned(),
                    expected: expected.to_owned(),
                    shown: Vec::new(),
                });
            } else if let Some(shown) = line.strip_prefix("//      ")
                && let Some(variant) = variants.last_mut()
            {
                variant.shown.push(shown.to_owned());
            }
        }
        Self {
            name: name.to_owned(),
            text,
            variants,
        }
    }

    /// The text of one variant. A line that ends in `//+ a, b` is in those alone, one with `//- a, b` in all others.
    fn with(&self, variant: &str) -> String {
        let mut text = String::new();
        for line in self.text.lines() {
            let (code, is_in) = match marked(line) {
                None => (line, true),
                Some((code, wanted, names)) => {
                    let is_among = names.split(", ").any(|name| name == variant);
                    (code, is_among == wanted)
                }
            };
            if is_in {
                text.push_str(code);
                text.push('\n');
            }
        }
        text
    }
}

/// A line's code, whether the variants that follow are those that have it, and their names.
fn marked(line: &str) -> Option<(&str, bool, &str)> {
    let with = line
        .split_once(" //+ ")
        .map(|(code, names)| (code, true, names));
    with.or_else(|| {
        line.split_once(" //- ")
            .map(|(code, names)| (code, false, names))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    fn page() -> String {
        fs::read_to_string(root().join(FOLDER).join("README.md")).unwrap()
    }

    fn models() -> Vec<Model> {
        let models = read(&root().join(FOLDER)).unwrap();
        assert!(!models.is_empty());
        models
    }

    #[test]
    fn a_variant_has_its_own_lines_and_lacks_those_of_others() {
        let text = "//= base: c0\n//= weak: c1\n//      a.rs#b\none\ntwo //- weak\nthree //+ other, weak\n";
        let model = Model::parse("m", text.to_owned());
        let [base, weak] = &model.variants[..] else {
            panic!("two variants");
        };
        assert_eq!((&*base.name, &*base.expected), ("base", "c0"));
        assert_eq!(
            (&*weak.expected, &weak.shown[..]),
            ("c1", &["a.rs#b".to_owned()][..])
        );
        let lines = |variant| -> Vec<String> {
            let text = model.with(variant);
            text.lines().skip(3).map(str::to_owned).collect()
        };
        assert_eq!(lines("base"), ["one", "two"]);
        assert_eq!(lines("weak"), ["one", "three"]);
        assert_eq!(lines("other"), ["one", "two", "three"]);
    }

    /// Else an attack could be left out of the table, or a line belong to no variant.
    #[test]
    fn every_variant_differs_and_every_mark_is_of_a_variant() {
        let page = page();
        for model in models() {
            assert_eq!(model.variants[0].name, "base", "{}", model.name);
            assert!(
                page.contains(&format!("({}.vp)", model.name)),
                "{}",
                model.name
            );
            for variant in &model.variants[1..] {
                let what = format!("{} {}", model.name, variant.name);
                assert!(model.with("base") != model.with(&variant.name), "{what}");
                assert!(variant.expected.contains('1'), "{what}");
                assert!(page.contains(&format!("`{}`", variant.name)), "{what}");
            }
            let marks = model.text.lines().filter_map(marked);
            for name in marks.flat_map(|(_, _, names)| names.split(", ")) {
                let known = model.variants.iter().any(|variant| variant.name == name);
                assert!(known, "{}: {name}", model.name);
            }
        }
    }

    #[test]
    fn each_attack_is_a_test_or_stands_in_the_threat_model() {
        let page = page();
        for model in models() {
            for variant in model.variants {
                let what = format!("{} {}", model.name, variant.name);
                if variant.expected.contains('1') {
                    assert!(!variant.shown.is_empty(), "{what} is shown nowhere");
                }
                for shown in variant.shown {
                    let (file, name) = shown.split_once('#').unwrap();
                    let text = fs::read_to_string(root().join(file)).unwrap();
                    let is_there = if Path::new(file).extension().is_some_and(|kind| kind == "rs") {
                        text.contains(&format!("fn {name}(")) && page.contains(&format!("`{name}`"))
                    } else {
                        text.contains(name)
                    };
                    assert!(is_there, "{what}: {shown}");
                }
            }
        }
    }
}
