//! Opening a session, both sides, and the keys that come of it.

use bulla_keys::rustcrypto::verify;
use bulla_protocol::error::Code;
use bulla_protocol::opening::{Agreements, Opened, ReceivedOpening, Ticket, opened_fields};
use bulla_protocol::proof::ProofKind;
use bulla_protocol::signature;
use serde_json::{Value, json};

use super::{
    Case, field_value, fixed, given, opaque_ticket, passes, private, public, refused, remove_field,
    set_field, signing_key, with,
};
use crate::input::text;

const AUTHORITY: &str = "bank.example";

pub(super) fn cases() -> Vec<Case> {
    let open = open();
    let sent = received(&open);
    let answer = answer(&open);
    let mut cases = vec![
        passes("open", "the first opening", open.clone()),
        passes(
            "open",
            "nothing is pinned yet",
            with(&open, |open| {
                open["open"].as_object_mut().unwrap().remove("identity");
            }),
        ),
        passes(
            "open",
            "a session is carried over",
            with(&open, |open| open["open"]["ticket"] = text(opaque_ticket())),
        ),
    ];
    cases.extend(on_the_server(&open, &sent));
    cases.extend(rotated(&open));
    cases.extend(on_the_client(&answer));
    cases.push(passes("keys", "what both sides derive", agreed()));
    cases
}

/// What the keys of the first opening are derived from.
pub(crate) fn agreed() -> Value {
    json!({
        "agreement": private("client agreement"),
        "server": agreements(),
        "transcript": given("opened", &answer(&open()))["transcript"],
    })
}

/// The keys of the first opening.
pub(super) fn derived() -> Value {
    given("keys", &agreed())
}

/// What the first opening is made of.
pub(crate) fn open() -> Value {
    json!({
        "authority": AUTHORITY,
        "created": 1_800_000_000,
        "device": private("device"),
        "agreement": private("client agreement"),
        "open": {
            "identity": public("identity").thumbprint(),
            "random": text(fixed("client random")),
        },
    })
}

fn agreements() -> Agreements {
    Agreements {
        request: public("server request agreement"),
        response: public("server response agreement"),
        mac: public("server mac agreement"),
    }
}

/// The opening as the server receives it.
fn received(open: &Value) -> Value {
    let sent = given("open", open);
    json!({
        "method": sent["method"],
        "authority": AUTHORITY,
        "target": sent["path"],
        "fields": sent["fields"],
        "body": sent["body"],
    })
}

/// The server's answer to the opening.
pub(crate) fn answer(open: &Value) -> Value {
    let opened = Opened {
        version: 1,
        identity: public("identity"),
        agreement: agreements(),
        random: fixed("server random"),
        ticket: Ticket::new(opaque_ticket()).unwrap(),
        nonce_life: 60,
        ticket_life: 900,
        session_life: 43_200,
        proof: ProofKind::Device,
        nonce: "c2VydmVyIG5vbmNl".into(),
        authenticated: false,
    };
    answered(open, &serde_json::to_string(&opened).unwrap())
}

/// An answer with any body, signed as the server signs.
fn answered(open: &Value, body: &str) -> Value {
    let sent = received(open);
    let fields: Vec<(String, String)> = serde_json::from_value(sent["fields"].clone()).unwrap();
    let request = signature::Request {
        method: "POST",
        authority: AUTHORITY,
        path: sent["target"].as_str().unwrap(),
        query: None,
        fields: &fields,
    };
    let opening = ReceivedOpening::parse(&request, sent["body"].as_str().unwrap().as_bytes())
        .and_then(|opening| {
            opening.verify(|key, base, signature| verify(key, base, signature).is_ok())
        })
        .unwrap();
    let identity = signing_key("identity");
    let mut fields = opened_fields(body.as_bytes());
    let to_sign = opening
        .sign_answer(&request, &identity.thumbprint(), &fields, 1_800_000_000)
        .unwrap();
    let signature = identity.sign(to_sign.base.as_bytes()).unwrap();
    fields.extend(
        to_sign
            .fields(&signature)
            .map(|(name, value)| (name.to_owned(), value)),
    );
    json!({ "request": open, "status": 200, "fields": fields, "body": body })
}

fn on_the_server(open: &Value, sent: &Value) -> Vec<Case> {
    let step = "open-received";
    let with_body = |body: &str| {
        with(sent, |sent| {
            let digest = given("digest", &json!({ "content": text(body) }));
            set_field(
                &mut sent["fields"],
                "content-digest",
                digest["field"].as_str().unwrap(),
            );
            sent["body"] = body.into();
        })
    };
    let input = field_value(&sent["fields"], "signature-input");
    let with_input = |from: &str, to: &str| {
        with(sent, |sent| {
            set_field(
                &mut sent["fields"],
                "signature-input",
                &input.replace(from, to),
            );
        })
    };
    let body = sent["body"].as_str().unwrap();
    let other = received(&with(open, |open| open["device"] = private("other device")));
    vec![
        passes(step, "the first opening", sent.clone()),
        refused(step, Code::Malformed, "no JSON", with_body("{")),
        refused(
            step,
            Code::Malformed,
            "another label",
            with(sent, |sent| {
                set_field(
                    &mut sent["fields"],
                    "signature-input",
                    &input.replacen("bulla", "other", 1),
                );
                let signature = field_value(&sent["fields"], "signature");
                set_field(
                    &mut sent["fields"],
                    "signature",
                    &signature.replacen("bulla", "other", 1),
                );
            }),
        ),
        refused(
            step,
            Code::Malformed,
            "an unknown parameter",
            with_input(";created=", ";expires=1;created="),
        ),
        refused(
            step,
            Code::TooLarge,
            "4097 bytes",
            with_body(&" ".repeat(4097)),
        ),
        refused(
            step,
            Code::VersionUnsupported,
            "version 2",
            with_body(&body.replace("\"version\":1", "\"version\":2")),
        ),
        refused(
            step,
            Code::DigestMismatch,
            "another body",
            with(sent, |sent| sent["body"] = format!("{body} ").into()),
        ),
        refused(
            step,
            Code::ProofMissing,
            "no signature",
            with(sent, |sent| remove_field(&mut sent["fields"], "signature")),
        ),
        refused(
            step,
            Code::ProofMissing,
            "another tag",
            with_input("\"bulla-open\"", "\"bulla\""),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "the key of another device",
            with(&other, |other| {
                let digest = field_value(&sent["fields"], "content-digest");
                set_field(&mut other["fields"], "content-digest", &digest);
                other["body"] = body.into();
            }),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "a signature over something else",
            with(sent, |sent| sent["authority"] = "other.example".into()),
        ),
        refused(
            step,
            Code::CoverageMissing,
            "the path is not covered",
            with_input(" \"@path\"", ""),
        ),
    ]
}

/// A device key signs in the one that takes its place.
fn rotated(open: &Value) -> Vec<Case> {
    let rotating = with(open, |open| {
        open["open"]["ticket"] = text(opaque_ticket());
        open["previous"] = private("other device");
    });
    let step = "open-received";
    let sent = received(&rotating);
    let by = |purpose: &str| with(&sent, |sent| sent["previous"] = json!(public(purpose)));
    let input = field_value(&sent["fields"], "signature-input");
    let (own, rotation) = input.split_once(", ").unwrap();
    let with_rotation = |from: &str, to: &str| {
        with(&sent, |sent| {
            let input = [own, &rotation.replace(from, to)].join(", ");
            set_field(&mut sent["fields"], "signature-input", &input);
        })
    };
    vec![
        passes(
            "open",
            "a device key signs in the next one",
            rotating.clone(),
        ),
        passes(
            step,
            "a device key signs in the next one",
            by("other device"),
        ),
        passes(
            step,
            "a third device key is to have signed it in",
            by("device"),
        ),
        refused(
            step,
            Code::CoverageMissing,
            "what signs the next key in does not cover the path",
            with_rotation(" \"@path\"", ""),
        ),
        refused(
            step,
            Code::ProofMismatch,
            "what signs the next key in is no device key's",
            with_rotation("ecdsa-p256-sha256", "hmac-sha256"),
        ),
    ]
}

fn on_the_client(answer: &Value) -> Vec<Case> {
    let step = "opened";
    let open = &answer["request"];
    let body = answer["body"].as_str().unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let body = with(&serde_json::from_str(body).unwrap(), change);
        answered(open, &body.to_string())
    };
    vec![
        passes(step, "the answer to the first opening", answer.clone()),
        refused(
            step,
            Code::IdentityChanged,
            "another identity than the pinned one",
            with(answer, |answer| {
                answer["request"]["open"]["identity"] = json!(public("other").thumbprint());
            }),
        ),
        refused(
            step,
            Code::ReplyInvalid,
            "the answer to another opening",
            with(answer, |answer| {
                answer["request"]["open"]["random"] = text(fixed("other"));
            }),
        ),
        refused(
            step,
            Code::ReplyInvalid,
            "a changed body",
            with(answer, |answer| answer["body"] = format!("{body} ").into()),
        ),
        refused(
            step,
            Code::ReplyInvalid,
            "another status",
            with(answer, |answer| answer["status"] = 201.into()),
        ),
        refused(
            step,
            Code::ReplyInvalid,
            "no signature",
            with(answer, |answer| {
                remove_field(&mut answer["fields"], "signature");
            }),
        ),
        refused(
            step,
            Code::ReplyInvalid,
            "another version",
            changed(&|body| body["version"] = 2.into()),
        ),
        refused(
            step,
            Code::ReplyInvalid,
            "two equal agreement keys",
            changed(&|body| body["agreement"]["mac"] = body["agreement"]["request"].clone()),
        ),
        refused(
            step,
            Code::ReplyInvalid,
            "the client's own agreement key",
            changed(&|body| body["agreement"]["mac"] = json!(public("client agreement"))),
        ),
        refused(
            step,
            Code::ReplyInvalid,
            "the status is not covered",
            with(answer, |answer| {
                let input = field_value(&answer["fields"], "signature-input");
                let input = input.replace("\"@status\" ", "");
                set_field(&mut answer["fields"], "signature-input", &input);
            }),
        ),
    ]
}
