//! The client in Python, which was written from `docs/protocol.md` alone, against a bank.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use bulla_server::{Openings, ProofKind, Rate};
use bulla_tests::attack::Outcome;
use bulla_tests::bank::Bank;
use bulla_vectors::Vector;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

const WAYS: [&str; 3] = ["sealed", "visible", "signed"];

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_opening_to_end() -> Outcome {
    let bank = Bank::open().await?;
    let mut python = Python::start()?;
    let opened = python.open(&bank)?;
    assert_eq!(opened["identity"], bank.identity());
    assert_eq!(opened["authenticated"], false);
    assert_eq!(
        python.get("/api/transfer", "sealed")?,
        json!({ "refused": "login_required", "sealed": true })
    );

    for how in WAYS {
        let sealed = how != "signed";
        let echo = python.ask(&json!({
            "command": "request", "method": "PUT", "target": "/api/echo?a=1&b=%20", "how": how, "body": { "x": how },
        }))?;
        assert_eq!(echo["done"]["sealed"], sealed, "{how}");
        let echo: Value = serde_json::from_str(echo["done"]["body"].as_str().unwrap_or_default())?;
        assert_eq!(echo["method"], "PUT");
        assert_eq!(echo["target"], "/echo?a=1&b=%20");
        assert_eq!(echo["fields"]["content-type"], "application/json");
        assert_eq!(
            echo["body"],
            json!({ "x": how }).to_string().replace(':', ": ")
        );
    }

    let user = json!({ "user": "ann" });
    let hello = python.post("/api/login", &user, json!({}))?;
    assert_eq!(hello["done"]["body"], r#"{"hello":"ann"}"#);
    let logged_in = python.about()?;
    assert_ne!(logged_in["id"], opened["id"], "keys of its own");
    assert_eq!(logged_in["device"], opened["device"]);
    assert_eq!(logged_in["authenticated"], true);
    for how in WAYS {
        let me = python.me(how)?;
        let sealed = how != "signed";
        assert_eq!(
            me,
            json!({ "id": logged_in["id"], "subject": "ann", "sealed": sealed, "proof": "device" })
        );
    }
    let receipt = python.post("/api/transfer/device", &order(7), json!({}))?;
    assert_eq!(receipt["done"]["status"], 200);
    assert_eq!(bank.ledger.transfers(), [booked(7)]);

    assert_eq!(
        python.ask(&json!({ "command": "close" }))?,
        json!({ "done": null })
    );
    assert_eq!(
        python.get("/api/me", "sealed")?["refused"],
        "session_closed"
    );
    assert_eq!(bank.ledger.refusals(), ["login_required"]);
    Ok(())
}

/// As it stands there, but for where the bank is, who it is, and where it has its events.
#[tokio::test(flavor = "multi_thread")]
async fn what_its_page_shows_runs() -> Outcome {
    const PAGE: &str = include_str!("../../examples/python/README.md");
    let bank = Bank::open().await?;
    let (_, block) = PAGE.split_once("```python\n").ok_or("no example")?;
    let (script, _) = block.split_once("```").ok_or("no end")?;
    let (_, pinned) = script.split_once("pin=\"").ok_or("no pin")?;
    let (pinned, _) = pinned.split_once('"').ok_or("no end of it")?;
    let script = script
        .replace("https://bank.example", &bank.server.origin())
        .replace(pinned, &bank.identity())
        .replace("/api/events", "/api/ticks/3/1");
    let mut python = python()?;
    let output = spawn_blocking(move || python.arg("-c").arg(script).output()).await??;
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(String::from_utf8(output.stderr)?, "");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].contains(r#""subject":"ann""#), "{said}");
    assert!(lines.len() > 3, "{said}");
    Ok(())
}

/// Where the server takes it, once a device proof has been seen.
#[tokio::test(flavor = "multi_thread")]
async fn the_session_key_proves_after_the_device_key() -> Outcome {
    let bank = Bank::open_with(|builder| builder.proof(ProofKind::Session)).await?;
    let mut python = Python::start()?;
    python.open(&bank)?;
    let proof = |me: Value| me["proof"].clone();
    assert_eq!(proof(python.me("sealed")?), "device");
    for how in WAYS {
        assert_eq!(proof(python.me(how)?), "session", "{how}");
    }
    python.post("/api/login", &json!({ "user": "ann" }), json!({}))?;
    assert_eq!(proof(python.me("signed")?), "device", "a new session");
    assert_eq!(proof(python.me("signed")?), "session");

    // A route that asks for more is given more, and for good.
    let receipt = python.post("/api/transfer/device", &order(7), json!({}))?;
    assert_eq!(receipt["done"]["status"], 200);
    assert_eq!(bank.ledger.transfers(), [booked(7)]);
    // The login has asked for it, too.
    assert_eq!(bank.ledger.refusals(), ["proof_weak"; 2]);
    assert_eq!(proof(python.me("sealed")?), "device");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_read_record_by_record() -> Outcome {
    let bank = Bank::open().await?;
    let mut python = Python::start()?;
    python.open(&bank)?;
    for how in ["sealed", "visible"] {
        // It takes days to be sent.
        let events = python.ask(&json!({
            "command": "request", "method": "GET", "target": "/api/ticks/1000000000/1", "how": how, "take": 3,
        }))?;
        assert_eq!(
            events,
            json!({ "done": ["data: 0\n\n", "data: 1\n\n", "data: 2\n\n"] })
        );
        bank.ledger.until_open_streams(1).await?;
        python.ask(&json!({ "command": "leave" }))?;
        bank.ledger.until_open_streams(0).await?;
    }

    // More than a record, of known length and of a length that nobody knows beforehand.
    let long = "x".repeat(300_000);
    let mirrored = python.post("/api/mirror", &json!(long), json!({}))?;
    assert_eq!(mirrored["done"]["body"], json!(long).to_string());
    let whole = python.get("/api/ticks/200/1", "sealed")?;
    let events: Vec<_> = (0..200).map(|at| format!("data: {at}\n\n")).collect();
    assert_eq!(whole["done"]["body"], events.concat());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_nonce_is_replaced_and_the_random_part_kept() -> Outcome {
    let bank = Bank::open().await?;
    let mut python = Python::logged_in(&bank)?;
    let before = python.about()?["nonce"].clone();
    // It is taken for two lives at most.
    bank.clock.advance(121);
    let receipt = python.post("/api/transfer", &order(1), json!({}))?;
    assert_eq!(receipt["done"]["status"], 200);
    assert_eq!(bank.ledger.refusals(), ["nonce_stale"]);
    assert_ne!(python.about()?["nonce"], before);
    assert_eq!(bank.ledger.transfers(), [booked(1)]);

    // Whoever drops a reply and says so gets nothing done twice.
    for (at, how) in WAYS.into_iter().enumerate() {
        let forged = python.post(
            "/api/transfer",
            &order(2),
            json!({ "how": how, "act": "stale" }),
        )?;
        assert_eq!(forged["refused"], "replayed", "{how}");
        assert_eq!(bank.ledger.transfers().len(), 2 + at);
    }
    Ok(())
}

/// And what is unprotected is had.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_refuses_what_is_repeated_altered_or_stolen() -> Outcome {
    let bank = Bank::open().await?;
    let mut python = Python::logged_in(&bank)?;

    let twin = |act: &str, body: Value| {
        json!({
            "command": "unprotected", "method": "POST", "url": bank.server.url("/twin/transfer"),
            "fields": { "authorization": "Bearer token-of-ann" }, "body": body, "act": act,
        })
    };
    python.ask(&twin("again", order(7)))?;
    python.ask(&twin("alter_body", order(7)))?;
    assert_eq!(
        bank.ledger.transfers(),
        [booked(7), booked(7), booked(6)],
        "the twin"
    );

    let refused = |code: &str, sealed: bool| json!({ "refused": code, "sealed": sealed });
    for how in WAYS {
        let sealed = how != "signed";
        let count = bank.ledger.transfers().len();
        let again = python.post(
            "/api/transfer",
            &order(7),
            json!({ "how": how, "act": "again" }),
        )?;
        assert_eq!(again, refused("replayed", sealed), "{how}");
        assert_eq!(bank.ledger.transfers().len(), count + 1, "{how}");

        let code = if sealed {
            "seal_broken"
        } else {
            "digest_mismatch"
        };
        let altered = python.post(
            "/api/transfer",
            &order(7),
            json!({ "how": how, "act": "alter_body" }),
        )?;
        assert_eq!(altered, refused(code, false), "{how}");

        // All but the device key.
        python.ask(&json!({ "command": "steal" }))?;
        let stolen = python.post(
            "/api/transfer",
            &order(7),
            json!({ "how": how, "name": "thief" }),
        )?;
        assert_eq!(stolen, refused("proof_mismatch", sealed), "{how}");
        assert_eq!(bank.ledger.transfers().len(), count + 1, "{how}");
    }
    let carried = python.ask(&json!({ "command": "carry_over", "name": "thief" }))?;
    assert_eq!(carried, refused("ticket_invalid", false));
    // By its own key the ticket is good for that.
    let before = python.about()?;
    let carried = python.ask(&json!({ "command": "carry_over" }))?;
    assert_eq!(carried["done"]["authenticated"], true);
    assert_ne!(carried["done"]["id"], before["id"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_opens_with_nobody_but_the_pinned_identity() -> Outcome {
    let (bank, other) = (Bank::open().await?, Bank::open().await?);
    let mut python = Python::start()?;
    let open = |identity: Option<&str>, act: Option<&str>| {
        let mut open = json!({ "command": "open", "origin": bank.server.origin() });
        for (name, value) in [("identity", identity), ("act", act)] {
            if let Some(value) = value {
                open[name] = json!(value);
            }
        }
        open
    };
    let (right, wrong) = (bank.identity(), other.identity());
    let mut refused = |identity: Option<&str>, act: Option<&str>| -> Outcome<Value> {
        Ok(python.ask(&open(identity, act))?["refused"].clone())
    };
    assert_eq!(refused(Some(&wrong), None)?, "identity_changed");
    assert_eq!(bank.ledger.refusals(), ["identity_mismatch"]);
    // Signed rightly, by another: the pin alone keeps him out.
    assert_eq!(
        refused(Some(&right), Some("another_identity"))?,
        "identity_changed"
    );
    for act in ["another_random", "alter_reply", "plain"] {
        assert_eq!(refused(Some(&right), Some(act))?, "reply_invalid", "{act}");
    }
    assert_eq!(refused(Some(&right), Some("labour"))?, "work_required");
    assert_eq!(refused(Some(&right), None)?, Value::Null);
    let met = python.ask(&open(None, Some("another_identity")))?;
    assert_ne!(
        met["done"]["identity"],
        bank.identity(),
        "the first that it meets"
    );
    let met = python.ask(&open(None, None))?;
    assert_eq!(met["done"]["identity"], bank.identity());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_refuses_replies_that_are_cut_altered_or_anothers() -> Outcome {
    let bank = Bank::open().await?;
    let mut python = Python::logged_in(&bank)?;
    let ticks = "/api/ticks/4/1";
    let twin = json!({
        "command": "unprotected", "method": "GET", "url": bank.server.url("/twin/ticks/4/1"), "fields": {},
        "act": "truncate",
    });
    let events = ["data: 0\n\n", "data: 1\n\n", "data: 2\n\n", "data: 3\n\n"];
    assert_eq!(python.ask(&twin)?["done"], events[..3].concat(), "the twin");

    let mut each = |act: Option<&str>| -> Outcome<Value> {
        let mut request =
            json!({ "command": "request", "method": "GET", "target": ticks, "each": true });
        if let Some(act) = act {
            request["act"] = json!(act);
        }
        Ok(python.ask(&request)?["done"].clone())
    };
    assert_eq!(each(None)?, json!(events));
    // What has come before is verified, and that it is not all is told.
    for (act, code) in [
        ("truncate", "reply_truncated"),
        ("cut", "reply_truncated"),
        ("alter_reply", "reply_broken"),
        ("lengthen", "reply_broken"),
    ] {
        let told = each(Some(act))?;
        let told = told.as_array().ok_or("it was refused at once")?;
        let (last, before) = told.split_last().ok_or("nothing came")?;
        assert_eq!(*last, code, "{act}");
        // Events that were there at once share a record.
        assert!(
            events.map(Value::from).starts_with(before),
            "{act}: {before:?}"
        );
    }

    // Another reply of the same session, of its own keys.
    let hold = json!({ "command": "request", "method": "GET", "target": "/api/me", "act": "hold" });
    assert_eq!(python.ask(&hold)?["done"]["status"], 200);
    let swapped = python.post("/api/transfer", &order(7), json!({ "act": "swap" }))?;
    assert_eq!(swapped["refused"], "reply_mismatch");
    let plain = python.post("/api/transfer", &order(7), json!({ "act": "plain" }))?;
    assert_eq!(plain["refused"], "reply_unsealed");
    // Without a seal it is believed.
    let signed = json!({ "act": "plain", "how": "signed" });
    let signed = python.post("/api/transfer", &order(7), signed)?;
    assert_eq!(signed["done"]["status"], 200);
    assert_eq!(bank.ledger.transfers().len(), 1);
    Ok(())
}

/// What was made for our own halves says the same to it, and is refused with the same code.
#[tokio::test(flavor = "multi_thread")]
async fn the_vectors_hold() -> Outcome {
    let mut python = Python::start()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors");
    let mut count = 0;
    for (file, step) in [("replies.json", "client"), ("opening.json", "opened")] {
        let vectors: Vec<Vector> = serde_json::from_slice(&fs::read(folder.join(file))?)?;
        for vector in vectors.iter().filter(|vector| vector.step == step) {
            // What a client does without any reply is another matter.
            if step == "client" && vector.input["do"] != "read" {
                continue;
            }
            count += 1;
            let told = python.ask(&json!({ "command": step, "given": vector.input }))?;
            let said = (told["refused"].as_str(), &told["done"]);
            let Some(out) = &vector.out else {
                assert_eq!(said.0, vector.code.as_deref(), "{}", vector.name);
                continue;
            };
            let members = said
                .1
                .as_object()
                .ok_or_else(|| format!("{}: {told}", vector.name))?;
            for (member, value) in members {
                assert_eq!(*value, out[member], "{}: {member}", vector.name);
            }
        }
    }
    assert_eq!(count, 24);
    Ok(())
}

/// Others have opened as many as are for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_opening_takes_its_work() -> Outcome {
    let bank = Bank::open_with(|builder| {
        builder.openings(Openings {
            in_all: Some(Rate::new(1, Duration::from_hours(1))),
            ..Openings::default()
        })
    })
    .await?;
    let mut python = Python::start()?;
    python.open(&bank)?;
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    let opened = python.open(&bank)?;
    assert_eq!(opened["identity"], bank.identity());
    assert_eq!(bank.ledger.refusals(), ["work_required"]);
    assert_eq!(python.me("sealed")?["id"], opened["id"]);
    Ok(())
}

fn order(amount: u64) -> Value {
    json!({ "to": "bob", "amount": amount })
}

fn booked(amount: u64) -> Value {
    json!({ "from": "ann", "to": "bob", "amount": amount })
}

/// The client, which does as it is told.
struct Python {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Python, as it is set up for the client.
fn python() -> io::Result<Command> {
    // Cargo put this program at <target>/debug/deps.
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3);
    let python = target.map(|target| target.join("tools/python/bin/python3"));
    let python = python.filter(|python| python.exists()).ok_or_else(|| {
        io::Error::other("Python is not set up; `cargo xtask test --suite interop` does it")
    })?;
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python");
    let mut command = Command::new(python);
    command
        .env("PYTHONPATH", client)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

impl Python {
    fn start() -> io::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pages/interop.py");
        let mut process = python()?
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let gone = || io::Error::other("Python has no pipes");
        let commands = process.stdin.take().ok_or_else(gone)?;
        let answers = BufReader::new(process.stdout.take().ok_or_else(gone)?);
        Ok(Self {
            process,
            commands,
            answers,
        })
    }

    fn logged_in(bank: &Bank) -> Outcome<Self> {
        let mut python = Self::start()?;
        python.open(bank)?;
        let hello = python.post("/api/login", &json!({ "user": "ann" }), json!({}))?;
        assert_eq!(hello["done"]["status"], 200);
        Ok(python)
    }

    /// Has one thing done, while the bank goes on.
    fn ask(&mut self, command: &Value) -> Outcome<Value> {
        tokio::task::block_in_place(|| {
            writeln!(self.commands, "{command}")?;
            let mut line = String::new();
            self.answers.read_line(&mut line)?;
            Ok(serde_json::from_str(&line)?)
        })
    }

    fn open(&mut self, bank: &Bank) -> Outcome<Value> {
        let (origin, identity) = (bank.server.origin(), bank.identity());
        let open = json!({ "command": "open", "origin": origin, "identity": identity });
        Ok(self.ask(&open)?["done"].clone())
    }

    fn about(&mut self) -> Outcome<Value> {
        Ok(self.ask(&json!({ "command": "about" }))?["done"].clone())
    }

    fn get(&mut self, target: &str, how: &str) -> Outcome<Value> {
        self.ask(&json!({ "command": "request", "method": "GET", "target": target, "how": how }))
    }

    /// What the server says of a request's session.
    fn me(&mut self, how: &str) -> Outcome<Value> {
        let me = self.get("/api/me", how)?;
        let body = me["done"]["body"].as_str().ok_or_else(|| me.to_string())?;
        Ok(serde_json::from_str(body)?)
    }

    fn post(&mut self, target: &str, body: &Value, mut more: Value) -> Outcome<Value> {
        let request =
            json!({ "command": "request", "method": "POST", "target": target, "body": body });
        for (name, value) in request.as_object().into_iter().flatten() {
            more[name] = value.clone();
        }
        self.ask(&more)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
