//! What rules have sentenced sessions to.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulla_protocol::error::{Code, Error};

use crate::store::{Party, Revocation};
use crate::subject::Subject;
use crate::ticket::RevocationId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sentence {
    /// For this user, who had logged in at this second since 1970.
    StepUp(Subject, u32),
    Throttle,
    /// In this part of the store.
    End(Party),
}

/// By session.
#[derive(Default)]
pub(super) struct Sentences(Mutex<State>);

#[derive(Default)]
struct State {
    passed: HashMap<RevocationId, Passed>,
    /// Those that the store has not been told of.
    to_store: VecDeque<(Revocation, Party)>,
}

/// Until when, in seconds since 1970.
#[derive(Clone, Copy, Default)]
struct Passed {
    step_up: u32,
    throttle: u32,
    end: u32,
    /// When one that is throttled has its next request.
    next: u32,
}

impl Passed {
    /// When nothing of it is left.
    fn until(&self) -> u32 {
        self.step_up.max(self.throttle).max(self.end)
    }
}

/// What the store is to be told. It is owed still if whoever was to tell it has gone before the store has answered.
pub(super) struct Owed<'a> {
    sentences: &'a Sentences,
    pub(super) revocation: Revocation,
    pub(super) by: Party,
    is_paid: bool,
}

impl Owed<'_> {
    /// The store has answered.
    pub(super) fn settle(mut self) {
        self.is_paid = true;
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if !self.is_paid {
            let owed = (self.revocation.clone(), self.by);
            self.sentences.lock().to_store.push_back(owed);
        }
    }
}

/// As many sessions at once. Beyond, the one that would be over first makes room: the store knows of those that
/// have ended.
const MOST: usize = 100_000;

impl Sentences {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pass(&self, session: RevocationId, sentence: Sentence, until: u32) {
        let state = &mut *self.lock();
        let passed = state.room_for(session);
        match sentence {
            Sentence::StepUp(subject, login) => {
                let is_new = passed.step_up == 0;
                passed.step_up = until.max(passed.step_up);
                if is_new {
                    // A client makes of it no more than there are users.
                    let again = Revocation::RecentLogin(subject, login);
                    state.tell_store(again, Party::Application);
                }
            }
            Sentence::Throttle => passed.throttle = until.max(passed.throttle),
            Sentence::End(by) => {
                let is_new = passed.end == 0;
                passed.end = until.max(passed.end);
                if is_new {
                    state.tell_store(Revocation::Session(session), by);
                }
            }
        }
    }

    pub(super) fn must_step_up(&self, session: RevocationId, now: u32) -> bool {
        let state = self.lock();
        state
            .passed
            .get(&session)
            .is_some_and(|passed| now < passed.step_up)
    }

    /// Whatever the one was sentenced to, the other is, and what it was itself.
    pub(super) fn inherit(&self, old: RevocationId, new: RevocationId) {
        let state = &mut *self.lock();
        if let Some(passed) = state.passed.get(&old).copied() {
            let own = state.room_for(new);
            *own = Passed {
                step_up: passed.step_up.max(own.step_up),
                throttle: passed.throttle.max(own.throttle),
                end: passed.end.max(own.end),
                next: passed.next.max(own.next),
            };
        }
    }

    pub(super) fn check_end(&self, session: RevocationId, now: u32) -> Result<(), Error> {
        match self.lock().passed.get(&session) {
            Some(passed) if now < passed.end => {
                Err(Code::SessionRevoked.because("the session has ended"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn take_turn(&self, session: RevocationId, now: u32) -> Result<(), Error> {
        let mut state = self.lock();
        let Some(passed) = state.passed.get_mut(&session) else {
            return Ok(());
        };
        if now < passed.throttle {
            if now < passed.next {
                return Err(Code::RateLimited.because("the session is slowed down"));
            }
            passed.next = now.saturating_add(1);
        }
        if now >= passed.until() {
            state.passed.remove(&session);
        }
        Ok(())
    }

    pub(super) fn next_to_store(&self) -> Option<Owed<'_>> {
        let (revocation, by) = self.lock().to_store.pop_front()?;
        Some(Owed {
            sentences: self,
            revocation,
            by,
            is_paid: false,
        })
    }
}

impl State {
    fn tell_store(&mut self, revocation: Revocation, by: Party) {
        if self.to_store.len() < MOST {
            self.to_store.push_back((revocation, by));
        }
    }

    fn room_for(&mut self, session: RevocationId) -> &mut Passed {
        if !self.passed.contains_key(&session) && self.passed.len() >= MOST {
            let first = self.passed.iter().min_by_key(|(_, passed)| passed.until());
            if let Some(first) = first.map(|(session, _)| *session) {
                self.passed.remove(&first);
            }
        }
        self.passed.entry(session).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lasts_until_its_time_and_goes_on_in_the_session_that_comes_next() {
        let sentences = Sentences::default();
        let [one, next, other] = [1, 2, 3].map(|id| RevocationId([id; 12]));
        let codes = |session, times: &[u32]| {
            let code = |now| {
                let ended = sentences.check_end(session, now);
                let refused = ended.and_then(|()| sentences.take_turn(session, now));
                refused.err().map(|error| error.code)
            };
            times.iter().copied().map(code).collect::<Vec<_>>()
        };
        let slow = Some(Code::RateLimited);
        sentences.pass(one, Sentence::Throttle, 200);
        let again = ("ann".parse().unwrap(), 50);
        sentences.pass(one, Sentence::StepUp(again.0, again.1), 300);
        sentences.pass(one, Sentence::StepUp(again.0, again.1), 300);
        assert_eq!(codes(one, &[100, 100, 101, 101]), [None, slow, None, slow]);
        sentences.inherit(one, next);
        sentences.inherit(other, next);
        for session in [one, next] {
            assert_eq!(
                codes(session, &[110, 110, 200, 200]),
                [None, slow, None, None]
            );
            assert!(sentences.must_step_up(session, 299));
            assert!(!sentences.must_step_up(session, 300));
        }
        assert!(!sentences.must_step_up(other, 100));
        let again = Revocation::RecentLogin(again.0, again.1);
        let told = || {
            let owed = sentences.next_to_store()?;
            let what = (owed.revocation.clone(), owed.by);
            owed.settle();
            Some(what)
        };
        // Whoever was to tell it has gone.
        drop(sentences.next_to_store());
        assert_eq!(told(), Some((again, Party::Application)));
        assert_eq!(told(), None);

        let end = Sentence::End(Party::Stranger);
        sentences.pass(next, end, 300);
        sentences.pass(next, end, 300);
        assert_eq!(codes(next, &[250]), [Some(Code::SessionRevoked)]);
        let ended = Revocation::Session(next);
        assert_eq!(told(), Some((ended, Party::Stranger)));
        assert_eq!(told(), None);
        // Nothing of it is left.
        assert_eq!(codes(next, &[300]), [None]);
        assert!(!sentences.lock().passed.contains_key(&next));
    }

    #[test]
    fn there_is_an_end_to_how_many_there_are() {
        let sentences = Sentences::default();
        let again = Sentence::StepUp("ann".parse().unwrap(), 50);
        for number in 0..=u32::try_from(MOST).unwrap() {
            let mut id = [0; 12];
            id[..4].copy_from_slice(&number.to_be_bytes());
            sentences.pass(RevocationId(id), again, 1000 + number);
        }
        assert_eq!(sentences.lock().passed.len(), MOST);
        assert!(!sentences.must_step_up(RevocationId([0; 12]), 0));
    }
}
