//! What the thief sent and what came back, for his reports.

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Serialize;

/// How much of a body is shown, in bytes.
const SHOWN: usize = 2048;

#[derive(Serialize)]
pub(crate) struct Message {
    /// The request line or the status.
    line: String,
    fields: Vec<(String, String)>,
    /// Its length in bytes.
    len: usize,
    /// Its beginning, as text or in base 16.
    text: Option<String>,
    hex: Option<String>,
}

impl Message {
    pub(crate) fn request(request: &http::Request<Bytes>) -> Self {
        let target = request.uri().path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        let line = format!("{} {target}", request.method());
        Self::new(line, request.headers(), request.body())
    }

    pub(crate) fn answer(answer: &http::Response<Bytes>) -> Self {
        Self::new(answer.status().to_string(), answer.headers(), answer.body())
    }

    fn new(line: String, headers: &HeaderMap, body: &Bytes) -> Self {
        let fields = headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let shown = body.get(..SHOWN).unwrap_or(body);
        let text = std::str::from_utf8(shown).ok().map(str::to_owned);
        let hex = text.is_none().then(|| {
            let pairs = shown.iter().map(|byte| format!("{byte:02x}"));
            pairs.collect::<String>()
        });
        Self {
            line,
            fields: fields.collect(),
            len: body.len(),
            text,
            hex,
        }
    }
}
