//! Every vector holds, none is out of date, and none is missing.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bulla_protocol::error::Code;
use bulla_vectors::cases::{FILES, File};
use bulla_vectors::{Vector, corpus, example, exchange, run};
use serde_json::{Value, json};

#[test]
fn every_vector_holds() {
    for file in &FILES {
        let judge = |vector: &Vector| vector.judge(exchange::run(&vector.step, &vector.input));
        for outcome in file.vectors().iter().map(judge) {
            assert_eq!(outcome.failure, None, "{}: {}", file.name, outcome.name);
        }
    }
}

#[test]
fn browsers_run_all_pure_ones() {
    for file in FILES.iter().filter(|file| file.pure) {
        for outcome in run(file.text).unwrap() {
            assert_eq!(outcome.failure, None, "{}: {}", file.name, outcome.name);
        }
    }
}

#[test]
fn the_files_are_up_to_date() {
    for file in &FILES {
        let (mut old, mut new) = (file.vectors(), parse(&file.generate()));
        if file.name == "exchanges" {
            // Tickets and nonces are the server's own business, and may change with it.
            for vector in old.iter_mut().chain(&mut new) {
                vector.input = Value::Null;
            }
        }
        assert!(
            old == new,
            "{}.json is out of date: cargo run -p bulla-vectors --bin generate",
            file.name
        );
    }
}

#[test]
fn every_fuzz_target_has_seeds_and_they_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let seeds = corpus::seeds();
    for (name, seed) in &seeds {
        assert!(
            fs::read(folder.join("corpus").join(name)).ok().as_ref() == Some(seed),
            "{name} is out of date: cargo run -p bulla-vectors --bin generate"
        );
    }
    for target in fs::read_dir(folder.join("fuzz_targets")).unwrap() {
        let target = target.unwrap().path();
        let name = target.file_stem().unwrap().to_str().unwrap();
        let folder = folder.join("corpus").join(name);
        let count = fs::read_dir(folder).map_or(0, Iterator::count);
        assert!(count > 0, "{name} has no seed");
    }
}

#[test]
fn every_code_has_a_vector_that_is_refused_with_it() {
    let vectors = FILES.iter().flat_map(File::vectors);
    let found: BTreeSet<String> = vectors.filter_map(|vector| vector.code).collect();
    for code in Code::ALL {
        assert!(found.contains(code.as_str()), "{code} has no vector");
    }
    // What a server refuses with is shown by whole exchanges with one.
    let exchanges = FILES.iter().filter(|file| file.name == "exchanges");
    let found: BTreeSet<String> = exchanges
        .flat_map(File::vectors)
        .filter_map(|vector| vector.code)
        .collect();
    for code in Code::ALL.iter().filter(|code| code.status() != 0) {
        assert!(found.contains(code.as_str()), "{code} has no exchange");
    }
}

fn parse(file: &str) -> Vec<Vector> {
    serde_json::from_str(file).unwrap()
}

#[test]
fn names_are_distinct_and_every_vector_expects_something() {
    for file in &FILES {
        let mut names = BTreeSet::new();
        for vector in file.vectors() {
            assert!(
                vector.out.is_some() != vector.code.is_some(),
                "{}",
                vector.name
            );
            assert!(
                names.insert((vector.step.clone(), vector.name.clone())),
                "{} {}",
                vector.step,
                vector.name
            );
        }
    }
}

#[test]
fn a_vector_that_does_not_hold_is_noticed() {
    for file in FILES.iter().filter(|file| file.pure) {
        for mut vector in file.vectors() {
            match (&mut vector.out, &mut vector.code) {
                (Some(out), _) => *out = json!("something else"),
                (_, Some(code)) => *code = "something_else".to_owned(),
                _ => unreachable!("every vector expects something"),
            }
            let outcome = vector.judge(exchange::run(&vector.step, &vector.input));
            assert!(outcome.failure.is_some(), "{}", vector.name);
        }
    }
}

#[test]
fn the_worked_example_is_that_of_the_vectors() {
    let page = include_str!("../../docs/protocol.md");
    assert!(
        example::put_into(page) == page,
        "docs/protocol.md is out of date: cargo run -p bulla-vectors --bin generate"
    );
    // Its values stand in the vectors, as other halves run them.
    let vectors = FILES.iter().map(|file| file.text).collect::<String>();
    for start in ["\"@method\": POST", "bulla=:"] {
        let line = page.lines().find(|line| line.contains(start)).unwrap();
        let line = line.rsplit(": ").next().unwrap().trim_end_matches('`');
        assert!(vectors.contains(line), "{line}");
    }
}

#[test]
fn the_table_of_codes_is_complete() {
    let page = include_str!("../../docs/protocol.md");
    for code in Code::ALL {
        let status = match code.status() {
            0 => String::new(),
            status => status.to_string(),
        };
        let row = format!("| `{code}` | {status} |");
        assert!(page.contains(&row.replace("|  |", "| |")), "{row}");
    }
}
