//! Keys, origins, targets, digests, tickets, nonces, padding, refusals, and what to do about them.

use bulla_protocol::error::{Code, Problem};
use bulla_protocol::opening::Ticket;
use serde_json::{Value, json};

use super::{Case, fixed16, opaque_ticket, passes, private, public, refused, with};
use crate::input::text;

pub(super) fn cases() -> Vec<Case> {
    [
        keys(),
        targets(),
        digests(),
        tickets_and_nonces(),
        paddings(),
        refusals(),
        retries(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn keys() -> Vec<Case> {
    let jwk = json!(public("device"));
    let bad = |name: &str, change: fn(&mut Value)| {
        refused(
            "key",
            Code::Malformed,
            name,
            json!({ "jwk": with(&jwk, change) }),
        )
    };
    vec![
        passes("key", "a device key", json!({ "jwk": jwk })),
        passes(
            "key",
            "members that say nothing about the key are ignored",
            json!({ "jwk": with(&jwk, |jwk| jwk["use"] = "sig".into()) }),
        ),
        passes(
            "key",
            "the key of RFC 7515 appendix A.3.1",
            json!({ "jwk": {
                "kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            } }),
        ),
        bad("a point off the curve", |jwk| super::flip(&mut jwk["y"], 0)),
        bad("another curve", |jwk| jwk["crv"] = "P-384".into()),
        bad("another type", |jwk| jwk["kty"] = "OKP".into()),
        bad("a coordinate with leading zeros", |jwk| {
            jwk["x"] = text([0; 33]);
        }),
        bad("padded base64", |jwk| {
            jwk["x"] = format!("{}=", jwk["x"].as_str().unwrap()).into();
        }),
        refused(
            "key",
            Code::Malformed,
            "a private key",
            json!({ "jwk": private("device") }),
        ),
    ]
}

fn targets() -> Vec<Case> {
    let origin = |text: &str| passes("origin", text, json!({ "origin": text }));
    let no_origin = |text: &str| {
        refused(
            "origin",
            Code::AuthorityMismatch,
            text,
            json!({ "origin": text }),
        )
    };
    let target = |text: &str| passes("target", text, json!({ "target": text }));
    let no_target =
        |text: &str| refused("target", Code::PathRefused, text, json!({ "target": text }));
    vec![
        origin("https://bank.example"),
        origin("HTTPS://Bank.Example:443"),
        origin("https://bank.example:8443"),
        origin("http://localhost:8080"),
        origin("http://[::1]:8080"),
        no_origin("bank.example"),
        no_origin("ftp://bank.example"),
        no_origin("https://"),
        no_origin("https://bank.example/"),
        no_origin("https://user@bank.example"),
        target("/"),
        target("/api/transfer?to=bob&amount=5"),
        target("/a%20b?"),
        target("/a?b=/../c"),
        target("//a"),
        no_target("*"),
        no_target("api"),
        no_target("https://bank.example/api"),
        no_target("/a/../b"),
        no_target("/a/."),
        no_target("/%2e%2E/b"),
        no_target("/a%2Fb"),
        no_target("/a%5cb"),
        no_target("/a\\b"),
        no_target("/a%00"),
        no_target("/a b"),
        no_target("/a#b"),
        no_target("/\u{e9}"),
    ]
}

fn digests() -> Vec<Case> {
    let body = text("{\"hello\": \"world\"}\n");
    let field = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    let check = |field: &str| json!({ "field": field, "content": body });
    vec![
        passes("digest", "no content", json!({ "content": "" })),
        passes(
            "digest",
            "RFC 9530 appendix B.1",
            json!({ "content": body }),
        ),
        passes("digest-check", "RFC 9530 appendix B.1", check(field)),
        passes(
            "digest-check",
            "other algorithms are ignored",
            check(&format!("sha-512=:AA==:, {field}")),
        ),
        refused(
            "digest-check",
            Code::DigestMismatch,
            "other content",
            json!({ "field": field, "content": text("{}") }),
        ),
        refused(
            "digest-check",
            Code::DigestMismatch,
            "no sha-256",
            check("sha-512=:AA==:"),
        ),
        refused(
            "digest-check",
            Code::Malformed,
            "sha-256 twice",
            check(&format!("{field}, {field}")),
        ),
        refused(
            "digest-check",
            Code::Malformed,
            "no dictionary",
            check("sha-256="),
        ),
    ]
}

fn tickets_and_nonces() -> Vec<Case> {
    let field = |len: usize| {
        Ticket::new(opaque_ticket()).map_or_else(
            |_| String::new(),
            |ticket| bulla_protocol::structured::from_bytes(&ticket.as_bytes().repeat(2)[..len]),
        )
    };
    let ticket = |field: String| json!({ "field": field });
    let random = bulla_protocol::base64::encode(fixed16("proof"));
    let nonce = |text: String| json!({ "nonce": text });
    vec![
        passes(
            "ticket",
            "a ticket means nothing to its bearer",
            ticket(field(239)),
        ),
        passes("ticket", "the shortest", ticket(field(1))),
        passes("ticket", "the longest", ticket(field(255))),
        refused("ticket", Code::Malformed, "empty", ticket(field(0))),
        refused("ticket", Code::Malformed, "too long", ticket(field(256))),
        refused(
            "ticket",
            Code::Malformed,
            "a string",
            ticket("\"ticket\"".into()),
        ),
        refused(
            "ticket",
            Code::Malformed,
            "with a parameter",
            ticket(field(9) + ";a"),
        ),
        passes(
            "nonce",
            "the server's part and a random part",
            nonce(format!("c2VydmVy.{random}")),
        ),
        passes(
            "nonce",
            "the last dot counts",
            nonce(format!("c2.Vy.{random}")),
        ),
        refused(
            "nonce",
            Code::Malformed,
            "no random part",
            nonce("c2VydmVy".into()),
        ),
        refused(
            "nonce",
            Code::Malformed,
            "no part of the server",
            nonce(format!(".{random}")),
        ),
        refused(
            "nonce",
            Code::Malformed,
            "a short random part",
            nonce("c2VydmVy.AAAA".into()),
        ),
        refused(
            "nonce",
            Code::Malformed,
            "a long part of the server",
            nonce(format!("{}.{random}", "A".repeat(65))),
        ),
    ]
}

fn paddings() -> Vec<Case> {
    [0_usize, 1, 2, 9, 100, 129, 1000, 1025, 65_537, 1_000_000]
        .into_iter()
        .map(|len| passes("padding", &format!("{len} bytes"), json!({ "length": len })))
        .collect()
}

fn refusals() -> Vec<Case> {
    let body = |bytes: Vec<u8>| json!({ "body": String::from_utf8(bytes).unwrap() });
    let mut cases: Vec<_> = Code::ALL
        .iter()
        .map(|code| {
            let problem = Problem::from(code.because("why"));
            passes("problem", code.as_str(), body(problem.to_json()))
        })
        .collect();
    cases.push(passes(
        "problem",
        "the application's own problem",
        body(br#"{"type":"about:blank","code":"out_of_stock"}"#.to_vec()),
    ));
    cases
}

fn retries() -> Vec<Case> {
    let attempt = json!({
        "refusal": "nonce_stale", "sealed": false,
        "proof": "device", "safe": false, "ends": false, "retried": false, "reopened": false,
        "elapsed": 1, "nonce_life": 60,
    });
    let case = |name: &str, changes: Value| {
        let input = with(&attempt, |attempt| {
            for (key, value) in changes.as_object().unwrap() {
                attempt[key] = value.clone();
            }
        });
        passes("retry", name, input)
    };
    let expired = |more: Value| {
        with(&json!({ "refusal": "ticket_expired" }), |changes| {
            for (key, value) in more.as_object().unwrap() {
                changes[key] = value.clone();
            }
        })
    };
    let weak = json!({ "refusal": "proof_weak", "proof": "session" });
    vec![
        case("a stale nonce", json!({})),
        case("a stale nonce again", json!({ "retried": true })),
        case("a stale nonce too late", json!({ "elapsed": 60 })),
        case(
            "an ended session, safe method",
            expired(json!({ "safe": true })),
        ),
        case("an ended session, unsafe method", expired(json!({}))),
        case(
            "an ended session after reopening",
            expired(json!({ "safe": true, "reopened": true })),
        ),
        case(
            "an ended session that was to end, said in plain text",
            expired(json!({ "ends": true })),
        ),
        case(
            "an ended session that was to end, said under seal",
            expired(json!({ "ends": true, "sealed": true })),
        ),
        case(
            "an unconfirmed session",
            json!({ "refusal": "session_unconfirmed", "proof": "session" }),
        ),
        case(
            "an unconfirmed session, device proof",
            json!({ "refusal": "session_unconfirmed" }),
        ),
        case("a weak proof, said in plain text", weak.clone()),
        case(
            "a weak proof, said under seal",
            with(&weak, |weak| weak["sealed"] = true.into()),
        ),
        case("a replay", json!({ "refusal": "replayed" })),
        case("a broken seal", json!({ "refusal": "seal_broken" })),
    ]
}
