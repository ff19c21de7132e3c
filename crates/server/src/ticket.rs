//! Tickets: a session's state in a fixed layout, sealed by the server for one origin and carried by the
//! client.

use std::fmt;
use std::str::FromStr;

use bulla_keys::Random;
use bulla_protocol::base64;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::PublicKey;
use bulla_protocol::opening::{SessionId, Ticket};
use bulla_protocol::target::Origin;
use serde::{Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::assurance::Assurance;
use crate::ring::{Purpose, Ring, RingKey};
use crate::subject::Subject;
use crate::vault;

const PLAIN_LEN: usize = 1 + 16 + 33 + 3 * 32 + Subject::ROOM + 3 * 4 + RevocationId::LEN;
const SEALED_LEN: usize = PLAIN_LEN + vault::OVERHEAD;

const INVALID: Error = Code::TicketInvalid.because("the ticket was not sealed here");

/// What a ticket is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TicketKind {
    /// A new session: device proofs only.
    Unconfirmed = 0,
    /// A session that has shown a device proof over a fresh nonce.
    Confirmed = 1,
    /// One opening, within a minute.
    CarryOver = 2,
    /// The same, also by another device key that this one signs in.
    Rotation = 3,
}

impl TicketKind {
    /// Whether the session that it comes from has ended, so that it is good for one opening and nothing else.
    pub(crate) fn is_carried_over(self) -> bool {
        matches!(self, Self::CarryOver | Self::Rotation)
    }
}

/// The part of a session id by which it is revoked. 96 bits name it well enough, and a ticket has no
/// room for two whole ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevocationId(pub [u8; Self::LEN]);

impl RevocationId {
    /// Its length in bytes.
    pub const LEN: usize = 12;

    /// A name that stands for "this carry-over ticket has been used". The session that it comes from has
    /// been revoked already.
    pub(crate) fn used(ticket: &Ticket) -> Self {
        let mut salt = [0; Self::LEN];
        salt.copy_from_slice(&ticket.as_bytes()[vault::SALT_AT][..Self::LEN]);
        Self(salt)
    }
}

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(self.0))
    }
}

impl FromStr for RevocationId {
    type Err = Error;

    /// # Errors
    ///
    /// [`Code::Malformed`] for what is not written as this is.
    fn from_str(text: &str) -> Result<Self, Error> {
        const NONE: Error = Code::Malformed.because("this names no session");
        base64::decode_array(text).map(Self).ok_or(NONE)
    }
}

impl Serialize for RevocationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<SessionId> for RevocationId {
    fn from(id: SessionId) -> Self {
        let mut short = [0; Self::LEN];
        short.copy_from_slice(&id.0[..Self::LEN]);
        Self(short)
    }
}

/// A session's state.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct SessionState {
    #[zeroize(skip)]
    pub(crate) kind: TicketKind,
    /// The store's memory of revocations under which this state was made. No ticket says so: it opens under
    /// this one only.
    #[zeroize(skip)]
    pub(crate) memory: [u8; 16],
    #[zeroize(skip)]
    pub(crate) id: SessionId,
    #[zeroize(skip)]
    pub(crate) device: [u8; PublicKey::COMPRESSED_LEN],
    pub(crate) request_key: [u8; 32],
    pub(crate) response_key: [u8; 32],
    pub(crate) mac_key: [u8; 32],
    /// Who has logged in, if anybody has.
    #[zeroize(skip)]
    pub(crate) subject: Option<Subject>,
    /// How sure the application was of who has logged in, by its own scale.
    #[zeroize(skip)]
    pub(crate) assurance: Assurance,
    /// When the user logged in; seconds since 1970, 0 before login.
    #[zeroize(skip)]
    pub(crate) login: u32,
    /// When the session began, from which its absolute lifetime counts.
    #[zeroize(skip)]
    pub(crate) began: u32,
    /// When this ticket ends.
    #[zeroize(skip)]
    pub(crate) expires: u32,
    /// The session that ends once this one is confirmed.
    #[zeroize(skip)]
    pub(crate) replaces: Option<RevocationId>,
}

impl SessionState {
    pub(crate) fn seal(
        &self,
        key: &RingKey,
        origin: &Origin,
        random: &dyn Random,
    ) -> Result<Ticket, Error> {
        const FAILED: Error = Code::Internal.because("no ticket could be made");
        let context = [&self.memory[..], origin.as_str().as_bytes()];
        let plain = self.encode();
        let bytes = vault::seal(key, Purpose::Ticket, &context, &plain, random);
        Ticket::new(bytes.map_err(|_| FAILED)?)
    }

    /// # Errors
    ///
    /// [`Code::TicketInvalid`], whatever is wrong with it. Its times are not looked at.
    pub(crate) fn open(
        ticket: &Ticket,
        ring: &Ring,
        origin: &Origin,
        memory: [u8; 16],
    ) -> Result<Self, Error> {
        let bytes = ticket.as_bytes();
        if bytes.len() != SEALED_LEN {
            return Err(INVALID);
        }
        let context = [&memory[..], origin.as_str().as_bytes()];
        let plain = vault::open(ring, Purpose::Ticket, &context, bytes).ok_or(INVALID)?;
        Self::decode(&plain, memory).ok_or(INVALID)
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(PLAIN_LEN));
        plain.push(self.kind as u8 | self.assurance.level() << 4);
        plain.extend(self.id.0);
        plain.extend(self.device);
        plain.extend(self.request_key);
        plain.extend(self.response_key);
        plain.extend(self.mac_key);
        plain.extend(Subject::encode(self.subject.as_ref()));
        for time in [self.login, self.began, self.expires] {
            plain.extend(time.to_be_bytes());
        }
        plain.extend(self.replaces.map_or([0; RevocationId::LEN], |id| id.0));
        plain
    }

    fn decode(plain: &[u8], memory: [u8; 16]) -> Option<Self> {
        let mut rest = plain;
        let [first] = take(&mut rest)?;
        let assurance = Assurance::new(first >> 4)?;
        let kind = match first & 0xf {
            0 => TicketKind::Unconfirmed,
            1 => TicketKind::Confirmed,
            2 => TicketKind::CarryOver,
            3 => TicketKind::Rotation,
            _ => return None,
        };
        let id = SessionId(take(&mut rest)?);
        let device = take(&mut rest)?;
        let (request_key, response_key, mac_key) =
            (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
        let subject = Subject::decode(&take(&mut rest)?).ok()?;
        let mut time = || Some(u32::from_be_bytes(take(&mut rest)?));
        let (login, began, expires) = (time()?, time()?, time()?);
        let replaces = take(&mut rest)?;
        Some(Self {
            kind,
            memory,
            id,
            device,
            request_key,
            response_key,
            mac_key,
            subject,
            assurance,
            login,
            began,
            expires,
            replaces: (replaces != [0; RevocationId::LEN]).then_some(RevocationId(replaces)),
        })
    }
}

/// The next so many bytes.
pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bulla_keys::SystemRandom;

    use super::*;

    const MEMORY: [u8; 16] = [6; 16];

    fn state() -> SessionState {
        SessionState {
            kind: TicketKind::Confirmed,
            memory: MEMORY,
            id: SessionId([1; 16]),
            device: [2; 33],
            request_key: [3; 32],
            response_key: [4; 32],
            mac_key: [5; 32],
            subject: "x".repeat(Subject::MAX_LEN).parse().ok(),
            assurance: Assurance::MAX,
            login: 6,
            began: 7,
            expires: 8,
            replaces: Some(RevocationId([9; 12])),
        }
    }

    #[test]
    fn round_trips_and_refuses_every_change() {
        let ring = Ring::ephemeral();
        let origin = Origin::parse("https://bank.example").unwrap();
        ring.begin(0, Duration::from_mins(1), &SystemRandom)
            .unwrap();
        let key = ring.current(0).unwrap();
        let ticket = state().seal(&key, &origin, &SystemRandom).unwrap();
        assert_eq!(ticket.as_bytes().len(), SEALED_LEN);
        let opened = SessionState::open(&ticket, &ring, &origin, MEMORY).unwrap();
        assert_eq!(opened.encode(), state().encode());

        for at in 0..SEALED_LEN {
            let mut bytes = ticket.as_bytes().to_vec();
            bytes[at] ^= 1;
            let changed = Ticket::new(bytes).unwrap();
            assert_eq!(
                SessionState::open(&changed, &ring, &origin, MEMORY).err(),
                Some(INVALID),
                "{at}"
            );
        }
        let other = Origin::parse("https://other.example").unwrap();
        for (ring, origin, memory) in [
            (&ring, &other, MEMORY),
            (&Ring::ephemeral(), &origin, MEMORY),
            (&ring, &origin, [7; 16]),
        ] {
            let refused = SessionState::open(&ticket, ring, origin, memory).err();
            assert_eq!(refused, Some(INVALID));
        }
    }

    #[test]
    fn all_tickets_have_one_length() {
        let ring = Ring::ephemeral();
        let origin = Origin::parse("https://bank.example").unwrap();
        ring.begin(0, Duration::from_mins(1), &SystemRandom)
            .unwrap();
        let key = ring.current(0).unwrap();
        let mut anonymous = state();
        anonymous.subject = None;
        anonymous.replaces = None;
        let ticket = anonymous.seal(&key, &origin, &SystemRandom).unwrap();
        assert_eq!(ticket.as_bytes().len(), SEALED_LEN);
    }
}
