//! The standards that the protocol stands on, as others have written them: their libraries under our vectors, and what
//! they make under our rules.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulla_tests::attack::Outcome;
use bulla_tests::standards::{
    ALTERED_BODIES, ALTERED_PROOFS, BODIES, BODIES_OF_NOTHING, PROOFS, PROOFS_WITH_LESS,
};
use bulla_vectors::{Vector, step};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

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
    let told = run(node()?)?.told;
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
    assert_eq!(read("proof-received"), json!(PROOFS));
    // The signatures are right: that they do not cover enough is for ours to say.
    assert_eq!(otherwise("proof-received"), json!(PROOFS_WITH_LESS));
    let refused = &told["proof-received"]["refused"];
    for altered in ALTERED_PROOFS {
        assert!(has(refused, altered), "{altered}");
    }

    // RFC 8188. What ends before its first record it takes for nothing.
    assert_eq!(read("unseal"), json!(BODIES));
    assert_eq!(otherwise("unseal"), json!(BODIES_OF_NOTHING));
    let refused = &told["unseal"]["refused"];
    for altered in ALTERED_BODIES {
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
    let made = run(node()?)?.made;
    assert_eq!(
        held(&made),
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

#[test]
fn those_in_python_read_what_ours_make_and_refuse_what_is_altered() -> Outcome {
    let told = run(python()?)?.told;
    // RFC 9421: as those in JavaScript.
    let proofs = &told["proof-received"];
    assert_eq!(proofs["read"], json!(PROOFS));
    assert_eq!(proofs["otherwise"], json!(PROOFS_WITH_LESS));
    for altered in ALTERED_PROOFS {
        assert!(has(&proofs["refused"], altered), "{altered}");
    }

    // RFC 8188.
    let bodies = &told["unseal"];
    assert_eq!(bodies["read"], json!(BODIES));
    assert_eq!(bodies["otherwise"], json!(BODIES_OF_NOTHING));
    for altered in ALTERED_BODIES {
        assert!(has(&bodies["refused"], altered), "{altered}");
    }
    Ok(())
}

#[test]
fn ours_read_what_those_in_python_make_and_refuse_what_is_altered() -> Outcome {
    let made = run(python()?)?.made;
    assert_eq!(
        held(&made),
        [
            ("proof-received", false, 8),
            ("proof-received", true, 2),
            ("unseal", false, 16),
            ("unseal", true, 4),
        ]
    );
    Ok(())
}

/// Has each vector hold, and counts them by step and by whether it passes.
fn held(made: &[Vector]) -> Vec<(&str, bool, usize)> {
    for vector in made {
        let outcome = vector.judge(step::run(&vector.step, &vector.input));
        assert_eq!(outcome.failure, None, "{}: {}", vector.step, outcome.name);
    }
    let mut counted: Vec<(&str, bool, usize)> = Vec::new();
    for vector in made {
        let (step, passes) = (vector.step.as_str(), vector.out.is_some());
        match counted.iter_mut().find(|of| (of.0, of.1) == (step, passes)) {
            Some((.., count)) => *count += 1,
            None => counted.push((step, passes, 1)),
        }
    }
    counted.sort_unstable();
    counted
}

fn has(names: &Value, name: &str) -> bool {
    names
        .as_array()
        .is_some_and(|names| names.iter().any(|found| found == name))
}

/// The script in JavaScript, where their libraries are installed.
fn node() -> io::Result<(Command, TempDir)> {
    let modules = tools("standards/node_modules/http_ece")?;
    let folder = tempfile::tempdir()?;
    symlink(
        modules.with_file_name(""),
        folder.path().join("node_modules"),
    )?;
    let script = folder.path().join("script.mjs");
    fs::write(&script, include_str!("pages/standards.mjs"))?;
    let mut node = Command::new("node");
    node.arg(script);
    Ok((node, folder))
}

/// The script in Python.
fn python() -> io::Result<(Command, TempDir)> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("script.py");
    fs::write(&script, include_str!("pages/standards.py"))?;
    let mut python = Command::new(tools("standards-python/bin/python3")?);
    python.arg(script);
    Ok((python, folder))
}

fn tools(name: &str) -> io::Result<PathBuf> {
    // Cargo put this program at <target>/debug/deps.
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3);
    let file = target.map(|target| target.join("tools").join(name));
    file.filter(|file| file.exists()).ok_or_else(|| {
        io::Error::other(
            "the libraries are missing; `cargo xtask test --suite interop` installs them",
        )
    })
}

/// Runs a script to its end, while its folder is there.
fn run((mut script, _folder): (Command, TempDir)) -> io::Result<Told> {
    let output = script
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(io::Error::other(format!("{}: {said}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
