//! Binary HTTP, and the records that it travels in.

use bulla_protocol::base64;
use bulla_protocol::error::Code;
use serde_json::{Value, json};

use super::{
    Case, fixed16, flip, given, opaque_ticket, passes, refused, remove_field, set_field, with,
};
use crate::input::text;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = messages();
    cases.extend(records());
    cases
}

/// The example's request as it stands inside the seal.
pub(crate) fn inner_request() -> Value {
    let transfer = super::proofs::transfer("device");
    let signed = given("proof", &transfer);
    let mut fields = transfer["fields"].clone();
    remove_field(&mut fields, "bulla-ticket");
    for field in signed["fields"].as_array().unwrap() {
        set_field(
            &mut fields,
            field[0].as_str().unwrap(),
            field[1].as_str().unwrap(),
        );
    }
    json!({
        "method": "POST",
        "scheme": "https",
        "authority": "bank.example",
        "target": transfer["target"],
        "fields": fields,
        "content": text(super::proofs::BODY),
    })
}

/// The reply to it.
pub(crate) fn inner_reply() -> Value {
    let nonce = super::proofs::transfer("device")["nonce"].clone();
    json!({
        "status": 200,
        "fields": [
            ["bulla-in-reply-to", format!("\"{}\"", nonce.as_str().unwrap())],
            ["content-type", "application/json"],
            ["bulla-nonce", "\"bmV4dCBub25jZQ\""],
        ],
        "content": text(r#"{"receipt":1}"#),
    })
}

/// What seals the example's request, around any plain text.
pub(crate) fn sealed_request(plain: &Value) -> Value {
    json!({
        "key": super::opening::derived()["request_key"],
        "salt": text(fixed16("request salt")),
        "record_size": 65_536,
        "keyid": text(opaque_ticket()),
        "stream": false,
        "plain": [plain],
    })
}

/// What seals the example's reply.
pub(crate) fn sealed_reply(plain: &Value) -> Value {
    with(&sealed_request(plain), |seal| {
        seal["key"] = super::opening::derived()["response_key"].clone();
        seal["salt"] = text(fixed16("reply salt"));
        seal["keyid"] = "".into();
    })
}

fn messages() -> Vec<Case> {
    let request = inner_request();
    let reply = inner_reply();
    let pieces = with(&reply, |reply| {
        reply["content"] = json!([text("one"), text(""), text("two")]);
    });
    let read = |step: &str, message: &Value| json!({ "bytes": given(step, message)["bytes"] });
    let with_field = |name: &str, value: &str| {
        with(&request, |request| {
            request["fields"] = json!([[name, value]]);
        })
    };
    let bytes = base64::decode(given("message", &request)["bytes"].as_str().unwrap()).unwrap();
    let mut cases = vec![
        passes("message", "a request, padded", request.clone()),
        passes(
            "message-read",
            "a request, padded",
            read("message", &request),
        ),
        passes("message", "a reply, padded", reply.clone()),
        passes("message-read", "a reply, padded", read("message", &reply)),
        passes("message-stream", "a reply in pieces", pieces.clone()),
        passes(
            "message-read",
            "a reply in pieces",
            read("message-stream", &pieces),
        ),
    ];
    let bad = |code, name: &str, bytes: Vec<u8>| {
        refused("message-read", code, name, json!({ "bytes": text(bytes) }))
    };
    cases.extend([
        bad(Code::Malformed, "nothing", Vec::new()),
        bad(Code::Malformed, "an unknown framing", vec![9; 40]),
        bad(
            Code::Malformed,
            "cut in its content",
            bytes[..bytes.len() / 2].to_vec(),
        ),
        bad(
            Code::Malformed,
            "something in the padding",
            [&bytes[..], b"x"].concat(),
        ),
        bad(Code::TooLarge, "a head without end", {
            let mut head = vec![0, 4];
            head.extend(b"POST");
            head.extend([5]);
            head.extend(b"https");
            head.extend([1, b'a', 0x80, 0, 0x90, 0]);
            head.resize(40_000, b'/');
            head
        }),
        refused(
            "message-read",
            Code::PathRefused,
            "a dot segment",
            read(
                "message",
                &with(&request, |request| request["target"] = "/a/../b".into()),
            ),
        ),
        refused(
            "message-read",
            Code::Malformed,
            "a method that cannot be carried",
            read(
                "message",
                &with(&request, |request| request["method"] = "TRACE".into()),
            ),
        ),
        refused(
            "message-read",
            Code::Malformed,
            "an informational reply",
            read(
                "message",
                &with(&reply, |reply| reply["status"] = 103.into()),
            ),
        ),
    ]);
    for (name, value) in [
        ("cookie", "a=b"),
        ("host", "bank.example"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-http-method-override", "DELETE"),
        ("bulla-ticket", ":AAAA:"),
        ("X-Upper", "case"),
        ("x-split", "a\r\nb: c"),
    ] {
        cases.push(refused(
            "message-read",
            Code::FieldRefused,
            &format!("the field {name}"),
            read("message", &with_field(name, value)),
        ));
    }
    cases
}

fn records() -> Vec<Case> {
    let request = sealed_request(&given("message", &inner_request())["bytes"]);
    let reply = sealed_reply(&given("message", &inner_reply())["bytes"]);
    let several = with(&request, |seal| {
        seal["record_size"] = 64.into();
        seal["plain"] = json!([text([7; 100])]);
    });
    let stream = with(&reply, |seal| {
        seal["record_size"] = 64.into();
        seal["stream"] = true.into();
        seal["plain"] = json!([text("one"), text([2; 60])]);
    });
    let unseal =
        |seal: &Value| json!({ "key": seal["key"], "sealed": given("seal", seal)["sealed"] });
    let mut cases = vec![
        passes(
            "record-keys",
            "of a request",
            json!({
                "key": request["key"], "salt": request["salt"],
            }),
        ),
        passes(
            "record-keys",
            "of a reply",
            json!({
                "key": reply["key"], "salt": reply["salt"],
            }),
        ),
    ];
    for (name, seal) in [
        ("a request", &request),
        ("a reply", &reply),
        ("several records", &several),
        ("a stream, each piece flushed", &stream),
        ("nothing", &with(&reply, |seal| seal["plain"] = json!([]))),
    ] {
        cases.push(passes("seal", name, seal.clone()));
        cases.push(passes("unseal", name, unseal(seal)));
    }
    let sealed = unseal(&several);
    let bytes = base64::decode(sealed["sealed"].as_str().unwrap()).unwrap();
    let head = 21 + usize::from(bytes[20]);
    let record =
        |number: usize| &bytes[head + 64 * number..(head + 64 * (number + 1)).min(bytes.len())];
    let bad = |name: &str, bytes: Vec<u8>| {
        refused(
            "unseal",
            Code::SealBroken,
            name,
            with(&sealed, |sealed| {
                sealed["sealed"] = text(bytes);
            }),
        )
    };
    let sized = |size: u32| {
        let mut bytes = bytes.clone();
        bytes[16..20].copy_from_slice(&size.to_be_bytes());
        bytes
    };
    cases.extend([
        refused(
            "unseal",
            Code::SealBroken,
            "a changed salt",
            with(&sealed, |sealed| {
                flip(&mut sealed["sealed"], 0);
            }),
        ),
        refused(
            "unseal",
            Code::SealBroken,
            "a changed record",
            with(&sealed, |sealed| {
                flip(&mut sealed["sealed"], head + 70);
            }),
        ),
        refused(
            "unseal",
            Code::SealBroken,
            "another key",
            with(&sealed, |sealed| {
                sealed["key"] = reply["key"].clone();
            }),
        ),
        bad("cut in its header", bytes[..head - 1].to_vec()),
        bad("without its records", bytes[..head].to_vec()),
        bad("without its final record", bytes[..head + 128].to_vec()),
        bad("cut in a record", bytes[..bytes.len() - 1].to_vec()),
        bad(
            "a record twice",
            [&bytes[..head], record(0), &bytes[head..]].concat(),
        ),
        bad(
            "two records swapped",
            [&bytes[..head], record(1), record(0), record(2)].concat(),
        ),
        bad(
            "something after the final record",
            [&bytes[..], &[0; 64]].concat(),
        ),
        bad("a record size of 17", sized(17)),
        bad("a record size above 65536", sized(65_537)),
    ]);
    cases
}
