//! Behind the proxies that people have, configured as `docs/operations.md` says.

use std::time::Duration;

use bulla_client::{Client, Session};
use bulla_tests::attack::{Outcome, log_in, post, transfer};
use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::proxies::{FrontProxy, Kind};
use bytes::Bytes;
use http::{HeaderName, Request};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::time::timeout;

const PAGE: &str = include_str!("../../docs/operations.md");
const PEER: HeaderName = HeaderName::from_static("x-real-ip");

/// A bank, the proxy before it, and how to reach it.
struct Site {
    bank: Bank,
    origin: String,
    http: reqwest::Client,
    _proxy: FrontProxy,
}

impl Site {
    async fn open(kind: Kind) -> Outcome<Self> {
        let port = FrontProxy::port_to_come()?;
        let origin = format!("https://localhost:{port}");
        let bank = Bank::open_with(|builder| {
            builder
                .origin(&origin)
                .upstream_field(PEER)
                .network(|fields, _| fields.get(PEER)?.to_str().ok()?.parse().ok())
        })
        .await?;
        let proxy = FrontProxy::start(kind, PAGE, port, bank.server.port())?;
        let http = proxy.trusting_client()?;
        Ok(Self {
            bank,
            origin,
            http,
            _proxy: proxy,
        })
    }

    async fn session(&self, seal: bool) -> Outcome<Session> {
        let client = Client::builder(&self.origin)
            .identity(self.bank.bulla.identity())
            .seal(seal);
        Ok(client.http(self.http.clone()).build()?.open().await?)
    }
}

#[tokio::test]
async fn requests_pass_sealed_and_signed() -> Outcome {
    for kind in Kind::ALL {
        let site = Site::open(kind).await?;
        for seal in [true, false] {
            let session = site.session(seal).await?;
            log_in(&session).await?;
            assert_eq!(session.fetch(transfer(1)?).await?.status(), 200, "{kind:?}");
            let query = Request::get("/api/echo?a=%20b&c").body(Bytes::new())?;
            assert_eq!(session.fetch(query).await?.status(), 200, "{kind:?}");
        }
        assert_eq!(site.bank.ledger.transfers().len(), 2);
        let refused = site.bank.ledger.refusals();
        assert_eq!(refused, [""; 0], "{kind:?}");
    }
    Ok(())
}

/// Of bound cookies, say, which the answer to the rotation of a device key sets all at once.
#[tokio::test]
async fn heads_pass_that_are_as_large_as_browsers_make_them() -> Outcome {
    let cookie = |number| format!("c{number}=bulla.{}", "x".repeat(1200));
    let jar = (0..12).map(cookie).collect::<Vec<_>>().join("; ");
    for kind in Kind::ALL {
        let site = Site::open(kind).await?;
        let asked = site.http.get(format!("{}/twin/jar", site.origin));
        let answered = asked.header("cookie", &jar).send().await?;
        assert_eq!(answered.status(), 204, "{kind:?}");
        let lines = answered.headers().get_all("set-cookie").iter();
        assert_eq!(lines.count(), 12, "{kind:?}");
    }
    Ok(())
}

/// Each event is there when it was sent, not when the stream is over.
#[tokio::test]
async fn streams_pass_as_they_come() -> Outcome {
    for kind in Kind::ALL {
        let site = Site::open(kind).await?;
        let session = site.session(true).await?;
        // It never ends by itself.
        let ticks = Request::get("/api/ticks/1000000/20").body(Bytes::new())?;
        let mut reply = session.fetch(ticks).await?.into_body();
        for _ in 0..3 {
            let frame = timeout(PATIENCE, reply.frame())
                .await?
                .ok_or("it ended")??;
            assert!(
                frame
                    .data_ref()
                    .is_some_and(|data| data.starts_with(b"data: "))
            );
        }
        drop(reply);
        // And that nobody reads on reaches the server.
        site.bank.ledger.until_open_streams(0).await?;
    }
    Ok(())
}

/// Whatever the client states, before the proxy or inside the seal.
#[tokio::test]
async fn the_clients_address_is_what_the_proxy_says() -> Outcome {
    for kind in Kind::ALL {
        let site = Site::open(kind).await?;
        let mut events = site.bank.bulla.events();
        let forged = site
            .http
            .post(format!("{}/api/transfer", site.origin))
            .header("x-real-ip", "203.0.113.9");
        assert_eq!(forged.send().await?.status(), 401);
        let event = timeout(Duration::from_secs(10), events.next()).await?;
        let event = event.ok_or("no event")??;
        let names = site.bank.bulla.pseudonyms();
        let real = names.network(std::net::IpAddr::from([127, 0, 0, 1]).into());
        assert_eq!(event.network, Some(real), "{kind:?}");

        // No client of ours says such a thing; the server refuses it from others.
        let session = site.session(true).await?;
        let mut inside = post("/api/echo", &json!({}))?;
        inside.headers_mut().insert(PEER, "203.0.113.9".parse()?);
        let refused = session.fetch(inside).await.err().ok_or("it passed")?;
        assert_eq!(refused.code.as_str(), "request_invalid", "{kind:?}");
    }
    Ok(())
}
