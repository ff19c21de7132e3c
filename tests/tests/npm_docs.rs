//! The pages of `docs/use`, held to the examples that they show.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bulla_tests::npm::examples;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// What files are there, by their path in the folder.
type Files = BTreeMap<String, String>;

#[test]
fn every_page_shows_its_example_whole() -> Outcome {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/use");
    let mut seen = 0;
    for example in fs::read_dir(examples())? {
        let example = example?;
        if !example.file_type()?.is_dir() {
            continue;
        }
        let name = example.file_name().display().to_string();
        let page = fs::read_to_string(pages.join(format!("{name}.md")))?;
        let mut files = Files::new();
        read(&example.path(), &example.path(), &mut files)?;
        assert_eq!(shown(&page), files, "{name}");
        let list = fs::read_to_string(pages.join("README.md"))?;
        assert!(list.contains(&format!("[{name}]({name}.md)")), "{name}");
        seen += 1;
    }
    // And this list.
    assert_eq!(fs::read_dir(pages)?.count(), seen + 1);
    Ok(())
}

#[test]
fn the_examples_are_served_under_the_policy_of_the_docs() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_to_string(root.join("docs/browser.md"))?;
    let policy = docs
        .split("```csp\n")
        .nth(1)
        .and_then(|rest| rest.lines().next());
    let policy = policy.ok_or("the docs have no policy")?;
    let server = fs::read_to_string(root.join("examples/src/bin/axum.rs"))?;
    // A string that goes on in the next line.
    let lines = server.split("\\\n").map(str::trim_start);
    let server: String = lines.collect();
    assert!(server.contains(&format!("\"{policy}\"")), "{policy}");
    Ok(())
}

fn read(root: &Path, folder: &Path, into: &mut Files) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(root, &path, into)?;
        } else {
            let name = path.strip_prefix(root)?.display().to_string();
            into.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The blocks that follow a line with a file's name.
fn shown(page: &str) -> Files {
    let mut files = Files::new();
    for (before, block) in page.split("```").zip(page.split("```").skip(1)).step_by(2) {
        let name = before.trim_end().lines().last().unwrap_or_default();
        let name = name
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix("`:"));
        if let (Some(name), Some((_, content))) = (name, block.split_once('\n')) {
            files.insert(name.to_owned(), content.to_owned());
        }
    }
    files
}
