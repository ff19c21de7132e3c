//! The links of the docs: each leads to a file that is there, and to a heading of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// What stands before a path where a page is shown elsewhere than here.
const ABROAD: &str = "https://github.com/bulla-dev/bulla/blob/main/";

#[test]
fn every_link_of_the_docs_leads_somewhere() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages: Vec<_> = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "benches/README.md",
        "examples/python/README.md",
        "npm/README.md",
        "vectors/README.md",
    ]
    .map(PathBuf::from)
    .into();
    pages_below(&root, Path::new("docs"), &mut pages)?;
    assert!(pages.contains(&"docs/gateway/README.md".into()));
    assert_eq!(wrong(&root, &pages)?, [""; 0]);
    Ok(())
}

#[test]
fn links_that_lead_nowhere_are_found() -> Outcome {
    let root = tempfile::tempdir()?;
    let root = root.path();
    fs::create_dir_all(root.join("docs/use"))?;
    fs::write(root.join("docs/picture.png"), "")?;
    let twice = "# Times, sizes\n## The [page](#a)'s `to_be`\n### Keys\n```sh\n# No heading\n```\n## Keys\n";
    fs::write(root.join("docs/page.md"), twice)?;
    let links = "[a](../page.md) [b
c](../page.md#times-sizes) [`d`](../page.md#the-pages-to_be) [e](../page.md#keys-1) [f](#here) [g](..) [h](https://a.example#b)
![i](../picture.png \"A picture\") [j](https://github.com/bulla-dev/bulla/blob/main/docs/page.md#keys)
`[no link](nowhere.md)`
```md
[none](nowhere.md)
```
# Here
[k]: ../page.md#keys
<img src=\"../picture.png\">
[1](page.md) [2](../page.md#times,-sizes) [3](../page.md#no-heading) [`4`](../page.md#keys-2)
[5](#there) [6](../Page.md) [7](../../../docs/page.md) [8](../picture.png#keys)
[9](https://github.com/bulla-dev/bulla/blob/main/page.md)
[10]: ../page.md#key
<img src=\"picture.png\">
";
    fs::write(root.join("docs/use/links.md"), links)?;
    let mut pages = Vec::new();
    pages_below(root, Path::new("docs"), &mut pages)?;
    let mut found = wrong(root, &pages)?;
    found.sort();
    let mut expected = [
        "docs/page.md: #a",
        "docs/use/links.md: page.md",
        "docs/use/links.md: ../page.md#times,-sizes",
        "docs/use/links.md: ../page.md#no-heading",
        "docs/use/links.md: ../page.md#keys-2",
        "docs/use/links.md: #there",
        "docs/use/links.md: ../Page.md",
        "docs/use/links.md: ../../../docs/page.md",
        "docs/use/links.md: ../picture.png#keys",
        "docs/use/links.md: https://github.com/bulla-dev/bulla/blob/main/page.md",
        "docs/use/links.md: ../page.md#key",
        "docs/use/links.md: picture.png",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
    Ok(())
}

/// The pages in a folder and in those below it, by their paths from the root.
fn pages_below(root: &Path, folder: &Path, into: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            pages_below(root, &path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.push(path);
        }
    }
    Ok(())
}

/// The links of these pages that lead nowhere, each with its page.
fn wrong(root: &Path, pages: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut wrong = Vec::new();
    for page in pages {
        let text = fs::read_to_string(root.join(page))?;
        let links = links(&text);
        let lost = links.into_iter().filter(|link| !leads(root, page, link));
        wrong.extend(lost.map(|link| format!("{}: {link}", page.display())));
    }
    Ok(wrong)
}

/// Whether what a page links to is there. What other sites have is not asked for.
fn leads(root: &Path, page: &Path, link: &str) -> bool {
    let (folder, link) = match link.strip_prefix(ABROAD) {
        Some(path) => (Path::new(""), path),
        None if link.contains("://") => return true,
        None => (page.parent().unwrap_or(Path::new("")), link),
    };
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (link, None),
    };
    let target = match path {
        "" => Some(page.to_owned()),
        path => within(&folder.join(path)),
    };
    let Some(target) = target.map(|path| root.join(path)) else {
        return false;
    };
    match anchor {
        None => target.exists(),
        Some(anchor) => {
            let is_page = target
                .extension()
                .is_some_and(|extension| extension == "md");
            is_page && fs::read_to_string(target).is_ok_and(|text| anchors(&text).contains(anchor))
        }
    }
}

/// A path without its `..`, unless these lead out of the root.
fn within(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir if plain.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(plain)
}

/// Where a page's links lead: those in its text, its references, and its pictures.
fn links(page: &str) -> Vec<String> {
    let mut links = Vec::new();
    let text = prose(page).join("\n");
    for paragraph in text.split("\n\n") {
        // What stands between backticks is code.
        let words: String = paragraph.split('`').step_by(2).collect();
        for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
            let after = words.split(opening).skip(1);
            let targets = after.filter_map(|rest| rest.split_once(closing));
            // A title may follow.
            let targets = targets.filter_map(|(target, _)| target.split_whitespace().next());
            links.extend(targets.map(str::to_owned));
        }
        let definitions = words.lines().filter(|line| line.starts_with('['));
        let targets = definitions.filter_map(|line| line.split_once("]: "));
        links.extend(targets.map(|(_, target)| target.trim().to_owned()));
    }
    links
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let headings = prose(page).into_iter().filter_map(|line| {
        let text = line.trim_start_matches('#');
        let is_heading = text.len() < line.len() && text.starts_with(' ');
        is_heading.then_some(text)
    });
    let anchors = headings.map(|heading| {
        let anchor = anchor(heading);
        let count = seen.entry(anchor.clone()).or_default();
        *count += 1;
        match *count {
            1 => anchor,
            // Those after the first are numbered.
            count => format!("{anchor}-{}", count - 1),
        }
    });
    anchors.collect()
}

/// What is left of a heading: small letters, digits, hyphens and underscores. Spaces become hyphens.
fn anchor(heading: &str) -> String {
    let mut parts = heading.split("](");
    let first = parts.next().unwrap_or_default();
    // Of a link only the words count.
    let others = parts.map(|part| part.split_once(')').map_or("", |(_, rest)| rest));
    let words: String = std::iter::once(first).chain(others).collect();
    let kept = words.trim().chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        letter => letter.is_alphanumeric().then_some(letter),
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// The lines of a page that are not within blocks of code.
fn prose(page: &str) -> Vec<&str> {
    let mut is_code = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect()
}
