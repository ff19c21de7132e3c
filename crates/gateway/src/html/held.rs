//! What pages say of code that is listed in a manifest: the hash in the element that loads it (Subresource Integrity),
//! and a strict policy beside it.

use std::sync::Arc;

use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY};
use http::{HeaderMap, HeaderName, HeaderValue};
use lol_html::send::Element;
use url::Url;

use crate::config::{Mode, Policy};
use crate::delivery::Delivery;

/// What most applications do not keep to yet, and what breaks them where it is enforced: text as script (Trusted Types).
const TRUSTED_TYPES: HeaderValue = HeaderValue::from_static("require-trusted-types-for 'script'");

/// Enforced, it refuses modules that come by `import`, whose integrity WebKit takes from nowhere.
const INTEGRITY_POLICY: HeaderValue = HeaderValue::from_static("blocked-destinations=(script)");
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
}

impl Held {
    /// Adds what the page is told in its fields. Policies add up, so its own stay what they are.
    pub(super) fn tell(&self, fields: &mut HeaderMap) {
        let name = match (self.delivery.policy, self.mode) {
            (Policy::Off, _) => return,
            (Policy::Enforce, Mode::Enforce) => CONTENT_SECURITY_POLICY,
            (Policy::Enforce | Policy::Report, _) => CONTENT_SECURITY_POLICY_REPORT_ONLY,
        };
        fields.append(name, self.delivery.strict.clone());
        fields.append(CONTENT_SECURITY_POLICY_REPORT_ONLY, TRUSTED_TYPES);
        fields.append(INTEGRITY_POLICY_REPORT_ONLY, INTEGRITY_POLICY);
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
