//! Which rules the bank has: one for each thing that a rule can do.

use std::time::Duration;

use bulla_server::{Action, Rule, Rules, SecurityEvent, Threshold};
use serde::Serialize;

/// Short, so that a rule can be seen to fire again: it does so once in this time.
const WITHIN: Duration = Duration::from_secs(10);

/// How often is too often, and what is done then. Those that are not here record.
const TABLE: [(Rule, u32, Action); 4] = [
    (Rule::MissingProof, 3, Action::Record),
    (Rule::ForeignTicket, 1, Action::StepUp),
    (Rule::Refusals, 5, Action::Throttle(Duration::from_secs(10))),
    (Rule::NetworkChange, 1, Action::End),
];

pub(crate) fn rules() -> Rules {
    let rules = TABLE.iter().fold(Rules::default(), |rules, set| {
        let &(rule, count, action) = set;
        rules.on(rule, Threshold::new(count, WITHIN), action)
    });
    // Whoever has copied a ticket can slow its owner down here. A bank would not have that; a demo has to show
    // what it looks like.
    rules.let_a_ticket_lock_out()
}

/// A rule as the page gets it.
#[derive(Serialize)]
pub(crate) struct Shown {
    rule: &'static str,
    count: u32,
    /// In seconds.
    within: u64,
    done: &'static str,
}

pub(crate) fn shown() -> [Shown; 4] {
    TABLE.map(|(rule, count, action)| Shown {
        rule: rule.name(),
        count,
        within: WITHIN.as_secs(),
        done: name(action),
    })
}

/// How often it takes to make a rule fire.
pub(crate) fn count(rule: Rule) -> u32 {
    let set = TABLE.iter().find(|(known, ..)| *known == rule);
    set.map_or(0, |(_, count, _)| *count)
}

/// What was done, if the event is about a rule.
pub(crate) fn done(event: &SecurityEvent) -> Option<&'static str> {
    let rule = event.kind.rule()?;
    let set = TABLE.iter().find(|(known, ..)| *known == rule);
    let action = set.map_or(Action::Record, |(.., action)| *action);
    Some(match action {
        // There is nobody who could log in again.
        Action::StepUp if event.subject.is_none() => name(Action::Record),
        action => name(action),
    })
}

fn name(action: Action) -> &'static str {
    match action {
        Action::StepUp => "step_up",
        Action::Throttle(_) => "throttled",
        Action::End => "ended",
        _ => "recorded",
    }
}
