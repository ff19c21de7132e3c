//! `docs/attacks.md`, as a whole. Each part of its table is compared with the rows of its test program there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bulla_tests::attack::{Outcome, put_into};

/// What is counted in the page.
const NAMES: &str = "names";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> Outcome<String> {
    Ok(fs::read_to_string(root().join("docs/attacks.md"))?)
}

/// The cells of the rows of all parts.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    for part in page.split("<!-- begin: ").skip(1) {
        let (name, rest) = part.split_once(" -->").unwrap_or_default();
        if name == NAMES {
            continue;
        }
        let (part, _) = rest.split_once("<!-- end: ").unwrap_or_default();
        let lines = part.lines().filter_map(|line| line.strip_prefix("| "));
        let cells = lines.map(|line| line.trim_end_matches(" |").split(" | ").collect());
        rows.extend(cells.skip(2));
    }
    rows
}

/// By what names are sorted: what they begin with, and their numbers.
fn order(name: &str) -> (String, Vec<u32>) {
    let numbers = name.split(|character: char| !character.is_ascii_digit());
    let numbers = numbers.filter_map(|number| number.parse().ok()).collect();
    let start = name.find(|character: char| character.is_ascii_digit());
    (name[..start.unwrap_or(name.len())].to_owned(), numbers)
}

/// How often each name stands in the table, and how many of these attacks succeed.
fn names(page: &str) -> String {
    let mut counted: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let rows = rows(page);
    for row in &rows {
        for name in row[5].split(", ") {
            let (all, succeed) = counted.entry(name).or_default();
            *all += 1;
            *succeed += usize::from(row[4].contains("**succeeds**"));
        }
    }
    let succeed = rows.iter().filter(|row| row[4].contains("**succeeds**"));
    let mut text = format!(
        "{} attacks, {} of which succeed with Bulla, too.\n\n| name | attacks | that succeed |\n| --- | --- | --- |\n",
        rows.len(),
        succeed.count()
    );
    let mut counted: Vec<_> = counted.into_iter().collect();
    counted.sort_by_key(|(name, _)| order(name));
    for (name, (all, succeed)) in counted {
        let _ = writeln!(text, "| {name} | {all} | {succeed} |");
    }
    text
}

#[test]
fn the_table_of_attacks_is_what_the_tests_say() -> Outcome {
    let page = page()?;
    let made = put_into(&page, NAMES, &names(&page))?;
    if std::env::var("BULLA_ATTACKS").is_ok_and(|what| what == "write") {
        fs::write(root().join("docs/attacks.md"), made)?;
    } else if made != page {
        return Err("what docs/attacks.md counts is out of date: cargo xtask attacks".into());
    }
    Ok(())
}

/// Else a part would be compared with nothing, or a program's rows stand nowhere.
#[test]
fn every_part_is_a_test_programs_and_every_program_has_one() -> Outcome {
    let page = page()?;
    let mut programs = BTreeSet::new();
    for entry in fs::read_dir(root().join("tests/tests"))? {
        let path = entry?.path();
        if path.is_file() && fs::read_to_string(&path)?.contains("\nbulla_tests::attacks! {\n") {
            programs.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    let marks = page
        .lines()
        .filter_map(|line| line.strip_prefix("<!-- begin: "));
    let parts = marks.filter_map(|rest| rest.strip_suffix(" -->"));
    let parts: Vec<_> = parts.filter(|name| *name != NAMES).collect();
    assert_eq!(
        parts.iter().copied().collect::<BTreeSet<_>>().len(),
        parts.len()
    );
    assert_eq!(
        parts
            .into_iter()
            .map(str::to_owned)
            .collect::<BTreeSet<_>>(),
        programs
    );
    Ok(())
}

#[test]
fn every_row_is_whole_and_there_is_none_like_it() -> Outcome {
    let page = page()?;
    let rows = rows(&page);
    assert!(rows.len() >= 60, "{}", rows.len());
    let mut seen = BTreeSet::new();
    for row in &rows {
        assert_eq!(row.len(), 7, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        assert!(seen.insert(row[0]), "two are called {}", row[0]);
    }
    Ok(())
}

/// The page says of each of these what is done about it, and what is not.
#[test]
fn every_name_is_one_that_the_page_speaks_of() -> Outcome {
    const LISTS: [(&str, std::ops::RangeInclusive<u32>); 3] = [
        ("WSTG-SESS-", 1..=11),
        ("RFC 9449 11.", 1..=11),
        ("API", 1..=10),
    ];
    let page = page()?;
    let (_, prose) = page
        .split_once("\n## By name\n")
        .ok_or("the page has no such part")?;
    let asvs = fs::read_to_string(root().join("docs/asvs.md"))?;
    let mut known = BTreeSet::new();
    for (list, numbers) in LISTS {
        for number in numbers {
            let name = match list {
                "WSTG-SESS-" => format!("{list}{number:02}"),
                _ => format!("{list}{number}"),
            };
            assert!(
                prose.contains(&format!("\n| {name} |")),
                "{name} is not spoken of"
            );
            known.insert(name);
        }
    }
    for row in rows(&page) {
        for name in row[5].split(", ") {
            let is_known = match name.strip_prefix("ASVS ") {
                Some(number) => asvs.contains(&format!("\n| {number} |")),
                None => known.contains(name),
            };
            assert!(is_known, "{name}, of {}", row[0]);
        }
    }
    Ok(())
}
