//! What of a reply's fields protects the page.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};

use crate::delivery::Hash;

/// The fields by which browsers protect a page, or let others at it.
const NAMES: [&str; 19] = [
    "access-control-allow-credentials",
    "access-control-allow-origin",
    "content-security-policy",
    "content-security-policy-report-only",
    "cross-origin-embedder-policy",
    "cross-origin-embedder-policy-report-only",
    "cross-origin-opener-policy",
    "cross-origin-opener-policy-report-only",
    "cross-origin-resource-policy",
    "document-policy",
    "integrity-policy",
    "integrity-policy-report-only",
    "origin-agent-cluster",
    "permissions-policy",
    "referrer-policy",
    "reporting-endpoints",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
];

/// What stands for the origin of whoever asks, where an application repeats it.
const ASKING: &str = "(whoever asks)";

/// What nonces in a policy begin with, behind a quote (CSP3, section 2.3.1).
const NONCE: &str = "nonce-";

/// As long is the text that is kept, in bytes. The hash is of all.
const MOST_LEN: usize = 4096;

/// All of them that a page has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// A line for each, as `name: value`: visible ASCII and spaces.
    pub(crate) text: String,
    /// As in integrity metadata.
    pub(crate) hash: String,
}

impl Set {
    /// Of a reply; `origin` is what its request said of where it comes from. Nonces are left out: they are others each
    /// time.
    pub(crate) fn of(fields: &HeaderMap, origin: Option<&HeaderValue>) -> Self {
        let mut text = String::new();
        for name in NAMES {
            for value in fields.get_all(name) {
                let is_repeated = name.starts_with("access-control-") && Some(value) == origin;
                let value = if is_repeated {
                    ASKING.to_owned()
                } else {
                    without_nonces(&String::from_utf8_lossy(value.as_bytes()))
                };
                let _ = writeln!(text, "{name}: {}", value.trim());
            }
        }
        let hash = Hash::of(text.as_bytes()).integrity();
        let is_shown = |c: &char| c.is_ascii_graphic() || [' ', '\n'].contains(c);
        let text = text.trim_end().chars().filter(is_shown).take(MOST_LEN);
        let text = text.collect();
        Self { text, hash }
    }
}

fn without_nonces(policy: &str) -> String {
    let mut kept = String::with_capacity(policy.len());
    let mut parts = policy.split('\'');
    kept.extend(parts.next());
    for part in parts {
        kept.push('\'');
        let is_nonce = part
            .split_at_checked(NONCE.len())
            .is_some_and(|(begin, nonce)| {
                // Nothing else must hide behind one that has no end.
                begin.eq_ignore_ascii_case(NONCE) && !nonce.contains([' ', '\t', ';', ','])
            });
        kept.push_str(if is_nonce { NONCE } else { part });
    }
    kept
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn set(lines: &[(&'static str, &'static str)]) -> Set {
        let line = |&(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        let fields: HeaderMap = lines.iter().map(line).collect();
        Set::of(
            &fields,
            Some(&HeaderValue::from_static("https://a.example")),
        )
    }

    #[test]
    fn the_worker_goes_by_the_same_fields() {
        let worker = include_str!("../../page/fields.js");
        for name in NAMES {
            let is_for_others = name.starts_with("access-control-");
            let named = worker.contains(&format!("\"{name}\""));
            assert_eq!(named, !is_for_others, "{name}");
        }
    }

    #[test]
    fn what_protects_a_page_is_kept_in_one_order() {
        let fields = [
            ("x-frame-options", "DENY"),
            ("date", "today"),
            ("content-security-policy", "default-src 'self'"),
            ("content-security-policy", "img-src *"),
            ("set-cookie", "a=b"),
        ];
        let one = set(&fields);
        let text = "content-security-policy: default-src 'self'\n\
            content-security-policy: img-src *\nx-frame-options: DENY";
        assert_eq!(one.text, text);
        assert_eq!(one, set(&[fields[2], fields[3], fields[0]]));
        assert_ne!(one.hash, set(&fields[..3]).hash);
        assert_eq!(set(&[]).text, "");
    }

    #[test]
    fn what_is_another_one_each_time_is_the_same() {
        let policy = |value| set(&[("content-security-policy", value)]);
        let one = policy("script-src 'nonce-abc' 'self'; style-src 'NONCE-x'");
        assert_eq!(
            one,
            policy("script-src 'nonce-abd' 'self'; style-src 'NONCE-y'")
        );
        assert_ne!(one, policy("script-src 'self'; style-src 'nonce-x'"));
        assert_ne!(
            policy("script-src 'nonce-a https://a.example 'self'"),
            policy("script-src 'nonce-a https://b.example 'self'")
        );
        assert_ne!(one, policy("script-src 'nonce-abc' *; style-src 'nonce-x'"));
        let allowed = |value| set(&[("access-control-allow-origin", value)]);
        let asking = "access-control-allow-origin: (whoever asks)";
        assert_eq!(allowed("https://a.example").text, asking);
        assert_ne!(allowed("https://b.example").text, asking);
    }

    #[test]
    fn what_is_long_is_cut_and_still_compared() {
        let long = |end: &str| {
            let value = format!("img-src {}{end}", "a".repeat(2 * MOST_LEN));
            let fields = [("content-security-policy", value)];
            let line = |(name, value): (&'static str, String)| {
                let value = HeaderValue::try_from(value).unwrap();
                (HeaderName::from_static(name), value)
            };
            Set::of(&fields.into_iter().map(line).collect(), None)
        };
        assert_eq!(long("b").text.len(), MOST_LEN);
        assert_ne!(long("b").hash, long("c").hash);
    }
}
