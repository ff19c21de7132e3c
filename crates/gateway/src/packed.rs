//! Replies that come compressed, although they were asked for as they are (`Accept-Encoding: identity`): nothing can be
//! put into such a page, and no browser unpacks what is in a seal. They are unpacked as they pass, in memory of which
//! there is only so much.

use std::io;

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder};
use axum::body::Body;
use futures_util::StreamExt as _;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::config::Mode;
use crate::html::is_html;
use crate::rewritten;

/// What a page may come to, in bytes: a thousandth of it may have been sent.
const MOST_PAGE: usize = 64 << 20;

/// As much is unpacked at once, in bytes.
const STEP: usize = 16 << 10;

/// How something is compressed. Zstandard would take a library in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    /// What HTTP calls `deflate` is zlib's format.
    Deflate,
    Brotli,
}

/// The same as it is, if it can be unpacked. A page that cannot would have no loader, so it goes to nobody; unless this
/// is only monitored.
pub(crate) fn unpacked(
    response: Response<Body>,
    is_navigation: bool,
    mode: Mode,
) -> Response<Body> {
    let is_part = matches!(
        response.status(),
        StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
    );
    let codings = codings(response.headers());
    if codings.is_empty() || is_part || response.body().is_end_stream() {
        return response;
    }
    let is_page = is_navigation && is_html(response.headers());
    let known = match &*codings {
        [one] => Coding::named(one),
        // Nobody does that.
        _ => None,
    };
    let Some(coding) = known else {
        let codings = codings.join(", ");
        return match mode {
            Mode::Enforce if is_page => held_back(&codings),
            _ => response,
        };
    };
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_ENCODING);
    rewritten::take_off(&mut parts.headers);
    let body = coding.unpack(body);
    let body = if is_page {
        Body::new(Limited::new(body, MOST_PAGE).map_err(broken_off))
    } else {
        body
    };
    Response::from_parts(parts, body)
}

impl Coding {
    fn named(name: &str) -> Option<Self> {
        match name {
            // RFC 9110 section 8.4.1.3.
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            _ => None,
        }
    }

    fn unpack(self, body: Body) -> Body {
        let parts = body.into_data_stream();
        let packed = StreamReader::new(parts.map(|part| part.map_err(io::Error::other)));
        match self {
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(packed);
                // RFC 1952 section 2.2.
                decoder.multiple_members(true);
                read(decoder)
            }
            Self::Deflate => read(ZlibDecoder::new(packed)),
            Self::Brotli => read(BrotliDecoder::new(packed)),
        }
    }
}

fn read(decoder: impl AsyncRead + Send + 'static) -> Body {
    Body::from_stream(ReaderStream::with_capacity(decoder, STEP))
}

/// What has been done to it, in the order in which it was (RFC 9110 section 8.4).
fn codings(fields: &HeaderMap) -> Vec<String> {
    let lines = fields.get_all(CONTENT_ENCODING).iter();
    let lines = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase());
    let lines: Vec<_> = lines.collect();
    let all = lines.iter().flat_map(|line| line.split(','));
    let all = all.map(str::trim);
    all.filter(|name| !matches!(*name, "" | "identity"))
        .map(str::to_owned)
        .collect()
}

fn broken_off(error: Box<dyn std::error::Error + Send + Sync>) -> axum::Error {
    tracing::error!(%error, most = MOST_PAGE, "a page that came compressed was broken off");
    axum::Error::new(error)
}

/// Problem Details (RFC 9457).
fn held_back(codings: &str) -> Response<Body> {
    tracing::error!(
        codings,
        "a page came compressed, in a way that is not known and was not asked for: it could have no loader"
    );
    let problem = r#"{"title":"Bad Gateway","status":502,"code":"page_compressed"}"#;
    let mut response = Response::new(Body::from(problem));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    let json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests;
