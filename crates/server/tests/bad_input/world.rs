//! A server, somebody who has a session there, and a look at every answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bulla_keys::ece;
use bulla_protocol::error::{Code, Problem};
use bulla_protocol::field;
use bulla_protocol::limits::Limits;
use bulla_protocol::message::{Control, Event, Reader};
use bulla_protocol::seal::Header;
use bulla_server::{BoxError, ProofKind};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use proptest::test_runner::{Config, TestCaseError};
use tokio::runtime::Runtime;
use tower::{Layer as _, service_fn};

use crate::MEMORY;
use crate::support::{Body, Client, Device, ECHO, Server, answer, app, fields_of};

/// The largest body that is collected, in bytes.
pub(crate) const MAX_BODY_LEN: usize = 64 * 1024;

/// The largest head of an inner message, in bytes.
pub(crate) const MAX_HEAD_LEN: usize = 8 * 1024;

/// What a request may take beyond its body, in bytes: mostly one record of 64 KiB, as it came, opened
/// and read.
pub(crate) const OVERHEAD: usize = 4 * 64 * 1024;

/// A body is there in pieces and, for a moment, as a whole; a buffer that grows, twice.
pub(crate) const MAX_MEMORY: usize = 3 * MAX_BODY_LEN + OVERHEAD;

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) device: Device,
    pub(crate) client: Client,
    seen: Arc<Mutex<Vec<Seen>>>,
    runtime: Runtime,
    _turn: MutexGuard<'static, ()>,
}

/// What a handler was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) uri: String,
    /// Without those that nobody should decide anything by.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) content: Result<Bytes, Code>,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Fate {
    Refused(Code),
    Answered(Response<Bytes>),
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_bodies_up_to(MAX_BODY_LEN)
    }

    pub(crate) fn with_bodies_up_to(max_body_len: usize) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);

        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler = {
            let seen = Arc::clone(&seen);
            service_fn(move |request| {
                let seen = Arc::clone(&seen);
                async move {
                    let request = Seen::of(request).await;
                    seen.lock().unwrap().push(request);
                    Ok::<_, std::convert::Infallible>(answer(200, "served"))
                }
            })
        };
        let limits = Limits {
            max_head_len: MAX_HEAD_LEN,
            max_fields: 50,
            max_body_len,
        };
        let server = Server::around(
            |builder| builder.limits(limits),
            |bulla| app(bulla.layer().layer(handler)),
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let device = Device::new();
        let mut client = runtime.block_on(device.open(&server, None)).unwrap();
        // The first device proof confirms the session.
        let first = client.signed(&device, ProofKind::Device, ECHO, b"");
        let first = runtime.block_on(server.send(first));
        client.update(&fields_of(&first));
        seen.lock().unwrap().clear();
        Self {
            server,
            device,
            client,
            seen,
            runtime,
            _turn: turn,
        }
    }

    /// Sends a request. Whatever it is, there is an answer: a whole refusal, or a handler's.
    pub(crate) fn ask(&self, request: Request<Body>) -> Fate {
        self.measured(request, MAX_MEMORY)
    }

    /// The same, within so many bytes of memory.
    pub(crate) fn measured(&self, request: Request<Body>, max_memory: usize) -> Fate {
        let request = request.map(|body| Pieces::of(body).boxed_unsync());
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let response = self.runtime.block_on(self.server.send(request));
        let taken = MEMORY.peak_usage().saturating_sub(before);
        assert!(taken <= max_memory, "{taken} bytes, {max_memory} allowed");

        let response = self.opened(response);
        if response.status().is_success() {
            return Fate::Answered(response);
        }
        assert!(response.status().is_client_error(), "{response:?}");
        assert_eq!(response.headers()["content-type"], Problem::MEDIA_TYPE);
        let code = Problem::parse(response.body()).expect("a code of the list");
        assert_eq!(code.status(), response.status().as_u16());
        Fate::Refused(code)
    }

    /// What the handler has seen since it was last asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// A sealed reply, opened.
    fn opened(&self, response: Response<Bytes>) -> Response<Bytes> {
        if !response.headers().contains_key("content-encoding") {
            return response;
        }
        let (header, records) = Header::parse(response.body()).unwrap().unwrap();
        let plain = ece::open_whole(&self.client.response_key, &header, records).unwrap();
        let mut opened = Response::builder();
        let mut content = Vec::new();
        for event in Reader::new(Limits::default()).push(&plain).unwrap() {
            match event {
                Event::Content(more) => content.extend(more),
                Event::Head(head) => {
                    let Control::Response(status) = head.control else {
                        panic!("not a reply")
                    };
                    opened = opened.status(status);
                    for (name, value) in head.fields {
                        opened = opened.header(name, value);
                    }
                }
            }
        }
        opened.body(content.into()).unwrap()
    }
}

/// A body in the pieces in which a connection hands it over.
struct Pieces {
    whole: Body,
    rest: Bytes,
}

impl Pieces {
    /// The largest DATA frame that is taken unless told otherwise (RFC 9113 section 6.5.2), in bytes.
    const SIZE: usize = 16 * 1024;

    fn of(whole: Body) -> Self {
        let rest = Bytes::new();
        Self { whole, rest }
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.whole).poll_frame(cx)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap(),
                end => return Poll::Ready(end),
            }
        }
        let len = self.rest.len().min(Self::SIZE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(len)))))
    }
}

impl Fate {
    /// The code of the refusal, for a property that wants one.
    pub(crate) fn refused(self) -> Result<Code, TestCaseError> {
        match self {
            Self::Refused(code) => Ok(code),
            Self::Answered(response) => Err(TestCaseError::fail(format!("{response:?}"))),
        }
    }
}

impl Seen {
    async fn of(request: Request<bulla_server::Body>) -> Self {
        let (parts, body) = request.into_parts();
        let mut fields: Vec<_> = parts
            .headers
            .iter()
            .filter(|(name, _)| !field::is_benign(name.as_str()))
            // White space around a value is none of it (RFC 9110 section 5.5); connections trim it.
            .map(|(name, value)| (name.to_string(), value.as_bytes().trim_ascii().to_vec()))
            .collect();
        fields.sort();
        let content = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes);
        Self {
            method: parts.method.to_string(),
            uri: parts.uri.to_string(),
            fields,
            content: content.map_err(|_| Code::SealBroken),
        }
    }
}

/// So many cases. What breaks is printed at its smallest, and belongs into a test of its own or into
/// the corpus of a fuzz target; no file is written.
pub(crate) fn cases(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}
