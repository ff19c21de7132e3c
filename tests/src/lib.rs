//! What the whole-system tests stand on: real browsers, servers for their pages, and thieves.
//!
//! [`browser`] drives Chromium, Firefox and `WebKitGTK`; [`serve`] hands them pages, [`mod@bank`] a
//! whole protected application, [`shop`] one of the old kind, [`restart`] one that is killed and started again, [`nodes`] several that share a
//! store, [`soak`] the same under load and with faults; [`mod@redis`] is such a store, [`proxies`] stand before it, [`clock`] what they all go by, [`dpop`] a server for clients
//! of OAuth, [`gateway`] an application with the gateway before it, [`apps`] some that others have written, [`npm`] what uses the packed package, [`attack`] what thieves have. Linux only: the harness looks after its processes in `/proc`.
//!
//! ```no_run
//! use bulla_tests::browser::{Browser, Engine};
//! use bulla_tests::serve::{Server, html};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::start(axum::Router::new().route("/", html("<!doctype html>hello"))).await?;
//! let browser = Browser::launch(Engine::Firefox).await?;
//! browser.goto(&server.url("/")).await?;
//! let text = browser.eval("return document.body.textContent", []).await?;
//! assert_eq!(text, "hello");
//! browser.quit().await?;
//! # Ok(())
//! # }
//! ```

pub mod apps;
pub mod attack;
pub mod bank;
pub mod browser;
pub mod certificate;
pub mod clock;
pub mod dpop;
pub mod gateway;
pub mod members;
pub mod nodes;
pub mod npm;
pub mod proxies;
pub mod redis;
pub mod restart;
pub mod serve;
pub mod shop;
pub mod soak;
pub mod standards;
