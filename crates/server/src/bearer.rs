//! Bound bearer tokens: an application's own, sealed for one device as its [cookies](crate::Cookies) are.
//!
//! For whoever stands between pages and an application that hands out tokens of its own and knows nothing of devices. An
//! application that knows of them writes a [`Confirmation`](crate::Confirmation) into its tokens, and needs none of this.

use bulla_keys::Random;
use bulla_protocol::base64;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::target::Origin;
use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use crate::bound::{MEMORY_LEN, head};
use crate::event::{About, EventKind};
use crate::lifetimes::seconds;
use crate::ring::{Purpose, Ring, RingKey};
use crate::session::Session;
use crate::vault;

/// What a sealed segment begins with. Of characters that are base64url, and as many as decode by themselves: so a JWS
/// with such a segment still has three of base64url.
const MARK: &str = "bulla-t1";

/// How long a bound token may be, in bytes: a head has to have room for it, and for all else.
const MOST_LEN: usize = 16 * 1024;

const NOT_MADE: Error = Code::Internal.because("a bearer token could not be sealed");
const TOO_LARGE: Error =
    Code::Internal.because("a bearer token is larger than heads of requests have room for");
const FOREIGN: Error = Code::ProofMismatch.because("the bearer token is bound to another device");
const FORGED: Error = Code::ProofMismatch.because("the bearer token was not bound here");
const OLD: Error = Code::LoginRequired.because("the bearer token has expired here");

/// Whether a text is, or claims to be, what [`Session::bind_token`] has made.
pub fn is_bound_token(text: &str) -> bool {
    split(text).1.starts_with(MARK)
}

impl Session {
    /// Seals a bearer token that the application has issued to this session's user, for this session's device: what the
    /// client is to get in its place. `origin` is the one that the request came to.
    ///
    /// Of a JWS in its compact form (RFC 7515 section 7.1) header and payload stay as they are, for pages to read, and the
    /// signature is sealed together with them; anything else is sealed as a whole. It is good for as long as a bound cookie: no
    /// longer than [a session](crate::Lifetimes::session) may live, nor than the store remembers what has ended;
    /// and where [no cookies are bound](crate::Cookies::Off), than what else the ring seals. A device key that
    /// [signs in another](Self::rotate_device_key) does not take it along.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] if it would be longer than 16 KiB, or could not be sealed.
    pub fn bind_token(&self, origin: &Origin, token: &str) -> Result<Zeroizing<String>, Error> {
        let inner = &self.bulla.0;
        let key = self.bulla.ring_key(self.bulla.now())?;
        let life = seconds(inner.lifetimes.session.min(inner.keep));
        let bound = Bound {
            device: self.facts.device,
            memory: head(self.facts.memory),
            // From when its device was looked up, as cookies.
            expires: self.facts.admitted.saturating_add(life),
        };
        bound.seal(&key, origin, token, &*inner.random)
    }

    /// The token that was [bound](Self::bind_token), for the application to see; `None` if this one never was. One that is
    /// another device's is [reported](EventKind::ForeignTicket).
    ///
    /// # Errors
    ///
    /// [`Code::ProofMismatch`] if it is another device's or was made up, [`Code::LoginRequired`] if it is only old.
    pub fn open_token(
        &self,
        origin: &Origin,
        token: &str,
    ) -> Result<Option<Zeroizing<String>>, Error> {
        if !is_bound_token(token) {
            return Ok(None);
        }
        let bulla = &self.bulla;
        let Some((bound, token)) = Bound::open(&bulla.0.ring, origin, token) else {
            let is_forged = bulla.is_forged(sealed(token).as_deref());
            return Err(if is_forged { FORGED } else { OLD });
        };
        if bound.device != self.facts.device {
            bulla.report(EventKind::ForeignTicket, &About::by(&self.facts));
            return Err(FOREIGN);
        }
        if !bulla.is_good(bound.expires, bound.memory) {
            return Err(OLD);
        }
        Ok(Some(token))
    }
}

/// What is inside a bound token, before what is sealed of the token itself.
#[derive(Debug, PartialEq, Eq)]
struct Bound {
    /// Whose it is.
    device: Thumbprint,
    /// The memory of revocations in which its device was not locked out.
    memory: [u8; MEMORY_LEN],
    /// In seconds since 1970.
    expires: u32,
}

impl Bound {
    fn seal(
        &self,
        key: &RingKey,
        origin: &Origin,
        token: &str,
        random: &dyn Random,
    ) -> Result<Zeroizing<String>, Error> {
        if token.len() > MOST_LEN {
            return Err(TOO_LARGE);
        }
        let (shown, hidden) = if is_jws(token) {
            split(token)
        } else {
            ("", token)
        };
        let mut plain = Zeroizing::new(Vec::with_capacity(32 + MEMORY_LEN + 4 + hidden.len()));
        plain.extend(self.device.0);
        plain.extend(self.memory);
        plain.extend(self.expires.to_be_bytes());
        plain.extend(hidden.bytes());
        let context = context(origin, shown);
        let sealed = vault::seal(key, Purpose::Token, &context, &plain, random);
        let sealed = base64::encode(sealed.map_err(|_| NOT_MADE)?);
        let bound = [shown, MARK, &sealed].concat();
        if bound.len() > MOST_LEN {
            return Err(TOO_LARGE);
        }
        Ok(Zeroizing::new(bound))
    }

    fn open(ring: &Ring, origin: &Origin, token: &str) -> Option<(Self, Zeroizing<String>)> {
        let (shown, _) = split(token);
        let plain = vault::open(
            ring,
            Purpose::Token,
            &context(origin, shown),
            &sealed(token)?,
        )?;
        let (device, rest) = plain.split_first_chunk()?;
        let (memory, rest) = rest.split_first_chunk()?;
        let (expires, hidden) = rest.split_first_chunk()?;
        let hidden = std::str::from_utf8(hidden).ok()?;
        let bound = Self {
            device: Thumbprint(*device),
            memory: *memory,
            expires: u32::from_be_bytes(*expires),
        };
        Some((bound, Zeroizing::new([shown, hidden].concat())))
    }
}

/// A token before its last segment, with the dot, and that segment.
fn split(token: &str) -> (&str, &str) {
    token.split_at(token.rfind('.').map_or(0, |dot| dot + 1))
}

/// The sealed bytes of a bound token.
fn sealed(token: &str) -> Option<Vec<u8>> {
    base64::decode(split(token).1.strip_prefix(MARK)?)
}

/// Origins hold no NUL, so that this can be read in one way only.
fn context<'a>(origin: &'a Origin, shown: &'a str) -> [&'a [u8]; 3] {
    [origin.as_str().as_bytes(), b"\0", shown.as_bytes()]
}

/// Whether this is a JWS in its compact form, whoever has signed it (RFC 7515 section 7.1). An unsecured one is, too.
fn is_jws(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "alg")]
        _alg: IgnoredAny,
    }
    let is_segment = |text: &str| {
        let mut bytes = text.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let mut segments = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (
        segments.next(),
        segments.next(),
        segments.next(),
        segments.next(),
    ) else {
        return false;
    };
    let header = base64::decode(header).unwrap_or_default();
    is_segment(payload)
        && is_segment(signature)
        && serde_json::from_slice::<Header>(&header).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bulla_keys::SystemRandom;
    use proptest::prelude::*;

    use super::*;

    /// `{"alg":"HS256"}`, and `{"sub":"ann"}`.
    const JWS: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl";

    fn ring() -> (Ring, Arc<RingKey>) {
        let ring = Ring::ephemeral();
        ring.begin(0, Duration::from_mins(1), &SystemRandom)
            .unwrap();
        let key = ring.current(0).unwrap();
        (ring, key)
    }

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap()
    }

    const BOUND: Bound = Bound {
        device: Thumbprint([7; 32]),
        memory: [1; MEMORY_LEN],
        expires: 60,
    };

    fn seal(key: &RingKey, token: &str) -> Zeroizing<String> {
        let bank = origin("https://bank.example");
        BOUND.seal(key, &bank, token, &SystemRandom).unwrap()
    }

    #[test]
    fn of_a_jws_all_but_the_signature_can_be_read() {
        let (ring, key) = ring();
        let bound = seal(&key, JWS);
        let segments: Vec<_> = bound.split('.').collect();
        let [header, payload, signature] = segments[..] else {
            panic!("{segments:?}");
        };
        assert!(JWS.starts_with(&format!("{header}.{payload}.")));
        assert!(!bound.contains("c2lnbmF0dXJl"), "{segments:?}");
        assert!(base64::decode(signature).is_some());
        let bank = origin("https://bank.example");
        let (found, token) = Bound::open(&ring, &bank, &bound).unwrap();
        assert_eq!((found, token.as_str()), (BOUND, JWS));
        // Whose claims they are is sealed, too.
        let other = bound.replace(payload, "eyJzdWIiOiJib2IifQ");
        assert!(Bound::open(&ring, &bank, &other).is_none());
        // An unsecured one has an empty signature.
        let unsecured = seal(&key, "eyJhbGciOiJub25lIn0.e30.");
        let (_, token) = Bound::open(&ring, &bank, &unsecured).unwrap();
        assert_eq!(*token, "eyJhbGciOiJub25lIn0.e30.");
    }

    #[test]
    fn nothing_of_any_other_token_can_be_read() {
        for opaque in [
            "9f2c",
            "a.b",
            "user.1700000000.signature",
            "eyJhbGciOiJSU0EifQ.a.b.c.d",
            "eyJzdWIiOiJhbm4ifQ.eyJzdWIiOiJhbm4ifQ.c2ln",
            "eyJhbGciOiJIUzI1NiJ9.not base64.c2ln",
            "W10.e30.c2ln",
        ] {
            let bound = seal(&ring().1, opaque);
            assert!(bound.starts_with(MARK) && !bound.contains('.'), "{opaque}");
        }
    }

    #[test]
    fn what_no_head_has_room_for_is_not_bound() {
        let (_, key) = ring();
        let bank = origin("https://bank.example");
        let seal = |len| BOUND.seal(&key, &bank, &"x".repeat(len), &SystemRandom);
        assert!(seal(12_000).is_ok_and(|bound| bound.len() <= MOST_LEN));
        for len in [12_300, MOST_LEN, MOST_LEN + 1] {
            assert_eq!(seal(len).err(), Some(TOO_LARGE), "{len}");
        }
    }

    proptest! {
        #[test]
        fn what_is_bound_opens_as_it_was_and_in_no_other_way(
            token in "\\PC{0,40}|[A-Za-z0-9_.-]{0,60}|eyJhbGciOiJIUzI1NiJ9\\.[A-Za-z0-9_-]{0,30}\\.[A-Za-z0-9_-]{0,30}",
            at in any::<prop::sample::Index>(),
            put in "[A-Za-z0-9_.-]",
        ) {
            let ((ring, key), (other, _)) = (ring(), ring());
            let bank = origin("https://bank.example");
            let bound = seal(&key, &token);
            prop_assert!(is_bound_token(&bound));
            let (found, opened) = Bound::open(&ring, &bank, &bound).unwrap();
            prop_assert_eq!((found, opened.as_str()), (BOUND, token.as_str()));
            prop_assert!(Bound::open(&ring, &origin("https://other.example"), &bound).is_none());
            prop_assert!(Bound::open(&other, &bank, &bound).is_none());

            let at = at.index(bound.len());
            prop_assert!(Bound::open(&ring, &bank, &bound[..at]).is_none());
            prop_assert!(Bound::open(&ring, &bank, &bound[at + 1..]).is_none());
            let changed = format!("{}{put}{}", &bound[..at], &bound[at + 1..]);
            prop_assert!(changed == *bound || Bound::open(&ring, &bank, &changed).is_none());
            let longer = format!("{}{put}{}", &bound[..at], &bound[at..]);
            prop_assert!(Bound::open(&ring, &bank, &longer).is_none());
        }

        #[test]
        fn whatever_it_is_it_is_taken_apart(token in "\\PC*|(bulla-t1|[A-Za-z0-9_-]|\\.){0,40}") {
            let (ring, _) = ring();
            prop_assert!(Bound::open(&ring, &origin("https://bank.example"), &token).is_none());
            is_jws(&token);
        }
    }
}
