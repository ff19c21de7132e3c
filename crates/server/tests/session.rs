//! A client that is written out step by step, against the verifier: what passes, and what does not.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::{get, post};
use bulla_keys::{AgreementKey, MacKey, Prk, Random as _, SigningKey, SystemRandom, ece, verify};
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::{Code, Problem};
use bulla_protocol::field;
use bulla_protocol::limits::{BULK_RECORD_SIZE, DEFAULT_PREFIX, Limits, VERSION};
use bulla_protocol::message::{self, Control, Event, Head, Reader};
use bulla_protocol::opening::{
    MAC_INFO, Open, Opening, SessionId, Ticket, sealed_path, session_path,
};
use bulla_protocol::proof::{Binding, ProofKind, ProofNonce, prove};
use bulla_protocol::seal::Header;
use bulla_protocol::signature::Request as SignedRequest;
use bulla_protocol::structured;
use bulla_server::{
    Body, Bulla, Clock, Identity, MemoryStore, Refused, Require, Revocation, Session,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

const ORIGIN: &str = "https://bank.example";
const AUTHORITY: &str = "bank.example";

#[derive(Clone)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Server {
    bulla: Bulla,
    app: Router,
    clock: TestClock,
    handled: Arc<AtomicU64>,
}

impl Server {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(configure: impl FnOnce(bulla_server::Builder) -> bulla_server::Builder) -> Self {
        let clock = TestClock(Arc::new(AtomicU64::new(1_800_000_000)));
        let builder = Bulla::builder()
            .origin(ORIGIN)
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
            .clock(clock.clone());
        let bulla = configure(builder).build().unwrap();
        let handled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&handled);
        let routes = Router::new()
            .route(
                "/api/echo",
                post(move |session: Session, body: String| async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    format!("{}:{body}", session.subject().unwrap_or("-"))
                }),
            )
            .route(
                "/api/me",
                get(|session: Session| async move { session.id().to_string() }),
            )
            .route(
                "/api/login",
                post(|session: Session, body: String| async move {
                    session.login(&body).await.map_err(Refused)
                }),
            )
            .route(
                "/api/logout",
                post(|session: Session| async move { session.logout().await.map_err(Refused) }),
            )
            .route(
                "/api/secret",
                get(|| async { "secret" }).layer(Require::session().sealed().logged_in()),
            );
        Self {
            app: bulla.protect(routes),
            bulla,
            clock,
            handled,
        }
    }

    async fn send(&self, request: Request<Body>) -> Response<Bytes> {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }
}

struct Device(SigningKey);

struct Client {
    id: SessionId,
    ticket: Ticket,
    nonce: String,
    request_key: [u8; 32],
    response_key: [u8; 32],
    mac: MacKey,
    authenticated: bool,
}

impl Device {
    fn new() -> Self {
        Self(SigningKey::generate(&SystemRandom).unwrap())
    }

    async fn open(&self, server: &Server, ticket: Option<Ticket>) -> Result<Client, Code> {
        let agreement = AgreementKey::generate(&SystemRandom).unwrap();
        let open = Open {
            version: VERSION,
            device: *self.0.public(),
            agreement: *agreement.public(),
            identity: Some(server.bulla.identity()),
            random: [7; 32],
            ticket,
        };
        let opening = Opening::new(open, AUTHORITY, DEFAULT_PREFIX, 0).unwrap();
        let signature = self.0.sign(opening.base().as_bytes()).unwrap();
        let sent = opening.signed(&signature);
        let mut request = Request::post(sent.path()).header("host", AUTHORITY);
        for (name, value) in sent.fields() {
            request = request.header(name, value);
        }
        let response = server.send(request.body(body(sent.body())).unwrap()).await;
        if let Some(code) = Problem::parse(response.body()) {
            return Err(code);
        }
        let fields = fields_of(&response);
        let verified = sent
            .read(response.status().as_u16(), &fields, response.body())
            .unwrap()
            .verify(async |key, base, signature| verify(key, base, signature).is_ok())
            .await
            .unwrap();
        let secret = |key| *agreement.agree(key).unwrap().as_bytes();
        let keys = verified.opened.agreement;
        let mut mac = [0; 32];
        Prk::extract(&verified.transcript.0, &secret(&keys.mac)).expand(&[MAC_INFO], &mut mac);
        Ok(Client {
            id: verified.transcript.session_id(),
            ticket: verified.opened.ticket,
            nonce: verified.opened.nonce,
            request_key: secret(&keys.request),
            response_key: secret(&keys.response),
            mac: MacKey::new(&mac),
            authenticated: verified.opened.authenticated,
        })
    }
}

struct Sealed {
    bytes: Vec<u8>,
    nonce: String,
}

impl Client {
    fn signed_fields(
        &self,
        device: &Device,
        kind: ProofKind,
        (method, path): (&str, &str),
        content: &[u8],
    ) -> (Vec<(String, String)>, String) {
        let nonce = ProofNonce {
            server: self.nonce.clone(),
            random: fresh_random(),
        };
        let mut fields = vec![
            (field::TICKET.to_owned(), self.ticket.to_field()),
            (
                field::CONTENT_DIGEST.to_owned(),
                ContentDigest::of(content).to_field(),
            ),
            ("content-type".to_owned(), "text/plain".to_owned()),
        ];
        let request = SignedRequest {
            method,
            authority: AUTHORITY,
            path,
            query: None,
            fields: &fields,
        };
        let to_sign = prove(
            kind,
            self.id,
            &request,
            [].into_iter(),
            Binding::Digest,
            &nonce,
            0,
        )
        .unwrap();
        let signature = match kind {
            ProofKind::Device => device.0.sign(to_sign.base.as_bytes()).unwrap().to_vec(),
            ProofKind::Session => self.mac.sign(to_sign.base.as_bytes()).to_vec(),
        };
        fields.extend(
            to_sign
                .fields(&signature)
                .map(|(name, value)| (name.to_owned(), value)),
        );
        (fields, nonce.to_param())
    }

    fn signed(
        &self,
        device: &Device,
        kind: ProofKind,
        at: (&str, &str),
        content: &[u8],
    ) -> Request<Body> {
        let (fields, _) = self.signed_fields(device, kind, at, content);
        let mut request = Request::builder()
            .method(at.0)
            .uri(at.1)
            .header("host", AUTHORITY);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        request.body(body(content)).unwrap()
    }

    fn sealed(&self, device: &Device, kind: ProofKind, at: (&str, &str), content: &[u8]) -> Sealed {
        let (mut fields, nonce) = self.signed_fields(device, kind, at, content);
        fields.retain(|(name, _)| name != field::TICKET);
        let head = Head {
            control: Control::Request {
                method: at.0.to_owned(),
                scheme: "https".to_owned(),
                authority: AUTHORITY.to_owned(),
                target: at.1.to_owned(),
            },
            fields,
        };
        let header = Header {
            salt: fresh_random(),
            record_size: BULK_RECORD_SIZE,
            keyid: self.ticket.as_bytes().to_vec(),
        };
        let plain = message::whole(&head, content).unwrap();
        Sealed {
            bytes: ece::seal_whole(&self.request_key, &header, &plain).unwrap(),
            nonce,
        }
    }

    fn open_reply(
        &self,
        response: &Response<Bytes>,
        nonce: &str,
    ) -> (u16, Vec<(String, String)>, Vec<u8>) {
        assert_eq!(response.headers()["content-encoding"], field::AES128GCM);
        let (header, records) = Header::parse(response.body()).unwrap().unwrap();
        let plain = ece::open_whole(&self.response_key, &header, records).unwrap();
        let mut reader = Reader::new(Limits::default());
        let (mut head, mut content) = (None, Vec::new());
        for event in reader.push(&plain).unwrap() {
            match event {
                Event::Head(found) => head = Some(found),
                Event::Content(bytes) => content.extend(bytes),
            }
        }
        reader.finish().unwrap();
        let head = head.unwrap();
        let Control::Response(status) = head.control else {
            panic!("not a response")
        };
        let in_reply_to = &head
            .fields
            .iter()
            .find(|(name, _)| name == field::IN_REPLY_TO)
            .unwrap()
            .1;
        assert_eq!(structured::string(in_reply_to).unwrap(), nonce);
        (status, head.fields, content)
    }

    fn update(&mut self, fields: &[(String, String)]) -> Option<Ticket> {
        let line = |name| {
            fields
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| value)
        };
        if let Some(nonce) = line(field::NONCE) {
            self.nonce = structured::string(nonce).unwrap();
        }
        if let Some(ticket) = line(field::TICKET) {
            self.ticket = Ticket::from_field(ticket).unwrap();
        }
        line(field::CARRY_OVER).map(|ticket| Ticket::from_field(ticket).unwrap())
    }
}

fn fresh_random() -> [u8; 16] {
    let mut random = [0; 16];
    SystemRandom.fill(&mut random).unwrap();
    random
}

fn body(bytes: &[u8]) -> Body {
    http_body_util::Full::new(Bytes::copy_from_slice(bytes))
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn concealed(bytes: &[u8]) -> Request<Body> {
    Request::post(sealed_path(DEFAULT_PREFIX))
        .header("host", AUTHORITY)
        .header("content-type", field::BHTTP)
        .header("content-encoding", field::AES128GCM)
        .body(body(bytes))
        .unwrap()
}

fn fields_of(response: &Response<Bytes>) -> Vec<(String, String)> {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    response.headers().iter().map(line).collect()
}

fn code(response: &Response<Bytes>) -> Option<Code> {
    Problem::parse(response.body())
}

const ECHO: (&str, &str) = ("POST", "/api/echo");

#[tokio::test]
async fn signed_and_sealed_requests_reach_the_handler() {
    let server = Server::new();
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    assert!(!client.authenticated);

    let response = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b"hi"))
        .await;
    assert_eq!(
        (response.status().as_u16(), &response.body()[..]),
        (200, &b"-:hi"[..])
    );
    client.update(&fields_of(&response));

    let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"sealed");
    let response = server.send(concealed(&sealed.bytes)).await;
    let (status, _, content) = client.open_reply(&response, &sealed.nonce);
    assert_eq!((status, &content[..]), (200, &b"-:sealed"[..]));
    assert_eq!(server.handled(), 2);
}

#[tokio::test]
async fn nothing_reaches_the_handler_without_a_proof() {
    let server = Server::new();
    let request = Request::post("/api/echo")
        .header("host", AUTHORITY)
        .body(body(b"hi"))
        .unwrap();
    let response = server.send(request).await;
    assert_eq!(
        (response.status().as_u16(), code(&response)),
        (401, Some(Code::ProofMissing))
    );
    assert_eq!(
        response.headers()["www-authenticate"],
        "Bulla error=\"proof_missing\""
    );
    assert_eq!(server.handled(), 0);
}

#[tokio::test]
async fn a_request_passes_once() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"once");
    let (first, second) = tokio::join!(
        server.send(concealed(&sealed.bytes)),
        server.send(concealed(&sealed.bytes))
    );
    let mut statuses = [&first, &second].map(|reply| client.open_reply(reply, &sealed.nonce).0);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
    let again = server.send(concealed(&sealed.bytes)).await;
    let (_, _, content) = client.open_reply(&again, &sealed.nonce);
    assert_eq!(Problem::parse(&content), Some(Code::Replayed));
    assert_eq!(server.handled(), 1);
}

#[tokio::test]
async fn every_changed_byte_of_an_envelope_is_refused() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let sealed = client
        .sealed(&device, ProofKind::Device, ECHO, b"pay 1 to bob")
        .bytes;
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        let response = server.send(concealed(&changed)).await;
        let code = code(&response);
        let expected = matches!(
            code,
            Some(Code::SealBroken | Code::TicketInvalid | Code::Malformed)
        );
        assert!(expected, "byte {at}: {code:?}");
        let cut = server.send(concealed(&sealed[..at])).await;
        assert!(cut.status().is_client_error(), "cut at {at}");
    }
    assert_eq!(server.handled(), 0);
    assert_eq!(server.send(concealed(&sealed)).await.status().as_u16(), 200);
    assert_eq!(server.handled(), 1);
}

#[tokio::test]
async fn a_changed_signed_request_is_refused() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let signed = || client.signed(&device, ProofKind::Device, ECHO, b"pay 1 to bob");
    let other = device.open(&server, None).await.unwrap();

    let mut changed = signed();
    *changed.body_mut() = body(b"pay 9 to bob");
    assert_eq!(
        code(&server.send(changed).await),
        Some(Code::DigestMismatch)
    );

    let mut changed = signed();
    *changed.uri_mut() = "/api/echo?x=1".parse().unwrap();
    assert_eq!(code(&server.send(changed).await), Some(Code::ProofMismatch));

    let mut changed = signed();
    *changed.method_mut() = http::Method::PUT;
    assert_eq!(code(&server.send(changed).await), Some(Code::ProofMismatch));

    let mut changed = signed();
    changed
        .headers_mut()
        .insert("authorization", "Bearer stolen".parse().unwrap());
    assert_eq!(
        code(&server.send(changed).await),
        Some(Code::CoverageMissing)
    );

    let mut changed = signed();
    changed
        .headers_mut()
        .insert(field::TICKET, other.ticket.to_field().parse().unwrap());
    assert_eq!(code(&server.send(changed).await), Some(Code::ProofMismatch));

    let mut changed = signed();
    changed.headers_mut().remove(field::SIGNATURE);
    assert_eq!(code(&server.send(changed).await), Some(Code::ProofMissing));

    let mut changed = signed();
    changed
        .headers_mut()
        .insert("host", "evil.example".parse().unwrap());
    assert_eq!(
        code(&server.send(changed).await),
        Some(Code::AuthorityMismatch)
    );

    assert_eq!(server.handled(), 0);
    assert_eq!(server.send(signed()).await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_thief_with_the_ticket_and_his_own_device_gets_nothing() {
    let server = Server::new();
    let (victim, thief) = (Device::new(), Device::new());
    let anonymous = victim.open(&server, None).await.unwrap();
    let login = anonymous.signed(&victim, ProofKind::Device, ("POST", "/api/login"), b"ann");
    let mut anonymous = anonymous;
    let carry = anonymous
        .update(&fields_of(&server.send(login).await))
        .unwrap();

    // The carry-over ticket is for the victim's device.
    let stolen = thief.open(&server, Some(carry.clone())).await;
    assert_eq!(stolen.err(), Some(Code::TicketInvalid));
    let client = victim.open(&server, Some(carry.clone())).await.unwrap();
    assert!(client.authenticated);

    // He signs with his own key under the victim's ticket.
    let forged = client.signed(&thief, ProofKind::Device, ECHO, b"mine");
    assert_eq!(code(&server.send(forged).await), Some(Code::ProofMismatch));
    // He puts the victim's ticket into a session of his own.
    let mut own = thief.open(&server, None).await.unwrap();
    own.ticket = client.ticket.clone();
    let forged = own.signed(&thief, ProofKind::Device, ECHO, b"mine");
    assert_eq!(code(&server.send(forged).await), Some(Code::ProofMismatch));
    let forged = own.sealed(&thief, ProofKind::Device, ECHO, b"mine");
    assert_eq!(
        code(&server.send(concealed(&forged.bytes)).await),
        Some(Code::SealBroken)
    );
    // He carries the victim's session over.
    let stolen = thief.open(&server, Some(client.ticket.clone())).await;
    assert_eq!(stolen.err(), Some(Code::TicketInvalid));
    assert_eq!(server.handled(), 0);

    let own = client.signed(&victim, ProofKind::Device, ECHO, b"mine");
    assert_eq!(server.send(own).await.body(), "ann:mine");
}

#[tokio::test]
async fn login_changes_the_session_and_its_ticket_opens_once() {
    let server = Server::new();
    let device = Device::new();
    let mut before = device.open(&server, None).await.unwrap();
    let sealed = before.sealed(&device, ProofKind::Device, ("POST", "/api/login"), b"ann");
    let response = server.send(concealed(&sealed.bytes)).await;
    let (_, fields, _) = before.open_reply(&response, &sealed.nonce);
    let carry = before.update(&fields).unwrap();

    let old = before.signed(&device, ProofKind::Device, ECHO, b"old");
    assert_eq!(code(&server.send(old).await), Some(Code::SessionRevoked));
    let after = device.open(&server, Some(carry.clone())).await.unwrap();
    assert_ne!(after.id, before.id);
    assert_eq!(
        device.open(&server, Some(carry.clone())).await.err(),
        Some(Code::SessionRevoked)
    );
    // It is good for an opening and for nothing else.
    before.ticket = carry;
    let misused = before.signed(&device, ProofKind::Device, ECHO, b"misused");
    assert_eq!(code(&server.send(misused).await), Some(Code::TicketInvalid));

    let sealed = after.sealed(&device, ProofKind::Device, ("GET", "/api/secret"), b"");
    let response = server.send(concealed(&sealed.bytes)).await;
    assert_eq!(after.open_reply(&response, &sealed.nonce).2, b"secret");
    let plain = after.signed(&device, ProofKind::Device, ("GET", "/api/secret"), b"");
    assert_eq!(code(&server.send(plain).await), Some(Code::SealRequired));
}

#[tokio::test]
async fn session_proofs_wait_for_a_device_proof_and_for_the_policy() {
    let strict = Server::new();
    let device = Device::new();
    let mut client = device.open(&strict, None).await.unwrap();
    let first = client.signed(&device, ProofKind::Session, ECHO, b"");
    assert_eq!(
        code(&strict.send(first).await),
        Some(Code::SessionUnconfirmed)
    );
    let confirm = strict
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    client.update(&fields_of(&confirm));
    let weak = client.signed(&device, ProofKind::Session, ECHO, b"");
    assert_eq!(code(&strict.send(weak).await), Some(Code::ProofWeak));

    let server = Server::with(|builder| builder.proof(ProofKind::Session));
    let mut client = device.open(&server, None).await.unwrap();
    let confirm = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    client.update(&fields_of(&confirm));
    let cheap = client.signed(&device, ProofKind::Session, ECHO, b"cheap");
    assert_eq!(server.send(cheap).await.body(), "-:cheap");
    let weak = client.signed(&device, ProofKind::Session, ("POST", "/api/login"), b"ann");
    assert_eq!(code(&server.send(weak).await), Some(Code::ProofWeak));
}

#[tokio::test]
async fn nonces_go_stale_and_tickets_expire() {
    let server = Server::new();
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    server.clock.advance(121);
    let stale = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&stale), Some(Code::NonceStale));
    client.update(&fields_of(&stale));
    let fresh = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(fresh.status().as_u16(), 200);
    client.update(&fields_of(&fresh));

    // Used now and then, a session goes on to its absolute lifetime and no further.
    for _ in 0..(12 * 60 / 10) - 1 {
        server.clock.advance(600);
        let stale = server
            .send(client.signed(&device, ProofKind::Device, ECHO, b""))
            .await;
        client.update(&fields_of(&stale));
        let response = server
            .send(client.signed(&device, ProofKind::Device, ECHO, b""))
            .await;
        assert_eq!(response.status().as_u16(), 200);
        client.update(&fields_of(&response));
    }
    server.clock.advance(600);
    let late = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&late), Some(Code::TicketExpired));

    let idle = device.open(&server, None).await.unwrap();
    server.clock.advance(15 * 60);
    let late = server
        .send(idle.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&late), Some(Code::TicketExpired));
}

#[tokio::test]
async fn an_ended_session_stays_ended() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let end = client.signed(
        &device,
        ProofKind::Device,
        ("DELETE", &session_path(DEFAULT_PREFIX)),
        b"",
    );
    let response = server.send(end).await;
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()[field::ENDED]
        ),
        (204, &"?1".parse().unwrap())
    );
    let after = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&after), Some(Code::SessionRevoked));
    assert_eq!(
        device.open(&server, Some(client.ticket)).await.err(),
        Some(Code::SessionRevoked)
    );

    let client = device.open(&server, None).await.unwrap();
    server
        .bulla
        .revoke(Revocation::Device(device.0.thumbprint()))
        .await
        .unwrap();
    let after = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&after), Some(Code::SessionRevoked));
}

#[tokio::test]
async fn carrying_over_ends_the_old_session_once_the_new_one_is_confirmed() {
    let server = Server::new();
    let device = Device::new();
    let old = device.open(&server, None).await.unwrap();
    let new = device
        .open(&server, Some(old.ticket.clone()))
        .await
        .unwrap();
    let still = server
        .send(old.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(still.status().as_u16(), 200);
    let confirm = server
        .send(new.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(confirm.status().as_u16(), 200);
    let ended = server
        .send(old.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&ended), Some(Code::SessionRevoked));
}

#[tokio::test]
async fn proofs_of_an_earlier_process_are_stale() {
    let server = Server::new();
    let other = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    // Another ring: the ticket means nothing.
    let moved = other
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&moved), Some(Code::TicketInvalid));
    assert_eq!(other.handled(), 0);
}
