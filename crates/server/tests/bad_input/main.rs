//! Bad input at every endpoint: always an answer with a code, in bounded memory, and no handler runs.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic

mod costly;
mod endless;
mod garbage;
mod mutated;
mod mutation;
#[path = "../session/support.rs"]
#[allow(dead_code, reason = "the tests beside these need all of it")]
mod support;
mod world;

/// Counts what is allocated. One for the whole program, so tests take turns; see [`world::World`].
#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
