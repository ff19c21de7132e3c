//! How often something has happened lately, in room of a fixed size.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError};

use super::{Rule, Threshold};
use crate::event::Pseudonym;
use crate::lifetimes::seconds;

/// Each name has one place for each rule, and the newest that wants it has it: whoever makes up many names lets
/// others be forgotten, and fills nothing.
pub(super) struct Counts {
    places: Mutex<Box<[Option<Count>]>>,
    hasher: RandomState,
}

#[derive(Clone)]
struct Count {
    rule: Rule,
    name: Pseudonym,
    since: u32,
    times: u32,
}

impl Counts {
    const PLACES: usize = 4096;

    pub(super) fn new() -> Self {
        Self {
            places: Mutex::new(vec![None; Self::PLACES].into()),
            hasher: RandomState::new(),
        }
    }

    /// Counts once more. Whether it is now that it has been too often: not before, and not again within the same
    /// time.
    pub(super) fn is_too_often(
        &self,
        rule: Rule,
        name: Pseudonym,
        threshold: Threshold,
        now: u32,
    ) -> bool {
        let hash = self.hasher.hash_one((rule, name));
        let at = usize::try_from(hash % Self::PLACES as u64).unwrap_or_default();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut places[at];
        let begun = place.take().filter(|known| {
            let is_it = (known.rule, known.name) == (rule, name);
            is_it && now.saturating_sub(known.since) < seconds(threshold.within).max(1)
        });
        let count = begun.map_or(
            Count {
                rule,
                name,
                since: now,
                times: 1,
            },
            |known| Count {
                times: known.times.saturating_add(1),
                ..known
            },
        );
        let is_now = count.times == threshold.count.max(1);
        *place = Some(count);
        is_now
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::Pseudonyms;

    #[test]
    fn it_is_too_often_once_in_each_window_and_for_each_name() {
        let (counts, names) = (Counts::new(), Pseudonyms::new(&[1; 32]));
        let (ann, bob) = (names.subject("ann"), names.subject("bob"));
        let threshold = Threshold::new(3, Duration::from_secs(10));
        let count = |name, now| counts.is_too_often(Rule::Refusals, name, threshold, now);
        let seen: Vec<_> = [100, 101, 109, 109, 109, 110, 111, 112, 113]
            .map(|now| count(ann, now))
            .into();
        let expected = [false, false, true, false, false, false, false, true, false];
        assert_eq!(seen, expected);
        assert!(!count(bob, 113));
        // Another rule counts for itself; and one that is not more than once fires with the first.
        let once = Threshold::new(0, Duration::ZERO);
        for now in [113, 114] {
            assert!(counts.is_too_often(Rule::ForeignTicket, ann, once, now));
        }
    }

    #[test]
    fn many_names_take_no_more_room() {
        let (counts, names) = (Counts::new(), Pseudonyms::new(&[1; 32]));
        let threshold = Threshold::new(2, Duration::from_mins(1));
        for user in 0..20_000 {
            let name = names.subject(&user.to_string());
            counts.is_too_often(Rule::Refusals, name, threshold, 100);
        }
        assert_eq!(counts.places.lock().unwrap().len(), Counts::PLACES);
    }
}
