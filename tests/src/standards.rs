//! The vectors that others' implementations of the standards are held to, by name, whoever wrote them.

/// What they read as ours do, RFC 9421.
pub const PROOFS: [&str; 5] = [
    "a device proof",
    "a session proof",
    "no content, no query",
    "every field that must be covered, and one of the application's",
    "an upload that is bound by its envelope's salt",
];
/// Likewise, RFC 8188.
pub const BODIES: [&str; 5] = [
    "a request",
    "a reply",
    "several records",
    "a stream, each piece flushed",
    "nothing",
];
/// Signatures that are right and do not cover enough: that is for ours to say.
pub const PROOFS_WITH_LESS: [&str; 2] = [
    "a field came in on the way",
    "the salt where a digest is due",
];
/// Bodies that end before their first record. They take them for nothing, and ours refuses them.
pub const BODIES_OF_NOTHING: [&str; 2] = ["cut in its header", "without its records"];

/// What they have to refuse, of RFC 9421.
pub const ALTERED_PROOFS: [&str; 9] = [
    "another method",
    "another authority",
    "another path",
    "another query",
    "another ticket",
    "a changed field",
    "another device",
    "another time of making",
    "a session proof under another key",
];
/// Likewise, of RFC 8188.
pub const ALTERED_BODIES: [&str; 8] = [
    "a changed salt",
    "a changed record",
    "another key",
    "without its final record",
    "cut in a record",
    "a record twice",
    "two records swapped",
    "something after the final record",
];
