//! Every example of the documentation, compiled; those that can are run.
//!
//! The programs beside this are whole servers: [`axum`](https://docs.rs/axum) and plain
//! [`tower`](https://docs.rs/tower).
#![forbid(unsafe_code)]

/// The snippets of a page, as documentation tests.
macro_rules! page {
    ($name:ident, $path:literal) => {
        #[cfg(doctest)]
        #[doc = include_str!($path)]
        mod $name {}
    };
}

page!(readme, "../../README.md");
page!(server, "../../docs/server.md");
page!(operations, "../../docs/operations.md");
page!(native, "../../docs/native.md");
page!(dpop, "../../docs/dpop.md");
page!(service_worker, "../../docs/service-worker.md");
