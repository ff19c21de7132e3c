//! A server on a clock that stands still, and a client that is written out step by step.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bulla_keys::{AgreementKey, MacKey, Prk, Random as _, SigningKey, SystemRandom, ece, verify};
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::{Code, Problem};
use bulla_protocol::field;
use bulla_protocol::limits::{BULK_RECORD_SIZE, DEFAULT_PREFIX, Limits, VERSION};
use bulla_protocol::message::{self, Control, Event, Head, Reader};
use bulla_protocol::opening::{
    MAC_INFO, Open, Opening, SentOpening, SessionId, Ticket, sealed_path,
};
use bulla_protocol::proof::{Binding, ProofKind, ProofNonce, prove};
use bulla_protocol::seal::Header;
use bulla_protocol::signature::Request as SignedRequest;
use bulla_protocol::structured;
use bulla_server::{
    BoxError, Builder, Bulla, Clock, Error, Identity, MemoryStore, Refused, Require, Session,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tower::util::BoxCloneService;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

/// A body on its way, to the server or from it.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) type App = BoxCloneService<Request<Body>, Response<Body>, Infallible>;

pub(crate) const ORIGIN: &str = "https://bank.example";
pub(crate) const AUTHORITY: &str = "bank.example";

/// Stands still unless it is moved. Clones are the same clock.
#[derive(Clone)]
pub(crate) struct TestClock {
    /// In milliseconds.
    passed: Arc<AtomicU64>,
    /// By how many seconds it was put back.
    behind: Arc<AtomicU64>,
}

impl TestClock {
    pub(crate) fn new() -> Self {
        Self {
            passed: Arc::default(),
            behind: Arc::default(),
        }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    pub(crate) fn pass(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.passed.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn put_back(&self, seconds: u64) {
        self.behind.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> u64 {
        1_800_000_000 + self.monotonic().as_secs() - self.behind.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.passed.load(Ordering::Relaxed))
    }
}

pub(crate) struct Server {
    pub(crate) bulla: Bulla,
    pub(crate) clock: TestClock,
    app: App,
    handled: Arc<AtomicU64>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// A server that runs [`serve`].
    pub(crate) fn with(configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self::around(configure, |bulla| {
            let secret = Require::session().sealed().logged_in();
            let secret = secret.layer(service_fn(async |_: Request<_>| {
                Ok::<_, Infallible>(Response::new(String::from("secret")))
            }));
            let routes = service_fn(move |request: Request<bulla_server::Body>| {
                let secret = secret.clone();
                async move {
                    if request.uri().path() == "/api/secret" {
                        return secret.oneshot(request).await.map(erase);
                    }
                    Ok(serve(request).await)
                }
            });
            app(bulla.layer().layer(routes))
        })
    }

    /// A server with an application of the test's own.
    pub(crate) fn around(
        configure: impl FnOnce(Builder) -> Builder,
        app: impl FnOnce(&Bulla) -> App,
    ) -> Self {
        let clock = TestClock::new();
        Self::on(clock, configure, app)
    }

    pub(crate) fn on(
        clock: TestClock,
        configure: impl FnOnce(Builder) -> Builder,
        app: impl FnOnce(&Bulla) -> App,
    ) -> Self {
        let handled = Arc::new(AtomicU64::new(0));
        let builder = Bulla::builder()
            .origin(ORIGIN)
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
            .clock(clock.clone());
        let bulla = configure(builder).build().unwrap();
        let count = Arc::clone(&handled);
        let app = app(&bulla).map_response(move |response| {
            if response.extensions().get::<Handled>().is_some() {
                count.fetch_add(1, Ordering::Relaxed);
            }
            response
        });
        Self {
            app: BoxCloneService::new(app),
            bulla,
            clock,
            handled,
        }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Bytes> {
        let (parts, body) = self.start(request).await.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    /// Sends a request; the answer's body waits to be read.
    pub(crate) async fn start(&self, request: Request<Body>) -> Response<Body> {
        self.app.clone().oneshot(request).await.unwrap()
    }

    /// How many requests have been echoed.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }
}

/// Marks an echo.
#[derive(Clone, Copy)]
struct Handled;

/// The application of most tests: it echoes, with the subject before it, logs in and logs out.
async fn serve(request: Request<bulla_server::Body>) -> Response<Body> {
    let (parts, content) = request.into_parts();
    let session = parts.extensions.get::<Session>();
    let content = match content.collect().await {
        Ok(content) => String::from_utf8(content.to_bytes().to_vec()).unwrap(),
        Err(_) => return answer(400, "the body is broken"),
    };
    let refused = |refused: Result<(), Error>| match refused {
        Ok(()) => answer(200, ""),
        Err(error) => erase(Response::from(Refused(error))),
    };
    match (parts.uri.path(), session) {
        ("/api/echo", Some(session)) => {
            let subject = session.subject().unwrap_or("-");
            let mut echo = answer(200, &format!("{subject}:{content}"));
            echo.extensions_mut().insert(Handled);
            echo
        }
        ("/api/headers", _) => answer(200, &format!("{:?}", parts.headers)),
        ("/api/login", Some(session)) => refused(session.login(&content).await),
        ("/api/notice", Some(session)) => {
            session.notice("odd");
            answer(204, "")
        }
        ("/api/logout", Some(session)) => refused(session.logout().await),
        ("/public", None) => answer(200, "public"),
        _ => answer(404, "nothing here"),
    }
}

pub(crate) fn answer(status: u16, content: &str) -> Response<Body> {
    Response::builder()
        .status(status)
        .body(body(content.as_bytes()))
        .unwrap()
}

/// Puts a whole application, verifier and all, into one type.
pub(crate) fn app<S, B>(service: S) -> App
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    BoxCloneService::new(service.map_response(erase))
}

/// Forgets what kind of body it is.
pub(crate) fn erase<B>(response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

pub(crate) struct Device(pub(crate) SigningKey);

pub(crate) struct Client {
    authority: String,
    pub(crate) id: SessionId,
    pub(crate) ticket: Ticket,
    pub(crate) nonce: String,
    pub(crate) request_key: [u8; 32],
    pub(crate) response_key: [u8; 32],
    pub(crate) mac: MacKey,
    pub(crate) authenticated: bool,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self(SigningKey::generate(&SystemRandom).unwrap())
    }

    pub(crate) async fn open(
        &self,
        server: &Server,
        ticket: Option<Ticket>,
    ) -> Result<Client, Code> {
        self.open_with(AUTHORITY, server, ticket).await
    }

    /// A session at another origin of the same server.
    pub(crate) async fn open_at(&self, authority: &str, server: &Server) -> Client {
        self.open_with(authority, server, None).await.unwrap()
    }

    /// A request that opens a session, for whoever does not go on from there.
    pub(crate) fn opening(&self, server: &Server) -> Request<Body> {
        let agreement = AgreementKey::generate(&SystemRandom).unwrap();
        self.ask(AUTHORITY, server, None, None, &agreement).1
    }

    /// An opening in which the key that is named `previous` signs this one in, by whatever key does it; with these
    /// cookies, the answer's lines of `Set-Cookie`.
    pub(crate) async fn open_rotating(
        &self,
        (previous, by): (&Self, &Self),
        server: &Server,
        ticket: Ticket,
        cookies: &str,
    ) -> (Result<Client, Code>, Vec<String>) {
        let agreement = AgreementKey::generate(&SystemRandom).unwrap();
        let (ticket, previous) = (Some(ticket), Some((previous, by)));
        let (sent, mut request) = self.ask(AUTHORITY, server, ticket, previous, &agreement);
        let cookies = cookies.parse().unwrap();
        request.headers_mut().insert("cookie", cookies);
        let response = server.send(request).await;
        let lines = response.headers().get_all("set-cookie").iter();
        let lines = lines.map(|line| line.to_str().unwrap().to_owned());
        let lines = lines.collect();
        (finish(AUTHORITY, &sent, &agreement, &response), lines)
    }

    fn ask(
        &self,
        authority: &str,
        server: &Server,
        ticket: Option<Ticket>,
        previous: Option<(&Self, &Self)>,
        agreement: &AgreementKey,
    ) -> (SentOpening, Request<Body>) {
        let open = Open {
            version: VERSION,
            device: *self.0.public(),
            agreement: *agreement.public(),
            identity: Some(server.bulla.identity()),
            random: [7; 32],
            ticket,
            work: None,
        };
        let before = previous.map(|(previous, _)| *previous.0.public());
        let opening = Opening::new(open, before, authority, DEFAULT_PREFIX, 0).unwrap();
        let signature = self.0.sign(opening.base().as_bytes()).unwrap();
        let rotation = previous.map(|(_, by)| {
            let base = opening.rotation_base().unwrap();
            by.0.sign(base.as_bytes()).unwrap()
        });
        let sent = opening.signed(&signature, rotation.as_ref().map(AsRef::as_ref));
        let mut request = Request::post(sent.path()).header("host", authority);
        for (name, value) in sent.fields() {
            request = request.header(name, value);
        }
        let request = request.body(body(sent.body())).unwrap();
        (sent, request)
    }

    async fn open_with(
        &self,
        authority: &str,
        server: &Server,
        ticket: Option<Ticket>,
    ) -> Result<Client, Code> {
        let agreement = AgreementKey::generate(&SystemRandom).unwrap();
        let (sent, request) = self.ask(authority, server, ticket, None, &agreement);
        let response = server.send(request).await;
        finish(authority, &sent, &agreement, &response)
    }
}

/// Checks the answer to an opening and takes what comes of it.
fn finish(
    authority: &str,
    sent: &SentOpening,
    agreement: &AgreementKey,
    response: &Response<Bytes>,
) -> Result<Client, Code> {
    if let Some(code) = Problem::parse(response.body()) {
        return Err(code);
    }
    let fields = fields_of(response);
    let verified = sent
        .read(response.status().as_u16(), &fields, response.body())
        .unwrap()
        .verify(|key, base, signature| verify(key, base, signature).is_ok())
        .unwrap();
    let secret = |key| *agreement.agree(key).unwrap().as_bytes();
    let keys = verified.opened.agreement;
    let mut mac = [0; 32];
    Prk::extract(&verified.transcript.0, &secret(&keys.mac)).expand(&[MAC_INFO], &mut mac);
    Ok(Client {
        authority: authority.to_owned(),
        id: verified.transcript.session_id(),
        ticket: verified.opened.ticket,
        nonce: verified.opened.nonce,
        request_key: secret(&keys.request),
        response_key: secret(&keys.response),
        mac: MacKey::new(&mac),
        authenticated: verified.opened.authenticated,
    })
}

pub(crate) struct Sealed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) nonce: String,
}

impl Client {
    /// The fields of a signed request, `extra` among them, and its nonce.
    pub(crate) fn signed_fields(
        &self,
        device: &Device,
        kind: ProofKind,
        at: (&str, &str),
        bound: Bound<'_>,
        extra: &[(&str, &str)],
    ) -> (Vec<(String, String)>, String) {
        let sign = |base: &[u8]| match kind {
            ProofKind::Device => device.0.sign(base).unwrap().to_vec(),
            ProofKind::Session => self.mac.sign(base).to_vec(),
        };
        self.signed_by(kind, sign, fresh_random(), at, bound, extra)
    }

    /// The same, whatever it is that signs, and with this random part.
    pub(crate) fn signed_by(
        &self,
        kind: ProofKind,
        sign: impl Fn(&[u8]) -> Vec<u8>,
        random: [u8; 16],
        (method, target): (&str, &str),
        bound: Bound<'_>,
        extra: &[(&str, &str)],
    ) -> (Vec<(String, String)>, String) {
        let nonce = ProofNonce {
            server: self.nonce.clone(),
            random,
        };
        let (binding, name, value) = match bound {
            Bound::Content(content) => {
                let digest = ContentDigest::of(content).to_field();
                (Binding::Digest, field::CONTENT_DIGEST, digest)
            }
            Bound::Salt(salt) => (Binding::Salt, field::SALT, structured::from_bytes(&salt)),
        };
        let mut fields = vec![
            (field::TICKET.to_owned(), self.ticket.to_field()),
            (name.to_owned(), value),
            ("content-type".to_owned(), "text/plain".to_owned()),
        ];
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        fields.extend(extra.iter().map(owned));
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let request = SignedRequest {
            method,
            authority: &self.authority,
            path,
            query,
            fields: &fields,
        };
        let names = extra.iter().map(|(name, _)| *name);
        let to_sign = prove(kind, self.id, &request, names, binding, &nonce, 0).unwrap();
        let signature = sign(to_sign.base.as_bytes());
        fields.extend(
            to_sign
                .fields(&signature)
                .map(|(name, value)| (name.to_owned(), value)),
        );
        (fields, nonce.to_param())
    }

    pub(crate) fn signed(
        &self,
        device: &Device,
        kind: ProofKind,
        at: (&str, &str),
        content: &[u8],
    ) -> Request<Body> {
        self.signed_with(device, kind, at, content, &[])
    }

    pub(crate) fn signed_with(
        &self,
        device: &Device,
        kind: ProofKind,
        at: (&str, &str),
        content: &[u8],
        extra: &[(&str, &str)],
    ) -> Request<Body> {
        let (fields, _) = self.signed_fields(device, kind, at, Bound::Content(content), extra);
        with_fields(at, fields, content)
    }

    /// A request without content, to the origin that the session is of.
    pub(crate) fn signed_at(
        &self,
        authority: &str,
        device: &Device,
        at: (&str, &str),
    ) -> Request<Body> {
        let mut request = self.signed(device, ProofKind::Device, at, b"");
        let host = authority.parse().unwrap();
        request.headers_mut().insert("host", host);
        request
    }

    pub(crate) fn sealed(
        &self,
        device: &Device,
        kind: ProofKind,
        at: (&str, &str),
        content: &[u8],
    ) -> Sealed {
        self.sealed_with(device, kind, at, content, &[])
    }

    /// An envelope with a request in it that nobody has signed.
    pub(crate) fn sealed_unproven(&self, at: (&str, &str), content: &[u8]) -> Vec<u8> {
        let plain = message::whole(inner_head(at, Vec::new()), content).unwrap();
        ece::seal_whole(&self.request_key, &self.header(BULK_RECORD_SIZE), &plain).unwrap()
    }

    pub(crate) fn sealed_with(
        &self,
        device: &Device,
        kind: ProofKind,
        at: (&str, &str),
        content: &[u8],
        extra: &[(&str, &str)],
    ) -> Sealed {
        let (fields, nonce) = self.signed_fields(device, kind, at, Bound::Content(content), extra);
        let header = self.header(BULK_RECORD_SIZE);
        let plain = message::whole(inner_head(at, fields), content).unwrap();
        Sealed {
            bytes: ece::seal_whole(&self.request_key, &header, &plain).unwrap(),
            nonce,
        }
    }

    /// A request whose message names this scheme and this authority.
    pub(crate) fn sealed_for(
        &self,
        (scheme, authority): (&str, &str),
        device: &Device,
        at: (&str, &str),
    ) -> Sealed {
        let content = Bound::Content(b"");
        let (fields, nonce) = self.signed_fields(device, ProofKind::Device, at, content, &[]);
        let mut head = inner_head(at, fields);
        if let Control::Request {
            scheme: of,
            authority: named,
            ..
        } = &mut head.control
        {
            scheme.clone_into(of);
            authority.clone_into(named);
        }
        let (header, plain) = (
            self.header(BULK_RECORD_SIZE),
            message::whole(head, b"").unwrap(),
        );
        Sealed {
            bytes: ece::seal_whole(&self.request_key, &header, &plain).unwrap(),
            nonce,
        }
    }

    /// A request whose proof covers the envelope's salt, in records of 100 bytes.
    pub(crate) fn sealed_stream(
        &self,
        device: &Device,
        at: (&str, &str),
        content: &[u8],
        extra: &[(&str, &str)],
    ) -> Sealed {
        let header = self.header(100);
        let bound = Bound::Salt(header.salt);
        let (fields, nonce) = self.signed_fields(device, ProofKind::Device, at, bound, extra);
        self.stream(&header, at, fields, nonce, content, &message::END)
    }

    /// The same, with this at the end of the message.
    pub(crate) fn sealed_stream_ending(
        &self,
        device: &Device,
        at: (&str, &str),
        content: &[u8],
        end: &[u8],
    ) -> Sealed {
        let header = self.header(100);
        let bound = Bound::Salt(header.salt);
        let (fields, nonce) = self.signed_fields(device, ProofKind::Device, at, bound, &[]);
        self.stream(&header, at, fields, nonce, content, end)
    }

    /// The same, its proof made for another envelope.
    pub(crate) fn sealed_other_salt(
        &self,
        device: &Device,
        at: (&str, &str),
        content: &[u8],
    ) -> Sealed {
        let bound = Bound::Salt(fresh_random());
        let (fields, nonce) = self.signed_fields(device, ProofKind::Device, at, bound, &[]);
        self.stream(&self.header(100), at, fields, nonce, content, &message::END)
    }

    fn stream(
        &self,
        header: &Header,
        at: (&str, &str),
        mut fields: Vec<(String, String)>,
        nonce: String,
        content: &[u8],
        end: &[u8],
    ) -> Sealed {
        fields.retain(|(name, _)| name != field::SALT);
        let plain = [
            message::head(inner_head(at, fields)).unwrap(),
            message::chunk(content),
            end.to_vec(),
        ]
        .concat();
        Sealed {
            bytes: ece::seal_whole(&self.request_key, header, &plain).unwrap(),
            nonce,
        }
    }

    fn header(&self, record_size: u32) -> Header {
        Header {
            salt: fresh_random(),
            record_size,
            keyid: self.ticket.as_bytes().to_vec(),
        }
    }

    pub(crate) fn open_reply(
        &self,
        response: &Response<Bytes>,
        nonce: &str,
    ) -> (u16, Vec<(String, String)>, Vec<u8>) {
        assert_eq!(response.headers()["content-encoding"], field::AES128GCM);
        let (header, records) = Header::parse(response.body()).unwrap().unwrap();
        let plain = ece::open_whole(&self.response_key, &header, records).unwrap();
        let mut reader = Reader::new(Limits::default());
        let (mut head, mut content) = (None, Vec::new());
        for event in reader.push(plain).unwrap() {
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

    pub(crate) fn update(&mut self, fields: &[(String, String)]) -> Option<Ticket> {
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

/// What the proof binds the content by.
#[derive(Clone, Copy)]
pub(crate) enum Bound<'a> {
    Content(&'a [u8]),
    Salt([u8; 16]),
}

/// The verifier takes the ticket from the envelope.
fn inner_head((method, target): (&str, &str), mut fields: Vec<(String, String)>) -> Head {
    fields.retain(|(name, _)| name != field::TICKET);
    Head {
        control: Control::Request {
            method: method.to_owned(),
            scheme: "https".to_owned(),
            authority: AUTHORITY.to_owned(),
            target: target.to_owned(),
        },
        fields,
    }
}

/// A signed request as it leaves.
pub(crate) fn with_fields(
    (method, target): (&str, &str),
    fields: Vec<(String, String)>,
    content: &[u8],
) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", AUTHORITY);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    request.body(body(content)).unwrap()
}

pub(crate) fn fresh_random() -> [u8; 16] {
    let mut random = [0; 16];
    SystemRandom.fill(&mut random).unwrap();
    random
}

pub(crate) fn body(bytes: &[u8]) -> Body {
    http_body_util::Full::new(Bytes::copy_from_slice(bytes))
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(crate) fn concealed(bytes: &[u8]) -> Request<Body> {
    Request::post(sealed_path(DEFAULT_PREFIX))
        .header("host", AUTHORITY)
        .header("content-type", field::BHTTP)
        .header("content-encoding", field::AES128GCM)
        .body(body(bytes))
        .unwrap()
}

pub(crate) fn fields_of(response: &Response<Bytes>) -> Vec<(String, String)> {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    response.headers().iter().map(line).collect()
}

pub(crate) fn code(response: &Response<Bytes>) -> Option<Code> {
    Problem::parse(response.body())
}

pub(crate) const ECHO: (&str, &str) = ("POST", "/api/echo");

/// What comes of it, if it is woken up. Only so that a lost wake-up is a failure and not a hang; `timeout` would look once
/// more, and find what nobody had been told of.
pub(crate) async fn woken<F: Future>(future: F) -> F::Output {
    tokio::select! {
        biased;
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("nobody was woken up"),
        outcome = future => outcome,
    }
}

/// Sends a sealed request with these cookies. Gives what it says, what is to be carried over, and the cookies that it sets.
pub(crate) async fn ask_with_cookies(
    server: &Server,
    (device, client): (&Device, &mut Client),
    path: &str,
    cookies: &str,
) -> (Result<String, Code>, Option<Ticket>, Vec<String>) {
    let at = ("POST", path);
    let sealed = client.sealed(device, ProofKind::Device, at, b"");
    let mut request = concealed(&sealed.bytes);
    if !cookies.is_empty() {
        let cookies = cookies.parse().unwrap();
        request.headers_mut().insert("cookie", cookies);
    }
    let response = server.send(request).await;
    let lines = response.headers().get_all("set-cookie").iter();
    let lines = lines
        .map(|line| line.to_str().unwrap().to_owned())
        .collect();
    if response.headers()["content-type"] != field::BHTTP {
        return (Err(code(&response).unwrap()), None, lines);
    }
    let (_, fields, content) = client.open_reply(&response, &sealed.nonce);
    let carry = client.update(&fields);
    let said = match Problem::parse(&content) {
        Some(code) => Err(code),
        None => Ok(String::from_utf8(content).unwrap()),
    };
    (said, carry, lines)
}
