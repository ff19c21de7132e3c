//! What pages say of code that is listed in a manifest: the hash in the element that loads it (Subresource Integrity),
//! and policies beside it.

use std::sync::Arc;

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use lol_html::send::Element;
use url::Url;

use crate::config::{self, Mode, Policy};
use crate::delivery::Delivery;

/// What most applications do not keep to yet: no text as script (Trusted Types).
const TRUSTED_TYPES: HeaderValue = HeaderValue::from_static("require-trusted-types-for 'script'");

/// No script without integrity, in whichever way it comes.
const EVERY_SCRIPT: HeaderValue = HeaderValue::from_static("blocked-destinations=(script)");
const INTEGRITY_POLICY: HeaderName = HeaderName::from_static("integrity-policy");
const INTEGRITY_POLICY_REPORT_ONLY: HeaderName =
    HeaderName::from_static("integrity-policy-report-only");

/// A page that is held to a manifest.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) delivery: Arc<Delivery>,
    /// The public origin, and the page's path there.
    pub(crate) origin: String,
    pub(crate) path: String,
    pub(crate) mode: Mode,
    /// Whether the browser takes the integrity of modules that come by `import` ([`holds_modules`]).
    pub(crate) holds_modules: bool,
}

/// Whether a browser takes the integrity of what is imported from the page's import map, by what it says it is. WebKit
/// takes it from nowhere. Whoever says something else than they are gets a page that is held to more or to less: theirs
/// alone.
pub(crate) fn holds_modules(fields: &HeaderMap) -> bool {
    let name = fields.get(USER_AGENT).and_then(|name| name.to_str().ok());
    // On iOS, where all are WebKit, others call themselves CriOS and FxiOS.
    name.is_some_and(|name| name.contains("Chrome/") || name.contains("Firefox/"))
}

impl Held {
    /// Adds what the page is told in its fields. Policies add up, so its own stay what they are.
    pub(super) fn tell(&self, fields: &mut HeaderMap) {
        let config::Delivery {
            script_policy,
            integrity_policy,
            trusted_types,
            ..
        } = self.delivery.config;
        let strict = self.delivery.strict.clone();
        let csp = (CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY);
        let integrity = (INTEGRITY_POLICY, INTEGRITY_POLICY_REPORT_ONLY);
        for (policy, (enforced, reported), value, is_possible) in [
            (script_policy, csp.clone(), strict, true),
            (trusted_types, csp, TRUSTED_TYPES, true),
            (
                integrity_policy,
                integrity,
                EVERY_SCRIPT,
                self.holds_modules,
            ),
        ] {
            let is_enforced = is_possible && self.mode == Mode::Enforce;
            let name = match policy {
                Policy::Off => continue,
                Policy::Enforce if is_enforced => enforced,
                Policy::Enforce | Policy::Report => reported,
            };
            fields.append(name, value);
        }
    }

    /// Puts its hash into an element that loads something which is listed, unless there is one. Browsers do not only monitor what is
    /// held to a hash.
    pub(super) fn hold(&self, found: &mut Element<'_, '_>) {
        if self.mode == Mode::Monitor {
            return;
        }
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

    /// The path of an address in the page, if it is one of this origin (WHATWG URL, as browsers read it).
    fn path_of(&self, address: &str) -> Option<String> {
        let page = Url::parse(&format!("{}{}", self.origin, self.path)).ok()?;
        let address = page.join(address).ok()?;
        (address.origin() == page.origin()).then(|| address.path().to_owned())
    }
}

fn is_style(found: &Element<'_, '_>) -> bool {
    let kinds = found.get_attribute("rel").unwrap_or_default();
    kinds
        .split_ascii_whitespace()
        .any(|kind| kind.eq_ignore_ascii_case("stylesheet"))
}
