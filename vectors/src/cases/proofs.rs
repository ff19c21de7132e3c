//! Proofs of possession: what they cover, and what happens when they do not.

use bulla_protocol::error::Code;
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::ProofNonce;
use bulla_protocol::structured;
use serde_json::{Value, json};

use super::{
    Case, field_value, fixed, fixed16, given, opaque_ticket, passes, private, public, refused,
    remove_field, set_field, with,
};
use crate::input::text;

/// The body that the example's transfer has.
pub(super) const BODY: &str = r#"{"to":"bob","amount":5}"#;

pub(super) fn cases() -> Vec<Case> {
    let transfer = transfer("device");
    let plain = with(&transfer, |get| {
        get["method"] = "GET".into();
        get["target"] = "/api/me".into();
        remove_field(&mut get["fields"], "content-type");
        let digest = given("digest", &json!({ "content": "" }))["field"].clone();
        set_field(
            &mut get["fields"],
            "content-digest",
            digest.as_str().unwrap(),
        );
    });
    let streamed = with(&transfer, |upload| {
        upload["binding"] = "salt".into();
        remove_field(&mut upload["fields"], "content-digest");
        let salt = structured::from_bytes(&fixed16("request salt"));
        set_field(&mut upload["fields"], "bulla-salt", &salt);
    });
    let full = with(&transfer, |full| {
        set_field(&mut full["fields"], "authorization", "Bearer token");
        set_field(&mut full["fields"], "content-encoding", "gzip");
        set_field(&mut full["fields"], "x-app", "anything");
    });
    let mut cases = Vec::new();
    for (name, input) in [
        ("a device proof", &transfer),
        (
            "a session proof",
            &with(&transfer, |proof| proof["proof"] = "session".into()),
        ),
        ("no content, no query", &plain),
        (
            "every field that must be covered, and one of the application's",
            &full,
        ),
        ("an upload that is bound by its envelope's salt", &streamed),
    ] {
        cases.push(passes("proof", name, input.clone()));
        cases.push(passes("proof-received", name, received(input)));
    }
    cases.extend(refusals(&received(&transfer)));
    let session = received(&with(&transfer, |proof| proof["proof"] = "session".into()));
    cases.push(refused(
        "proof-received",
        Code::ProofMismatch,
        "a session proof under another key",
        with(&session, |session| {
            session["mac_key"] = text(fixed("other"));
        }),
    ));
    cases.push(refused(
        "proof-received",
        Code::CoverageMissing,
        "the salt where a digest is due",
        with(&received(&streamed), |upload| {
            upload["binding"] = "digest".into();
        }),
    ));
    cases
}

/// The example's request, before it is signed.
pub(crate) fn transfer(proof: &str) -> Value {
    let opened = given("opened", &super::opening::answer(&super::opening::open()));
    let digest = given("digest", &json!({ "content": text(BODY) }));
    let nonce = ProofNonce {
        server: opened["nonce"].as_str().unwrap().to_owned(),
        random: fixed16("proof"),
    };
    json!({
        "proof": proof,
        "binding": "digest",
        "session": opened["session"],
        "device": private("device"),
        "mac_key": super::opening::derived()["mac_key"],
        "nonce": nonce.to_param(),
        "created": 1_800_000_000,
        "method": "POST",
        "authority": "bank.example",
        "target": "/api/transfer?dry=1",
        "fields": [
            ["content-type", "application/json"],
            ["content-digest", digest["field"]],
            ["bulla-ticket", Ticket::new(opaque_ticket()).unwrap().to_field()],
        ],
    })
}

/// The request with its proof, as the verifier sees it.
fn received(proof: &Value) -> Value {
    let signed = given("proof", proof);
    let mut fields = proof["fields"].clone();
    for field in signed["fields"].as_array().unwrap() {
        set_field(
            &mut fields,
            field[0].as_str().unwrap(),
            field[1].as_str().unwrap(),
        );
    }
    json!({
        "binding": proof["binding"],
        "device": public("device"),
        "mac_key": proof["mac_key"],
        "method": proof["method"],
        "authority": proof["authority"],
        "target": proof["target"],
        "fields": fields,
    })
}

fn refusals(sent: &Value) -> Vec<Case> {
    let step = "proof-received";
    let input = field_value(&sent["fields"], "signature-input");
    let with_input = |from: &str, to: &str| {
        assert!(input.contains(from), "{from}");
        with(sent, |sent| {
            set_field(
                &mut sent["fields"],
                "signature-input",
                &input.replace(from, to),
            );
        })
    };
    let meant = |name: &str, to: &str| with(sent, |sent| sent[name] = to.into());
    let mut cases = vec![
        refused(
            step,
            Code::ProofMissing,
            "no proof",
            with(sent, |sent| {
                remove_field(&mut sent["fields"], "signature-input");
            }),
        ),
        refused(
            step,
            Code::ProofMissing,
            "the tag of an opening",
            with_input("\"bulla\"", "\"bulla-open\""),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "another method",
            meant("method", "PUT"),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "another authority",
            meant("authority", "a.example"),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "another path",
            meant("target", "/api/transfers?dry=1"),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "another query",
            meant("target", "/api/transfer?dry=0"),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "no query",
            meant("target", "/api/transfer"),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "another ticket",
            with(sent, |sent| {
                set_field(&mut sent["fields"], "bulla-ticket", ":AAAA:");
            }),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "a changed field",
            with(sent, |sent| {
                set_field(&mut sent["fields"], "content-type", "text/html");
            }),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "a covered field is gone",
            with(sent, |sent| {
                remove_field(&mut sent["fields"], "content-type");
            }),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "another device",
            with(sent, |sent| sent["device"] = json!(public("other device"))),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "an algorithm that no proof has",
            with_input("ecdsa-p256-sha256", "ed25519"),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "another time of making",
            with_input("created=1800000000", "created=1800000001"),
        ),
        refused(
            step,
            Code::CoverageMissing,
            "a field came in on the way",
            with(sent, |sent| {
                set_field(&mut sent["fields"], "content-encoding", "gzip");
            }),
        ),
        refused(
            step,
            Code::CoverageMissing,
            "a component has parameters",
            with_input("\"@method\"", "\"@method\";req"),
        ),
        refused(
            step,
            Code::FieldRefused,
            "a covered field on two lines",
            with(sent, |sent| {
                sent["fields"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!(["content-type", "text/html"]));
            }),
        ),
    ];
    for component in [
        "@method",
        "@authority",
        "@path",
        "@query",
        "content-digest",
        "bulla-ticket",
        "content-type",
    ] {
        let quoted = format!("\"{component}\"");
        let less = with_input(&quoted, "").clone();
        let tidy = field_value(&less["fields"], "signature-input")
            .replace("  ", " ")
            .replace("( ", "(")
            .replace(" )", ")");
        cases.push(refused(
            step,
            Code::CoverageMissing,
            &format!("{component} is not covered"),
            with(&less, |less| {
                set_field(&mut less["fields"], "signature-input", &tidy);
            }),
        ));
    }
    for (name, from, to) in [
        ("a parameter twice", ";alg=", ";tag=\"bulla\";alg="),
        (
            "a component twice",
            "\"@method\"",
            "\"@method\" \"@method\"",
        ),
        ("an unknown parameter", ";alg=", ";expires=1;alg="),
        (
            "a nonce without a dot",
            "c2VydmVyIG5vbmNl.",
            "c2VydmVyIG5vbmNl",
        ),
        ("a negative time", "created=1800000000", "created=-1"),
    ] {
        cases.push(refused(step, Code::Malformed, name, with_input(from, to)));
    }
    let twice = format!("{input}, other={}", input.trim_start_matches("bulla="));
    cases.push(refused(
        step,
        Code::Malformed,
        "two proofs",
        with(sent, |sent| {
            set_field(&mut sent["fields"], "signature-input", &twice);
        }),
    ));
    cases
}
