//! What is the server's own fault is called so, and is not laid on the store.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::{ThreadId, current};

use bulla_keys::{Random, RandomError, SystemRandom};
use bulla_protocol::error::{Code, Problem};
use bulla_server::{BoxError, ProofKind};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tower::{Layer as _, service_fn};

use crate::support::{Device, ECHO, Server, app, code, concealed};

/// Has no random bytes once it is told so.
#[derive(Clone, Default)]
struct Well(Arc<AtomicBool>);

impl Random for Well {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        if self.0.load(Ordering::Relaxed) {
            return Err(RandomError);
        }
        SystemRandom.fill(out)
    }
}

#[tokio::test]
async fn a_source_without_random_bytes() {
    let well = Well::default();
    let random = well.clone();
    let server = Server::with(|builder| builder.random(random));
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    well.0.store(true, Ordering::Relaxed);
    let opened = device.open(&server, None).await;
    assert_eq!(opened.err(), Some(Code::Internal));
    let signed = client.signed(&device, ProofKind::Device, ECHO, b"");
    let response = server.send(signed).await;
    assert_eq!(response.status(), 500);
    assert_eq!(code(&response), Some(Code::Internal));
    // The handler ran; so nobody is told to send it again.
    assert!(!response.headers().contains_key("retry-after"));
    let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"");
    let response = server.send(concealed(&sealed.bytes)).await;
    assert_eq!(code(&response), Some(Code::Internal));
}

#[cfg(feature = "embedded")]
#[tokio::test]
async fn a_ring_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ring");
    let ring = bulla_server::Ring::in_file(path.join("ring.json")).unwrap();
    let store = bulla_server::EmbeddedStore::open(folder.path().join("store.redb")).unwrap();
    let server = Server::with(|builder| builder.ring(ring).store(store));
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    // A file where the folder should be, when it is time for the next key.
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    server.clock.advance(24 * 3600);
    let opened = device.open(&server, None).await;
    assert_eq!(opened.err(), Some(Code::StoreUnavailable));
    let signed = client.signed(&device, ProofKind::Device, ECHO, b"");
    let response = server.send(signed).await;
    assert_eq!(code(&response), Some(Code::StoreUnavailable));
    // Nothing was done: it can be sent again.
    assert!(response.headers().contains_key("retry-after"));
    std::fs::remove_file(&path).unwrap();
    client = device.open(&server, None).await.unwrap();
    let signed = client.signed(&device, ProofKind::Device, ECHO, b"");
    assert_eq!(server.send(signed).await.status(), 200);

    // Who starts like that is told at once.
    let ring = bulla_server::Ring::in_file("/dev/null/ring.json").unwrap_err();
    assert!(ring.to_string().contains("/dev/null/ring.json"), "{ring}");
}

/// Promises five bytes.
struct Broken;

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Err("it broke".into())))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(5)
    }
}

#[tokio::test]
async fn a_reply_that_breaks_off() {
    let server = Server::around(
        |builder| builder,
        |bulla| {
            let broken =
                service_fn(async |_: Request<_>| Ok::<_, Infallible>(Response::new(Broken)));
            app(bulla.layer().layer(broken))
        },
    );
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"");
    let response = server.send(concealed(&sealed.bytes)).await;
    // Sealed, so that nobody on the way can have said so.
    let (status, fields, content) = client.open_reply(&response, &sealed.nonce);
    assert_eq!(status, 500);
    assert_eq!(Problem::parse(&content), Some(Code::Internal));
    assert!(fields.iter().any(|(name, _)| name == "bulla-nonce"));
}

/// Of all tests that run beside this one: whoever asks is told of his own thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

/// What a log gets: the thread, the target of an error, and its fields by name.
type Line = (ThreadId, String, Vec<&'static str>);

impl tracing::Subscriber for Log {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        *about.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let about = event.metadata();
        let fields = about.fields().iter().map(|field| field.name()).collect();
        let line = (current().id(), about.target().to_owned(), fields);
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl Log {
    fn has(&self, target: &str, field: &str) -> bool {
        let lines = self.0.lock().unwrap();
        lines.iter().any(|(thread, of, fields)| {
            *thread == current().id() && of == target && fields.contains(&field)
        })
    }
}

#[tokio::test]
async fn whatever_fails_stands_in_the_log_with_its_cause() {
    let log = Log::default();
    // A thread's own would not do: whether anybody listens is kept for all threads at once.
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ring");
    let ring = bulla_server::Ring::in_file(path.join("ring.json")).unwrap();
    let server = Server::with(|builder| builder.ring(ring));
    let device = Device::new();
    device.open(&server, None).await.unwrap();
    assert!(!log.has("bulla::ring", "error") && !log.has("bulla::clock", "latest"));
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    server.clock.advance(24 * 3600);
    assert!(device.open(&server, None).await.is_err());
    assert!(log.has("bulla::ring", "error"));
    server.clock.put_back(3600);
    let _ = device.open(&server, None).await;
    assert!(log.has("bulla::clock", "latest"));
}
