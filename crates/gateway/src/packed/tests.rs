use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, ETAG};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::*;

const PAGE: &str = "<!doctype html><p>clay";

async fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(content).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

async fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new());
    encoder.write_all(content).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

async fn brotli(content: &[u8]) -> Vec<u8> {
    let mut encoder = BrotliEncoder::new(Vec::new());
    encoder.write_all(content).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

fn reply(kind: &str, coding: &str, content: impl Into<Body>) -> Response<Body> {
    let response = Response::builder()
        .header(CONTENT_TYPE, kind)
        .header(CONTENT_ENCODING, coding)
        .header(CONTENT_LENGTH, "1")
        .header(ETAG, "\"a\"");
    response.body(content.into()).unwrap()
}

async fn whole(response: Response<Body>) -> Result<Bytes, axum::Error> {
    Ok(response.into_body().collect().await?.to_bytes())
}

#[tokio::test]
async fn what_was_packed_comes_as_it_is() {
    let page = PAGE.as_bytes();
    let twice = [gzip(b"<!doctype html>").await, gzip(b"<p>clay").await].concat();
    for (coding, packed) in [
        ("gzip", gzip(page).await),
        ("X-GZIP", gzip(page).await),
        ("identity, gzip", gzip(page).await),
        ("gzip", twice),
        ("deflate", deflate(page).await),
        ("br", brotli(page).await),
    ] {
        for (kind, is_navigation) in [("text/html", true), ("application/json", false)] {
            let response = reply(kind, coding, packed.clone());
            let response = unpacked(response, is_navigation, Mode::Enforce);
            let names: Vec<_> = response.headers().keys().collect();
            assert_eq!(names, [CONTENT_TYPE], "{coding}");
            assert_eq!(whole(response).await.unwrap(), page, "{coding}");
        }
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_unpacked_goes_to_nobody() {
    for coding in ["zstd", "compress", "gzip, br", "\u{fc}"] {
        let of =
            |kind, is_navigation, mode| unpacked(reply(kind, coding, PAGE), is_navigation, mode);
        let response = of("text/html", true, Mode::Enforce);
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{coding}");
        let said = whole(response).await.unwrap();
        assert!(said.ends_with(b"\"code\":\"page_compressed\"}"));
        // What nothing is put into, and where nothing is to break.
        for response in [
            of("text/html", true, Mode::Monitor),
            of("text/html", false, Mode::Enforce),
            of("application/zip", true, Mode::Enforce),
        ] {
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers().len(), 4);
            assert_eq!(whole(response).await.unwrap(), PAGE);
        }
    }
}

#[tokio::test]
async fn what_is_not_packed_or_only_a_part_passes() {
    let mut plain = reply("text/html", "identity", PAGE);
    assert_eq!(
        whole(unpacked(plain, true, Mode::Enforce)).await.unwrap(),
        PAGE
    );
    for status in [StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED] {
        plain = reply("text/html", "gzip", PAGE);
        *plain.status_mut() = status;
        let response = unpacked(plain, true, Mode::Enforce);
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(whole(response).await.unwrap(), PAGE);
    }
    let head = unpacked(
        reply("text/html", "zstd", Body::empty()),
        true,
        Mode::Enforce,
    );
    assert_eq!(head.headers()[CONTENT_LENGTH], "1");
}

#[tokio::test]
async fn what_is_broken_or_half_ends_in_an_error() {
    let packed = gzip(&PAGE.repeat(100).into_bytes()).await;
    let half = packed[..packed.len() / 2].to_vec();
    for content in [half, b"<!doctype html>".to_vec()] {
        let response = unpacked(reply("text/html", "gzip", content), true, Mode::Enforce);
        assert!(whole(response).await.is_err());
    }
}

/// Zeros without end: a thousand times what is sent.
#[tokio::test]
async fn a_bomb_takes_no_memory_and_is_broken_off() {
    let packed = Bytes::from(gzip(&vec![b'a'; 1 << 20]).await);
    assert!(packed.len() < 2000, "{}", packed.len());
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let endless = stream::repeat_with(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok::<_, io::Error>(packed.clone())
    });
    let endless = Body::from_stream(endless);
    let response = unpacked(reply("text/html", "gzip", endless), true, Mode::Enforce);
    let mut body = response.into_body();
    let mut len = 0;
    let broken = loop {
        match body.frame().await.unwrap() {
            Ok(frame) => {
                let data = frame.into_data().unwrap();
                assert!(data.len() <= STEP, "{}", data.len());
                len += data.len();
                // No more was taken than is needed for what has come out.
                let sent = sent.load(Ordering::SeqCst);
                assert!(sent <= (len >> 20) + 2, "{sent} for {len}");
            }
            Err(error) => break error,
        }
    };
    assert!(len <= MOST_PAGE && len > MOST_PAGE - STEP, "{len}");
    assert!(broken.to_string().contains("limit"), "{broken}");
}

#[tokio::test]
async fn what_has_come_is_passed_on_at_once() {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Bytes>();
    let parts = stream::poll_fn(move |context| receiver.poll_recv(context));
    let parts = Body::from_stream(parts.map(Ok::<_, io::Error>));
    let mut body = unpacked(
        reply("text/event-stream", "gzip", parts),
        false,
        Mode::Enforce,
    )
    .into_body();
    let mut encoder = GzipEncoder::new(Vec::new());
    for event in ["data: a\n\n", "data: b\n\n"] {
        encoder.write_all(event.as_bytes()).await.unwrap();
        encoder.flush().await.unwrap();
        let packed = std::mem::take(encoder.get_mut());
        sender.send(packed.into()).unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
    // More is awaited.
    let next = poll_fn(|context| {
        let polled = Pin::new(&mut body).poll_frame(context);
        std::task::Poll::Ready(polled.is_pending())
    });
    assert!(next.await);
}
