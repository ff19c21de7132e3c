//! Whole requests to a real verifier: whatever comes, there is an answer, and no handler runs.
#![no_main]

use std::convert::Infallible;
use std::sync::LazyLock;

use bulla_protocol::field;
use bulla_server::{Body, Bulla, Identity, MemoryStore};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use tower::{Layer as _, ServiceExt as _, service_fn};

static BULLA: LazyLock<Bulla> = LazyLock::new(|| {
    Bulla::builder()
        .origin("https://bank.example")
        .identity(Identity::generate(&bulla_keys::SystemRandom).expect("random bytes"))
        .store(MemoryStore::new().expect("random bytes"))
        .build()
        .expect("a configuration")
});

fuzz_target!(|message: (u8, &str, &str, &str, &str, &[u8])| {
    let (kind, path, input, signature, ticket, body) = message;
    let paths = ["/.well-known/bulla/session", "/.well-known/bulla/sealed", path];
    let Ok(mut request) = Request::builder()
        .method(if kind & 4 == 0 { "POST" } else { "GET" })
        .uri(paths[usize::from(kind & 3).min(2)])
        .header("host", "bank.example")
        .body(Full::new(Bytes::copy_from_slice(body)))
    else {
        return;
    };
    let sealed = kind & 8 == 0;
    for (name, value) in [
        (field::SIGNATURE_INPUT, input),
        (field::SIGNATURE, signature),
        (field::TICKET, ticket),
        ("content-type", if sealed { field::BHTTP } else { "application/json" }),
        ("content-encoding", if sealed { field::AES128GCM } else { "" }),
    ] {
        if let Ok(value) = HeaderValue::from_str(value)
            && !value.is_empty()
        {
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    let handler = service_fn(|_: Request<Body>| async {
        panic!("a handler was reached");
        #[allow(unreachable_code, reason = "names the types")]
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let answer = runtime.block_on(BULLA.layer().layer(handler).oneshot(request));
    let Ok(response) = answer;
    assert!((400..500).contains(&response.status().as_u16()), "{}", response.status());
});
