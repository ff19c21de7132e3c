//! Policies that stand in the page itself: `<meta http-equiv="content-security-policy">`.
//!
//! Only such an element is written anew, if its policy lacks anything; white space between its attributes becomes one
//! space, the values of the others stay.

use lol_html::send::Element;

use crate::policy::{self, Edit, Needs};

/// Adds to a policy what it lacks, if this is one.
pub(super) fn merge(found: &mut Element<'_, '_>, needs: &Needs) {
    let is_policy = |kind: String| kind.eq_ignore_ascii_case("content-security-policy");
    if !found.get_attribute("http-equiv").is_some_and(is_policy) {
        return;
    }
    let Some(written) = found.get_attribute("content") else {
        return;
    };
    let (policy, places) = read(&written);
    let place = |at: usize| places.get(at).copied().unwrap_or(written.len());
    let edits = policy::edits(policy.as_bytes(), needs)
        .into_iter()
        .map(|Edit { at, text }| Edit {
            at: place(at.start)..place(at.end),
            text,
        });
    let edits: Vec<_> = edits.collect();
    if edits.is_empty() {
        return;
    }
    let merged = policy::applied(written.as_bytes(), &edits);
    // What is put in is ASCII, between characters; and `content` is the name of an attribute.
    if let Ok(merged) = String::from_utf8(merged) {
        let _ = found.set_attribute("content", &merged);
    }
}

/// The value that is meant, and for each byte of it where it stands in what is written. Of the character references
/// those are known that templates write for quotes, and numbers.
fn read(written: &str) -> (String, Vec<usize>) {
    let (mut value, mut places) = (String::new(), Vec::new());
    let mut rest = written;
    while let Some(first) = rest.chars().next() {
        let (read, len) = reference(rest).unwrap_or((first, first.len_utf8()));
        let at = written.len() - rest.len();
        value.push(read);
        places.resize(value.len(), at);
        rest = rest.get(len..).unwrap_or_default();
    }
    (value, places)
}

/// The character that a text begins with a reference to, and the reference's length.
fn reference(text: &str) -> Option<(char, usize)> {
    let (name, _) = text.strip_prefix('&')?.split_once(';')?;
    let read = match name {
        "amp" => '&',
        "apos" => '\'',
        "quot" => '"',
        "lt" => '<',
        "gt" => '>',
        _ => {
            let number = name.strip_prefix('#')?;
            let hex = number.strip_prefix(['x', 'X']);
            let number = match hex {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(number.ok()?)?
        }
    };
    Some((read, name.len() + 2))
}
