//! Whether a file is still the one that it was, by what the application says (RFC 9110 section 8.8).

use std::time::Duration;

use http::header::{DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What was changed less long ago may have been changed once more since it was sent, and still say the same of itself:
/// times have seconds, and many tags are made of them.
const SETTLED: Duration = Duration::from_mins(1);

/// What only the same bytes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Validator {
    Tag(HeaderValue),
    Time(HeaderValue),
}

impl Validator {
    /// Of a reply; `None` if nothing in it stands for each of its bytes.
    pub(super) fn of(fields: &HeaderMap) -> Option<Self> {
        let time = fields.get(LAST_MODIFIED);
        if time.is_some() && !is_settled(fields) {
            return None;
        }
        // A weak one is the same for what is as good.
        let strong = fields
            .get(ETAG)
            .filter(|tag| tag.as_bytes().starts_with(b"\""));
        let tag = strong.cloned().map(Self::Tag);
        tag.or_else(|| time.cloned().map(Self::Time))
    }

    /// What a request says that wants nothing but another one.
    pub(crate) fn precondition(&self) -> (HeaderName, HeaderValue) {
        match self {
            Self::Tag(tag) => (IF_NONE_MATCH, tag.clone()),
            Self::Time(time) => (IF_MODIFIED_SINCE, time.clone()),
        }
    }
}

/// Whether it was changed long enough before it was sent.
fn is_settled(fields: &HeaderMap) -> bool {
    let time = |name| {
        let value = fields.get(name)?.to_str().ok()?;
        httpdate::parse_http_date(value).ok()
    };
    let passed = time(DATE).zip(time(LAST_MODIFIED));
    let passed = passed.and_then(|(sent, changed)| sent.duration_since(changed).ok());
    passed.is_some_and(|passed| passed >= SETTLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_what_no_other_bytes_have() {
        let (changed, sent) = (
            (LAST_MODIFIED, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (DATE, "Sun, 06 Nov 1994 08:50:37 GMT"),
        );
        let tag = (ETAG, "\"a\"");
        for (fields, expected) in [
            (vec![tag.clone()], Some((IF_NONE_MATCH, "\"a\""))),
            (
                vec![tag.clone(), changed.clone(), sent.clone()],
                Some((IF_NONE_MATCH, "\"a\"")),
            ),
            (
                vec![(ETAG, "W/\"a\""), changed.clone(), sent.clone()],
                Some((IF_MODIFIED_SINCE, changed.1)),
            ),
            (vec![], None),
            (vec![(ETAG, "W/\"a\""), sent.clone()], None),
            (vec![(ETAG, "a")], None),
            // It may have been changed in the same second, or it is not known when it was.
            (vec![tag.clone(), changed.clone()], None),
            (vec![changed.clone(), (DATE, changed.1)], None),
            (vec![(LAST_MODIFIED, sent.1), (DATE, changed.1)], None),
            (vec![(LAST_MODIFIED, "yesterday"), sent], None),
        ] {
            let found: HeaderMap = fields
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
                .collect();
            let found = Validator::of(&found).map(|it| it.precondition());
            let expected = expected.map(|(name, value)| (name, HeaderValue::from_static(value)));
            assert_eq!(found, expected, "{fields:?}");
        }
    }
}
