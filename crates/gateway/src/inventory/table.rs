//! For whoever audits.

use cookie::time::OffsetDateTime;

use super::{Authorised, Script};

/// As a table for whoever audits (CSV, RFC 4180): which scripts, since when, and by what they are authorised. Days are of UTC.
pub fn table(scripts: &[Script], authorised: Authorised<'_>) -> String {
    let mut table = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    // Nothing is wrong with memory.
    let _ = table.write_record([
        "script",
        "hash",
        "first page",
        "first seen",
        "last seen",
        "authorised",
        "justification",
    ]);
    for script in scripts {
        let (is_authorised, justification) = match authorised.grant(script) {
            None => ("no", String::new()),
            Some(grant) => ("yes", grant.to_string()),
        };
        let _ = table.write_record([
            &script.url,
            &script.hash,
            &script.page,
            &day(script.first_seen),
            &day(script.last_seen),
            is_authorised,
            &justification,
        ]);
    }
    let bytes = table.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Of seconds since 1970, as RFC 3339 writes it.
pub(crate) fn day(time: u64) -> String {
    let time = i64::try_from(time).ok();
    let time = time.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    time.map(|time| time.date().to_string()).unwrap_or_default()
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
