//! For whoever audits.

use super::{PageFields, grant};
use crate::config::FieldsRule;
use crate::listed::{csv, day};

/// As a table (CSV, RFC 4180): which fields pages had, since when, and by what they are authorised. Days are of UTC.
pub fn table(all: &[PageFields], rules: &[FieldsRule]) -> String {
    let head = [
        "page",
        "fields",
        "hash",
        "first seen",
        "last seen",
        "authorised",
        "justification",
    ];
    let rows = all.iter().map(|one| {
        let rule = grant(rules, &one.page, &one.hash);
        [
            one.page.clone(),
            one.fields.clone(),
            one.hash.clone(),
            day(one.first_seen),
            day(one.last_seen),
            if rule.is_some() { "yes" } else { "no" }.to_owned(),
            rule.map_or_else(String::new, |rule| rule.justification.clone()),
        ]
    });
    csv(head, rows)
}
