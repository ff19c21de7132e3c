//! What is put into pages: the loader, as the first script, and what their policies lack for it.
//!
//! Nothing else of a page changes, but that code which is listed in a manifest gets its hash, if there is one. Without it
//! only the head is read; from the first element on that ends it, the rest passes as it comes. What is read and what is put in is ASCII, and the encodings of pages that browsers know share that, so
//! the bytes are taken one by one, whatever they mean; pages in the few others (UTF-16, ISO-2022-JP) pass untouched.
//! So does `application/xhtml+xml`: it is XML, which this is no parser of, and one wrong byte ends such a page.
//!
//! A page in which the place for the loader cannot be found ends in an error, never in silence.

mod held;
mod meta;
mod page;

use std::sync::Arc;

use axum::body::Body;
use encoding_rs::Encoding;
use http::header::{
    CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;

pub(crate) use crate::html::held::{Held, holds_modules};
use crate::html::page::{Added, Page};
use crate::media;
use crate::policy::{self, Needs};
use crate::rewritten;

/// What the gateway puts into pages.
pub(crate) struct Loader {
    /// The path of its script.
    pub(crate) script: String,
    /// What the script is held to.
    pub(crate) integrity: String,
    /// The path of the service worker's script.
    pub(crate) worker: String,
    /// The public origin.
    pub(crate) origin: String,
    /// Whether it watches the page.
    pub(crate) watch: bool,
}

impl Loader {
    /// Its element.
    fn element(&self) -> String {
        let Self {
            script,
            integrity,
            worker,
            watch,
            ..
        } = self;
        let watched = if *watch { " data-watched" } else { "" };
        format!(
            r#"<script src="{script}" integrity="{integrity}" crossorigin data-worker="{worker}"{watched}></script>"#
        )
    }
}

/// Puts the loader into a page, and what it needs into the page's policies. All else that an application answers passes
/// untouched, and so do pages that are parts, compressed, or in a sandbox where no loader could work.
pub(crate) fn rewrite(
    response: Response<Body>,
    loader: &Arc<Loader>,
    held: Option<Held>,
) -> Response<Body> {
    if !is_page(&response) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    rewritten::take_off(&mut parts.headers);
    let needs = Arc::new(Needs::of(loader));
    for name in [CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY] {
        let fields = parts.headers.entry(name);
        if let http::header::Entry::Occupied(mut fields) = fields {
            fields.iter_mut().for_each(|field| merge(field, &needs));
        }
    }
    if let Some(held) = &held {
        held.tell(&mut parts.headers);
    }
    let element = loader.element();
    let added = Added {
        element,
        needs,
        held,
    };
    let page = Page::new(body, added);
    Response::from_parts(parts, Body::new(page))
}

fn merge(field: &mut HeaderValue, needs: &Needs) {
    let merged = policy::merged(field.as_bytes(), needs);
    if let Some(merged) = merged.and_then(|merged| HeaderValue::from_bytes(&merged).ok()) {
        *field = merged;
    }
}

/// Whether a loader can be put into what an application answers.
fn is_page(response: &Response<Body>) -> bool {
    let fields = response.headers();
    if matches!(
        response.status(),
        StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
    ) || response.body().is_end_stream()
        || !is_html(fields)
        || is_sandboxed(fields)
    {
        return false;
    }
    if let Some(coding) = fields.get(CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        tracing::warn!(
            ?coding,
            "a page came compressed, which was not asked for: it has no loader"
        );
        return false;
    }
    true
}

/// Whether it is HTML in an encoding that shares its first half with ASCII.
pub(crate) fn is_html(fields: &HeaderMap) -> bool {
    if !media::is(fields, "text/html") {
        return false;
    }
    let encoding = media::parameters(fields).find_map(charset);
    let encoding = encoding.and_then(Encoding::for_label);
    if let Some(encoding) = encoding.filter(|encoding| !encoding.is_ascii_compatible()) {
        tracing::warn!(
            encoding = encoding.name(),
            "a page is in an encoding that nothing is put into: it has no loader"
        );
        return false;
    }
    true
}

/// The label in a `charset` parameter.
fn charset(parameter: &[u8]) -> Option<&[u8]> {
    let (name, value) = parameter.split_at_checked(b"charset=".len())?;
    let quoted = value.strip_prefix(b"\"");
    let inner = quoted.map(|value| value.strip_suffix(b"\"").unwrap_or(value));
    name.eq_ignore_ascii_case(b"charset=")
        .then_some(inner.unwrap_or(value))
}

fn is_sandboxed(fields: &HeaderMap) -> bool {
    let mut policies = fields.get_all(CONTENT_SECURITY_POLICY).iter();
    policies.any(|field| policy::is_sandboxed(field.as_bytes()))
}

#[cfg(test)]
mod tests;
