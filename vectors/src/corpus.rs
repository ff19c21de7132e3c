//! Seeds for fuzzing: what the vectors' valid messages are to each target in `fuzz/fuzz_targets`.

use std::collections::BTreeMap;

use bulla_protocol::base64;
use serde_json::Value;

use crate::Vector;
use crate::cases::{FILES, File};

/// How many there are of one kind at most: the fuzzer finds the others.
const A_FEW: usize = 3;

/// The seeds, by their path below `fuzz/corpus`.
///
/// # Panics
///
/// If a vector lacks what its step must have.
pub fn seeds() -> BTreeMap<String, Vec<u8>> {
    let mut seeds = BTreeMap::new();
    let mut counts = BTreeMap::new();
    let vectors = FILES.iter().flat_map(File::vectors);
    for vector in vectors.filter(|vector| vector.out.is_some()) {
        for (target, seed) in of(&vector) {
            let count = counts.entry((target, vector.step.clone())).or_insert(0);
            if *count < A_FEW {
                *count += 1;
                let name = format!("{target}/{}-{count}", vector.step);
                seeds.insert(name, seed);
            }
        }
    }
    seeds
}

/// What a vector is to each target that it says something to.
fn of(vector: &Vector) -> Vec<(&'static str, Vec<u8>)> {
    let input = &vector.input;
    match vector.step.as_str() {
        "key" => vec![("jwk", json(&input["jwk"]))],
        "origin" | "target" => vec![("target", text(&input[vector.step.as_str()]))],
        "nonce" => vec![("nonce", text(&input["nonce"]))],
        "problem" => vec![("problem", text(&input["body"]))],
        "ticket" | "digest-check" => vec![("fields", text(&input["field"]))],
        "open-received" => {
            let body = text(&input["body"]);
            let [signature, digest] = [signature(input), field(input, "content-digest")];
            let request = lines(&[b"POST", b"0", b"application/json"]);
            vec![
                ("structured", signature.clone()),
                ("opening", [&signature[..], &body].concat()),
                (
                    "verifier",
                    [request, signature, lines(&[b"", &digest]), body].concat(),
                ),
            ]
        }
        "opened" => {
            let body = text(&input["body"]);
            let start = lines(&[b"200", b"application/json"]);
            vec![("answer", [start, signature(input), body].concat())]
        }
        "proof-received" => {
            let [digest, kind] = ["content-digest", "content-type"].map(|name| field(input, name));
            let signature = signature(input);
            let ours = ours(&signature);
            vec![
                ("structured", signature.clone()),
                ("proof", [&signature[..], &lines(&[&digest])].concat()),
                ("proven", [ours, lines(&[&digest, &kind])].concat()),
            ]
        }
        "message-read" => {
            let message = bytes(&input["bytes"]);
            // However it is cut: the first byte says.
            let cut = [&[6], &message[..]].concat();
            vec![("inner", message), ("message", cut)]
        }
        "unseal" => {
            let sealed = bytes(&input["sealed"]);
            let cut = [&[6], &sealed[..]].concat();
            let request = lines(&[b"POST", b"1", b"message/bhttp", b"", b"", b"", b""]);
            let reply = lines(&[b"200", b"message/bhttp", b"\"AAAA\""]);
            vec![
                ("envelope", cut),
                ("verifier", [&request[..], &sealed].concat()),
                ("reply", [&reply[..], &sealed].concat()),
            ]
        }
        _ => Vec::new(),
    }
}

/// Signature parameters and signature, a line each.
fn signature(input: &Value) -> Vec<u8> {
    lines(&[&field(input, "signature-input"), &field(input, "signature")])
}

/// The same for a session that is open where it is read.
fn ours(signature: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(signature);
    let replace = |text: &str, name: &str, word: &str, end: char| {
        let (before, after) = text.split_once(name).unwrap();
        let (_, after) = after.split_once(end).unwrap();
        format!("{before}{name}{word}{end}{after}")
    };
    let text = replace(&text, "keyid=\"", "SESSION", '"');
    replace(&text, "nonce=\"", "NONCE", '.').into_bytes()
}

fn lines(lines: &[&[u8]]) -> Vec<u8> {
    lines
        .iter()
        .flat_map(|line| [line, &b"\n"[..]].concat())
        .collect()
}

fn field(input: &Value, name: &str) -> Vec<u8> {
    let fields = input["fields"].as_array().unwrap();
    let field = fields.iter().find(|field| field[0] == name);
    field.map_or_else(Vec::new, |field| text(&field[1]))
}

fn text(value: &Value) -> Vec<u8> {
    value.as_str().unwrap().as_bytes().to_vec()
}

fn bytes(value: &Value) -> Vec<u8> {
    base64::decode(value.as_str().unwrap()).unwrap()
}

fn json(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
