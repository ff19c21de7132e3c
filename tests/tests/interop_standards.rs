//! The standards that the protocol stands on, as others have written them: their libraries under our vectors, and what
//! they make under our rules.

use std::env;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use bulla_tests::attack::Outcome;
use bulla_vectors::{Vector, step};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Told {
    /// What they make of the vectors: by step, names of those that they read as ours do, refuse, or read as something
    /// else.
    told: Value,
    /// What they have made, and altered.
    made: Vec<Vector>,
}

#[test]
fn others_read_what_ours_make_and_refuse_what_is_altered() -> Outcome {
    let told = run()?.told;
    let read = |step: &str| told[step]["read"].clone();
    let otherwise = |step: &str| told[step]["otherwise"].clone();

    // RFC 7638. Whether a key is one it does not ask.
    assert_eq!(
        read("key"),
        json!([
            "a device key",
            "members that say nothing about the key are ignored",
            "the key of RFC 7515 appendix A.3.1",
        ])
    );

    // RFC 9421.
    assert_eq!(
        read("proof-received"),
        json!([
            "a device proof",
            "a session proof",
            "no content, no query",
            "every field that must be covered, and one of the application's",
            "an upload that is bound by its envelope's salt",
        ])
    );
    // The signatures are right: that they do not cover enough is for ours to say.
    assert_eq!(
        otherwise("proof-received"),
        json!([
            "a field came in on the way",
            "the salt where a digest is due"
        ])
    );
    let refused = &told["proof-received"]["refused"];
    for altered in [
        "another method",
        "another authority",
        "another path",
        "another query",
        "another ticket",
        "a changed field",
        "another device",
        "another time of making",
        "a session proof under another key",
    ] {
        assert!(has(refused, altered), "{altered}");
    }

    // RFC 8188. What ends before its first record it takes for nothing.
    assert_eq!(
        read("unseal"),
        json!([
            "a request",
            "a reply",
            "several records",
            "a stream, each piece flushed",
            "nothing",
        ])
    );
    assert_eq!(
        otherwise("unseal"),
        json!(["cut in its header", "without its records"])
    );
    let refused = &told["unseal"]["refused"];
    for altered in [
        "a changed salt",
        "a changed record",
        "another key",
        "without its final record",
        "cut in a record",
        "a record twice",
        "two records swapped",
        "something after the final record",
    ] {
        assert!(has(refused, altered), "{altered}");
    }

    // RFC 9292. Which fields and paths may stand inside is ours to say.
    assert_eq!(
        read("message-read"),
        json!(["a request, padded", "a reply, padded", "a reply in pieces"])
    );
    let refused = &told["message-read"]["refused"];
    for altered in [
        "nothing",
        "an unknown framing",
        "cut in its content",
        "something in the padding",
    ] {
        assert!(has(refused, altered), "{altered}");
    }
    Ok(())
}

#[test]
fn ours_read_what_others_make_and_refuse_what_is_altered() -> Outcome {
    let made = run()?.made;
    for vector in &made {
        let outcome = vector.judge(step::run(&vector.step, &vector.input));
        assert_eq!(outcome.failure, None, "{}: {}", vector.step, outcome.name);
    }
    let mut counted: Vec<(&str, bool, usize)> = Vec::new();
    for vector in &made {
        let (step, passes) = (vector.step.as_str(), vector.out.is_some());
        match counted.iter_mut().find(|of| (of.0, of.1) == (step, passes)) {
            Some((.., count)) => *count += 1,
            None => counted.push((step, passes, 1)),
        }
    }
    counted.sort_unstable();
    assert_eq!(
        counted,
        [
            ("key", true, 20),
            ("message-read", false, 4),
            ("message-read", true, 2),
            ("proof-received", false, 8),
            ("proof-received", true, 2),
            ("unseal", false, 16),
            ("unseal", true, 4),
        ]
    );
    Ok(())
}

fn has(names: &Value, name: &str) -> bool {
    names
        .as_array()
        .is_some_and(|names| names.iter().any(|found| found == name))
}

/// Runs the script where their libraries are installed, to its end.
fn run() -> io::Result<Told> {
    // Cargo put this program at <target>/debug/deps.
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3);
    let modules = target.map(|target| target.join("tools/standards/node_modules"));
    let modules = modules.filter(|modules| modules.join("http_ece").exists());
    let modules = modules.ok_or_else(|| {
        io::Error::other(
            "the libraries are missing; `cargo xtask test --suite interop` installs them",
        )
    })?;
    let folder = tempfile::tempdir()?;
    symlink(modules, folder.path().join("node_modules"))?;
    let script = folder.path().join("script.mjs");
    std::fs::write(&script, include_str!("pages/standards.mjs"))?;
    let output = Command::new("node")
        .arg(script)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(io::Error::other(format!("{}: {said}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
