//! Which scripts pages may run.

use std::fmt;

use super::Script;
use crate::config::ScriptRule;
use crate::delivery::Manifest;

/// Which scripts pages may run.
#[derive(Clone, Copy, Debug)]
pub struct Authorised<'a> {
    /// Those that the operator has written down.
    pub rules: &'a [ScriptRule],
    /// Those that are listed as they were signed.
    pub manifest: Option<&'a Manifest>,
}

/// By what a script is authorised, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant<'a> {
    /// By a rule, with its justification.
    Rule(&'a str),
    /// By the manifest with this version.
    Manifest(u64),
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(why) => f.write_str(why),
            Self::Manifest(version) => write!(f, "as it was signed: manifest {version}"),
        }
    }
}

impl<'a> Authorised<'a> {
    /// What authorises a script, if anything does.
    pub fn grant(&self, script: &Script) -> Option<Grant<'a>> {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.matches(&script.url, &script.hash));
        if let Some(rule) = rule {
            return Some(Grant::Rule(&rule.justification));
        }
        let manifest = self.manifest?;
        let listed = manifest.hashes.get(&script.url)?;
        (listed.integrity() == script.hash).then_some(Grant::Manifest(manifest.version))
    }
}

#[cfg(test)]
mod tests {
    use super::super::INLINE;
    use super::super::script::tests::script;
    use super::*;

    #[test]
    fn a_script_is_authorised_by_a_rule_or_as_it_was_signed() {
        let rule = |url: Option<&str>, hash: Option<&str>, justification: &str| ScriptRule {
            url: url.map(str::to_owned),
            hash: hash.map(str::to_owned),
            justification: justification.to_owned(),
        };
        let rules = [
            rule(Some("https://pay.example/v3/"), None, "pays"),
            rule(Some("/own.js"), Some("sha256-own"), "ours"),
            rule(None, Some("sha256-theme"), "theme"),
        ];
        let manifest = Manifest::listing(
            "/static/",
            [("/static/a.js".to_owned(), crate::delivery::Hash::of(b"a"))].into(),
        );
        let authorised = Authorised {
            rules: &rules,
            manifest: Some(&manifest),
        };
        let signed = crate::delivery::Hash::of(b"a").integrity();
        for (url, hash, grant) in [
            ("https://pay.example/v3/x.js", "", Some(Grant::Rule("pays"))),
            ("https://pay.example/v3", "", None),
            ("https://pay.example.evil/v3/x.js", "", None),
            ("/own.js", "sha256-own", Some(Grant::Rule("ours"))),
            ("/own.js", "sha256-other", None),
            ("/own.js", "", None),
            ("/own.js/more", "sha256-own", None),
            (INLINE, "sha256-theme", Some(Grant::Rule("theme"))),
            (INLINE, "", None),
            ("/static/a.js", signed.as_str(), Some(Grant::Manifest(1))),
            ("/static/a.js", "sha256-changed", None),
            ("/static/b.js", signed.as_str(), None),
        ] {
            let found = authorised.grant(&script(url, hash, "/"));
            assert_eq!(found, grant, "{url} {hash}");
        }
    }
}
