//! What pages say of code that is listed in a manifest: the hash in the element that loads it (Subresource Integrity),
//! and a strict policy beside it.

use std::sync::Arc;

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY};
use http::{HeaderMap, HeaderName, HeaderValue};
use lol_html::send::Element;

use crate::config::Policy;
use crate::delivery::Delivery;

/// Scripts of this origin and no others, none of them inline; no plug-ins, no other base, no foreign frame around it.
const STRICT: HeaderValue = HeaderValue::from_static(
    "script-src 'self' 'wasm-unsafe-eval'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'",
);

/// What most applications do not keep to yet, and what breaks them where it is enforced: text as script (Trusted Types).
const TYPES: HeaderValue = HeaderValue::from_static("require-trusted-types-for 'script'");

/// Enforced, it refuses modules that come by `import`, whose integrity WebKit takes from nowhere.
const INTEGRITY: HeaderValue = HeaderValue::from_static("blocked-destinations=(script)");
const INTEGRITY_REPORT_ONLY: HeaderName = HeaderName::from_static("integrity-policy-report-only");

/// A page that is held to a manifest.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) delivery: Arc<Delivery>,
    /// The public origin, and the page's path there.
    pub(crate) origin: String,
    pub(crate) path: String,
}

impl Held {
    /// Adds what the page is told in its fields. Policies add up, so its own stay what they are.
    pub(super) fn tell(&self, fields: &mut HeaderMap) {
        let name = match self.delivery.policy {
            Policy::Off => return,
            Policy::Report => CONTENT_SECURITY_POLICY_REPORT_ONLY,
            Policy::Enforce => CONTENT_SECURITY_POLICY,
        };
        fields.append(name, STRICT);
        fields.append(CONTENT_SECURITY_POLICY_REPORT_ONLY, TYPES);
        fields.append(INTEGRITY_REPORT_ONLY, INTEGRITY);
    }

    /// Puts its hash into an element that loads something which is listed, unless there is one.
    pub(super) fn hold(&self, found: &mut Element<'_, '_>) {
        let address = match found.tag_name().as_str() {
            "script" => found.get_attribute("src"),
            "link" if is_style(found) => found.get_attribute("href"),
            _ => return,
        };
        let path = address.and_then(|address| self.path_of(&address));
        let hashes = &self.delivery.manifest.hashes;
        let Some(hash) = path.and_then(|path| hashes.get(&path)) else {
            return;
        };
        if found.has_attribute("integrity") {
            return;
        }
        // Neither value has a character that an attribute could not.
        let _ = found.set_attribute("integrity", &hash.integrity());
        if !found.has_attribute("crossorigin") {
            let _ = found.set_attribute("crossorigin", "anonymous");
        }
    }

    /// The path of an address in the page, if it is one of this origin.
    fn path_of(&self, address: &str) -> Option<String> {
        let address = address.trim_ascii();
        let end = address.find(['?', '#']).unwrap_or(address.len());
        let address = address.get(..end)?;
        let own = address.strip_prefix(self.origin.as_str());
        let path = match own.filter(|rest| rest.starts_with('/')) {
            Some(path) => path,
            // Another scheme or another host; or what browsers clean up first, so that it is not for us to read.
            None if address.starts_with("//")
                || address.contains([':', '\\', '\n', '\r', '\t']) =>
            {
                return None;
            }
            None => address,
        };
        if path.is_empty() {
            return None;
        }
        if path.starts_with('/') {
            return Some(without_dots(path));
        }
        let folder = self.path.rfind('/').and_then(|at| self.path.get(..=at));
        Some(without_dots(&format!("{}{path}", folder.unwrap_or("/"))))
    }
}

fn is_style(found: &Element<'_, '_>) -> bool {
    let kinds = found.get_attribute("rel").unwrap_or_default();
    kinds
        .split_ascii_whitespace()
        .any(|kind| kind.eq_ignore_ascii_case("stylesheet"))
}

/// A path without segments that are dots (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}
