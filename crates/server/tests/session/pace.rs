//! Bodies that come slowly.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error as _;
use std::mem::take;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bulla_protocol::error::{Code, Problem};
use bulla_server::{
    BodyError, BoxError, Builder, Bulla, Clock as _, ConfigError, Error, EventKind, Identity,
    MemoryStore, Pace, ProofKind, SystemRandom,
};
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::{Request, Version};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::{Layer as _, service_fn};

use crate::support::{
    AUTHORITY, Body, Client, Device, ECHO, Server, TestClock, answer, app, body, code, concealed,
    woken,
};

/// What comes of a body, and after how long each; where it is nothing, somebody looks in vain.
struct Slow {
    clock: TestClock,
    pieces: VecDeque<(Duration, Bytes)>,
    /// Somebody waits for the first of them.
    is_awaited: bool,
}

impl Slow {
    /// After so many seconds each.
    fn body(server: &Server, pieces: impl IntoIterator<Item = (u64, Bytes)>) -> Body {
        let pieces = pieces.into_iter();
        Self::after(
            server,
            pieces.map(|(seconds, piece)| (Duration::from_secs(seconds), piece)),
        )
    }

    fn after(server: &Server, pieces: impl IntoIterator<Item = (Duration, Bytes)>) -> Body {
        let slow = Self {
            clock: server.clock.clone(),
            pieces: pieces.into_iter().collect(),
            is_awaited: false,
        };
        slow.boxed_unsync()
    }
}

impl HttpBody for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some((wait, _)) = self.pieces.front() else {
            return Poll::Ready(None);
        };
        let wait = *wait;
        if !wait.is_zero() && !std::mem::replace(&mut self.is_awaited, true) {
            // Meanwhile somebody waits.
            let (clock, waker) = (self.clock.clone(), cx.waker().clone());
            tokio::spawn(async move {
                clock.pass(wait);
                waker.wake();
            });
            return Poll::Pending;
        }
        self.is_awaited = false;
        match self.pieces.pop_front() {
            Some((_, piece)) if !piece.is_empty() => Poll::Ready(Some(Ok(Frame::data(piece)))),
            _ => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// Each byte after so many seconds.
fn trickled(server: &Server, request: Request<Body>, bytes: &[u8], seconds: u64) -> Request<Body> {
    in_pieces(server, request, bytes, 1, seconds)
}

/// What comes where the last hundred bytes are trickled.
fn at_the_end(bytes: &[u8], seconds: u64) -> Vec<(u64, Bytes)> {
    let (first, last) = bytes.split_at(bytes.len() - 100);
    let last = last.iter().map(|byte| (seconds, vec![*byte].into()));
    let first = (0, Bytes::copy_from_slice(first));
    [first].into_iter().chain(last).collect()
}

fn in_pieces(
    server: &Server,
    request: Request<Body>,
    bytes: &[u8],
    size: usize,
    seconds: u64,
) -> Request<Body> {
    let pieces = bytes.chunks(size).map(Bytes::copy_from_slice);
    let body = Slow::body(server, pieces.map(|piece| (seconds, piece)));
    request.map(|_| body)
}

type Events = Arc<Mutex<Vec<EventKind>>>;

fn listening(configure: impl FnOnce(Builder) -> Builder) -> (Server, Events) {
    let events = Events::default();
    let listener = Arc::clone(&events);
    let server = Server::with(|builder| {
        configure(builder).on_event(move |event| listener.lock().unwrap().push(event.kind))
    });
    (server, events)
}

/// Sends it, and checks that it is cut off as it should be: in plain text, once, and for good.
async fn is_cut_off(server: &Server, events: &Events, request: Request<Body>) {
    events.lock().unwrap().clear();
    let response = server.send(request).await;
    assert_eq!(response.status(), 408);
    assert_eq!(code(&response), Some(Code::TooSlow));
    assert_eq!(response.headers()["content-type"], Problem::MEDIA_TYPE);
    assert_eq!(response.headers()["connection"], "close");
    let seen = take(&mut *events.lock().unwrap());
    assert!(matches!(seen[..], [EventKind::Refused(error)] if error.code == Code::TooSlow));
}

/// A signed request, and a copy of it without content.
fn twice(client: &Client, device: &Device, content: &[u8]) -> (Request<Body>, Request<Body>) {
    let signed = client.signed(device, ProofKind::Device, ECHO, content);
    let mut copy = Request::post(ECHO.1).body(body(b"")).unwrap();
    copy.headers_mut().clone_from(signed.headers());
    (signed, copy)
}

#[tokio::test]
async fn whoever_trickles_is_cut_off_and_nothing_is_remembered() {
    let (server, events) = listening(|builder| builder);
    let device = Device::new();

    let opening = || device.opening(&server).into_parts();
    let (parts, content) = opening();
    let content = content.collect().await.unwrap().to_bytes();
    let copy = |body| Request::from_parts(parts.clone(), body);
    let slow = trickled(&server, copy(body(b"")), &content, 5);
    is_cut_off(&server, &events, slow).await;
    let opened = server.send(copy(body(&content))).await;
    assert_eq!(opened.status(), 200);

    let mut client = device.open(&server, None).await.unwrap();
    // However often there is something.
    for seconds in [1, 5] {
        let content = b"pay 1000.00 to mallory, once and once only";
        let (signed, copy) = twice(&client, &device, content);
        let slow = trickled(&server, copy, content, seconds);
        is_cut_off(&server, &events, slow).await;
        assert_eq!(server.send(signed).await.status(), 200);
    }

    // The head of the envelope, and the record that has the head of the message.
    let (kind, long) = (ProofKind::Device, vec![b'x'; 60_000]);
    for before in [0, 100, 1000] {
        client.nonce = device.open(&server, None).await.unwrap().nonce;
        let sealed = client.sealed(&device, kind, ECHO, &long);
        let (quick, slow) = sealed.bytes.split_at(before);
        let pieces = slow[..20].iter().map(|byte| (5, vec![*byte].into()));
        let pieces = [(0, Bytes::copy_from_slice(quick))]
            .into_iter()
            .filter(|(_, piece)| !piece.is_empty())
            .chain(pieces);
        let body = Slow::body(&server, pieces);
        is_cut_off(&server, &events, concealed(b"").map(|_| body)).await;
        let passed = server.send(concealed(&sealed.bytes)).await;
        client.open_reply(&passed, &sealed.nonce);
    }
    assert_eq!(server.handled(), 5);
}

/// What can be unsealed is refused under seal, and the connection ends all the same.
#[tokio::test]
async fn trickled_records_are_refused_under_seal() {
    let (server, events) = listening(|builder| builder);
    let device = Device::new();
    for (version, closes) in [(Version::HTTP_11, true), (Version::HTTP_2, false)] {
        let client = device.open(&server, None).await.unwrap();
        let sealed = client.sealed(&device, ProofKind::Device, ECHO, &vec![b'x'; 100_000]);
        let (first, rest) = sealed.bytes.split_at(66_000);
        let rest = rest.chunks(1000).map(Bytes::copy_from_slice);
        let rest = rest.map(|piece| (20, piece));
        let pieces = [(0, Bytes::copy_from_slice(first))].into_iter().chain(rest);
        let mut slow = concealed(b"").map(|_| Slow::body(&server, pieces));
        *slow.version_mut() = version;
        events.lock().unwrap().clear();
        let response = server.send(slow).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().contains_key("connection"), closes);
        let (status, fields, problem) = client.open_reply(&response, &sealed.nonce);
        let problem = Problem::parse(&problem);
        assert_eq!((status, problem), (408, Some(Code::TooSlow)));
        assert!(fields.iter().all(|(name, _)| name != "connection"));
        let seen = take(&mut *events.lock().unwrap());
        assert!(matches!(seen[..], [EventKind::Refused(error)] if error.code == Code::TooSlow));
    }
    assert_eq!(server.handled(), 0);
}

/// Twenty seconds, and one more for every 500 bytes.
#[tokio::test]
async fn a_client_has_as_long_as_the_pace_says() {
    for (received, silence, passes) in [
        (0, 19, true),
        (0, 20, false),
        (499, 19, true),
        (499, 20, false),
        (1000, 21, true),
        (1000, 22, false),
    ] {
        for in_one in [true, false] {
            let server = Server::new();
            let device = Device::new();
            let client = device.open(&server, None).await.unwrap();
            let content = vec![b'x'; received + 1];
            let (_, copy) = twice(&client, &device, &content);
            // Whether the silence is one, or many in which it is looked in vain.
            let silence = if in_one {
                vec![(silence, Bytes::new())]
            } else {
                vec![(1, Bytes::new()); silence.try_into().unwrap()]
            };
            let first = [(0, Bytes::from(vec![b'x'; received]))];
            let first = first.into_iter().filter(|(_, piece)| !piece.is_empty());
            let pieces = first.chain(silence).chain([(0, Bytes::from_static(b"x"))]);
            let response = server.send(copy.map(|_| Slow::body(&server, pieces))).await;
            let expected = (!passes).then_some(Code::TooSlow);
            assert_eq!(code(&response), expected, "{received} {in_one}");
        }
    }
}

#[tokio::test]
async fn who_is_slow_and_steady_passes() {
    let server = Server::with(|builder| {
        builder.pace(Pace {
            grace: Duration::from_secs(5),
            rate: 1000,
        })
    });
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let content = vec![b'x'; 50_000];
    // Fifty seconds, which is ten times the grace.
    let (_, copy) = twice(&client, &device, &content);
    let steady = in_pieces(&server, copy, &content, 1000, 1);
    assert_eq!(server.send(steady).await.status(), 200);

    let client = device.open(&server, None).await.unwrap();
    let sealed = client.sealed(&device, ProofKind::Device, ECHO, &content);
    let steady = in_pieces(&server, concealed(b""), &sealed.bytes, 1000, 1);
    let response = server.send(steady).await;
    assert_eq!(client.open_reply(&response, &sealed.nonce).0, 200);

    // And half as fast not.
    let client = device.open(&server, None).await.unwrap();
    let (_, copy) = twice(&client, &device, &content);
    let response = server
        .send(in_pieces(&server, copy, &content, 500, 1))
        .await;
    assert_eq!(code(&response), Some(Code::TooSlow));
}

/// It is the attack, and it succeeds.
#[tokio::test]
async fn without_a_pace_a_trickle_holds_its_request_open() {
    let (server, events) = listening(|builder| builder.pace(None));
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let upload = client.sealed_stream(&device, ECHO, &[b'x'; 1000], &[]);
    let slow = concealed(b"").map(|_| Slow::body(&server, at_the_end(&upload.bytes, 60)));
    let response = server.send(slow).await;
    let (status, _, _) = client.open_reply(&response, &upload.nonce);
    assert_eq!(status, 200);
    assert_eq!(server.clock.now(), 1_800_000_000 + 6000);
    let client = device.open(&server, None).await.unwrap();
    let (_, copy) = twice(&client, &device, b"0123456789");
    let slow = trickled(&server, copy, b"0123456789", 5);
    assert_eq!(server.send(slow).await.status(), 200);
    let refused = events.lock().unwrap();
    assert!(refused.iter().all(|kind| *kind == EventKind::Opened));
}

/// A server whose handler takes so long over each piece that it reads, and tells how its body has ended.
fn reader(configure: impl FnOnce(Builder) -> Builder, busy: Duration) -> (Server, Events) {
    let (events, clock) = (Events::default(), TestClock::new());
    let (listener, handlers) = (Arc::clone(&events), clock.clone());
    let configure = |builder| {
        configure(builder).on_event(move |event| listener.lock().unwrap().push(event.kind))
    };
    let server = Server::on(clock, configure, |bulla| {
        let routes = service_fn(move |request: Request<bulla_server::Body>| {
            let clock = handlers.clone();
            async move {
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    if let Err(error) = frame {
                        return Ok::<_, Infallible>(answer(400, own(&error)));
                    }
                    clock.pass(busy);
                }
                Ok(answer(200, "whole"))
            }
        });
        app(bulla.layer().layer(routes))
    });
    (server, events)
}

fn own(error: &BodyError) -> &'static str {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(own) = error.downcast_ref::<Error>() {
            return own.code.as_str();
        }
        cause = error.source();
    }
    "another one"
}

#[tokio::test]
async fn a_slow_handler_does_not_cut_its_client() {
    let (server, events) = reader(|builder| builder, Duration::from_mins(5));
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let upload = client.sealed_stream(&device, ECHO, &vec![b'x'; 50_000], &[]);
    // Each piece comes a second after it was asked for; the handler needs five minutes for it.
    let slow = in_pieces(&server, concealed(b""), &upload.bytes, 1000, 1);
    let response = server.send(slow).await;
    let (status, _, whole) = client.open_reply(&response, &upload.nonce);
    assert_eq!((status, &whole[..]), (200, &b"whole"[..]));
    assert!(server.clock.now() > 1_800_000_000 + 50 * 300);
    assert_eq!(*events.lock().unwrap(), [EventKind::Opened]);
}

/// Whoever has a session may send streams to any route, and most handlers read them to their end.
#[tokio::test]
async fn a_handlers_stream_is_held_to_the_pace_unless_its_path_takes_its_time() {
    for (unpaced, passes) in [("/api/echo", true), ("/api/other", false)] {
        let (server, events) = reader(
            |builder| builder.unpaced(unpaced).unsigned("/"),
            Duration::ZERO,
        );
        let device = Device::new();
        let client = device.open(&server, None).await.unwrap();
        events.lock().unwrap().clear();
        let upload = client.sealed_stream(&device, ECHO, &[b'x'; 1000], &[]);
        let pieces = || Slow::body(&server, at_the_end(&upload.bytes, 60));
        let response = server.send(concealed(b"").map(|_| pieces())).await;
        let (status, _, content) = client.open_reply(&response, &upload.nonce);
        let seen = take(&mut *events.lock().unwrap());
        if passes {
            assert_eq!((status, &content[..]), (200, &b"whole"[..]));
            assert_eq!(seen, []);
        } else {
            assert_eq!((status, &content[..]), (400, &b"too_slow"[..]));
            let too_slow = |kind: &_| matches!(kind, EventKind::UploadBroken(error) if error.code == Code::TooSlow);
            assert!(seen.len() == 1 && seen.iter().all(too_slow), "{seen:?}");
        }

        // What needs no proof is read by handlers only.
        let plain = Request::post(ECHO.1).header("host", AUTHORITY);
        let response = server.send(plain.body(pieces()).unwrap()).await;
        let expected: &[u8] = if passes { b"whole" } else { b"too_slow" };
        assert_eq!(&response.body()[..], expected);

        // Before the handler has it there is no path that takes its time.
        let slow = trickled(&server, concealed(b""), &upload.bytes, 5);
        let response = server.send(slow).await;
        assert_eq!(code(&response), Some(Code::TooSlow));
    }
}

/// It waits for data that never comes, and is woken up.
#[tokio::test]
async fn whoever_says_nothing_is_cut_off_when_it_is_time() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let (_, copy) = twice(&client, &device, b"never");
    let silence = stream::pending::<Result<Frame<Bytes>, BoxError>>();
    let silent = copy.map(|_| StreamBody::new(silence).boxed_unsync());
    let moving = async {
        // By now it waits.
        server.clock.advance(21);
    };
    let answered = async { tokio::join!(server.send(silent), moving).0 };
    let response = woken(answered).await;
    assert_eq!(code(&response), Some(Code::TooSlow));
}

/// Whoever knows the server's second sends just before it is over, so that each wait is less than one.
#[tokio::test]
async fn waits_of_less_than_a_second_add_up() {
    let pace = Pace {
        grace: Duration::from_secs(10),
        rate: 500,
    };
    let busy = Duration::from_millis(100);
    let (server, _) = reader(|builder| builder.pace(pace).unsigned("/"), busy);
    for (bytes, expected) in [(11, "whole"), (12, "too_slow")] {
        let wait = Duration::from_millis(900);
        let pieces = (0..bytes).map(|_| (wait, Bytes::from_static(b"x")));
        // And one look more.
        let pieces = pieces.chain([(Duration::from_millis(1), Bytes::new())]);
        let plain = Request::post(ECHO.1).header("host", AUTHORITY);
        let body = Slow::after(&server, pieces);
        let response = server.send(plain.body(body).unwrap()).await;
        assert_eq!(response.body(), expected, "{bytes}");
    }
}

/// A handler that looks whether anything has come, has something else to do, and comes back.
#[tokio::test]
async fn what_has_come_while_the_handler_was_busy_was_not_waited_for() {
    let (sender, receiver) = unbounded_channel();
    let feed = Mutex::new(Some(sender));
    let feed = Arc::new(feed);
    let clock = TestClock::new();
    let handlers = (clock.clone(), Arc::clone(&feed));
    let server = Server::on(
        clock,
        |builder| builder.unsigned("/"),
        |bulla| {
            let routes = service_fn(move |request: Request<bulla_server::Body>| {
                let (clock, feed) = handlers.clone();
                async move {
                    let mut body = request.into_body();
                    for _ in 0..3 {
                        assert!(body.frame().now_or_never().is_none());
                        // The client sends at once.
                        let piece = Bytes::from_static(b"x");
                        feed.lock().unwrap().as_ref().unwrap().send(piece).unwrap();
                        clock.advance(300);
                        if let Err(error) = body.frame().await.unwrap() {
                            return Ok::<_, Infallible>(answer(400, own(&error)));
                        }
                    }
                    feed.lock().unwrap().take();
                    let ended = body.frame().await.is_none();
                    Ok(answer(200, if ended { "whole" } else { "more" }))
                }
            });
            app(bulla.layer().layer(routes))
        },
    );
    let plain = Request::post(ECHO.1).header("host", AUTHORITY);
    let sent = server.send(plain.body(received(receiver)).unwrap());
    let response = woken(sent).await;
    assert_eq!(response.body(), "whole");
}

fn received(receiver: UnboundedReceiver<Bytes>) -> Body {
    let frames = stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((Ok::<_, BoxError>(Frame::data(piece)), receiver))
    });
    StreamBody::new(Box::pin(frames)).boxed_unsync()
}

/// It would hold two MiB for more than an hour.
#[tokio::test]
async fn what_has_come_does_not_pay_for_silence() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let content = vec![b'x'; 1 << 20];
    for (silence, expected) in [(59, None), (60, Some(Code::TooSlow))] {
        let (_, copy) = twice(&client, &device, &content);
        let (first, last) = content.split_at(content.len() - 1);
        let pieces = [
            (0, Bytes::copy_from_slice(first)),
            (silence, Bytes::new()),
            (0, Bytes::copy_from_slice(last)),
        ];
        let response = server.send(copy.map(|_| Slow::body(&server, pieces))).await;
        assert_eq!(code(&response), expected, "{silence}");
    }
}

#[tokio::test]
async fn pieces_with_nothing_in_them_pay_for_nothing() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let (_, copy) = twice(&client, &device, b"never");
    let (sender, receiver) = unbounded_channel();
    let mut sent = Box::pin(server.send(copy.map(|_| received(receiver))));
    for second in 0..20 {
        assert!(sent.as_mut().now_or_never().is_none(), "{second}");
        server.clock.advance(1);
        sender.send(Bytes::new()).unwrap();
    }
    let response = sent.as_mut().now_or_never().unwrap();
    assert_eq!(code(&response), Some(Code::TooSlow));
}

/// However long it takes until the clock says the same again.
#[tokio::test]
async fn nobody_is_waited_for_while_a_clock_that_was_set_back_catches_up() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let (_, copy) = twice(&client, &device, b"never");
    let (_sender, receiver) = unbounded_channel();
    let mut sent = Box::pin(server.send(copy.map(|_| received(receiver))));
    assert!(sent.as_mut().now_or_never().is_none());
    server.clock.put_back(24 * 3600);
    server.clock.advance(19);
    assert!(sent.as_mut().now_or_never().is_none());
    server.clock.advance(1);
    let response = sent.as_mut().now_or_never().unwrap();
    assert_eq!(code(&response), Some(Code::TooSlow));
}

#[test]
fn a_pace_that_nobody_means_is_refused() {
    let grace = Pace::default().grace;
    for (pace, is_allowed) in [
        (Some(Pace::default()), true),
        (None, true),
        (Some(Pace { grace, rate: 0 }), false),
        (Some(Pace { grace, rate: 1 }), true),
        (
            Some(Pace {
                grace,
                rate: 1_000_000,
            }),
            true,
        ),
        (
            Some(Pace {
                grace,
                rate: 1_000_001,
            }),
            false,
        ),
    ]
    .into_iter()
    .chain(
        [
            (Duration::ZERO, false),
            (Duration::from_millis(999), false),
            (Duration::from_secs(1), true),
            (Duration::from_hours(1), true),
            (Duration::from_millis(3_600_001), false),
            (Duration::MAX, false),
        ]
        .map(|(grace, is_allowed)| (Some(Pace { grace, rate: 500 }), is_allowed)),
    ) {
        let built = Bulla::builder()
            .origin("https://bank.example")
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
            .pace(pace)
            .build();
        match built {
            Ok(_) => assert!(is_allowed, "{pace:?}"),
            Err(error) => {
                assert!(!is_allowed, "{pace:?}");
                assert!(matches!(error, ConfigError::Pace));
            }
        }
    }
    let built = Bulla::builder()
        .origin("https://bank.example")
        .identity(Identity::generate(&SystemRandom).unwrap())
        .store(MemoryStore::new().unwrap())
        .unpaced("events")
        .build();
    assert!(matches!(built, Err(ConfigError::Path(path)) if path == "events"));
}
