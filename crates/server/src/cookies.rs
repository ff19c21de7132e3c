//! Bound cookies: the application's own, sealed for one device.
//!
//! Anyone may open a session with a device of his own; a cookie that the application still believes in
//! must be bound too, or a thief signs with his key and sends the stolen cookie.

use std::collections::HashSet;

use bulla_protocol::base64;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::field::check_value;
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::target::{Origin, is_safe};
use cookie::{Cookie, SameSite, time};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::bulla::Bulla;
use crate::event::{About, EventKind};
use crate::lifetimes::seconds;
use crate::ring::Purpose;
use crate::session::Facts;
use crate::subject::Subject;
use crate::vault;

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
    /// Those with these names. All others pass in both directions as they are.
    Named(Vec<String>),
}

/// What a bound value begins with.
const MARK: &str = "bulla.";

/// Its attributes inside, beside its `SameSite`.
const PERSISTENT: u8 = 4;
const PARTITIONED: u8 = 8;

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

/// What is inside a bound value.
struct Bound {
    /// Whose it is: so that one of another device can be told from what is none of ours.
    device: Thumbprint,
    /// Who was logged in when it was set.
    owner: Owner,
    /// The memory of revocations in which its device was not locked out.
    memory: [u8; MEMORY_LEN],
    /// In seconds since 1970.
    expires: u32,
    /// Whether the browser is to keep it beyond its own end.
    persistent: bool,
    partitioned: bool,
    same_site: SameSite,
    path: String,
    value: Zeroizing<String>,
}

/// As much of a memory's name: names are random, and nobody chooses one.
const MEMORY_LEN: usize = 8;

/// A user by a hash, for cookies have little room; or nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner([u8; 16]);

impl Owner {
    const NOBODY: Self = Self([0; 16]);

    fn of(subject: &Subject) -> Self {
        let hash = Sha256::digest(subject.as_str());
        let mut owner = Self::NOBODY;
        owner.0.copy_from_slice(&hash[..16]);
        owner
    }
}

/// At which device a cookie is bound.
#[derive(Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) device: &'a Thumbprint,
}

impl Bulla {
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
        let is_monitored = self.0.policy.is_monitored(path);
        let is_cross_site = headers
            .get("sec-fetch-site")
            .is_some_and(|site| site == "cross-site");
        for cookie in lines.flat_map(parse) {
            let (name, value) = cookie.name_value();
            let sealed = value.strip_prefix(MARK);
            if is_monitored && sealed.is_none() {
                if self.0.cookies.are_on() && self.0.cookies.must_open(name) {
                    self.report(EventKind::LetPass(UNBOUND), about);
                }
                passed.push(name, value);
                continue;
            }
            if !self.0.cookies.must_open(name) {
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
                None if sealed.is_some_and(|sealed| self.is_forged(sealed))
                    || matches!(self.0.cookies, Cookies::Named(_)) =>
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

    /// Whether what does not open claims to be sealed by a key that is there. What an erased key has sealed is
    /// only old.
    fn is_forged(&self, sealed: &str) -> bool {
        let id = base64::decode(sealed).and_then(|sealed| vault::key_of(&sealed));
        id.is_none_or(|id| self.0.ring.by_id(id).is_some())
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
        if !self.0.cookies.are_on() && !self.0.policy.is_monitored(path) {
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
            if self.binds_at(path, &cookie) {
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
        if !self.0.cookies.are_on() {
            return Vec::new();
        }
        let is_by_name =
            matches!(self.0.cookies, Cookies::Named(_)) && !self.0.policy.is_monitored(path);
        let (mut bound, mut others) = (Vec::new(), Line::default());
        for cookie in headers.get_all(COOKIE).iter().flat_map(parse) {
            let (name, value) = cookie.name_value();
            let is_named = is_by_name && self.0.cookies.must_open(name);
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
        if !self.0.cookies.are_on() {
            return;
        }
        for line in take_set(headers) {
            let parsed = line.to_str().ok().and_then(|line| Cookie::parse(line).ok());
            let spares = parsed.is_some_and(|cookie| {
                !self.binds_at(path, &cookie) && !bound.iter().any(|name| name == cookie.name())
            });
            if spares {
                headers.append(SET_COOKIE, line);
            }
        }
    }

    /// Whether a cookie is bound that is set there.
    fn binds_at(&self, path: &str, cookie: &Cookie<'_>) -> bool {
        self.0.cookies.binds(cookie) && !self.0.policy.is_monitored(path)
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
        let memory = self.0.store.memory().revocations;
        bound.expires > self.now() && bound.memory == head(memory)
    }

    fn unbind(&self, name: &str, sealed: &str, origin: &Origin) -> Option<Bound> {
        let sealed = base64::decode(sealed)?;
        let context = context(name, origin);
        let plain = vault::open(&self.0.ring, Purpose::Cookie, &context, &sealed)?;
        Bound::decode(&plain)
    }
}

impl Bound {
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let path_len = u32::try_from(self.path.len()).map_err(|_| NOT_MADE)?;
        let len = 32 + 16 + MEMORY_LEN + 4 + 1 + 4 + self.path.len() + self.value.len();
        let mut plain = Zeroizing::new(Vec::with_capacity(len));
        plain.extend(self.device.0);
        plain.extend(self.owner.0);
        plain.extend(self.memory);
        plain.extend(self.expires.to_be_bytes());
        let same_site = match self.same_site {
            SameSite::Strict => 0,
            SameSite::Lax => 1,
            SameSite::None => 2,
        };
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        plain.push(
            same_site | bit(self.persistent, PERSISTENT) | bit(self.partitioned, PARTITIONED),
        );
        plain.extend(path_len.to_be_bytes());
        plain.extend(self.path.bytes());
        plain.extend(self.value.bytes());
        Ok(plain)
    }

    fn decode(plain: &[u8]) -> Option<Self> {
        let (device, rest) = plain.split_first_chunk()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let (memory, rest) = rest.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (attributes, rest) = rest.split_first()?;
        let (path_len, rest) = rest.split_first_chunk()?;
        let path_len = usize::try_from(u32::from_be_bytes(*path_len)).ok()?;
        let (path, value) = rest.split_at_checked(path_len)?;
        Some(Self {
            device: Thumbprint(*device),
            owner: Owner(*owner),
            memory: *memory,
            expires: u32::from_be_bytes(*expires),
            persistent: attributes & PERSISTENT != 0,
            partitioned: attributes & PARTITIONED != 0,
            same_site: match attributes & !(PERSISTENT | PARTITIONED) {
                0 => SameSite::Strict,
                1 => SameSite::Lax,
                2 => SameSite::None,
                _ => return None,
            },
            path: String::from_utf8(path.to_vec()).ok()?,
            value: Zeroizing::new(String::from_utf8(value.to_vec()).ok()?),
        })
    }
}

fn head(memory: [u8; 16]) -> [u8; MEMORY_LEN] {
    let mut head = [0; MEMORY_LEN];
    head.copy_from_slice(&memory[..MEMORY_LEN]);
    head
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

/// A `Cookie` line in the making. Values that were sealed stand in it.
#[derive(Default)]
struct Line(Zeroizing<String>);

impl Line {
    fn push(&mut self, name: &str, value: &str) {
        let parts = [if self.0.is_empty() { "" } else { "; " }, name, "=", value];
        let len = self.0.len() + parts.map(str::len).iter().sum::<usize>();
        if len > self.0.capacity() {
            // Were it left to the string, what it has outgrown would stay in memory.
            let mut longer = Zeroizing::new(String::with_capacity(len * 2));
            longer.push_str(&self.0);
            self.0 = longer;
        }
        for part in parts {
            self.0.push_str(part);
        }
    }

    /// `None` if there is nothing in it.
    fn into_value(self) -> Option<HeaderValue> {
        if self.0.is_empty() {
            return None;
        }
        let mut line = HeaderValue::from_str(&self.0).ok()?;
        line.set_sensitive(true);
        Some(line)
    }
}

/// The cookies of a line, each by itself: one that cannot be read takes no other with it.
fn parse(line: &HeaderValue) -> impl Iterator<Item = Cookie<'_>> {
    let pairs = line.as_bytes().split(|byte| *byte == b';');
    pairs.filter_map(|pair| Cookie::parse(check_value(pair).ok()?).ok())
}

/// Whether a handler may take this name for the known one: cookie jars decode percents, in names too.
fn reads_as(name: &str, known: &str) -> bool {
    let mut rest = name.as_bytes();
    let next = || {
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        rest = after;
        Some(byte)
    };
    core::iter::from_fn(next).eq(known.bytes())
}

fn hex(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

fn take_set(headers: &mut HeaderMap) -> Vec<HeaderValue> {
    let lines = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    lines
}

/// RFC 6265 section 5.1.4.
fn path_matches(path: &str, cookie: &str) -> bool {
    path.strip_prefix(cookie)
        .is_some_and(|rest| rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'))
}

/// RFC 6265 section 5.1.4. A `;`, which a path may hold, would end the attribute, and what follows be others: the
/// folder before it has the cookie then.
fn default_path(path: &str) -> &str {
    let path = path.split(';').next().unwrap_or_default();
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

/// Whether the browser would not have sent it with a request that another site began. A request that
/// comes sealed from the site's own service worker looks like the site's own to the browser; what is
/// inside says who began it.
fn is_withheld(same_site: SameSite, method: &Method) -> bool {
    match same_site {
        SameSite::Strict => true,
        SameSite::Lax => !is_safe(method.as_str()),
        SameSite::None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_as_in_rfc_6265() {
        for (path, cookie, matches) in [
            ("/a", "/a", true),
            ("/a/b", "/a", true),
            ("/a/b", "/a/", true),
            ("/ab", "/a", false),
            ("/", "/a", false),
            ("/a", "/", true),
        ] {
            assert_eq!(path_matches(path, cookie), matches, "{path} {cookie}");
        }
        for (path, default) in [
            ("/", "/"),
            ("/a", "/"),
            ("/a/b", "/a"),
            ("/a/b/", "/a/b"),
            ("/a/b;Domain=c/d", "/a"),
            ("/a/b/;c/d", "/a/b"),
        ] {
            assert_eq!(default_path(path), default);
        }
    }
}
