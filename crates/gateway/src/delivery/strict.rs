//! The strict policy (CSP) that pages are told beside a manifest.

use http::HeaderValue;

use crate::config::ScriptRule;

/// What it says where nothing is authorised.
const OWN_SCRIPTS_ONLY: HeaderValue = HeaderValue::from_static(
    "script-src 'self' 'wasm-unsafe-eval'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'",
);

/// Scripts of this origin, and those that the operator has authorised, inline ones by their hash; no plug-ins, no other base,
/// no foreign frame around it.
pub(crate) fn strict_policy(scripts: &[ScriptRule]) -> HeaderValue {
    let sources = scripts
        .iter()
        .filter_map(|rule| match (&rule.url, &rule.hash) {
            // Such a path is among those of this origin.
            (Some(url), _) if url.starts_with('/') => None,
            (Some(url), _) => Some(format!(" {url}")),
            (None, Some(hash)) => Some(format!(" '{hash}'")),
            (None, None) => None,
        });
    let sources: String = sources.collect();
    let policy = format!(
        "script-src 'self' 'wasm-unsafe-eval'{sources}; object-src 'none'; base-uri 'none'; frame-ancestors 'self'"
    );
    // What stands in the rules is ASCII that a policy takes.
    HeaderValue::try_from(policy).unwrap_or(OWN_SCRIPTS_ONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorised_scripts_may_run() {
        let rule = |url: Option<&str>, hash: Option<&str>| ScriptRule {
            url: url.map(str::to_owned),
            hash: hash.map(str::to_owned),
            justification: "needed".to_owned(),
        };
        let policy = strict_policy(&[
            rule(Some("https://pay.example/v3/"), Some("sha256-a")),
            rule(Some("/own.js"), None),
            rule(None, Some("sha256-b")),
        ]);
        let sources = policy.to_str().unwrap().split(';').next();
        let expected = "script-src 'self' 'wasm-unsafe-eval' https://pay.example/v3/ 'sha256-b'";
        assert_eq!(sources, Some(expected));
        assert_eq!(strict_policy(&[]), OWN_SCRIPTS_ONLY);
    }
}
