//! The first visit to a page behind the gateway, where it does not go well, in real browsers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::gateway::Behind;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(a_first_visit_that_fails_says_why_and_does_not_loop);

/// What somebody on the way hands out in place of the service worker.
#[derive(Clone)]
enum Worker {
    Missing,
    /// One that stands before the page and does nothing.
    Idle,
}

/// How often the page of the first visit has been handed out.
type Visits = Arc<AtomicUsize>;

async fn between(
    State((worker, visits)): State<(Worker, Visits)>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path().ends_with("/sw.js") {
        return match worker {
            Worker::Missing => StatusCode::NOT_FOUND.into_response(),
            Worker::Idle => {
                let script =
                    "addEventListener('activate', (event) => event.waitUntil(clients.claim()))";
                let fields = [
                    (CONTENT_TYPE.as_str(), "text/javascript"),
                    ("service-worker-allowed", "/"),
                ];
                (fields, script).into_response()
            }
        };
    }
    let response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        visits.fetch_add(1, Ordering::SeqCst);
    }
    response
}

async fn visited(worker: Worker) -> io::Result<(Behind, Visits)> {
    let visits = Visits::default();
    let state = (worker, Arc::clone(&visits));
    let around = |router: Router| router.layer(from_fn_with_state(state, between));
    Ok((Behind::start_within(|_| (), around).await?, visits))
}

async fn explanation(browser: &Browser) -> Result<String, BrowserError> {
    let shown = "const code = document.querySelector('#code');
        return code?.checkVisibility?.() !== false && code?.offsetParent && code.textContent";
    let code = browser.wait_until(shown, PATIENCE).await?;
    Ok(code.as_str().unwrap_or_default().to_owned())
}

async fn a_first_visit_that_fails_says_why_and_does_not_loop(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    let (site, visits) = visited(Worker::Missing).await?;
    browser.goto(&site.server.url("/account")).await?;
    let code = explanation(&browser).await?;
    assert!(code.starts_with("unsupported: "), "{code}");
    assert_eq!(visits.load(Ordering::SeqCst), 1);
    let waiting = "return document.querySelector('.wait').offsetParent === null";
    assert_eq!(browser.eval(waiting, []).await?, true);

    // It was set up, and yet the page comes without a seal.
    let (site, visits) = visited(Worker::Idle).await?;
    browser.goto(&site.server.url("/account")).await?;
    let code = explanation(&browser).await?;
    assert!(code.starts_with("seal_required: "), "{code}");
    assert_eq!(visits.load(Ordering::SeqCst), 2);
    assert!(site.seen.all().is_empty());

    // Whoever wants it tried again has it tried again, once.
    browser
        .eval("document.querySelector('#again').click()", [])
        .await?;
    // The page that is there says the same until it is gone.
    let has_come = async {
        while visits.load(Ordering::SeqCst) < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, has_come).await?;
    let code = explanation(&browser).await?;
    assert!(code.starts_with("seal_required: "), "{code}");
    assert_eq!(visits.load(Ordering::SeqCst), 4);
    browser.quit().await?;
    Ok(())
}
