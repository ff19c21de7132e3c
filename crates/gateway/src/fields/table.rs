//! For whoever audits.

use super::{PageFields, grant};
use crate::config::FieldsRule;
use crate::inventory::day;

/// As a table for whoever audits (CSV, RFC 4180): which fields pages had, since when, and by what they are authorised.
/// Days are of UTC.
pub fn table(all: &[PageFields], rules: &[FieldsRule]) -> String {
    let mut table = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    // Nothing is wrong with memory.
    let _ = table.write_record([
        "page",
        "fields",
        "hash",
        "first seen",
        "last seen",
        "authorised",
        "justification",
    ]);
    for one in all {
        let rule = grant(rules, &one.page, &one.hash);
        let _ = table.write_record([
            one.page.as_str(),
            &one.fields,
            &one.hash,
            &day(one.first_seen),
            &day(one.last_seen),
            if rule.is_some() { "yes" } else { "no" },
            rule.map_or("", |rule| &rule.justification),
        ]);
    }
    let bytes = table.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}
