//! Who may ask, and from which pages.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::Form;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use cookie::Cookie;
use http::header::{COOKIE, HOST, LOCATION, ORIGIN, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::logins::{LIFE, NoLogin};
use super::{Operator, actions, page};

/// Cookies know no ports: so this name is taken off what goes to the application.
const NAME: &str = "bulla_operator";

/// What the login of whoever asks is called.
#[derive(Clone)]
pub(super) struct By(pub(super) String);

#[derive(Deserialize)]
pub(super) struct Shown {
    token: Zeroizing<String>,
}

/// Lets nothing be changed but by the operator's own pages (Fetch Metadata; Origin, RFC 6454 section 7), and sets what all
/// answers have in common.
pub(super) async fn own_pages_only(request: Request, next: Next) -> Response {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_safe && !is_own_page(request.headers(), request.uri()) {
        return page::guarded(actions::problem(StatusCode::FORBIDDEN, "foreign_page"));
    }
    page::guarded(next.run(request).await)
}

/// Lets in who has logged in.
pub(super) async fn logged_in(
    State(operator): State<Operator>,
    mut request: Request,
    next: Next,
) -> Response {
    let now = operator.0.gateway.desk().passed();
    let name = secrets(request.headers()).find_map(|it| operator.0.logins.name(&it, now));
    if let Some(name) = name {
        request.extensions_mut().insert(By(name));
        return next.run(request).await;
    }
    if request.uri().path().starts_with("/api/") {
        return actions::problem(StatusCode::UNAUTHORIZED, "login_required");
    }
    Redirect::to("/login").into_response()
}

pub(super) async fn log_in(
    State(operator): State<Operator>,
    peer: Option<axum::Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    Form(Shown { token }): Form<Shown>,
) -> Response {
    let from = peer.map(|axum::Extension(ConnectInfo(peer))| peer.ip());
    let from = from.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let now = operator.0.gateway.desk().passed();
    match operator.0.logins.log_in(&token, from, now) {
        Ok(secret) => {
            let name = operator.0.logins.name(&secret, now).unwrap_or_default();
            operator.did(
                &name,
                "login",
                format!("an operator has logged in from {from}"),
            );
            see("/", Some(&cookie(&secret, is_https(&headers))))
        }
        Err(NoLogin::Wrong) => {
            tracing::warn!(target: "bulla_gateway::operator", %from, "a login of an operator has failed");
            page::not_logged_in(StatusCode::FORBIDDEN, "This is not the token.")
        }
        Err(NoLogin::TooOften) => {
            let said =
                "There were too many tries from your network. Wait a minute, then try again.";
            let mut response = page::not_logged_in(StatusCode::TOO_MANY_REQUESTS, said);
            let fields = response.headers_mut();
            fields.insert(RETRY_AFTER, HeaderValue::from_static("60"));
            response
        }
        Err(NoLogin::Broken) => page::not_logged_in(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The system has no random bytes to give.",
        ),
    }
}

pub(super) async fn log_out(
    State(operator): State<Operator>,
    axum::Extension(By(name)): axum::Extension<By>,
) -> Response {
    let now = operator.0.gateway.desk().passed();
    operator.0.logins.log_out(&name, now);
    operator.did(&name, "logout", "an operator has logged out".to_owned());
    see("/login", Some(&format!("{NAME}=; Path=/; Max-Age=0")))
}

/// Takes the operator's cookie off a request that is not for his page.
pub(crate) fn take_off_cookie(fields: &mut HeaderMap) {
    let has_it = |line: &HeaderValue| {
        let name = NAME.as_bytes();
        line.as_bytes().windows(name.len()).any(|part| part == name)
    };
    if !fields.get_all(COOKIE).iter().any(has_it) {
        return;
    }
    let lines: Vec<_> = fields.get_all(COOKIE).iter().cloned().collect();
    fields.remove(COOKIE);
    for line in lines {
        let pairs = line.as_bytes().split(|&byte| byte == b';');
        let others = pairs.map(<[u8]>::trim_ascii).filter(|pair| {
            let name = pair.split(|&byte| byte == b'=').next();
            name.is_some_and(|name| name.trim_ascii() != NAME.as_bytes())
        });
        let others = others.collect::<Vec<_>>().join(&b"; "[..]);
        if let Ok(line) = HeaderValue::from_bytes(&others)
            && !others.is_empty()
        {
            fields.append(COOKIE, line);
        }
    }
}

fn secrets(headers: &HeaderMap) -> impl Iterator<Item = Zeroizing<String>> {
    let lines = headers.get_all(COOKIE).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let cookies = lines.flat_map(Cookie::split_parse).flatten();
    let ours = cookies.filter(|cookie| cookie.name() == NAME);
    ours.map(|cookie| Zeroizing::new(cookie.value().to_owned()))
}

fn cookie(secret: &str, is_https: bool) -> Zeroizing<String> {
    let secure = if is_https { "; Secure" } else { "" };
    let life = LIFE.as_secs();
    let cookie =
        format!("{NAME}={secret}; Path=/; Max-Age={life}; HttpOnly; SameSite=Strict{secure}");
    Zeroizing::new(cookie)
}

fn see(path: &'static str, cookie: Option<&str>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let fields = response.headers_mut();
    fields.insert(LOCATION, HeaderValue::from_static(path));
    if let Some(Ok(mut cookie)) = cookie.map(HeaderValue::from_str) {
        cookie.set_sensitive(true);
        fields.insert(SET_COOKIE, cookie);
    }
    response
}

fn is_own_page(headers: &HeaderMap, uri: &Uri) -> bool {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = field("sec-fetch-site") {
        return site == "same-origin";
    }
    let host = uri.authority().map(http::uri::Authority::as_str);
    let host = host.or(field(HOST.as_str()));
    let origin = field(ORIGIN.as_str()).and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, authority)| host == Some(authority))
}

fn is_https(headers: &HeaderMap) -> bool {
    let origin = headers.get(ORIGIN);
    origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|&(name, value)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        fields.collect()
    }

    #[test]
    fn only_its_own_pages_change_anything() {
        for (is_own, said) in [
            (false, &[][..]),
            (true, &[("sec-fetch-site", "same-origin")]),
            // A page at another port of the same host.
            (
                false,
                &[("sec-fetch-site", "same-site"), ("origin", "http://a:9090")],
            ),
            (false, &[("sec-fetch-site", "cross-site")]),
            (false, &[("sec-fetch-site", "none")]),
            (true, &[("origin", "http://a:9090")]),
            (false, &[("origin", "http://a:8080")]),
            (false, &[("origin", "http://b:9090")]),
            (false, &[("origin", "null")]),
        ] {
            let mut fields = fields(said);
            fields.insert(HOST, HeaderValue::from_static("a:9090"));
            let uri = Uri::from_static("/api/stop");
            assert_eq!(is_own_page(&fields, &uri), is_own, "{said:?}");
        }
    }

    #[test]
    fn the_application_does_not_see_the_cookie() {
        for (came, left) in [
            (&["a=1; bulla_operator=x; b=2"][..], &["a=1; b=2"][..]),
            (&["bulla_operator=x"], &[]),
            (&["a=1", "bulla_operator=x; b"], &["a=1", "b"]),
            (&["bulla_operator2=x"], &["bulla_operator2=x"]),
            (&["a=1;b=2"], &["a=1;b=2"]),
        ] {
            let mut fields: HeaderMap = came
                .iter()
                .map(|line| (COOKIE, HeaderValue::from_static(line)))
                .collect();
            take_off_cookie(&mut fields);
            let found: Vec<_> = fields.get_all(COOKIE).iter().collect();
            assert_eq!(found, left, "{came:?}");
        }
    }
}
