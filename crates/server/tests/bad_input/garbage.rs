//! Requests that nobody has signed: anything at all, anywhere.

use bulla_protocol::field;
use http::{HeaderName, HeaderValue, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::mutation::piece;
use crate::support::{AUTHORITY, Body, body};
use crate::world::{World, cases};

/// A request in the parts that a connection would hand over, if it lets them through.
#[derive(Clone, Debug)]
struct Garbage {
    method: Vec<u8>,
    target: Vec<u8>,
    host: Option<Vec<u8>>,
    fields: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

impl Garbage {
    fn request(self) -> Option<Request<Body>> {
        let mut request = Request::builder()
            .method(&self.method[..])
            .uri(&self.target[..])
            .body(body(&self.body))
            .ok()?;
        let host = self.host.into_iter().map(|host| ("host", host));
        for (name, value) in host.chain(self.fields) {
            let value = HeaderValue::from_bytes(&value).ok()?;
            let name = HeaderName::from_static(name);
            request.headers_mut().append(name, value);
        }
        Some(request)
    }
}

#[test]
fn garbage_is_refused_everywhere() {
    let world = World::new();
    proptest!(cases(4000), |(garbage in garbage())| {
        if let Some(request) = garbage.request() {
            world.ask(request).refused()?;
            prop_assert_eq!(world.seen(), []);
        }
    });
}

fn garbage() -> impl Strategy<Value = Garbage> {
    (method(), target(), host(), vec(field(), 0..10), content()).prop_map(
        |(method, target, host, fields, body)| Garbage {
            method,
            target,
            host,
            fields,
            body,
        },
    )
}

fn method() -> impl Strategy<Value = Vec<u8>> {
    let known: &[&str] = &["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT"];
    prop_oneof![
        5 => Just(b"POST".to_vec()),
        5 => select(known).prop_map(|method| method.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..20),
    ]
}

fn target() -> impl Strategy<Value = Vec<u8>> {
    let known: &[&str] = &[
        "/.well-known/bulla/session",
        "/.well-known/bulla/session?",
        "/.well-known/bulla/session/",
        "/.well-known/bulla/sealed",
        "/.well-known/bulla",
        "/.well-known/bulla/../bulla/session",
        "//.well-known/bulla/session",
        "/api/echo",
        "/api/echo?a=b&c",
        "https://bank.example/.well-known/bulla/session",
        "http://evil.example/.well-known/bulla/session",
        "https://user@bank.example:443/api/echo",
        "bank.example:443",
        "*",
        "/",
    ];
    prop_oneof![
        10 => select(known).prop_map(|target| target.as_bytes().to_vec()),
        1 => piece().prop_map(|piece| [b"/", &piece[..]].concat()),
        1 => vec(any::<u8>(), 0..40),
    ]
}

fn host() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        10 => Just(Some(AUTHORITY.as_bytes().to_vec())),
        1 => Just(None),
        1 => piece().prop_map(Some),
    ]
}

fn field() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let names: &[&'static str] = &[
        field::TICKET,
        field::SIGNATURE,
        field::SIGNATURE_INPUT,
        field::CONTENT_DIGEST,
        field::NONCE,
        field::SALT,
        "host",
        "content-type",
        "content-encoding",
        "content-length",
        "transfer-encoding",
        "authorization",
        "cookie",
        "origin",
        "access-control-request-method",
        "x-forwarded-host",
    ];
    let values: &[&str] = &[
        field::BHTTP,
        field::AES128GCM,
        "application/json",
        "bulla=:AAAA:",
        ":AAAA:",
        "bulla=(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\" \
         \"bulla-ticket\");created=1;keyid=\"AAAAAAAAAAAAAAAAAAAAAA\";nonce=\"AA.AA\";\
         alg=\"ecdsa-p256-sha256\";tag=\"bulla\"",
        "bulla=(\"@method\");tag=\"bulla-open\"",
        "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
    ];
    let value = prop_oneof![
        2 => select(values).prop_map(|value| value.as_bytes().to_vec()),
        1 => piece(),
    ];
    let sealed = select(
        &[
            ("content-type", field::BHTTP),
            ("content-encoding", field::AES128GCM),
        ][..],
    );
    prop_oneof![
        2 => (select(names), value),
        1 => sealed.prop_map(|(name, value)| (name, value.as_bytes().to_vec())),
    ]
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    // An envelope's header with a ticket of any length and a record size that may be taken.
    let envelope = (0_u32..70_000, vec(any::<u8>(), 0..255), piece());
    prop_oneof![
        piece(),
        vec(piece(), 0..6).prop_map(|pieces| pieces.concat()),
        envelope.prop_map(|(size, ticket, rest)| {
            let len = u8::try_from(ticket.len()).unwrap();
            [&[7; 16], &size.to_be_bytes()[..], &[len], &ticket, &rest].concat()
        }),
    ]
}
