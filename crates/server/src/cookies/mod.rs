//! Bound cookies: the application's own, sealed for one device.
//!
//! Anyone may open a session with a device of his own; a cookie that the application still believes in
//! must be bound too, or a thief signs with his key and sends the stolen cookie.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use bulla_protocol::base64;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::target::Origin;
use cookie::{Cookie, SameSite, time};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method};
use zeroize::Zeroizing;

use self::bound::{Bound, Owner};
use self::syntax::{Line, default_path, is_withheld, parse, path_matches, reads_as, take_set};
use crate::bound::head;
use crate::bulla::Bulla;
use crate::error::ConfigError;
use crate::event::{About, EventKind};
use crate::lifetimes::seconds;
use crate::ring::Purpose;
use crate::session::Facts;
use crate::subject::Subject;
use crate::vault;

mod bound;
mod syntax;

/// Which of the application's cookies are bound to the device (RFC 6265).
///
/// A bound cookie is sealed when the answer to a verified request sets it, and reaches a handler only
/// on a verified request of the same device, under the same origin. It has no domain; its path and
/// `SameSite` are kept inside, since to the browser it belongs to `/`, and there is one of each name. It
/// lives no longer than a session may, and no longer than the store remembers what has ended: what was bound to a device
/// that has been locked out since must not come back with a store that was lost.
///
/// Requests that are let through without a proof ([`Builder::unsigned`](crate::Builder::unsigned)) never
/// see bound cookies, and their answers neither set nor clear them.
///
/// Cookies that are not bound are bearer tokens like any others: whoever has copied one can send it
/// through a session of his own. Nothing should be decided by them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cookies {
    /// None; on verified requests no cookie passes in either direction. For applications that go by
    /// [`Session::subject`](crate::Session::subject).
    #[default]
    Off,
    /// All that are set `HttpOnly`. Others go out as they are, for script to read; of these only the
    /// named ones come in again. Were it otherwise, a bound cookie's name could be sent with a value that
    /// nobody has bound.
    HttpOnly {
        /// Names of cookies that are not bound and that handlers see as they come.
        readable: Vec<String>,
    },
    /// Those with these names, and with what some application reads as one of them. All others pass in both directions as they
    /// are.
    Named(Vec<String>),
}

/// What a bound value begins with.
const MARK: &str = "bulla.";

/// As many bytes of name and value together do browsers keep (RFC 6265bis section 5.6).
const MOST_LEN: usize = 4096;

/// As many cookies are cleared by one answer.
const MOST_CLEARED: usize = 8;

/// Before the application's cookies were bound.
const UNBOUND: Error = Code::FieldRefused.because("a cookie is not bound to a device");
const TOO_LARGE: Error = Code::Internal
    .because("a bound cookie is larger than browsers keep: it would be lost without a word");
const NOT_MADE: Error = Code::Internal.because("a cookie could not be sealed");

impl Cookies {
    pub(crate) fn are_on(&self) -> bool {
        *self != Self::Off
    }

    /// Whether a cookie with this name reaches a handler only if it opens.
    fn must_open(&self, name: &str) -> bool {
        match self {
            Self::Off => true,
            Self::HttpOnly { readable } => !readable.iter().any(|known| known == name),
            Self::Named(names) => names.iter().any(|known| reads_as(name, known)),
        }
    }

    /// Whether a cookie is bound when it is set.
    fn binds(&self, cookie: &Cookie<'_>) -> bool {
        let http_only = cookie.http_only() == Some(true) || !matches!(self, Self::HttpOnly { .. });
        self.are_on() && http_only && self.must_open(cookie.name())
    }
}

/// At which device a cookie is bound.
#[derive(Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) device: &'a Thumbprint,
}

impl Bulla {
    /// What is bound now.
    pub(crate) fn cookies(&self) -> Arc<Cookies> {
        let cookies = self.0.cookies.read();
        Arc::clone(&cookies.unwrap_or_else(PoisonError::into_inner))
    }

    /// Binds other cookies from now on. A cookie that was set before it was to be bound reaches handlers no more, and one that is to be
    /// bound no more does neither: to users it is a logout.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Cookies`] if cookies were [off](Cookies::Off) and are not to be, or the other way round: how long the ring
    /// keeps its keys depends on it. Then all stays as it is.
    pub fn set_cookies(&self, cookies: Cookies) -> Result<(), ConfigError> {
        let mut current = self
            .0
            .cookies
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if current.are_on() != cookies.are_on() {
            return Err(ConfigError::Cookies);
        }
        *current = Arc::new(cookies);
        Ok(())
    }

    /// The cookies that the handler of a verified request sees: those that open for this device and
    /// that belong to this path. What does not open is dropped and reported.
    ///
    /// Returns also the names of those that will never be seen again, for the browser to forget: else one that an
    /// earlier device key of the same browser has left would be reported with every request. Not where there is
    /// one of this name that opens, or could be: a sibling domain can add one of its own, and must not have the
    /// other cleared.
    pub(crate) fn cookies_in<'a>(
        &self,
        lines: impl Iterator<Item = &'a HeaderValue>,
        holder: Holder<'_>,
        (method, path): (&Method, &str),
        headers: &HeaderMap,
        about: &About,
    ) -> (Option<HeaderValue>, Vec<String>) {
        let (mut passed, mut dead, mut alive) = (Line::default(), Vec::new(), Vec::new());
        let cookies = self.cookies();
        let is_monitored = self.paths().is_monitored(path);
        let is_cross_site = headers
            .get("sec-fetch-site")
            .is_some_and(|site| site == "cross-site");
        for cookie in lines.flat_map(parse) {
            let (name, value) = cookie.name_value();
            let sealed = value.strip_prefix(MARK);
            if is_monitored && sealed.is_none() {
                if cookies.are_on() && cookies.must_open(name) {
                    self.report(EventKind::LetPass(UNBOUND), about);
                }
                passed.push(name, value);
                continue;
            }
            if !cookies.must_open(name) {
                if sealed.is_none() {
                    passed.push(name, value);
                }
                continue;
            }
            let bound = sealed.and_then(|sealed| self.unbind(name, sealed, holder.origin));
            let is_ours = bound.is_some();
            match bound.filter(|bound| bound.device == *holder.device) {
                Some(bound) if !self.is_alive(&bound) => dead.push(name.to_owned()),
                Some(bound) => {
                    alive.push(name.to_owned());
                    let is_due = path_matches(path, &bound.path)
                        && !(is_cross_site && is_withheld(bound.same_site, method));
                    if is_due {
                        passed.push(name, &bound.value);
                    }
                }
                // One of another device: of this browser's before it got its key, or stolen.
                None if is_ours => {
                    self.report(EventKind::CookieDropped, about);
                    dead.push(name.to_owned());
                }
                // Any page has cookies that nobody bound, and other verifiers' on the same host; a name that is
                // listed, or a value that was made up, is another matter.
                None if sealed
                    .is_some_and(|sealed| self.is_forged(base64::decode(sealed).as_deref()))
                    || matches!(*cookies, Cookies::Named(_)) =>
                {
                    self.report(EventKind::CookieDropped, about);
                }
                None => {}
            }
        }
        if is_cross_site {
            // A strict one may be at home.
            dead.clear();
        }
        dead.retain(|name| !alive.contains(name));
        // Others can add as many as they like, and proxies have room for few fields.
        dead.sort_unstable();
        dead.dedup();
        dead.truncate(MOST_CLEARED);
        (passed.into_value(), dead)
    }

    /// Binds the cookies that the answer to a verified request sets, and clears the dead ones.
    pub(crate) fn cookies_out(
        &self,
        headers: &mut HeaderMap,
        origin: &Origin,
        facts: &Facts,
        path: &str,
        mut dead: Vec<String>,
    ) -> Result<(), Error> {
        let holder = Holder {
            origin,
            device: &facts.device,
        };
        let lines = take_set(headers);
        let cookies = self.cookies();
        if !cookies.are_on() && !self.paths().is_monitored(path) {
            return Ok(());
        }
        for line in &lines {
            let parsed = line.to_str().ok().and_then(|line| Cookie::parse(line).ok());
            let Some(mut cookie) = parsed else {
                continue;
            };
            dead.retain(|name| name != cookie.name());
            // The browser would take the path of the envelope's endpoint for its own.
            let own_path = cookie.path().map(str::to_owned);
            let own_path = own_path.unwrap_or_else(|| default_path(path).to_owned());
            if self.binds_at(&cookies, path, &cookie) {
                cookie = self.bind(&cookie, own_path, holder, facts)?;
            } else {
                cookie.set_path(own_path);
            }
            let line = HeaderValue::from_str(&cookie.to_string()).map_err(|_| NOT_MADE)?;
            headers.append(SET_COOKIE, line);
        }
        for name in dead {
            let mut cleared = outer(name, holder);
            cleared.set_max_age(time::Duration::ZERO);
            let line = HeaderValue::from_str(&cleared.to_string()).map_err(|_| NOT_MADE)?;
            headers.append(SET_COOKIE, line);
        }
        Ok(())
    }

    /// Notices bound cookies in a request that wants a proof and has none.
    pub(crate) fn notice_bound(&self, headers: &HeaderMap, origin: &Origin, about: &About) {
        for cookie in headers.get_all(COOKIE).iter().flat_map(parse) {
            let (name, value) = cookie.name_value();
            let sealed = value.strip_prefix(MARK);
            if let Some(bound) = sealed.and_then(|sealed| self.unbind(name, sealed, origin)) {
                let about = About {
                    device: Some(bound.device),
                    ..about.clone()
                };
                self.report(EventKind::CookieUnproven, &about);
                // One tells enough, and each costs.
                return;
            }
        }
    }

    /// Takes bound cookies out of a request without a proof, and returns their names. Where the path is only
    /// monitored, those that were never bound are left.
    pub(crate) fn hide_bound(&self, headers: &mut HeaderMap, path: &str) -> Vec<String> {
        let cookies = self.cookies();
        if !cookies.are_on() {
            return Vec::new();
        }
        let is_by_name = matches!(*cookies, Cookies::Named(_)) && !self.paths().is_monitored(path);
        let (mut bound, mut others) = (Vec::new(), Line::default());
        for cookie in headers.get_all(COOKIE).iter().flat_map(parse) {
            let (name, value) = cookie.name_value();
            let is_named = is_by_name && cookies.must_open(name);
            if is_named || value.starts_with(MARK) {
                bound.push(name.to_owned());
            } else {
                others.push(name, value);
            }
        }
        // What could not be read here might be read by the handler.
        headers.remove(COOKIE);
        headers.extend(others.into_value().map(|line| (COOKIE, line)));
        bound
    }

    /// Takes out of the answer to a request without a proof what would set or clear a bound cookie.
    pub(crate) fn spare_bound(&self, bound: &[String], headers: &mut HeaderMap, path: &str) {
        let cookies = self.cookies();
        if !cookies.are_on() {
            return;
        }
        for line in take_set(headers) {
            let parsed = line.to_str().ok().and_then(|line| Cookie::parse(line).ok());
            let spares = parsed.is_some_and(|cookie| {
                !self.binds_at(&cookies, path, &cookie)
                    && !bound.iter().any(|name| name == cookie.name())
            });
            if spares {
                headers.append(SET_COOKIE, line);
            }
        }
    }

    /// Whether a cookie is bound that is set there.
    fn binds_at(&self, cookies: &Cookies, path: &str, cookie: &Cookie<'_>) -> bool {
        cookies.binds(cookie) && !self.paths().is_monitored(path)
    }

    fn bind(
        &self,
        cookie: &Cookie<'_>,
        path: String,
        holder: Holder<'_>,
        facts: &Facts,
    ) -> Result<Cookie<'static>, Error> {
        let (name, now) = (cookie.name().to_owned(), self.now());
        // From when its device was looked up, however long the handler has taken since: what has locked it out
        // meanwhile is not remembered for longer.
        let longest = facts
            .admitted
            .saturating_add(seconds(self.0.lifetimes.session));
        let cap = i64::from(longest.saturating_sub(now));
        let expires = cookie
            .expires_datetime()
            .map(time::OffsetDateTime::unix_timestamp);
        let left = match (cookie.max_age(), expires) {
            (Some(max_age), _) => Some(max_age.whole_seconds().min(cap)),
            (None, Some(expires)) => Some(expires.saturating_sub(i64::from(now)).min(cap)),
            (None, None) => None,
        };
        let within = u32::try_from(left.unwrap_or(cap).max(0)).unwrap_or(u32::MAX);
        let bound = Bound {
            device: *holder.device,
            owner: facts.owner().as_ref().map_or(Owner::NOBODY, Owner::of),
            memory: head(facts.memory),
            expires: now.saturating_add(within),
            persistent: left.is_some(),
            partitioned: cookie.partitioned() == Some(true),
            same_site: cookie.same_site().unwrap_or(SameSite::Lax),
            path,
            value: Zeroizing::new(cookie.value().to_owned()),
        };
        let mut outer = self.seal_bound(name, &bound, holder)?;
        // What the application has left to the browser is left to it.
        outer.set_same_site(cookie.same_site());
        Ok(outer)
    }

    /// The cookies of a device key, bound anew to the one that it has signed in: lines of `Set-Cookie`. Only the user's
    /// whose login that is: script in the page can log in as somebody of its own choosing, and would have the key sign in
    /// one that it can carry away. Of each name the first, which is the one that handlers have gone by.
    pub(crate) fn rebind(
        &self,
        headers: &HeaderMap,
        from: Holder<'_>,
        to: &Thumbprint,
        subject: &Subject,
    ) -> Result<Vec<HeaderValue>, Error> {
        let (owner, mut names, mut lines) = (Owner::of(subject), HashSet::new(), Vec::new());
        for cookie in headers.get_all(COOKIE).iter().flat_map(parse) {
            let (name, value) = cookie.name_value();
            let sealed = value.strip_prefix(MARK);
            let bound = sealed.and_then(|sealed| self.unbind(name, sealed, from.origin));
            let is_due = |bound: &Bound| {
                let is_of_both = bound.device == *from.device && bound.owner == owner;
                is_of_both && self.is_alive(bound)
            };
            let Some(bound) = bound.filter(is_due) else {
                continue;
            };
            if !names.insert((name.to_owned(), bound.partitioned)) {
                continue;
            }
            let bound = Bound {
                device: *to,
                ..bound
            };
            let holder = Holder { device: to, ..from };
            let cookie = self.seal_bound(name.to_owned(), &bound, holder)?;
            lines.push(HeaderValue::from_str(&cookie.to_string()).map_err(|_| NOT_MADE)?);
        }
        Ok(lines)
    }

    /// As the browser keeps it; without a value, for it to be forgotten, if its time is over.
    fn seal_bound(
        &self,
        name: String,
        bound: &Bound,
        holder: Holder<'_>,
    ) -> Result<Cookie<'static>, Error> {
        let now = self.now();
        let context = context(&name, holder.origin);
        let left = bound.expires.saturating_sub(now);
        let value = if left == 0 {
            String::new()
        } else {
            let (key, plain) = (self.ring_key(now)?, bound.encode()?);
            let sealed = vault::seal(&key, Purpose::Cookie, &context, &plain, &*self.0.random);
            format!("{MARK}{}", base64::encode(sealed.map_err(|_| NOT_MADE)?))
        };
        let mut outer = outer(name, holder);
        outer.set_same_site(bound.same_site);
        outer.set_partitioned(bound.partitioned.then_some(true));
        let max_age = time::Duration::seconds(left.into());
        outer.set_max_age(bound.persistent.then_some(max_age));
        if outer.name().len() + value.len() > MOST_LEN {
            return Err(TOO_LARGE);
        }
        outer.set_value(value);
        Ok(outer)
    }

    fn is_alive(&self, bound: &Bound) -> bool {
        self.is_good(bound.expires, bound.memory)
    }

    fn unbind(&self, name: &str, sealed: &str, origin: &Origin) -> Option<Bound> {
        let sealed = base64::decode(sealed)?;
        let context = context(name, origin);
        let plain = vault::open(&self.0.ring, Purpose::Cookie, &context, &sealed)?;
        Bound::decode(&plain)
    }
}

/// What the browser sees of a bound cookie, but for its value.
fn outer(name: String, holder: Holder<'_>) -> Cookie<'static> {
    Cookie::build((name, String::new()))
        .path("/")
        .http_only(true)
        .secure(holder.origin.scheme() == "https")
        .build()
}

/// Origins hold no NUL, so that this can be read in one way only.
fn context<'a>(name: &'a str, origin: &'a Origin) -> [&'a [u8]; 3] {
    [origin.as_str().as_bytes(), b"\0", name.as_bytes()]
}
