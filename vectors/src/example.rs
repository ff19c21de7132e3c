//! The worked example of `docs/protocol.md`, made of the same steps and values as the vectors.

use std::fmt::Write as _;

use bulla_protocol::base64;
use serde_json::{Value, json};

use crate::cases::{given, opening, private, proofs, public, sealing};

const BEGIN: &str = "<!-- begin: the example is generated -->\n";
const END: &str = "<!-- end: the example is generated -->\n";

/// A page with the example between its marks made anew.
///
/// # Panics
///
/// If the page has no such marks.
pub fn put_into(page: &str) -> String {
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    format!("{before}{BEGIN}{}{END}{after}", example())
}

fn example() -> String {
    let open = opening::open();
    let sent = given("open", &open);
    let answer = opening::answer(&open);
    let opened = given("opened", &answer);
    let keys = given("keys", &opening::agreed());
    let transfer = proofs::transfer("device");
    let proof = given("proof", &transfer);
    let session = given("proof", &proofs::transfer("session"));
    let request = given("message", &sealing::inner_request())["bytes"].clone();
    let sealed = sealing::sealed_request(&request);
    let reply = given("message", &sealing::inner_reply())["bytes"].clone();
    let sealed_reply = sealing::sealed_reply(&reply);

    let mut page = Page::default();
    page.heading("Keys");
    page.say("The client's device key, and its agreement key for this opening:");
    page.code("json", &private("device").to_string());
    page.code("json", &private("client agreement").to_string());
    page.say("The server's identity, pinned by its thumbprint:");
    page.code("json", &json!(public("identity")).to_string());
    page.code("text", &public("identity").thumbprint().to_string());

    page.heading("Opening");
    page.say("What the device key signs, in one piece, without a line break at its end:");
    page.code("text", text(&sent["base"]));
    page.say("The request:");
    page.code(
        "http",
        &message(
            "POST /.well-known/bulla/session HTTP/1.1\nHost: bank.example",
            &sent["fields"],
            text(&sent["body"]),
        ),
    );
    page.say("The answer:");
    page.code(
        "http",
        &message("HTTP/1.1 200 OK", &answer["fields"], text(&answer["body"])),
    );
    page.say("What the identity key has signed:");
    page.code("text", text(&opened["base"]));
    page.say("The transcript, and the session id, which is its beginning:");
    page.code("text", &hex(&opened["transcript"]));
    page.code("text", text(&opened["session"]));
    page.say("The request key, the response key, and the session MAC key:");
    page.code("text", &hex(&keys["request_key"]));
    page.code("text", &hex(&keys["response_key"]));
    page.code("text", &hex(&keys["mac_key"]));

    page.heading("A signed request");
    page.say("What is signed, and the fields that carry the device proof:");
    page.code("text", text(&proof["base"]));
    page.code("http", lines(&proof["fields"]).trim_end());
    page.say("The session proof of the same request has another `alg`, and this signature:");
    page.code("http", lines(&json!([session["fields"][1]])).trim_end());

    page.heading("The same request, sealed");
    page.say("Inside, as Binary HTTP, padded:");
    page.code("text", &hex(&request));
    page.say(
        "The keys of its records, derived from the request key and the salt: key, base nonce.",
    );
    let record_keys = given(
        "record-keys",
        &json!({ "key": sealed["key"], "salt": sealed["salt"] }),
    );
    page.code("text", &hex(&record_keys["content_encryption_key"]));
    page.code("text", &hex(&record_keys["nonces"][0]));
    page.say("The body of `POST /.well-known/bulla/sealed`:");
    page.code("text", &hex(&given("seal", &sealed)["sealed"]));

    page.heading("The reply");
    page.say("The body of the outer reply, whose status is 200:");
    page.code("text", &hex(&given("seal", &sealed_reply)["sealed"]));
    page.say("Inside:");
    page.code("text", &hex(&reply));
    page.say("Which is:");
    let inner = sealing::inner_reply();
    let content = base64::decode(text(&inner["content"])).unwrap();
    page.code(
        "http",
        &message(
            "HTTP/1.1 200 OK",
            &inner["fields"],
            &String::from_utf8(content).unwrap(),
        ),
    );
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn heading(&mut self, text: &str) {
        let _ = write!(self.0, "\n### {text}\n");
    }

    fn say(&mut self, text: &str) {
        let _ = write!(self.0, "\n{text}\n");
    }

    fn code(&mut self, language: &str, text: &str) {
        let _ = write!(self.0, "\n```{language}\n{text}\n```\n");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn lines(fields: &Value) -> String {
    let line = |field: &Value| format!("{}: {}\n", text(&field[0]), text(&field[1]));
    fields.as_array().unwrap().iter().map(line).collect()
}

fn message(start: &str, fields: &Value, content: &str) -> String {
    format!("{start}\n{}\n{content}", lines(fields))
}

/// Bytes in hexadecimal, 32 in a line.
fn hex(value: &Value) -> String {
    let bytes = base64::decode(text(value)).unwrap();
    let line = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(String::new(), |line, byte| format!("{line}{byte:02x}"))
    };
    bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
}
