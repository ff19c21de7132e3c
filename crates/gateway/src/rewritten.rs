//! What a reply whose content was changed may say of it no more.

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName};

/// What tells of the bytes that the application sent: how many they are, which, and which parts may be asked for. The
/// validators, too: what a browser keeps and asks for again by them would stay as it was.
pub(crate) const OF_THE_BYTES: [HeaderName; 8] = [
    CONTENT_LENGTH,
    ETAG,
    LAST_MODIFIED,
    ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// Takes it off.
pub(crate) fn take_off(fields: &mut HeaderMap) {
    for name in OF_THE_BYTES {
        fields.remove(name);
    }
}
