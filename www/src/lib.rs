//! The demo: a small bank behind Bulla, the same bank without it, and a thief who tries both.
//!
//! | part | module |
//! | --- | --- |
//! | accounts, customers and their passwords | `bank` |
//! | the counter: the same handlers for both banks | `counter` |
//! | who is at the counter: by a sealed session, or by a bearer token | `protected`, `twin` |
//! | the back office: a clerk ends other people's sessions | `office` |
//! | whoever sits on the way: records, withholds, changes and swaps messages | `tap` |
//! | the thief: a native client with a device key of his own, and his attacks | `thief`, `attack` |
//! | which rules there are, and what they do | `rules` |
//! | what the server reports, as it happens, and what it counts | `feed`, `meter` |
//! | the pages and the npm package, embedded | `assets` |
//! | the thief of an application of somebody else's, behind the gateway and without it | `panel` |
//!
//! The thief's console and the feed are not behind Bulla: they belong to the demo, not to the bank.
#![forbid(unsafe_code)]
#![allow(clippy::inconsistent_digit_grouping)] // amounts are in cents

mod assets;
mod attack;
mod bank;
mod clock;
mod counter;
mod demo;
mod feed;
mod message;
mod meter;
mod office;
mod panel;
mod protected;
mod rules;
mod tap;
mod thief;
mod twin;

pub use crate::clock::MovableClock;
pub use crate::demo::{Demo, DemoError};
pub use crate::panel::Admin;
