//! What the native client makes of replies, and refuses by itself.

use bulla_protocol::base64;
use bulla_protocol::error::{Code, Problem};
use serde_json::{Value, json};

use super::{Case, given, passes, refused, remove_field, set_field, with};
use crate::input::text;

const STEP: &str = "client";

pub(super) fn cases() -> Vec<Case> {
    let inner = super::sealing::inner_reply();
    let reply = read(&given("message", &inner)["bytes"]);
    let sealed = base64::decode(reply["reply"]["body"].as_str().unwrap()).unwrap();
    let with_inner =
        |change: &dyn Fn(&mut Value)| read(&given("message", &with(&inner, change))["bytes"]);
    let with_body = |bytes: &[u8]| with(&reply, |reply| reply["reply"]["body"] = text(bytes));
    let plain = |status: u16, kind: &str, body: &[u8]| {
        with(&reply, |reply| {
            reply["reply"] = json!({
                "status": status, "fields": [["content-type", kind]], "body": text(body),
            });
        })
    };
    let problem = |code: Code| Problem::from(code.because("why")).to_json();
    let stream = with(&super::sealing::sealed_reply(&text("")), |seal| {
        let pieces = with(&inner, |inner| inner["content"] = json!([text([1; 100])]));
        seal["record_size"] = 64.into();
        seal["stream"] = true.into();
        seal["plain"] = json!([given("message-stream", &pieces)["bytes"]]);
    });
    let stream = base64::decode(given("seal", &stream)["sealed"].as_str().unwrap()).unwrap();

    let mut cases = vec![
        passes(STEP, "a sealed reply", reply.clone()),
        passes(STEP, "a stream", with_body(&stream)),
        refused(
            STEP,
            Code::ReplyUnsealed,
            "a plain reply to a sealed request",
            plain(200, "text/plain", b"sent"),
        ),
        refused(
            STEP,
            Code::ReplyUnsealed,
            "a plain problem of nobody's",
            plain(400, Problem::MEDIA_TYPE, br#"{"type":"about:blank"}"#),
        ),
        refused(
            STEP,
            Code::TicketExpired,
            "a refusal from before the unsealing",
            plain(401, Problem::MEDIA_TYPE, &problem(Code::TicketExpired)),
        ),
        refused(
            STEP,
            Code::LoginRequired,
            "a sealed refusal",
            with_inner(&|inner| {
                inner["status"] = 401.into();
                set_field(&mut inner["fields"], "content-type", Problem::MEDIA_TYPE);
                inner["content"] = text(problem(Code::LoginRequired));
            }),
        ),
        refused(
            STEP,
            Code::ReplyMismatch,
            "the reply to another request",
            with(&reply, |reply| {
                let nonce = reply["nonce"].as_str().unwrap().replace("c2Vy", "c3Vy");
                reply["nonce"] = nonce.into();
            }),
        ),
        refused(
            STEP,
            Code::ReplyMismatch,
            "the reply to no request in particular",
            with_inner(&|inner| remove_field(&mut inner["fields"], "bulla-in-reply-to")),
        ),
        refused(
            STEP,
            Code::ReplyTruncated,
            "without its records",
            with_body(&sealed[..21]),
        ),
        refused(
            STEP,
            Code::ReplyTruncated,
            "a stream without its final record",
            with_body(&stream[..21 + 64 * 3]),
        ),
        refused(
            STEP,
            Code::ReplyBroken,
            "a changed byte",
            with_body(&{
                let mut bytes = sealed.clone();
                bytes[40] ^= 1;
                bytes
            }),
        ),
        refused(
            STEP,
            Code::ReplyBroken,
            "something after the final record",
            with_body(&[&stream[..], &[0; 64]].concat()),
        ),
        refused(
            STEP,
            Code::ReplyInvalid,
            "a request where a reply should be",
            read(&given("message", &super::sealing::inner_request())["bytes"]),
        ),
        refused(
            STEP,
            Code::ReplyInvalid,
            "an envelope with a ticket",
            with_body(&{
                let plain = given("message", &inner)["bytes"].clone();
                let seal = with(&super::sealing::sealed_reply(&plain), |seal| {
                    seal["keyid"] = text("ticket");
                });
                base64::decode(given("seal", &seal)["sealed"].as_str().unwrap()).unwrap()
            }),
        ),
    ];
    cases.extend(
        [
            (Code::Network, "open"),
            (Code::RequestInvalid, "fetch from elsewhere"),
            (Code::SessionClosed, "fetch after the end"),
            (Code::Unsupported, "make keys without random values"),
        ]
        .map(|(code, what)| refused(STEP, code, what, json!({ "do": what }))),
    );
    cases
}

/// The example's sealed reply, with any inner message.
fn read(plain: &Value) -> Value {
    let sealed = given("seal", &super::sealing::sealed_reply(plain));
    json!({
        "do": "read",
        "response_key": super::opening::derived()["response_key"],
        "nonce": super::proofs::transfer("device")["nonce"],
        "reply": {
            "status": 200,
            "fields": [
                ["content-type", "message/bhttp"],
                ["content-encoding", "aes128gcm"],
            ],
            "body": sealed["sealed"],
        },
    })
}
