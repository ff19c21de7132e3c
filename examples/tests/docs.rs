//! The tables of the documentation, held against the code.
#![allow(clippy::unwrap_used, clippy::panic)] // in tests a surprise may panic

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bulla_protocol::field::is_benign;
use bulla_protocol::limits::{
    DEFAULT_PREFIX, MAX_OPENING_LEN, MAX_RECORD_SIZE, MAX_SUBJECT_LEN, MAX_TICKET_LEN,
};
use bulla_server::{
    Bulla, Code, Identity, Lifetimes, Limits, MemoryStore, Pace, Ring, Rule, SystemRandom,
};
use tower::ServiceExt as _;

const SERVER: &str = include_str!("../../docs/server.md");
const BROWSER: &str = include_str!("../../docs/browser.md");
const PROTOCOL: &str = include_str!("../../docs/protocol.md");
const TYPES: &str = include_str!("../../npm/index.d.ts");

/// The rows of all tables whose first cell is in backticks: that, and the other cells.
fn rows(page: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    page.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` |")?;
        let cells = rest.trim_end().trim_end_matches('|');
        Some((name, cells.split(" |").map(str::trim).collect()))
    })
}

/// The rows of the table below the first heading that is this one.
fn below<'a>(page: &'a str, heading: &str) -> Vec<(&'a str, Vec<&'a str>)> {
    let (_, below) = page.split_once(heading).unwrap();
    let section = below.split("\n## ").next().unwrap();
    rows(section).collect()
}

#[test]
fn every_code_is_listed_everywhere() {
    let all: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    for (page, heading) in [
        (SERVER, "\n## Refusals"),
        (BROWSER, "\n## Errors"),
        (PROTOCOL, "\n## Refusals"),
    ] {
        let listed = below(page, heading);
        let names: Vec<_> = listed.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, all);
    }
    for (name, cells) in below(SERVER, "\n## Refusals") {
        let code: Code = name.parse().unwrap();
        let (status, noticed_by) = match code.status() {
            0 => (String::new(), "client"),
            status => (status.to_string(), "server"),
        };
        assert_eq!(cells[..2], [status.as_str(), noticed_by], "{name}");
        assert!(!cells[2].is_empty(), "{name}");
    }
    let (_, types) = TYPES.split_once("type BullaErrorCode =").unwrap();
    let types = types.split(';').next().unwrap().lines();
    let types: Vec<_> = types
        .filter_map(|line| Some(line.trim().strip_prefix("| \"")?.trim_end_matches('"')))
        .collect();
    assert_eq!(types, all);
}

#[test]
fn defaults_are_as_listed() {
    let table: BTreeMap<_, _> = below(SERVER, "\n## Options").into_iter().collect();
    let default = |name: &str| table[name][0].parse::<u64>().unwrap();
    let lifetimes = Lifetimes::default();
    for (name, duration) in [
        ("nonce", lifetimes.nonce),
        ("ticket", lifetimes.ticket),
        ("session", lifetimes.session),
        ("carry_over", lifetimes.carry_over),
    ] {
        assert_eq!(Duration::from_secs(default(name)), duration, "{name}");
    }
    let limits = Limits::default();
    for (name, limit) in [
        ("max_head_len", limits.max_head_len),
        ("max_fields", limits.max_fields),
        ("max_body_len", limits.max_body_len),
    ] {
        assert_eq!(usize::try_from(default(name)), Ok(limit), "{name}");
    }
    let pace = Pace::default();
    assert_eq!(Duration::from_secs(default("grace")), pace.grace);
    assert_eq!(default("rate"), u64::from(pace.rate));
    let cells = |name: &str| table[name][1].replace(',', "");
    let (graces, rates) = (Pace::GRACES, Pace::RATES);
    let (shortest, longest) = (graces.start().as_secs(), graces.end().as_secs());
    assert!(cells("grace").ends_with(&format!("{shortest} to {longest}")));
    assert!(cells("rate").ends_with(&format!("{} to {}", rates.start(), rates.end())));
    assert_eq!(table["prefix"][1], format!("`{DEFAULT_PREFIX}`"));
    let hours = Ring::DEFAULT_PERIOD.as_secs() / 3600;
    for sentence in [
        format!(
            "a record has {MAX_RECORD_SIZE} bytes at most, an opening {MAX_OPENING_LEN}, a ticket \
             {MAX_TICKET_LEN}, a subject {MAX_SUBJECT_LEN}."
        ),
        format!("{} by default, of", MemoryStore::DEFAULT_CAPACITY),
        format!("{} by default, some", MemoryStore::DEFAULT_QUOTA),
        format!("{} by default, some 70", MemoryStore::DEFAULT_REVOCATIONS),
        format!("One user has {} of\nthem", MemoryStore::REVOCATIONS_QUOTA),
        format!("A key seals for {hours} hours"),
    ] {
        assert!(SERVER.contains(&sentence), "{sentence}");
    }
}

/// The code of the builder, for its options.
#[test]
fn every_option_is_listed() {
    const CODE: &str = include_str!("../../crates/server/src/builder.rs");
    let (_, builder) = CODE.split_once("impl Builder {").unwrap();
    let mut options: Vec<_> = builder
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub fn ")?.split('(').next())
        .filter(|name| *name != "build")
        .collect();
    let mut listed: Vec<_> = below(SERVER, "\n## Options")
        .into_iter()
        .take_while(|(name, _)| *name != "nonce")
        .map(|(name, _)| name)
        .collect();
    options.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, options);

    let options: Vec<_> = below(BROWSER, "\n## Opening")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let (_, types) = TYPES.split_once("interface OpenOptions {").unwrap();
    let types = types.split("\n}").next().unwrap().lines();
    let types: Vec<_> = types
        .filter(|line| line.ends_with(';'))
        .filter_map(|line| Some(line.trim().split(':').next()?.trim_end_matches('?')))
        .collect();
    assert_eq!(options, types);
}

/// The code of the events, for their names.
#[test]
fn every_kind_of_event_is_listed() {
    const CODE: &str = include_str!("../../crates/server/src/event/mod.rs");
    let (_, names) = CODE.split_once("fn name(&self)").unwrap();
    let names = names.split("\n    }").next().unwrap().split('"');
    let names: Vec<_> = names.skip(1).step_by(2).collect();
    let listed: Vec<_> = below(SERVER, "\n<!-- events:")
        .into_iter()
        .map(|(name, _)| name)
        .take_while(|name| *name != "time")
        .collect();
    assert!(names.len() > 9, "{names:?}");
    assert_eq!(listed, names);
}

/// The names in the last column, of whatever there is a test.
#[test]
fn what_is_said_to_show_a_requirement_is_there() {
    const PAGE: &str = include_str!("../../docs/asvs.md");
    let mut tests = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in ["crates", "tests", "examples"] {
        read_all(&root.join(folder), &mut tests);
    }
    let mut names = 0;
    for row in PAGE.lines().filter(|line| line.starts_with("| ")) {
        let shown = row.trim_end_matches('|').rsplit('|').next().unwrap();
        for name in shown.split('`').skip(1).step_by(2) {
            assert!(tests.contains(&format!("fn {name}(")), "{name}");
            names += 1;
        }
    }
    assert!(names > 60, "{names}");
}

fn read_all(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_rule_is_listed() {
    let listed: Vec<_> = below(SERVER, "\n### Rules")
        .into_iter()
        .map(|(name, _)| name)
        .take_while(|name| *name != "Record")
        .collect();
    let names: Vec<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(listed, names);
}

#[test]
fn fields_that_handlers_see_are_as_listed() {
    let (_, section) = SERVER.split_once("of what browsers add").unwrap();
    let listed = section.split(". ").next().unwrap();
    let names: Vec<_> = listed.split('`').skip(1).step_by(2).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        assert!(is_benign(&name.replace('*', "site")), "{name}");
    }
}

#[tokio::test]
async fn exposed_fields_are_as_listed() {
    let bulla = Bulla::builder()
        .origin("https://bank.example")
        .allow_origin("https://app.example")
        .identity(Identity::generate(&SystemRandom).unwrap())
        .store(MemoryStore::new().unwrap())
        .build()
        .unwrap();
    let app = bulla.protect(axum::Router::new());
    let request = http::Request::get("/")
        .header("host", "bank.example")
        .header("origin", "https://app.example")
        .body(axum::body::Body::empty())
        .unwrap();
    let reply = app.oneshot(request).await.unwrap();
    let exposed = reply.headers()["access-control-expose-headers"].to_str();
    let exposed: Vec<_> = exposed.unwrap().split(", ").collect();
    let (_, section) = SERVER.split_once("Exposed are").unwrap();
    let listed = section.split(". ").next().unwrap();
    let listed: Vec<_> = listed.split('`').skip(1).step_by(2).collect();
    assert_eq!(listed, exposed);
}
