//! Open streams end with their session.

use std::convert::Infallible;
use std::future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bulla_keys::ece;
use bulla_protocol::error::Code;
use bulla_protocol::opening::Ticket;
use bulla_protocol::seal::Header;
use bulla_server::store::{Ended, Ending, Party, StoreError};
use bulla_server::{ProofKind, Revocation, RevocationId, Session, Store};
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::{Layer as _, service_fn};

use crate::hooked::{Hooked, Step};
use crate::support::{Body, Client, Device, ECHO, Server, answer, app, concealed, woken};

const EVENTS: (&str, &str) = ("GET", "/api/events");
const LOGIN: (&str, &str) = ("POST", "/api/login");
const END: (&str, &str) = ("POST", "/api/end");

/// A server whose streams the test feeds by hand.
struct Stage {
    server: Server,
    /// Another process has it too.
    store: Hooked,
    feed: Arc<Mutex<Option<UnboundedSender<Bytes>>>>,
    device: Device,
}

fn channel(receiver: UnboundedReceiver<Bytes>) -> Body {
    let frames = stream::unfold(receiver, async |mut receiver| {
        Some((Ok(Frame::data(receiver.recv().await?)), receiver))
    });
    StreamBody::new(Box::pin(frames)).boxed_unsync()
}

impl Stage {
    fn new() -> Self {
        Self::over(Hooked::new(|_| Box::pin(async { Ok(()) })))
    }

    fn over(store: Hooked) -> Self {
        let feed = Arc::new(Mutex::new(None));
        let feeding = Arc::clone(&feed);
        let shared = store.clone();
        let server = Server::around(
            |builder| builder.store(shared),
            |bulla| {
                let routes = service_fn(move |request: Request<bulla_server::Body>| {
                    let (sender, receiver) = unbounded_channel();
                    let feed = Arc::clone(&feeding);
                    async move {
                        let session: Session = request.extensions().get().cloned().unwrap();
                        let path = request.uri().path().to_owned();
                        let mut content = request.into_body();
                        match path.as_str() {
                            "/api/login" => {
                                let name = content.collect().await.unwrap().to_bytes();
                                let name = std::str::from_utf8(&name).unwrap();
                                session.login(name).await.unwrap();
                                return Ok::<_, Infallible>(answer(200, ""));
                            }
                            "/api/end" => session.logout().await.unwrap(),
                            "/api/echo" => {
                                while let Some(frame) = content.frame().await {
                                    let Ok(frame) = frame else { break };
                                    sender.send(frame.into_data().unwrap()).unwrap();
                                }
                                return Ok(Response::new(channel(receiver)));
                            }
                            _ => {}
                        }
                        *feed.lock().unwrap() = Some(sender);
                        Ok(Response::new(channel(receiver)))
                    }
                });
                app(bulla.layer().layer(routes))
            },
        );
        Self {
            server,
            store,
            feed,
            device: Device::new(),
        }
    }

    /// A session that somebody has logged in to.
    async fn login(&self) -> Client {
        let mut client = self.device.open(&self.server, None).await.unwrap();
        let login = client.signed(&self.device, ProofKind::Device, LOGIN, b"ann");
        let response = self.server.send(login).await;
        let carry: Ticket = client
            .update(&crate::support::fields_of(&response))
            .unwrap();
        self.device.open(&self.server, Some(carry)).await.unwrap()
    }

    /// Opens a stream and reads its beginning.
    async fn listen(&self, client: &Client, at: (&str, &str), sealed: bool) -> Body {
        let request = if sealed {
            let sealed = client.sealed(&self.device, ProofKind::Device, at, b"");
            concealed(&sealed.bytes)
        } else {
            client.signed(&self.device, ProofKind::Device, at, b"")
        };
        let response = self.server.start(request).await;
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        self.say("hello");
        // Header and first record, or the word itself.
        for _ in 0..if sealed { 2 } else { 1 } {
            assert!(body.frame().await.unwrap().is_ok());
        }
        body
    }

    fn say(&self, word: &'static str) {
        let feed = self.feed.lock().unwrap();
        feed.as_ref().unwrap().send(Bytes::from(word)).unwrap();
    }

    /// Closes the stream well.
    fn close(&self) {
        self.feed.lock().unwrap().take();
    }
}

/// The stream ends in an error; waits until it does.
async fn is_cut(body: &mut Body) -> Code {
    let frame = woken(body.frame()).await;
    let error = frame.unwrap().unwrap_err();
    let mut cause: &dyn std::error::Error = &*error;
    let code = loop {
        if let Some(error) = cause.downcast_ref::<bulla_server::Error>() {
            break error.code;
        }
        cause = cause.source().unwrap();
    };
    assert!(body.frame().await.is_none());
    code
}

#[tokio::test]
async fn revocation_cuts_streams_that_say_nothing() {
    for sealed in [true, false] {
        for what in ["session", "subject", "device", "logout"] {
            let stage = Stage::new();
            let client = stage.login().await;
            let mut body = stage.listen(&client, EVENTS, sealed).await;
            // It waits for data that never comes, and is woken up.
            let reader = tokio::spawn(async move { is_cut(&mut body).await });
            tokio::task::yield_now().await;
            let bulla = &stage.server.bulla;
            match what {
                "session" => bulla.revoke(Revocation::Session(client.id.into())).await,
                "subject" => {
                    let now = 1_800_000_000;
                    bulla
                        .revoke(Revocation::Subject("ann".parse().unwrap(), now))
                        .await
                }
                "device" => {
                    let device = stage.device.0.thumbprint();
                    bulla.revoke(Revocation::Device(device)).await
                }
                _ => {
                    let path = ("DELETE", "/.well-known/bulla/session");
                    let end = client.signed(&stage.device, ProofKind::Device, path, b"");
                    assert_eq!(stage.server.send(end).await.status(), 204);
                    Ok(())
                }
            }
            .unwrap();
            assert_eq!(
                reader.await.unwrap(),
                Code::SessionRevoked,
                "{what} {sealed}"
            );
        }
    }
}

#[tokio::test]
async fn other_sessions_streams_go_on_however_many_end() {
    let stage = Stage::new();
    let client = stage.login().await;
    let mut body = stage.listen(&client, EVENTS, false).await;
    let bulla = &stage.server.bulla;
    // More than are kept for a stream that does not look.
    for other in 0..1000_u32 {
        let mut id = [0; RevocationId::LEN];
        id[..4].copy_from_slice(&other.to_be_bytes());
        let other = Revocation::Session(RevocationId(id));
        bulla.revoke(other).await.unwrap();
    }
    stage.say("still");
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still");
    // Its own is among those that it missed.
    bulla
        .revoke(Revocation::Session(client.id.into()))
        .await
        .unwrap();
    for _ in 0..1000 {
        let other = Revocation::Session(RevocationId([0; RevocationId::LEN]));
        bulla.revoke(other).await.unwrap();
    }
    assert_eq!(is_cut(&mut body).await, Code::SessionRevoked);
}

/// A connection that goes while the disk writes takes the handler with it; and the disk may be full.
#[tokio::test]
async fn a_revocation_of_which_nobody_knows_the_outcome_is_told_all_the_same() {
    for fails in [false, true] {
        let is_busy = Arc::<AtomicBool>::default();
        let busy = Arc::clone(&is_busy);
        let stage = Stage::over(Hooked::new(move |step| {
            let busy = step == Step::Revoke && busy.load(Ordering::Relaxed);
            Box::pin(async move {
                match (busy, fails) {
                    (false, _) => Ok(()),
                    (true, false) => future::pending().await,
                    (true, true) => Err(StoreError),
                }
            })
        }));
        let (client, other) = (stage.login().await, stage.login().await);
        let mut body = stage.listen(&client, EVENTS, false).await;
        let mut others = stage.listen(&other, EVENTS, false).await;
        // What else the store ends with it.
        stage.store.revoke(ended(other.id.into())).await.unwrap();
        is_busy.store(true, Ordering::Relaxed);
        let revocation = Revocation::Session(client.id.into());
        let revoked = stage.server.bulla.revoke(revocation).now_or_never();
        let code = revoked.map(|revoked| revoked.unwrap_err().code);
        assert_eq!(code, fails.then_some(Code::StoreUnavailable));
        assert_eq!(is_cut(&mut body).await, Code::SessionRevoked);
        assert_eq!(is_cut(&mut others).await, Code::SessionRevoked, "{fails}");
    }
}

fn ended(session: RevocationId) -> Ended {
    Ended {
        revocation: Revocation::Session(session),
        until: u64::MAX,
        now: 0,
        by: Party::Application,
    }
}

#[tokio::test]
async fn a_revocation_by_another_process_is_found_when_there_is_data() {
    let stage = Stage::new();
    let client = stage.login().await;
    let mut body = stage.listen(&client, EVENTS, false).await;
    let ended = ended(client.id.into());
    assert_eq!(stage.store.revoke(ended).await, Ok(Ending::Done));
    stage.say("soon");
    assert!(body.frame().await.unwrap().is_ok());
    stage.server.clock.advance(60);
    stage.say("late");
    assert_eq!(is_cut(&mut body).await, Code::SessionRevoked);
}

#[tokio::test]
async fn no_stream_outlives_the_session() {
    for has_data in [true, false] {
        let stage = Stage::new();
        let client = stage.login().await;
        let mut body = stage.listen(&client, EVENTS, true).await;
        stage.server.clock.advance(12 * 3600 - 1);
        stage.say("still");
        assert!(body.frame().await.unwrap().is_ok());
        let reader = tokio::spawn(async move { is_cut(&mut body).await });
        // It waits for data that does not come.
        tokio::task::yield_now().await;
        stage.server.clock.advance(1);
        if has_data {
            stage.say("late");
        }
        assert_eq!(reader.await.unwrap(), Code::TicketExpired, "{has_data}");
    }
}

#[tokio::test]
async fn the_answer_to_a_logout_is_whole() {
    let stage = Stage::new();
    let client = stage.login().await;
    let mut body = stage.listen(&client, END, false).await;
    stage.say("bye");
    assert!(body.frame().await.unwrap().is_ok());
    stage.close();
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn uploads_are_cut_too() {
    let stage = Stage::new();
    let client = stage.login().await;
    let sealed = client.sealed_stream(&stage.device, ECHO, &[7; 1000], &[]);
    let (sender, receiver) = unbounded_channel();
    let request = concealed(b"").map(|_| channel(receiver));
    let (first, rest) = sealed.bytes.split_at(sealed.bytes.len() / 2);
    sender.send(Bytes::copy_from_slice(first)).unwrap();
    let sending = async {
        tokio::task::yield_now().await;
        let revocation = Revocation::Session(client.id.into());
        stage.server.bulla.revoke(revocation).await.unwrap();
        sender.send(Bytes::copy_from_slice(rest)).unwrap();
        drop(sender);
    };
    let (response, ()) = tokio::join!(stage.server.start(request), sending);
    // The answer is cut like the upload.
    let mut read = Vec::new();
    let mut body = response.into_body();
    let mut failed = false;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => read.extend_from_slice(&frame.into_data().unwrap()),
            Err(_) => failed = true,
        }
    }
    assert!(failed);
    // The client cannot take it for a whole one.
    let (header, records) = Header::parse(&read).unwrap().unwrap();
    let opened = ece::open_whole(&client.response_key, &header, records);
    assert_eq!(opened.unwrap_err().code, Code::SealBroken);
}
