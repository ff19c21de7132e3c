//! Pages that are listed. The gateway changes them, so nobody behind it can compare them with what is listed: it does
//! that itself, before it puts anything in.

use axum::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use super::{Delivery, Hash};
use crate::config::Mode;

/// How long a listed page may be, in bytes.
const MOST: usize = 8 << 20;

const CHANGED: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>This page did not come unharmed</title>
<h1>This page did not come unharmed</h1>
<p>It is not the page that its operator has signed, and so it is not shown. Please try again later.</p>
<p><code>integrity_broken</code></p>
";

impl Delivery {
    /// What the application has answered for a page at this path, if it is what is listed or nothing is; else a page that
    /// says so. Where this is only monitored, it is what has been answered all the same.
    pub(crate) async fn unharmed(
        &self,
        path: &str,
        response: Response<Body>,
        mode: Mode,
    ) -> Response<Body> {
        let Some(listed) = self.listed_page(path) else {
            return response;
        };
        let status = response.status();
        if status.is_redirection() {
            return response;
        }
        if !status.is_success() && mode == Mode::Enforce {
            // A page that says so could be any page.
            let mut bare = Response::new(Body::empty());
            *bare.status_mut() = status;
            return bare;
        }
        if !status.is_success() {
            return response;
        }
        let (parts, body) = response.into_parts();
        let content = match Limited::new(body, MOST).collect().await {
            Ok(content) => content.to_bytes(),
            Err(error) => {
                tracing::error!(target: "bulla_gateway::delivery", path, error, "a listed page did not come whole");
                return changed();
            }
        };
        let found = Hash::of(&content);
        if found != listed {
            let (found, listed) = (found.integrity(), listed.integrity());
            tracing::error!(target: "bulla_gateway::delivery", path, found, listed, "the application answers with another page than is listed");
            if mode == Mode::Enforce {
                return changed();
            }
        }
        Response::from_parts(parts, content.into())
    }

    /// What is listed for a page at this path. Servers answer the path of a folder with the index that is in it.
    fn listed_page(&self, path: &str) -> Option<Hash> {
        let hashes = &self.manifest.hashes;
        let index = |name| {
            let folder = path.ends_with('/');
            folder
                .then(|| hashes.get(&format!("{path}{name}")))
                .flatten()
        };
        let listed = hashes.get(path).or_else(|| index("index.html"));
        listed.or_else(|| index("index.htm")).copied()
    }
}

/// What is shown instead.
fn changed() -> Response<Body> {
    let mut response = Response::new(Bytes::from_static(CHANGED.as_bytes()).into());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Source};
    use crate::delivery::Manifest;

    async fn shown(path: &str, status: StatusCode, content: &str) -> (StatusCode, String) {
        shown_in(Mode::Enforce, path, status, content).await
    }

    async fn shown_in(
        mode: Mode,
        path: &str,
        status: StatusCode,
        content: &str,
    ) -> (StatusCode, String) {
        let pages = ["/a.html", "/index.html", "/old/index.htm"];
        let hashes = pages.map(|page| (page.to_owned(), Hash::of(b"clay")));
        let delivery = Delivery {
            manifest: Manifest::listing("/", hashes.into()),
            text: Bytes::new(),
            config: config::Delivery::of(Source::Signed("m".into())),
            strict: HeaderValue::from_static("script-src 'self'"),
        };
        let mut response = Response::new(Body::from(content.to_owned()));
        *response.status_mut() = status;
        let response = delivery.unharmed(path, response, mode).await;
        let status = response.status();
        let content = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(content.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_listed_page_is_the_one_that_is_listed_or_none() {
        let (ok, missing) = (StatusCode::OK, StatusCode::NOT_FOUND);
        let as_it_is = |status, content: &str| (status, content.to_owned());
        assert_eq!(shown("/a.html", ok, "clay").await, as_it_is(ok, "clay"));
        assert_eq!(shown("/b.html", ok, "sand").await, as_it_is(ok, "sand"));
        let refused = (StatusCode::BAD_GATEWAY, CHANGED.to_owned());
        assert_eq!(shown("/a.html", ok, "sand").await, refused);
        let other = StatusCode::NON_AUTHORITATIVE_INFORMATION;
        assert_eq!(shown("/a.html", other, "sand").await, refused);
        assert_eq!(shown("/a.html", ok, &"x".repeat(MOST + 1)).await, refused);
        // Nor is it by way of an error.
        assert_eq!(
            shown("/a.html", missing, "sand").await,
            as_it_is(missing, "")
        );
        let moved = StatusCode::FOUND;
        assert_eq!(shown("/a.html", moved, "to").await, as_it_is(moved, "to"));
        // Unless it is only monitored.
        for (status, content) in [(ok, "sand"), (missing, "sand"), (ok, "clay")] {
            let shown = shown_in(Mode::Monitor, "/a.html", status, content).await;
            assert_eq!(shown, as_it_is(status, content));
        }
    }

    #[tokio::test]
    async fn the_path_of_a_folder_is_that_of_its_index() {
        let ok = StatusCode::OK;
        for path in ["/", "/index.html", "/old/", "/old/index.htm"] {
            let as_it_is = (ok, "clay".to_owned());
            assert_eq!(shown(path, ok, "clay").await, as_it_is, "{path}");
            let refused = (StatusCode::BAD_GATEWAY, CHANGED.to_owned());
            assert_eq!(shown(path, ok, "sand").await, refused, "{path}");
        }
        for path in ["/new/", "/old", "/index.html/"] {
            let as_it_is = (ok, "sand".to_owned());
            assert_eq!(shown(path, ok, "sand").await, as_it_is, "{path}");
        }
    }
}
