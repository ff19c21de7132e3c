//! Messages that were valid once. Whoever changes one has it refused, or has changed nothing: what the
//! handler sees is what was sent. That goes for senders too, who can seal and sign what they like.

use bulla_keys::ece;
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::field;
use bulla_protocol::limits::{DEFAULT_PREFIX, VERSION};
use bulla_protocol::opening::{OPEN_TAG, Open, session_path};
use bulla_protocol::seal::Header;
use bulla_protocol::signature::{
    Component, ECDSA_P256_SHA256, Request as SignedRequest, SignatureParams, ToSign,
};
use bulla_server::ProofKind;
use http::{HeaderValue, Request};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::mutation::{apply, mutations, piece};
use crate::support::{AUTHORITY, Body, body, concealed, fresh_random};
use crate::world::{Fate, Seen, World, cases};

const AT: (&str, &str) = ("POST", "/api/echo?to=bob&amount=1");
const CONTENT: &[u8] = b"pay 1 to bob";
const MEMO: (&str, &str) = ("x-memo", "rent");

impl World {
    fn signed(&self) -> Request<Body> {
        self.client
            .signed_with(&self.device, ProofKind::Device, AT, CONTENT, &[MEMO])
    }

    fn sealed(&self) -> Vec<u8> {
        let kind = ProofKind::Device;
        let sealed = self
            .client
            .sealed_with(&self.device, kind, AT, CONTENT, &[MEMO]);
        sealed.bytes
    }

    /// A body that is bound by its envelope's salt, in several records.
    fn streamed(&self) -> Vec<u8> {
        self.client
            .sealed_stream(&self.device, AT, CONTENT, &[MEMO])
            .bytes
    }

    /// What the handler sees of a request that nobody has touched.
    fn untouched(&self, request: Request<Body>) -> Seen {
        assert!(matches!(self.ask(request), Fate::Answered(_)));
        self.seen().remove(0)
    }

    /// Refused, or not changed at all.
    fn refuses_or_sees(&self, request: Request<Body>, sent: &Seen) -> Result<(), TestCaseError> {
        match self.ask(request) {
            Fate::Refused(_) => prop_assert_eq!(self.seen(), []),
            Fate::Answered(_) => prop_assert_eq!(self.seen(), [sent.clone()]),
        }
        Ok(())
    }
}

#[test]
fn a_changed_envelope_is_refused() {
    let world = World::new();
    let sent = world.untouched(concealed(&world.sealed()));
    proptest!(cases(2000), |(changes in mutations())| {
        let changed = apply(&changes, &world.sealed());
        world.refuses_or_sees(concealed(&changed), &sent)?;
    });
}

#[test]
fn a_changed_stream_is_refused_or_fails_its_reader() {
    let world = World::new();
    let sent = world.untouched(concealed(&world.streamed()));
    proptest!(cases(2000), |(changes in mutations())| {
        let changed = apply(&changes, &world.streamed());
        match world.ask(concealed(&changed)) {
            Fate::Refused(_) => prop_assert_eq!(world.seen(), []),
            Fate::Answered(_) => {
                // The head was good: the handler has met the error, or there was none.
                let mut seen = world.seen();
                let seen = seen.remove(0);
                if seen.content.is_ok() {
                    prop_assert_eq!(seen, sent.clone());
                }
            }
        }
    });
}

#[test]
fn a_changed_message_under_the_senders_own_seal_is_refused() {
    let world = World::new();
    let sent = world.untouched(concealed(&world.sealed()));
    let sizes = select(&[18_u32, 19, 100, 4096, 65_536][..]);
    proptest!(cases(3000), |(changes in mutations(), streamed in any::<bool>(), size in sizes)| {
        let whole = if streamed { world.streamed() } else { world.sealed() };
        let (mut header, records) = Header::parse(&whole).unwrap().unwrap();
        let key = &world.client.request_key;
        let plain = ece::open_whole(key, &header, records).unwrap();
        header.record_size = size;
        let again = ece::seal_whole(key, &header, &apply(&changes, &plain)).unwrap();
        match world.ask(concealed(&again)) {
            Fate::Refused(_) => prop_assert_eq!(world.seen(), []),
            // The proof binds the content by the salt, which is the same: it is the sender's own.
            Fate::Answered(_) if streamed => {
                let mut seen = world.seen().remove(0);
                seen.content = sent.content.clone();
                seen.fields.retain(|(name, _)| name != field::CONTENT_DIGEST);
                let mut sent = sent.clone();
                sent.fields.retain(|(name, _)| name != field::CONTENT_DIGEST);
                prop_assert_eq!(seen, sent);
            }
            Fate::Answered(_) => prop_assert_eq!(world.seen(), [sent.clone()]),
        }
    });
}

#[test]
fn anything_under_the_senders_own_seal_is_refused() {
    let world = World::new();
    proptest!(cases(1000), |(size in 18_u32..=65_536, plain in piece())| {
        let header = Header {
            salt: fresh_random(),
            record_size: size,
            keyid: world.client.ticket.as_bytes().to_vec(),
        };
        let sealed = ece::seal_whole(&world.client.request_key, &header, &plain).unwrap();
        world.ask(concealed(&sealed)).refused()?;
        prop_assert_eq!(world.seen(), []);
    });
}

#[test]
fn a_changed_signed_request_is_refused() {
    let world = World::new();
    let sent = world.untouched(world.signed());
    proptest!(cases(4000), |(changes in mutations(), part in any::<Index>())| {
        let mut request = world.signed();
        let names: Vec<_> = request.headers().keys().cloned().collect();
        match part.index(names.len() + 3) {
            0 => *request.body_mut() = body(&apply(&changes, CONTENT)),
            1 => {
                let changed = apply(&changes, AT.1.as_bytes());
                let Ok(uri) = http::Uri::try_from(changed) else { return Ok(()) };
                *request.uri_mut() = uri;
            }
            2 => {
                let changed = apply(&changes, AT.0.as_bytes());
                let Ok(method) = http::Method::from_bytes(&changed) else { return Ok(()) };
                *request.method_mut() = method;
            }
            at => {
                let name = names[at - 3].clone();
                let changed = apply(&changes, request.headers()[&name].as_bytes());
                let Ok(value) = HeaderValue::from_bytes(&changed) else { return Ok(()) };
                request.headers_mut().insert(name, value);
            }
        }
        world.refuses_or_sees(request, &sent)?;
    });
}

#[test]
fn a_field_that_is_added_is_refused_or_not_seen() {
    let world = World::new();
    let sent = world.untouched(world.signed());
    let names = select(
        &[
            field::TICKET,
            field::SIGNATURE,
            field::SIGNATURE_INPUT,
            field::CONTENT_DIGEST,
            field::SALT,
            field::NONCE,
            "content-type",
            "content-encoding",
            "authorization",
            "x-memo",
            "x-other",
            "cookie",
            "host",
            "x-forwarded-host",
            "x-http-method-override",
            "transfer-encoding",
        ][..],
    );
    proptest!(cases(1000), |(name in names, value in piece())| {
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        let mut request = world.signed();
        request.headers_mut().append(name, value);
        world.refuses_or_sees(request, &sent)?;
    });
}

/// An opening with any body at all, signed by a device key as it should be.
pub(crate) fn opening(world: &World, content: &[u8]) -> Request<Body> {
    let path = session_path(DEFAULT_PREFIX);
    let mut fields = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        (
            field::CONTENT_DIGEST.to_owned(),
            ContentDigest::of(content).to_field(),
        ),
    ];
    let request = SignedRequest {
        method: "POST",
        authority: AUTHORITY,
        path: &path,
        query: None,
        fields: &fields,
    };
    let components = [
        "@method",
        "@authority",
        "@path",
        "content-type",
        field::CONTENT_DIGEST,
    ];
    let params = SignatureParams {
        created: 0,
        keyid: &world.device.0.thumbprint().to_string(),
        nonce: None,
        alg: ECDSA_P256_SHA256,
        tag: OPEN_TAG,
    };
    let to_sign = ToSign::request(&request, &components.map(Component::new), &params).unwrap();
    let signature = world.device.0.sign(to_sign.base.as_bytes()).unwrap();
    let signature = to_sign.fields(&signature);
    fields.extend(signature.map(|(name, value)| (name.to_owned(), value)));
    let mut request = Request::post(path).header("host", AUTHORITY);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    request.body(body(content)).unwrap()
}

pub(crate) fn open(world: &World) -> Vec<u8> {
    let agreement = bulla_keys::AgreementKey::generate(&bulla_keys::SystemRandom).unwrap();
    let open = Open {
        version: VERSION,
        device: *world.device.0.public(),
        agreement: *agreement.public(),
        identity: Some(world.server.bulla.identity()),
        random: [7; 32],
        ticket: Some(world.client.ticket.clone()),
        work: None,
    };
    serde_json::to_vec(&open).unwrap()
}

#[test]
fn a_changed_opening_is_refused() {
    let world = World::new();
    let content = open(&world);
    assert!(matches!(
        world.ask(opening(&world, &content)),
        Fate::Answered(_)
    ));
    proptest!(cases(2000), |(changes in mutations(), signed in any::<bool>())| {
        let changed = apply(&changes, &content);
        if changed == content {
            return Ok(());
        }
        let mut request = opening(&world, if signed { &changed } else { &content });
        *request.body_mut() = body(&changed);
        match world.ask(request) {
            // Signed by its sender, any opening that says what it must is one.
            Fate::Answered(_) if signed => {
                prop_assert!(serde_json::from_slice::<Open>(&changed).is_ok());
            }
            fate => drop(fate.refused()?),
        }
        prop_assert_eq!(world.seen(), []);
    });
}

#[test]
fn changed_fields_of_an_opening_are_refused() {
    let world = World::new();
    let content = open(&world);
    proptest!(cases(2000), |(changes in mutations(), part in any::<Index>())| {
        let mut request = opening(&world, &content);
        let names: Vec<_> = request.headers().keys().cloned().collect();
        let name = names[part.index(names.len())].clone();
        let sent = request.headers()[&name].as_bytes().to_vec();
        let changed = apply(&changes, &sent);
        let Ok(value) = HeaderValue::from_bytes(&changed) else { return Ok(()) };
        request.headers_mut().insert(&name, value);
        // The signature and its parameters can be spelled in other ways; what is signed cannot.
        let is_covered = name == "content-type" || name == field::CONTENT_DIGEST;
        let same = changed.trim_ascii() == sent;
        if let Fate::Answered(answer) = world.ask(request) && is_covered {
            prop_assert!(same, "{answer:?}");
        }
        prop_assert_eq!(world.seen(), []);
    });
}

#[test]
fn deep_and_long_json_is_refused() {
    let world = World::new();
    let text = String::from_utf8(open(&world)).unwrap();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [100, 700] {
            let deep = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            for content in [
                deep.clone(),
                text.replacen('{', &format!("{{\"x\":{deep},"), 1),
            ] {
                let fate = world.measured(opening(&world, content.as_bytes()), 64 * 1024);
                // What is not known is skipped, as deep as it may be.
                if content.starts_with(open) && content == deep {
                    assert!(matches!(fate, Fate::Refused(_)), "{content}");
                }
            }
        }
    }
    let long = text.replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(5000)), 1);
    let fate = world.measured(opening(&world, long.as_bytes()), 64 * 1024);
    assert!(matches!(
        fate,
        Fate::Refused(bulla_protocol::error::Code::TooLarge)
    ));
}
