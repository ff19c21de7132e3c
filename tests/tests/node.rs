//! The npm package in Node, against a bank.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use bulla_tests::attack::Outcome;
use bulla_tests::bank::Bank;
use serde_json::{Value, json};

/// Imports the package and uses it. Prints what came of it, as JSON.
const SCRIPT: &str = include_str!("pages/node.mjs");

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_import_to_end() -> Outcome {
    let bank = Bank::open().await?;
    let (origin, identity) = (bank.server.origin(), bank.identity());
    let told = tokio::task::spawn_blocking(move || run(SCRIPT, &[], &[&origin, &identity]));
    let told = told.await??;

    assert_eq!(told["touched"], json!([]), "by the import alone");
    let version = told["version"].as_str().unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next();
    assert!(
        major.and_then(|major| major.parse().ok()) >= Some(20),
        "{version}"
    );

    assert_eq!(told["opened"]["storage"], "memory");
    assert_eq!(told["opened"]["authenticated"], false);
    assert_eq!(told["refused"], "login_required");
    assert_eq!(told["hello"], json!({ "hello": "ann" }));
    let session = &told["session"];
    assert_eq!(session["authenticated"], true);
    assert_ne!(session["id"], told["opened"]["id"]);
    assert_eq!(session["device"], told["opened"]["device"]);
    assert_eq!(
        told["me"],
        json!({ "id": session["id"], "subject": "ann", "sealed": true, "proof": "device" })
    );
    assert_eq!(told["receipt"]["number"], 1);
    assert_eq!(
        bank.ledger.transfers(),
        [json!({ "from": "ann", "to": "bob", "amount": 7 })]
    );

    let heard = told["heard"].as_str().unwrap_or_default();
    assert!(
        heard.starts_with("data: 0\n\ndata: 1\n\ndata: 2\n\n"),
        "{heard}"
    );
    bank.ledger.until_open_streams(0).await?;

    assert_eq!(told["second"], *session, "one process, one session");
    assert_eq!(told["closed"], "session_closed");
    assert_eq!(told["next"]["device"], session["device"]);
    assert_eq!(told["next"]["authenticated"], false);
    assert_ne!(told["next"]["id"], session["id"]);
    assert_ne!(told["forgotten"]["device"], session["device"]);
    assert_eq!(told["deaf"], true, "it had heard of the login");
    assert_eq!(told["after"], "session_revoked");
    assert_eq!(told["left"], false);
    assert_eq!(told["overtaken"], "session_revoked");
    assert_eq!(told["later"], true, "an end was made twice");
    assert_eq!(told["upload"], "enough");
    assert_eq!(told["redirects"], json!(vec!["reply_invalid"; 15]));
    assert_eq!(told["stopped"], true);
    assert_eq!(told["elsewhere"], "authority_mismatch");
    assert_eq!(told["misspelt"], "request_invalid");
    assert_eq!(told["named"], "BullaError", "as it is printed");
    assert_eq!(told["isolated"], "BullaError unsupported");
    let refusals = bank.ledger.refusals();
    let (first, rest) = refusals.split_at_checked(4).ok_or("little was refused")?;
    // A transfer after an end, and twice where a login came in between.
    let [login, ended @ ..] = first else {
        unreachable!()
    };
    assert_eq!(*login, "login_required");
    assert_eq!(ended, ["session_revoked"; 3]);
    // After a 421 the Fetch standard has a request sent again, over another connection.
    let is_elsewhere = |code: &&str| *code == "authority_mismatch";
    assert!(
        !rest.is_empty() && rest.iter().all(is_elsewhere),
        "{rest:?}"
    );
    Ok(())
}

/// As programs do that render pages ahead of time: there is no window, and next to nothing else.
#[test]
fn what_is_imported_asks_for_nothing() -> Outcome {
    const BARE: &str = include_str!("pages/bare.mjs");
    let all = ["BullaError", "Session", "init", "open"];
    let entries: [(&str, &[&str]); 4] = [
        ("index.js", &all),
        ("inline.js", &all),
        ("install.js", &["install"]),
        ("register.js", &["BullaError", "register"]),
    ];
    let flags = ["--experimental-vm-modules", "--no-warnings"];
    let told = run(BARE, &flags, &entries.map(|(entry, _)| entry))?;
    for (entry, exports) in entries {
        assert_eq!(told[entry], json!(exports), "{entry}");
    }
    Ok(())
}

/// What another site may have begun it leaves to the browser, or refuses: else its request would pass for one of ours.
#[test]
fn a_service_worker_sends_what_its_own_pages_have_begun() -> Outcome {
    let told = run(include_str!("pages/sw.mjs"), &[], &[])?;
    let (sent, left, refused) = ("sent", "left", "refused");
    assert_eq!(
        told,
        json!({
            "unsealed": ["request_invalid", true],
            // What could not be loaded is asked for again.
            "attempts": [sent, 1, sent, 2],
            "request": sent,
            "elsewhere": left,
            "otherPath": left,
            "excepted": left,
            "onlyIfCached": left,
            "form": sent,
            "formOfNobody": left,
            "formOfAnother": left,
            "formOfSimilar": left,
            "formOfPort": left,
            "frame": sent,
            "frameOfAnother": left,
            "formSentOn": refused,
            "formSentOnPastAPage": refused,
            "formOfFirstPage": sent,
            "formOfLoosePolicy": refused,
            "formOfOlderPolicy": refused,
            "formWithoutOrigin": refused,
            "frameSentOn": refused,
        })
    );
    Ok(())
}

/// Runs a script where the package is installed, to its end. Gives what it prints.
fn run(script: &str, flags: &[&str], arguments: &[&str]) -> std::io::Result<Value> {
    let folder = tempfile::tempdir()?;
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm");
    std::fs::create_dir(folder.path().join("node_modules"))?;
    symlink(package, folder.path().join("node_modules/bulla"))?;
    let file = folder.path().join("script.mjs");
    std::fs::write(&file, script)?;
    let mut node = Command::new("node");
    let output = node.args(flags).arg(file).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !said.is_empty() {
        return Err(std::io::Error::other(format!("{}: {said}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
