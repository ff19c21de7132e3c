//! Who has logged in, and who tries too often.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulla_server::Random;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::token::Token;

/// How long a login lasts.
pub(super) const LIFE: Duration = Duration::from_hours(1);

/// As many logins there are at once: the oldest one ends for one more.
const MOST: usize = 16;

/// As many tries there are at once from one place, and then one in every [`EACH`].
const TRIES: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const EACH: Duration = Duration::from_secs(10);

/// As many places are remembered. If more come within minutes, nobody new may try.
const PLACES: usize = 1000;

/// Logins, in memory only: a start ends them. The time is handed in, as what has passed since the gateway began.
pub(super) struct Logins {
    token: Token,
    random: Box<dyn Random>,
    tries: DefaultKeyedRateLimiter<IpAddr>,
    all: Mutex<Vec<Login>>,
}

struct Login {
    /// Of the secret that its browser has.
    digest: [u8; 32],
    name: String,
    until: Duration,
}

/// Why nobody was logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoLogin {
    Wrong,
    TooOften,
    /// The system gave no random bytes.
    Broken,
}

impl Logins {
    pub(super) fn new(token: Token, random: impl Random + 'static) -> Self {
        let quota = Quota::with_period(EACH).unwrap_or(Quota::per_minute(TRIES));
        Self {
            token,
            random: Box::new(random),
            tries: RateLimiter::keyed(quota.allow_burst(TRIES)),
            all: Mutex::default(),
        }
    }

    /// Logs in who shows the token. Gives the secret that is to be his browser's.
    pub(super) fn log_in(
        &self,
        shown: &str,
        from: IpAddr,
        now: Duration,
    ) -> Result<Zeroizing<String>, NoLogin> {
        self.try_from(from)?;
        if !self.token.is(shown) {
            return Err(NoLogin::Wrong);
        }
        let mut bytes = Zeroizing::new([0; 38]);
        let filled = self.random.fill(&mut *bytes);
        filled.map_err(|_| NoLogin::Broken)?;
        let (secret, name) = bytes.split_at(32);
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret));
        let mut all = self.lock(now);
        if all.len() >= MOST {
            all.remove(0);
        }
        all.push(Login {
            digest: Sha256::digest(&*secret).into(),
            name: URL_SAFE_NO_PAD.encode(name),
            until: now.saturating_add(LIFE),
        });
        Ok(secret)
    }

    /// What whoever has this secret is called in logs, if he is logged in.
    pub(super) fn name(&self, secret: &str, now: Duration) -> Option<String> {
        let digest: [u8; 32] = Sha256::digest(secret).into();
        let all = self.lock(now);
        let mut all = all.iter();
        let found = all.find(|login| login.digest.ct_eq(&digest).into());
        found.map(|login| login.name.clone())
    }

    /// Whether whoever is called so is still logged in.
    pub(super) fn is_there(&self, name: &str, now: Duration) -> bool {
        self.lock(now).iter().any(|login| login.name == name)
    }

    pub(super) fn log_out(&self, name: &str, now: Duration) {
        self.lock(now).retain(|login| login.name != name);
    }

    fn try_from(&self, from: IpAddr) -> Result<(), NoLogin> {
        if self.tries.len() >= PLACES {
            self.tries.retain_recent();
        }
        let is_full = self.tries.len() >= PLACES;
        let is_let = !is_full && self.tries.check_key(&place(from)).is_ok();
        is_let.then_some(()).ok_or(NoLogin::TooOften)
    }

    /// Those that have not run out.
    fn lock(&self, now: Duration) -> MutexGuard<'_, Vec<Login>> {
        // Nothing is left half done by whoever panicked.
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|login| now < login.until);
        all
    }
}

/// What one party may have many addresses of counts as one.
fn place(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use bulla_server::SystemRandom;

    use super::*;

    const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz012345";
    const HERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn logins() -> Logins {
        Logins::new(Token::new(TOKEN).unwrap(), SystemRandom)
    }

    #[test]
    fn who_shows_the_token_is_in_for_an_hour() {
        let (logins, begin) = (logins(), Duration::from_secs(5));
        let wrong = logins.log_in("abc", HERE, begin);
        assert_eq!(wrong.unwrap_err(), NoLogin::Wrong);
        let secret = logins.log_in(TOKEN, HERE, begin).unwrap();
        assert_eq!(secret.len(), 43);
        let name = logins.name(&secret, begin).unwrap();
        assert!(!secret.contains(&name));
        assert_eq!(logins.name(TOKEN, begin), None);
        assert_eq!(logins.name("", begin), None);
        let end = begin + LIFE;
        assert!(logins.is_there(&name, LIFE));
        assert!(!logins.is_there(&name, end));
        assert_eq!(logins.name(&secret, end), None);
    }

    #[test]
    fn who_logs_out_is_out_and_others_are_not() {
        let (logins, now) = (logins(), Duration::ZERO);
        let one = logins.log_in(TOKEN, HERE, now).unwrap();
        let other = logins.log_in(TOKEN, HERE, now).unwrap();
        let name = logins.name(&one, now).unwrap();
        logins.log_out(&name, now);
        assert_eq!(logins.name(&one, now), None);
        assert!(logins.name(&other, now).is_some());
    }

    #[test]
    fn there_are_only_so_many() {
        let (logins, now) = (logins(), Duration::ZERO);
        let from = |last: usize| IpAddr::from([10, 0, 0, u8::try_from(last).unwrap()]);
        let log_in = |at| logins.log_in(TOKEN, from(at), now).unwrap();
        let secrets: Vec<_> = (0..=MOST).map(log_in).collect();
        assert_eq!(logins.name(&secrets[0], now), None);
        assert!(logins.name(&secrets[1], now).is_some());
    }

    #[test]
    fn who_tries_too_often_is_not_heard_with_the_right_one_either() {
        let (logins, now) = (logins(), Duration::ZERO);
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        for last in 0..10 {
            let wrong = logins.log_in("x", from(&format!("2001:db8::{last}")), now);
            assert_eq!(wrong.unwrap_err(), NoLogin::Wrong);
        }
        let refused = logins.log_in(TOKEN, from("2001:db8::ffff"), now);
        assert_eq!(refused.unwrap_err(), NoLogin::TooOften);
        assert!(logins.log_in(TOKEN, from("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn places_fill_nothing() {
        let (logins, now) = (logins(), Duration::ZERO);
        for number in 0..2000_u32 {
            let from = IpAddr::from(number.to_be_bytes());
            let _ = logins.log_in("x", from, now);
        }
        assert!(logins.tries.len() <= PLACES);
    }
}
