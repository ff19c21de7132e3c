//! Bound cookies: the application's own cookies, worth nothing to anyone else.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulla_server::{Builder, ConfigError, Cookies, EventKind, ProofKind, Ring};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::support::{AUTHORITY, Body, Client, Device, Server, app, body, concealed};

const SEE: (&str, &str) = ("POST", "/shop/see");

/// Sets the cookies that the body asks for, one on each line, and answers with those that it sees.
async fn shop<B>(request: Request<B>) -> Result<Response<Body>, Infallible>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let (parts, content) = request.into_parts();
    let content = content.collect().await.unwrap().to_bytes();
    let seen = parts.headers.get("cookie");
    let seen = seen.map_or("", |seen| seen.to_str().unwrap());
    let mut response = Response::new(body(seen.as_bytes()));
    for line in std::str::from_utf8(&content).unwrap().lines() {
        let line = line.parse().unwrap();
        response.headers_mut().append("set-cookie", line);
    }
    Ok(response)
}

struct Shop {
    server: Server,
    events: Arc<Mutex<Vec<EventKind>>>,
}

impl Shop {
    fn new(cookies: Cookies) -> Self {
        Self::with(cookies, |builder| builder)
    }

    fn with(cookies: Cookies, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&events);
        let server = Server::around(
            |builder| {
                configure(builder)
                    .unsigned("/public")
                    .cookies(cookies)
                    .on_event(move |event| listener.lock().unwrap().push(event.kind))
            },
            |bulla| app(bulla.layer().layer(service_fn(shop::<bulla_server::Body>))),
        );
        Self { server, events }
    }

    /// Sends a sealed request with these cookies on the outside. Returns what the handler saw and what
    /// the browser is told to keep.
    async fn send(
        &self,
        client: &Client,
        device: &Device,
        at: (&str, &str),
        content: &str,
        cookies: &str,
    ) -> (String, Vec<String>) {
        self.send_with(client, device, at, content, cookies, &[])
            .await
    }

    async fn send_with(
        &self,
        client: &Client,
        device: &Device,
        at: (&str, &str),
        content: &str,
        cookies: &str,
        extra: &[(&str, &str)],
    ) -> (String, Vec<String>) {
        let sealed = client.sealed_with(device, ProofKind::Device, at, content.as_bytes(), extra);
        let mut request = concealed(&sealed.bytes);
        if !cookies.is_empty() {
            request
                .headers_mut()
                .insert("cookie", cookies.parse().unwrap());
        }
        let response = self.server.send(request).await;
        let (status, fields, seen) = client.open_reply(&response, &sealed.nonce);
        assert_eq!(status, 200);
        assert!(fields.iter().all(|(name, _)| name != "set-cookie"));
        (String::from_utf8(seen).unwrap(), set(response.headers()))
    }

    /// Sends a request without a proof.
    async fn send_plain(&self, content: &str, cookies: &str) -> (String, Vec<String>) {
        let request = Request::post("/public/see")
            .header("host", AUTHORITY)
            .header("cookie", cookies)
            .body(body(content.as_bytes()))
            .unwrap();
        let response = self.server.send(request).await;
        assert_eq!(response.status(), 200);
        let seen = String::from_utf8(response.body().to_vec()).unwrap();
        (seen, set(response.headers()))
    }

    /// What was refused or dropped.
    fn events(&self) -> Vec<EventKind> {
        let mut events = std::mem::take(&mut *self.events.lock().unwrap());
        events.retain(|event| *event != EventKind::Opened);
        events
    }
}

fn set(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all("set-cookie").iter();
    lines
        .map(|line| line.to_str().unwrap().to_owned())
        .collect()
}

/// The pair that a browser sends back.
fn pair(line: &str) -> &str {
    line.split("; ").next().unwrap()
}

fn http_only() -> Cookies {
    Cookies::HttpOnly {
        readable: vec!["theme".into()],
    }
}

#[tokio::test]
async fn a_bound_cookie_comes_back_to_its_device_and_path() {
    let shop = Shop::new(http_only());
    let device = Device::new();
    let client = device.open(&shop.server, None).await.unwrap();
    let line = "sid=secret; HttpOnly; Path=/shop; SameSite=Strict; Domain=example.com";
    let (_, lines) = shop.send(&client, &device, SEE, line, "").await;
    let [bound] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert!(
        !bound.contains("secret") && !bound.contains("omain"),
        "{bound}"
    );
    let attributes: Vec<_> = bound.split("; ").skip(1).collect();
    for wanted in ["HttpOnly", "Secure", "Path=/", "SameSite=Strict"] {
        assert!(attributes.contains(&wanted), "{bound}");
    }
    let cookie = pair(bound);
    let see = async |path| {
        shop.send(&client, &device, ("POST", path), "", cookie)
            .await
            .0
    };
    assert_eq!(see("/shop").await, "sid=secret");
    assert_eq!(see("/shop/see?q=1").await, "sid=secret");
    assert_eq!(see("/shopping").await, "");
    assert_eq!(see("/").await, "");
    // It belongs to the device, not to the session, and to requests that are only signed too.
    let next = device.open(&shop.server, None).await.unwrap();
    let mut signed = next.signed(&device, ProofKind::Device, SEE, b"");
    signed
        .headers_mut()
        .insert("cookie", cookie.parse().unwrap());
    assert_eq!(shop.server.send(signed).await.body(), "sid=secret");
    // Without a path it belongs to where it was set.
    let (_, lines) = shop
        .send(&client, &device, SEE, "cart=1; HttpOnly", "")
        .await;
    let cart = async |path| {
        let cookie = pair(&lines[0]);
        shop.send(&client, &device, ("POST", path), "", cookie)
            .await
            .0
    };
    assert_eq!(cart("/shop/x").await, "cart=1");
    assert_eq!(cart("/x").await, "");
    assert_eq!(shop.events(), []);
}

#[tokio::test]
async fn a_stolen_cookie_is_dropped_from_a_thiefs_own_session() {
    for cookies in [http_only(), Cookies::Named(vec!["sid".into()])] {
        let shop_server = Shop::new(cookies.clone());
        let (victim, thief) = (Device::new(), Device::new());
        let client = victim.open(&shop_server.server, None).await.unwrap();
        let line = "sid=secret; HttpOnly";
        let (_, lines) = shop_server.send(&client, &victim, SEE, line, "").await;
        let stolen = pair(&lines[0]).to_owned();

        let own = thief.open(&shop_server.server, None).await.unwrap();
        let (seen, _) = shop_server.send(&own, &thief, SEE, "", &stolen).await;
        assert_eq!(seen, "");
        assert_eq!(shop_server.events(), [EventKind::CookieDropped]);
        // Even what is inside gets him nothing, should it leak from somewhere else.
        let (seen, _) = shop_server.send(&own, &thief, SEE, "", "sid=secret").await;
        assert_eq!(seen, "");
        let named = cookies != http_only();
        assert_eq!(shop_server.events().is_empty(), !named);
        // Nor under another name, nor covered by his own signature.
        let renamed = stolen.replace("sid=", "cart=");
        let (seen, _) = shop_server.send(&client, &victim, SEE, "", &renamed).await;
        assert_eq!(seen, "");
        let extra = [("cookie", "sid=secret")];
        let signed = own.signed_with(&thief, ProofKind::Device, SEE, b"", &extra);
        assert_eq!(shop_server.server.send(signed).await.body(), "");

        // The unprotected twin takes it from anyone.
        let request = Request::post(SEE.1).header("cookie", "sid=secret");
        let twin = service_fn(shop::<Body>).oneshot(request.body(body(b"")).unwrap());
        let seen = twin.await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(seen.to_bytes(), "sid=secret");
    }
}

/// Cookie jars decode percents, in names too; those of ASP.NET and PHP read yet others as one.
#[tokio::test]
async fn a_bound_name_has_no_other_spelling() {
    let names = vec!["sid".into(), "a_session".into()];
    let shop = Shop::new(Cookies::Named(names));
    let thief = Device::new();
    let own = thief.open(&shop.server, None).await.unwrap();
    for (spelling, seen) in [
        ("%73id=1", ""),
        ("s%69%64=1", ""),
        ("SID=1", ""),
        ("a.session=1; a session=2; a[session=3; A%2ESession=4", ""),
        ("a-session=1", "a-session=1"),
        (
            "%73i%6D=1; %7id=2; %=3; sid%=4",
            "%73i%6D=1; %7id=2; %=3; sid%=4",
        ),
    ] {
        assert_eq!(shop.send(&own, &thief, SEE, "", spelling).await.0, seen);
        assert_eq!(shop.send_plain("", spelling).await.0, seen);
    }
}

#[tokio::test]
async fn a_cookie_that_cannot_be_read_hides_no_other() {
    let shop = Shop::new(Cookies::Named(vec!["sid".into()]));
    let device = Device::new();
    let client = device.open(&shop.server, None).await.unwrap();
    let setting = "sid=secret; HttpOnly";
    let (_, lines) = shop.send(&client, &device, SEE, setting, "").await;
    let line = [b"x=\xe9; ", pair(&lines[0]).as_bytes(), b"; y=1"].concat();
    let line = http::HeaderValue::from_bytes(&line).unwrap();

    let mut signed = client.signed(&device, ProofKind::Device, SEE, b"");
    signed.headers_mut().insert("cookie", line.clone());
    assert_eq!(shop.server.send(signed).await.body(), "sid=secret; y=1");
    let plain = Request::post("/public/see")
        .header("host", AUTHORITY)
        .header("cookie", line);
    let plain = plain.body(body(b"")).unwrap();
    assert_eq!(shop.server.send(plain).await.body(), "y=1");
}

#[tokio::test]
async fn what_is_bound_changes_while_the_verifier_runs() {
    let shop = Shop::new(Cookies::Named(vec!["sid".into()]));
    let bulla = &shop.server.bulla;
    let device = Device::new();
    let client = device.open(&shop.server, None).await.unwrap();
    let (setting, both) = ("sid=a; HttpOnly\nauth=b; HttpOnly", "sid=c; auth=d");
    let is_bound = |line: &str| pair(line).contains("=bulla.");
    let (_, lines) = shop.send(&client, &device, SEE, setting, "").await;
    assert_eq!(
        lines.iter().map(|line| is_bound(line)).collect::<Vec<_>>(),
        [true, false]
    );
    assert_eq!(shop.send(&client, &device, SEE, "", both).await.0, "auth=d");

    let named = |name: &str| Cookies::Named(vec![name.into()]);
    bulla.set_cookies(named("auth")).unwrap();
    let (_, lines) = shop.send(&client, &device, SEE, setting, "").await;
    assert_eq!(
        lines.iter().map(|line| is_bound(line)).collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!(shop.send(&client, &device, SEE, "", both).await.0, "sid=c");

    let refused = bulla.set_cookies(Cookies::Off);
    assert!(matches!(refused, Err(ConfigError::Cookies)));
    assert_eq!(shop.send(&client, &device, SEE, "", both).await.0, "sid=c");
}

#[tokio::test]
async fn cookies_are_cleared_and_expire() {
    let ring = Ring::ephemeral().with_period(Duration::from_mins(30));
    let shop = Shop::with(http_only(), |builder| builder.ring(ring));
    let device = Device::new();
    let client = device.open(&shop.server, None).await.unwrap();
    for gone in [
        "sid=; HttpOnly; Max-Age=0",
        "sid=x; HttpOnly; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        let (_, lines) = shop.send(&client, &device, SEE, gone, "").await;
        assert_eq!(pair(&lines[0]), "sid=");
        assert!(
            lines[0].contains("Max-Age=0") && lines[0].contains("Path=/"),
            "{lines:?}"
        );
    }

    let all = "a=1; HttpOnly; Max-Age=60\nb=2; HttpOnly\nc=3; HttpOnly; Max-Age=99999999";
    let (_, lines) = shop.send(&client, &device, SEE, all, "").await;
    // What the browser keeps, and for how long: no longer than a session may live.
    let ages: Vec<_> = lines
        .iter()
        .map(|line| line.split("; ").find(|part| part.starts_with("Max-Age")))
        .collect();
    assert_eq!(ages, [Some("Max-Age=60"), None, Some("Max-Age=43200")]);
    let pairs: Vec<_> = lines.iter().map(|line| pair(line)).collect();
    let cookies = pairs.join("; ");
    for (advance, seen, cleared) in [
        (0, "a=1; b=2; c=3", vec![]),
        (60, "b=2; c=3", vec!["a="]),
        // The ring has turned many times by then, and its keys are kept.
        (43_000, "b=2; c=3", vec!["a="]),
        (140, "", vec!["a=", "b=", "c="]),
    ] {
        shop.server.clock.advance(advance);
        let client = device.open(&shop.server, None).await.unwrap();
        let (found, lines) = shop.send(&client, &device, SEE, "", &cookies).await;
        assert_eq!(found, seen);
        // What will never be seen again the browser may forget.
        assert_eq!(forgotten(&lines), cleared);
    }
    assert_eq!(shop.events(), []);
}

/// Those that an answer has the browser forget, all else being left alone.
fn forgotten(lines: &[String]) -> Vec<&str> {
    let is_clearing = |line: &&String| {
        let attributes: Vec<_> = line.split("; ").skip(1).collect();
        ["HttpOnly", "Path=/", "Secure", "Max-Age=0"]
            .iter()
            .all(|wanted| attributes.contains(wanted))
    };
    assert!(lines.iter().all(|line| is_clearing(&line)), "{lines:?}");
    lines.iter().map(|line| pair(line)).collect()
}

/// As after `forget()` in the page, or on a device that has got another key.
#[tokio::test]
async fn what_an_earlier_device_key_has_left_is_seen_once() {
    let shop = Shop::new(http_only());
    let (before, after) = (Device::new(), Device::new());
    let client = before.open(&shop.server, None).await.unwrap();
    let line = "sid=secret; HttpOnly";
    let (_, lines) = shop.send(&client, &before, SEE, line, "").await;
    let left = pair(&lines[0]).to_owned();
    let client = after.open(&shop.server, None).await.unwrap();
    let (seen, lines) = shop.send(&client, &after, SEE, "", &left).await;
    assert_eq!((&*seen, forgotten(&lines)), ("", vec!["sid="]));
    assert_eq!(shop.events(), [EventKind::CookieDropped]);
    // Not for a page of another site, which brings no strict cookies.
    let foreign = [("sec-fetch-site", "cross-site")];
    let (_, lines) = shop
        .send_with(&client, &after, SEE, "", &left, &foreign)
        .await;
    assert!(lines.is_empty(), "{lines:?}");
    // Unless the application sets one of this name itself.
    let (seen, lines) = shop
        .send(&client, &after, SEE, "sid=new; HttpOnly", &left)
        .await;
    assert_eq!((&*seen, lines.len()), ("", 1));
    let (seen, lines) = shop.send(&client, &after, SEE, "", pair(&lines[0])).await;
    assert_eq!((&*seen, lines.len()), ("sid=new", 0));
    // Nor does one that a sibling domain has added clear the one that is good.
    let set = shop.send(&client, &after, SEE, "sid=good; HttpOnly", "");
    let good = pair(&set.await.1[0]).to_owned();
    for both in [format!("{good}; {left}"), format!("{left}; {good}")] {
        let (seen, lines) = shop.send(&client, &after, SEE, "", &both).await;
        assert_eq!((&*seen, lines.len()), ("sid=good", 0));
    }
}

#[tokio::test]
async fn answers_without_a_proof_leave_bound_cookies_alone() {
    for cookies in [http_only(), Cookies::Named(vec!["sid".into()])] {
        let shop = Shop::new(cookies);
        let device = Device::new();
        let client = device.open(&shop.server, None).await.unwrap();
        let (_, lines) = shop
            .send(&client, &device, SEE, "sid=secret; HttpOnly", "")
            .await;
        let sent = format!("x=1; {}; theme=dark", pair(&lines[0]));
        let setting = "sid=; Max-Age=0\nsid=fixed; HttpOnly\ntheme=light";
        let (seen, kept) = shop.send_plain(setting, &sent).await;
        assert_eq!(seen, "x=1; theme=dark");
        assert_eq!(kept, ["theme=light"]);
    }
}

#[tokio::test]
async fn what_is_not_bound_passes_as_configured() {
    let setting = "theme=dark\nsid=secret; HttpOnly\nlang=en; Path=/x; HttpOnly";
    for (cookies, out, back) in [
        (Cookies::Off, 0, ""),
        (http_only(), 3, "theme=dark; sid=secret"),
        (
            Cookies::Named(vec!["sid".into()]),
            3,
            "theme=dark; sid=secret; lang=en",
        ),
    ] {
        let shop = Shop::new(cookies.clone());
        let device = Device::new();
        let client = device.open(&shop.server, None).await.unwrap();
        let (_, lines) = shop.send(&client, &device, SEE, setting, "").await;
        assert_eq!(lines.len(), out, "{cookies:?}");
        let pairs: Vec<_> = lines.iter().map(|line| pair(line)).collect();
        let sent = if pairs.is_empty() {
            "theme=dark; sid=secret".to_owned()
        } else {
            assert_eq!(lines[0], "theme=dark; Path=/shop");
            pairs.join("; ")
        };
        let (seen, _) = shop.send(&client, &device, SEE, "", &sent).await;
        assert_eq!(seen, back, "{cookies:?}");
        assert_eq!(shop.events(), []);
    }
}

#[tokio::test]
async fn what_another_site_began_carries_no_strict_cookie() {
    let shop = Shop::new(http_only());
    let device = Device::new();
    let client = device.open(&shop.server, None).await.unwrap();
    let all = "s=1; HttpOnly; SameSite=Strict\nl=2; HttpOnly\nn=3; HttpOnly; SameSite=None";
    let (_, lines) = shop.send(&client, &device, SEE, all, "").await;
    let pairs: Vec<_> = lines.iter().map(|line| pair(line)).collect();
    let cookies = pairs.join("; ");
    for (method, site, expected) in [
        ("GET", "same-origin", "s=1; l=2; n=3"),
        ("GET", "none", "s=1; l=2; n=3"),
        ("GET", "cross-site", "l=2; n=3"),
        ("POST", "cross-site", "n=3"),
    ] {
        let at = (method, "/shop/see");
        let extra = [("sec-fetch-site", site)];
        let (seen, _) = shop
            .send_with(&client, &device, at, "", &cookies, &extra)
            .await;
        assert_eq!(seen, expected, "{method} {site}");
    }
}

/// One server may have several origins; a cookie is of one.
#[tokio::test]
async fn a_bound_cookie_is_of_one_origin() {
    let shop = Shop::with(http_only(), |builder| {
        builder.origin("https://bank.example:8443")
    });
    let device = Device::new();
    let client = device.open(&shop.server, None).await.unwrap();
    let (_, lines) = shop
        .send(&client, &device, SEE, "sid=secret; HttpOnly", "")
        .await;
    let cookie = pair(&lines[0]);
    let (seen, _) = shop.send(&client, &device, SEE, "", cookie).await;
    assert_eq!(seen, "sid=secret");

    let other = device.open_at("bank.example:8443", &shop.server).await;
    let mut request = other.signed_at("bank.example:8443", &device, SEE);
    request
        .headers_mut()
        .insert("cookie", cookie.parse().unwrap());
    assert_eq!(shop.server.send(request).await.body(), "");
    assert_eq!(shop.events(), [EventKind::CookieDropped]);
}

#[tokio::test]
async fn an_answer_without_a_proof_sets_no_bound_cookie() {
    for cookies in [http_only(), Cookies::Named(vec!["sid".into()])] {
        let shop = Shop::new(cookies);
        let setting = "sid=fixed; HttpOnly\ntheme=light";
        let (_, kept) = shop.send_plain(setting, "x=1").await;
        assert_eq!(kept, ["theme=light"]);
    }
}

/// Whoever chooses the path that a page asks for does not choose what the cookie is.
#[tokio::test]
async fn a_path_adds_no_attributes() {
    let shop = Shop::new(Cookies::Named(vec!["sid".into()]));
    let device = Device::new();
    let client = device.open(&shop.server, None).await.unwrap();
    for (path, expected) in [
        ("/shop/x/see", "theme=dark; Path=/shop/x"),
        (
            "/shop/x;Domain=bank.example;Max-Age=9/see",
            "theme=dark; Path=/shop",
        ),
    ] {
        let at = ("POST", path);
        let (_, set) = shop.send(&client, &device, at, "theme=dark", "").await;
        assert_eq!(set, [expected]);
    }
}

/// Browsers would drop it without a word.
#[tokio::test]
async fn a_cookie_that_no_browser_keeps_is_not_sent() {
    let shop = Shop::new(Cookies::HttpOnly { readable: vec![] });
    let device = Device::new();
    let client = device.open(&shop.server, None).await.unwrap();
    for (len, status) in [(2900, 200), (3000, 500)] {
        let cookie = format!("sid={}; HttpOnly", "x".repeat(len));
        let sealed = client.sealed(&device, ProofKind::Device, SEE, cookie.as_bytes());
        let response = shop.server.send(concealed(&sealed.bytes)).await;
        let (answered, ..) = client.open_reply(&response, &sealed.nonce);
        assert_eq!(answered, status);
        let lines = response.headers().get_all("set-cookie").iter();
        let pairs = lines.map(|line| line.to_str().unwrap().split(';').next().unwrap().len());
        let pairs: Vec<_> = pairs.collect();
        assert_eq!(pairs.len(), usize::from(status == 200));
        // A name, a value, and what stands between them.
        assert!(pairs.iter().all(|len| *len <= 4096 + 1));
    }
}
