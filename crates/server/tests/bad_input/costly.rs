//! Input that is short and dear: nobody makes the server remember far more than he has sent.

use bulla_keys::ece;
use bulla_protocol::error::Code;
use bulla_protocol::limits::MAX_RECORD_SIZE;
use bulla_protocol::message::{self, Control, Head};
use bulla_protocol::seal::Header;
use bulla_server::{BoxError, ProofKind};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use crate::mutated::{open, opening};
use crate::support::{AUTHORITY, Body, Bound, ECHO, concealed, fresh_random};
use crate::world::{Fate, MAX_BODY_LEN, World};

/// What is signed would hold the field once for each spelling. An opening needs no session.
#[test]
fn a_field_is_not_covered_under_many_spellings() {
    let world = World::new();
    let signed = world
        .client
        .signed(&world.device, ProofKind::Device, ECHO, b"");
    for request in [opening(&world, &open(&world)), signed] {
        let fate = world.ask(spelled(request));
        assert!(matches!(fate, Fate::Refused(Code::Malformed)), "{fate:?}");
    }
}

fn spelled(mut request: Request<Body>) -> Request<Body> {
    let spelling = |at: usize| -> String {
        let letter = |bit: usize| if at >> bit & 1 == 0 { 'a' } else { 'A' };
        format!(" \"{}\"", (0..9).map(letter).collect::<String>())
    };
    let headers = request.headers_mut();
    let input = headers["signature-input"].to_str().unwrap();
    let spellings: String = (0..512).map(spelling).collect();
    let input = input.replacen(')', &format!("{spellings})"), 1);
    headers.insert("signature-input", input.parse().unwrap());
    let long = HeaderValue::from_bytes(&vec![b'x'; 100_000]).unwrap();
    headers.insert("aaaaaaaaa", long);
    request
}

/// The other members of a field are read anew for each one that is named.
#[test]
fn an_opening_covers_whole_fields_only() {
    let world = World::new();
    let mut request = opening(&world, &open(&world));
    let headers = request.headers_mut();
    let input = headers["signature-input"].to_str().unwrap();
    let input = input.replacen(')', " \"signature\";key=\"bulla\")", 1);
    headers.insert("signature-input", input.parse().unwrap());
    let fate = world.ask(request);
    assert!(
        matches!(fate, Fate::Refused(Code::CoverageMissing)),
        "{fate:?}"
    );
}

#[test]
fn content_in_single_bytes_takes_no_more_than_in_one_piece() {
    let world = World::new();
    let content = vec![b'x'; MAX_BODY_LEN];
    let bound = Bound::Content(&content);
    let (mut fields, _) =
        world
            .client
            .signed_fields(&world.device, ProofKind::Device, ECHO, bound, &[]);
    fields.retain(|(name, _)| name != bulla_protocol::field::TICKET);
    let head = Head {
        control: Control::Request {
            method: ECHO.0.into(),
            scheme: "https".into(),
            authority: AUTHORITY.into(),
            target: ECHO.1.into(),
        },
        fields,
    };
    let header = Header {
        salt: fresh_random(),
        record_size: MAX_RECORD_SIZE,
        keyid: world.client.ticket.as_bytes().to_vec(),
    };
    let plain = [
        message::head(head).unwrap(),
        message::chunk(b"x").repeat(content.len()),
        message::END.to_vec(),
    ];
    let sealed = ece::seal_whole(&world.client.request_key, &header, &plain.concat()).unwrap();
    let request = concealed(&sealed);
    let fate = world.ask(request);
    assert!(matches!(fate, Fate::Answered(_)), "{fate:?}");
    assert_eq!(world.seen()[0].content.as_deref(), Ok(&content[..]));
}

/// Nor does what is only signed, whoever cuts it into pieces on its way.
#[test]
fn a_signed_body_in_single_bytes_takes_no_more_than_in_one_piece() {
    let world = World::new();
    let content = Bytes::from(vec![b'x'; MAX_BODY_LEN]);
    let request = world
        .client
        .signed(&world.device, ProofKind::Device, ECHO, &content);
    let bytes = (0..content.len()).map(|at| Ok::<_, BoxError>(Frame::data(content.slice(at..=at))));
    let pieces = StreamBody::new(stream::iter(bytes.collect::<Vec<_>>()));
    let fate = world.ask(request.map(|_| pieces.boxed_unsync()));
    assert!(matches!(fate, Fate::Answered(_)), "{fate:?}");
    assert_eq!(world.seen()[0].content.as_deref(), Ok(&content[..]));
}
