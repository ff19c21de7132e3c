//! For whoever audits.

use super::{Authorised, Script};
use crate::listed::{csv, day};

/// As a table (CSV, RFC 4180): which scripts, since when, and by what they are authorised. Days are of UTC.
pub fn table(scripts: &[Script], authorised: Authorised<'_>) -> String {
    let head = [
        "script",
        "hash",
        "first page",
        "first seen",
        "last seen",
        "authorised",
        "justification",
    ];
    let rows = scripts.iter().map(|script| {
        let (is_authorised, justification) = match authorised.grant(script) {
            None => ("no", String::new()),
            Some(grant) => ("yes", grant.to_string()),
        };
        [
            script.url.clone(),
            script.hash.clone(),
            script.page.clone(),
            day(script.first_seen),
            day(script.last_seen),
            is_authorised.to_owned(),
            justification,
        ]
    });
    csv(head, rows)
}

#[cfg(test)]
mod tests {
    use super::super::INLINE;
    use super::super::script::tests::script;
    use super::*;
    use crate::config::ScriptRule;

    #[test]
    fn a_table_says_what_is_authorised_and_why() {
        let rules = [ScriptRule {
            url: Some("/a.js".to_owned()),
            hash: None,
            justification: "counts, \"always\"".to_owned(),
        }];
        let authorised = Authorised {
            rules: &rules,
            manifest: None,
        };
        let scripts = [
            script("/a.js", "sha256-a", "/"),
            Script {
                first_seen: 1_764_288_000,
                last_seen: 1_764_374_400,
                ..script(INLINE, "", "/pay")
            },
        ];
        let expected = "script,hash,first page,first seen,last seen,authorised,justification\r\n\
            /a.js,sha256-a,/,1970-01-01,1970-01-01,yes,\"counts, \"\"always\"\"\"\r\n\
            inline,,/pay,2025-11-28,2025-11-29,no,\r\n";
        assert_eq!(table(&scripts, authorised), expected);
    }
}
