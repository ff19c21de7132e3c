//! Replies that somebody has changed, or made up: a typed error, or nothing was changed.

use http::{HeaderName, HeaderValue, StatusCode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::Config;
use tokio::runtime::Runtime;

use super::*;
use crate::opening::PreparedOpening;
use crate::request::Prepared;

/// Puts other bytes in the place of some: changes, cuts, repeats and adds.
#[derive(Clone, Debug)]
struct Splice(Index, Index, Vec<u8>);

impl Splice {
    fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let at = |index: Index| index.index(bytes.len() + 1);
        let (one, other) = (at(self.0), at(self.1));
        let mut changed = bytes.to_vec();
        changed.splice(one.min(other)..one.max(other), self.2.iter().copied());
        changed
    }
}

/// What a middle man does to a reply.
#[derive(Clone, Debug)]
enum Change {
    Body(Splice),
    Field(Index, Splice),
    Add(&'static str, Vec<u8>),
    Remove(Index),
    Status(u16),
}

impl Change {
    fn apply(&self, reply: &mut Response<Bytes>) {
        let name = |index: &Index| {
            let names: Vec<_> = reply.headers().keys().cloned().collect();
            (!names.is_empty()).then(|| names[index.index(names.len())].clone())
        };
        match self {
            Self::Body(splice) => *reply.body_mut() = splice.apply(reply.body()).into(),
            Self::Field(at, splice) => {
                let Some(name) = name(at) else { return };
                let changed = splice.apply(reply.headers()[&name].as_bytes());
                if let Ok(value) = HeaderValue::from_bytes(&changed) {
                    reply.headers_mut().insert(name, value);
                }
            }
            Self::Add(name, value) => {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    let name = HeaderName::from_static(name);
                    reply.headers_mut().append(name, value);
                }
            }
            Self::Remove(at) => {
                if let Some(name) = name(at) {
                    reply.headers_mut().remove(name);
                }
            }
            Self::Status(status) => *reply.status_mut() = StatusCode::from_u16(*status).unwrap(),
        }
    }
}

/// A session and, for each case, a fresh request and the server's reply to it.
struct World {
    runtime: Runtime,
    wire: Wire,
    session: Session,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let wire = Wire::new();
        let session = runtime.block_on(wire.open());
        Self {
            runtime,
            wire,
            session,
        }
    }

    fn asked(&self, request: Request<String>, mode: Mode) -> (Prepared, Response<Bytes>) {
        let nonce = self.session.fresh_nonce().unwrap();
        let kind = ProofKind::Device;
        let prepared = self.session.prepare(request, mode, kind, nonce).unwrap();
        let reply = self
            .runtime
            .block_on(self.wire.carry(prepared.request.clone()));
        (prepared, reply)
    }

    fn read(&self, prepared: &Prepared, reply: Response<Bytes>) -> Result<Response<Bytes>, Code> {
        let reply = self.runtime.block_on(prepared.open_reply(reply));
        reply.map_err(|error| error.code)
    }

    fn opening(&self) -> (PreparedOpening, Response<Bytes>) {
        let prepared = self.session.client().prepare_opening(None).unwrap();
        let answer = self
            .runtime
            .block_on(self.wire.carry(prepared.request.clone()));
        (prepared, answer)
    }
}

#[test]
fn a_changed_reply_is_an_error_or_was_not_changed() {
    let world = World::new();
    let (prepared, reply) = world.asked(echo("x"), Mode::Sealed);
    let sent = world.read(&prepared, reply.clone()).unwrap();
    proptest!(cases(3000), |(changes in changes())| {
        let mut changed = reply.clone();
        for change in &changes {
            change.apply(&mut changed);
        }
        match world.read(&prepared, changed.clone()) {
            Ok(read) => {
                prop_assert_eq!(read.body(), sent.body());
                prop_assert_eq!(read.status(), sent.status());
                prop_assert_eq!(read.headers(), sent.headers());
            }
            Err(code) if code.status() == 0 => {}
            Err(Code::Malformed) => {}
            // A refusal can be forged; it is no reply.
            Err(code) => prop_assert_eq!(Problem::parse(changed.body()), Some(code)),
        }
    });
}

#[test]
fn a_reply_that_is_made_up_is_an_error() {
    let world = World::new();
    let (prepared, _) = world.asked(echo("x"), Mode::Sealed);
    proptest!(cases(3000), |(changes in changes(), body in content())| {
        let mut reply = Response::new(Bytes::from(body));
        for change in &changes {
            change.apply(&mut reply);
        }
        let code = world.read(&prepared, reply.clone()).unwrap_err();
        prop_assert!(code.status() == 0
            || Problem::parse(reply.body()) == Some(code));
    });
}

#[test]
fn no_reply_breaks_a_client_that_only_signs() {
    let world = World::new();
    let (prepared, reply) = world.asked(echo("x"), Mode::Signed);
    proptest!(cases(1000), |(changes in changes())| {
        let mut changed = reply.clone();
        for change in &changes {
            change.apply(&mut changed);
        }
        let _ = world.read(&prepared, changed);
    });
}

#[test]
fn a_changed_answer_to_an_opening_is_an_error_or_was_not_changed() {
    let world = World::new();
    let (prepared, answer) = world.opening();
    let sent = prepared.answer(&answer).unwrap();
    proptest!(cases(3000), |(changes in changes())| {
        let mut changed = answer.clone();
        for change in &changes {
            change.apply(&mut changed);
        }
        match prepared.answer(&changed) {
            // The same keys, under the same name; the rest is what was signed.
            Ok(session) => {
                prop_assert_eq!(session.id(), sent.id());
                prop_assert_eq!(changed.body(), answer.body());
            }
            Err(error) if error.code == Code::ReplyInvalid => {}
            Err(error) if error.code == Code::IdentityChanged => {}
            Err(error) => prop_assert_eq!(Problem::parse(changed.body()), Some(error.code)),
        }
    });
}

fn cases(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let names = select(
        &[
            "content-type",
            "content-encoding",
            "content-length",
            "content-digest",
            "location",
            "signature",
            "signature-input",
            field::NONCE,
            field::TICKET,
            field::CARRY_OVER,
            field::IN_REPLY_TO,
            field::ENDED,
        ][..],
    );
    let statuses = select(&[100, 200, 204, 206, 301, 304, 400, 401, 404, 500, 599, 999][..]);
    let change = prop_oneof![
        5 => splice().prop_map(Change::Body),
        2 => (any::<Index>(), splice()).prop_map(|(at, splice)| Change::Field(at, splice)),
        1 => (names, content()).prop_map(|(name, value)| Change::Add(name, value)),
        1 => any::<Index>().prop_map(Change::Remove),
        1 => statuses.prop_map(Change::Status),
    ];
    vec(change, 1..4)
}

fn splice() -> impl Strategy<Value = Splice> {
    let at = any::<Index>;
    // Half of them only add.
    prop_oneof![
        (at(), content()).prop_map(|(at, with)| Splice(at, at, with)),
        (at(), at(), content()).prop_map(|(from, to, with)| Splice(from, to, with)),
    ]
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let problem = |code: &Code| Problem::from(code.because("")).to_json();
    let known: Vec<Vec<u8>> = [field::BHTTP, field::AES128GCM, Problem::MEDIA_TYPE]
        .map(|text| text.as_bytes().to_vec())
        .into_iter()
        .chain([
            vec![0],
            vec![0xff; 8],
            vec![0; 21],
            b"\"".to_vec(),
            b":AA==:".to_vec(),
        ])
        .chain(Code::ALL.iter().map(problem))
        .collect();
    prop_oneof![
        select(known),
        vec(any::<u8>(), 0..40),
        (any::<u8>(), 0_usize..6000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}
