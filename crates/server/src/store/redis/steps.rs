//! The steps, each with what it says.

use std::sync::atomic::Ordering;

use super::keys::{note, noted};
use super::shared::Shared;
use super::{APART, RedisStore};
use crate::store::{
    Ended, Ending, MemoryStore, Party, Replacement, Revocation, SessionRef, StoreError, UsedProof,
    Verdict,
};
use crate::ticket::RevocationId;

/// How many seconds of proofs stand together.
const SLOT: u64 = 128;
/// How many slots a proof may have to be looked up in.
const MAX_SLOTS: u64 = 1024;
/// How much is told at once of what has ended.
pub(super) const MOST_NEWS: usize = 512;

/// A step, as the script takes it.
pub(super) struct Step<'a> {
    pub(super) name: &'static str,
    /// Whether it ends sessions, which the replicas must know.
    pub(super) ends: bool,
    /// The node's time, if it has to be the server's.
    pub(super) now: Option<u64>,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) args: Vec<Vec<u8>>,
    /// The memories in which it makes sense, where there are such.
    pub(super) proofs: Option<&'a [u8; 16]>,
    pub(super) revocations: Option<&'a [u8; 16]>,
}

impl Step<'_> {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            ends: false,
            now: None,
            keys: Vec::new(),
            args: Vec::new(),
            proofs: None,
            revocations: None,
        }
    }

    /// One that ends sessions.
    fn ending(name: &'static str) -> Self {
        Self {
            ends: true,
            ..Self::new(name)
        }
    }

    pub(super) fn key(mut self, key: Vec<u8>) -> Self {
        self.keys.push(key);
        self
    }

    pub(super) fn arg(mut self, arg: impl Into<Vec<u8>>) -> Self {
        self.args.push(arg.into());
        self
    }
}

/// How the server is.
pub(super) struct Health {
    /// Its time, in seconds since 1970.
    pub(super) time: u64,
    /// It may throw away what it was to remember.
    pub(super) evicts: bool,
}

impl Shared {
    pub(super) async fn check(&self, used: &UsedProof) -> Result<Verdict, StoreError> {
        // Whoever has taken it already may have had another time, by what both are allowed, and with it another
        // life of nonces: there are three in which one is taken, and more than three lives are left.
        if self.evicts.load(Ordering::Acquire) {
            return Err(StoreError);
        }
        let left = used.until.saturating_sub(used.now);
        let latest = used
            .until
            .saturating_add(APART)
            .saturating_add(left / 3 * 2 + 2);
        let own = used.until / SLOT;
        let slots = used.now.saturating_sub(APART) / SLOT..=latest / SLOT;
        if slots.end() - slots.start() > MAX_SLOTS {
            return Err(StoreError);
        }
        let end = own.saturating_add(1).saturating_mul(SLOT);
        let life = end.saturating_sub(used.now).saturating_add(APART);
        // Eight bytes, as a number, so that Redis keeps small sets of them as numbers.
        let (head, tail) = used.proof.split_first_chunk::<8>().ok_or(StoreError)?;
        let proof = i64::from_be_bytes(*head).to_string();
        let shard = u16::from_be_bytes([tail[0], tail[1]]) & 0xfff;
        let proofs = |slot: u64| self.keys.of("p", format!("{slot}:{shard:x}").as_bytes());
        let (quota, room) = if used.confirmed {
            (self.settings.quota, String::new())
        } else {
            let quota = self.settings.quota.min(MemoryStore::UNCONFIRMED_QUOTA);
            (quota, RedisStore::UNCONFIRMED.to_string())
        };
        let own_text = own.to_string();
        let mut step = self
            .of_session(Step::new("check"), &used.session)
            .key(self.keys.of("q", own_text.as_bytes()))
            .key(self.keys.of("c", own_text.as_bytes()))
            .key(proofs(own))
            .arg(proof)
            .arg(life.to_string())
            .arg(used.session.session.0)
            .arg(quota.to_string())
            .arg(room);
        for slot in slots.filter(|slot| *slot != own) {
            step = step.key(proofs(slot));
        }
        step.now = Some(used.now);
        step.proofs = Some(&used.memory);
        let answer = self.step(step).await?;
        match answer.first().map(Vec::as_slice) {
            Some(b"fresh") => Ok(Verdict::Fresh),
            Some(b"step up") => Ok(Verdict::StepUp),
            Some(b"replayed") => Ok(Verdict::Replayed),
            Some(b"revoked") => Ok(Verdict::Revoked),
            Some(b"stale") => Ok(Verdict::Stale),
            Some(b"quota") => Ok(Verdict::OverQuota),
            _ => Err(StoreError),
        }
    }

    pub(super) async fn look(&self, session: &SessionRef) -> Result<bool, StoreError> {
        let step = self.of_session(Step::new("look"), session);
        let answer = self.step(step).await?;
        match answer.first().map(Vec::as_slice) {
            Some(b"revoked") => Ok(true),
            Some(b"alive") => Ok(false),
            _ => Err(StoreError),
        }
    }

    pub(super) async fn end(&self, ended: &Ended) -> Result<Ending, StoreError> {
        let life = life(ended.until, ended.now);
        let step = match &ended.revocation {
            Revocation::Session(id) => self.of_owner("end", ended.by, life).arg(id.0),
            Revocation::Device(device) => Step::ending("end all")
                .key(self.keys.device(device))
                .arg(life)
                .arg("0")
                .arg(note(&ended.revocation)),
            Revocation::Subject(subject, login) => Step::ending("end all")
                .key(self.keys.subject(subject.as_str()))
                .arg(life)
                .arg(login.to_string())
                .arg(note(&ended.revocation)),
            Revocation::RecentLogin(subject, login) => Step::ending("end all")
                .key(self.keys.login(subject.as_str()))
                .arg(life)
                .arg(login.to_string())
                .arg(note(&ended.revocation)),
        };
        ending(self.step(step).await?, ended.by)
    }

    pub(super) async fn replace(&self, replacement: &Replacement) -> Result<Ending, StoreError> {
        let life = life(replacement.until, replacement.now);
        let step = self
            .of_owner("replace", replacement.by, life)
            .arg(replacement.old.0)
            .arg(replacement.new.0);
        ending(self.step(step).await?, replacement.by)
    }

    /// Asks what has ended since, and tells it. Returns how the server is.
    pub(super) async fn hear(&self) -> Result<Health, StoreError> {
        let current = self.current();
        let seen = current.seen.load(Ordering::Acquire);
        let mut step = Step::new("news").arg(seen.to_string());
        step.proofs = Some(&current.memory.proofs);
        let answer = self.step(step).await?;
        let [said, policy, time, count, news @ ..] = &answer[..] else {
            // The memory has changed meanwhile, of which all have been told.
            return Err(StoreError);
        };
        if said != b"news" {
            return Err(StoreError);
        }
        let (time, count) = (number(time)?, number(count)?);
        let known = seen.saturating_add(news.len() as u64);
        if count < seen {
            // It has forgotten some: nothing of it can be relied on.
            self.learn(&current).await.map_err(|_| StoreError)?;
        } else if count > known && news.len() < MOST_NEWS {
            // What came before was thrown away meanwhile.
            self.tell(None);
            current.seen.store(count, Ordering::Release);
        } else {
            for ended in news {
                self.tell(noted(ended));
            }
            current.seen.store(known, Ordering::Release);
        }
        Ok(Health {
            time,
            evicts: policy != b"noeviction",
        })
    }

    /// Whether a session has ended, for the steps that ask it: its keys, and when its user logged in.
    pub(super) fn of_session<'a>(&self, step: Step<'a>, session: &'a SessionRef) -> Step<'a> {
        let (subject, login) = match &session.subject {
            Some((subject, login)) => (subject.as_str(), login.to_string()),
            None => ("", String::new()),
        };
        let step = step
            .key(self.keys.session(&session.session.0))
            .key(self.keys.device(&session.device))
            .key(self.keys.subject(subject))
            .key(self.keys.login(subject))
            .arg(login);
        Step {
            revocations: Some(&session.memory),
            ..step
        }
    }

    pub(super) fn of_owner(&self, name: &'static str, by: Party, life: String) -> Step<'static> {
        let (owned, quota) = self.keys.owned(by);
        Step::ending(name)
            .key(owned)
            .arg(life)
            .arg(self.keys.session(b""))
            .arg(quota)
    }
}

/// How long something is remembered, in seconds by the server's clock.
fn life(until: u64, now: u64) -> String {
    let life = until.saturating_sub(now).saturating_add(APART);
    // No more than its clock can count.
    life.min(u64::from(u32::MAX)).to_string()
}

fn number(text: &[u8]) -> Result<u64, StoreError> {
    let text = std::str::from_utf8(text).map_err(|_| StoreError)?;
    text.parse().map_err(|_| StoreError)
}

fn ending(answer: Vec<Vec<u8>>, by: Party) -> Result<Ending, StoreError> {
    let mut answer = answer.into_iter();
    match (answer.next().as_deref(), answer.next()) {
        (Some(b"done"), None) => Ok(Ending::Done),
        // What strangers share is full, which is nobody's own quota.
        (Some(b"quota"), None) if by == Party::Stranger => Err(StoreError),
        (Some(b"quota"), None) => Ok(Ending::OverQuota),
        (Some(b"replaced"), Some(id)) => {
            let id = id.try_into().map_err(|_| StoreError)?;
            Ok(Ending::Replaced(RevocationId(id)))
        }
        _ => Err(StoreError),
    }
}
