//! Rules on top of security events: what happens too often, and what is done about it.
//!
//! Whoever has copied a ticket can make some of them fire in its owner's name. So there nothing may be done
//! that locks the owner out, unless the application says so. All that is counted is in the memory of one node, and has
//! a fixed size; what falls out of it begins anew. What is done about it every node knows, by the store; but for
//! [`Action::Throttle`].

use std::time::Duration;

use bulla_protocol::error::{Code, Error};

use self::counts::Counts;
use self::places::Places;
use self::sentences::{Sentence, Sentences};
use crate::bulla::Bulla;
use crate::codes::is_never_honest;
use crate::error::ConfigError;
use crate::event::{About, EventKind};
use crate::lifetimes::seconds;
use crate::ticket::RevocationId;

mod counts;
mod places;
mod sentences;

/// What happens too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Requests of one session are refused as no honest client's are: forged, changed, replayed.
    Refusals,
    /// A session's ticket is shown by another device: it has been copied.
    ForeignTicket,
    /// A session's ticket, or a bound cookie, is shown without any proof.
    MissingProof,
    /// Cookies that are bound to other devices, or made up, are tried in one session.
    ForeignCookie,
    /// One session goes on from another network.
    NetworkChange,
    /// One network opens sessions.
    Openings,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Refusals,
        Self::ForeignTicket,
        Self::MissingProof,
        Self::ForeignCookie,
        Self::NetworkChange,
        Self::Openings,
    ];

    /// Its stable name, as it stands in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refusals => "refusals",
            Self::ForeignTicket => "foreign_ticket",
            Self::MissingProof => "missing_proof",
            Self::ForeignCookie => "foreign_cookie",
            Self::NetworkChange => "network_change",
            Self::Openings => "openings",
        }
    }

    /// Whether others can make it fire in somebody's session: with nothing but its ticket, or, from a sibling domain, with a
    /// cookie that they put into its browser.
    const fn can_be_brought_about(self) -> bool {
        matches!(
            self,
            Self::Refusals | Self::ForeignTicket | Self::MissingProof | Self::ForeignCookie
        )
    }

    /// The rule that an event counts for.
    fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::Refused(error) | EventKind::LetPass(error) => match error.code {
                Code::ProofMissing => Some(Self::MissingProof),
                code => is_never_honest(code).then_some(Self::Refusals),
            },
            EventKind::ForeignTicket => Some(Self::ForeignTicket),
            EventKind::CookieUnproven => Some(Self::MissingProof),
            EventKind::CookieDropped => Some(Self::ForeignCookie),
            EventKind::NetworkChanged => Some(Self::NetworkChange),
            EventKind::Opened => Some(Self::Openings),
            _ => None,
        }
    }
}

/// What is done when a rule fires, beside recording it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Nothing. That it has fired is recorded as with all others, as [`EventKind::Rule`].
    Record,
    /// Until the user logs in again, the session is refused wherever a
    /// [recent login](crate::Require::recent_login) or an [assurance](crate::Require::assurance) is asked for,
    /// and [`Session::must_step_up`](crate::Session::must_step_up) says so. So are this user's other sessions that
    /// were logged in to no later: it is a [revocation](crate::Revocation::RecentLogin), and every node knows it.
    StepUp,
    /// For so long the session has one request a second, and others are refused with `rate_limited`. At this
    /// node.
    Throttle(Duration),
    /// The session ends, everywhere.
    End,
}

/// How often is too often: so many times within so long, counted from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// The last of so many makes the rule fire; 0 is 1.
    pub count: u32,
    /// In whole seconds.
    pub within: Duration,
}

impl Threshold {
    /// So many times within so long.
    pub const fn new(count: u32, within: Duration) -> Self {
        Self { count, within }
    }
}

/// Which rules there are. By default all of them, and each only records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Rules {
    set: Vec<(Rule, Threshold, Action)>,
    a_ticket_may_lock_out: bool,
}

impl Default for Rules {
    fn default() -> Self {
        let minute = Duration::from_mins(1);
        let (few, often) = (minute * 10, Threshold::new(10, minute));
        Self::none()
            .on(Rule::Refusals, often, Action::Record)
            .on(
                Rule::ForeignTicket,
                Threshold::new(1, minute),
                Action::Record,
            )
            .on(
                Rule::MissingProof,
                Threshold::new(3, minute),
                Action::Record,
            )
            .on(Rule::ForeignCookie, Threshold::new(3, few), Action::Record)
            .on(Rule::NetworkChange, Threshold::new(3, few), Action::Record)
            .on(Rule::Openings, Threshold::new(100, minute), Action::Record)
    }
}

impl Rules {
    /// None at all.
    pub const fn none() -> Self {
        Self {
            set: Vec::new(),
            a_ticket_may_lock_out: false,
        }
    }

    /// Sets a rule, in the place of the one that there is.
    pub fn on(mut self, rule: Rule, threshold: Threshold, action: Action) -> Self {
        self.set.retain(|(other, ..)| *other != rule);
        self.set.push((rule, threshold, action));
        self
    }

    /// Takes a rule away.
    pub fn off(mut self, rule: Rule) -> Self {
        self.set.retain(|(other, ..)| *other != rule);
        self
    }

    /// Allows [`Action::Throttle`] and [`Action::End`] also for rules that whoever has copied a ticket can make
    /// fire ([`Rule::Refusals`], [`Rule::ForeignTicket`], [`Rule::MissingProof`]), or who can put a cookie into the browser
    /// ([`Rule::ForeignCookie`]). A thief who can do nothing
    /// else with it can then end the session of its owner.
    pub fn let_a_ticket_lock_out(mut self) -> Self {
        self.a_ticket_may_lock_out = true;
        self
    }

    /// # Errors
    ///
    /// [`ConfigError::Rule`].
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let is_allowed = |(rule, _, action): &&(Rule, Threshold, Action)| match action {
            Action::Record => true,
            // There is no session to do it to.
            _ if *rule == Rule::Openings => false,
            Action::StepUp => true,
            Action::Throttle(_) | Action::End => {
                !rule.can_be_brought_about() || self.a_ticket_may_lock_out
            }
        };
        match self.set.iter().find(|set| !is_allowed(set)) {
            Some((rule, ..)) => Err(ConfigError::Rule(*rule)),
            None => Ok(()),
        }
    }

    fn of(&self, kind: &EventKind) -> Option<&(Rule, Threshold, Action)> {
        let rule = Rule::of(kind)?;
        self.set.iter().find(|(set, ..)| *set == rule)
    }

    fn has(&self, rule: Rule) -> bool {
        self.set.iter().any(|(set, ..)| *set == rule)
    }
}

/// The rules, and what they have seen.
pub(crate) struct Guard {
    rules: Rules,
    counts: Counts,
    places: Places,
    sentences: Sentences,
}

impl Guard {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            counts: Counts::new(),
            places: Places::new(),
            sentences: Sentences::default(),
        }
    }

    /// Whether the session's user has to log in again.
    pub(crate) fn must_step_up(&self, session: RevocationId, now: u32) -> bool {
        self.sentences.must_step_up(session, now)
    }

    /// A session has taken the place of another: what is known of that one is known of it.
    pub(crate) fn inherit(&self, old: RevocationId, new: RevocationId) {
        self.sentences.inherit(old, new);
        self.places.inherit(old, new);
    }

    /// # Errors
    ///
    /// [`Code::SessionRevoked`] if a rule has ended the session, whether or not the store knows.
    pub(crate) fn check_end(&self, session: RevocationId, now: u32) -> Result<(), Error> {
        self.sentences.check_end(session, now)
    }

    /// # Errors
    ///
    /// [`Code::RateLimited`] if a rule has slowed the session down, and it is not its turn.
    pub(crate) fn take_turn(&self, session: RevocationId, now: u32) -> Result<(), Error> {
        self.sentences.take_turn(session, now)
    }
}

impl Bulla {
    /// Counts an event, and does at once what can be done at once.
    pub(crate) fn judge(&self, kind: &EventKind, about: &About) {
        let guard = &self.0.guard;
        let Some(&(rule, threshold, action)) = guard.rules.of(kind) else {
            return;
        };
        let names = self.pseudonyms();
        let by_session = about.session.map(|session| names.session(session));
        let name = match (rule, about.network) {
            (Rule::Openings, network) => network.map(|network| names.network(network)),
            // A cookie without a proof tells of no session; only whose it is.
            _ => by_session.or_else(|| about.device.map(|device| names.device(device))),
        };
        let Some(name) = name else {
            return;
        };
        let now = self.now();
        if !guard.counts.is_too_often(rule, name, threshold, now) {
            return;
        }
        self.report(EventKind::Rule(rule), about);
        let Some(session) = about.session else {
            return;
        };
        let until = now.saturating_add(seconds(self.0.lifetimes.session));
        match action {
            Action::Record => {}
            Action::StepUp => {
                // If there is none, nobody could log in again.
                if let (Some(subject), Some(login)) = (about.subject, about.login) {
                    let again = Sentence::StepUp(subject, login);
                    guard.sentences.pass(session, again, until);
                }
            }
            Action::Throttle(how_long) => {
                let until = now.saturating_add(seconds(how_long));
                guard.sentences.pass(session, Sentence::Throttle, until);
            }
            Action::End => {
                let end = Sentence::End(about.subject.into());
                guard.sentences.pass(session, end, until);
            }
        }
    }

    /// Notices where a session goes on from.
    pub(crate) fn notice_network(&self, about: &About) {
        let guard = &self.0.guard;
        if let (Some(session), Some(network)) = (about.session, about.network)
            && guard.rules.has(Rule::NetworkChange)
            && guard.places.has_moved(session, network)
        {
            self.report(EventKind::NetworkChanged, about);
        }
    }

    /// Tells the store what rules have done to sessions. What it cannot take now it is given with the next
    /// request; at this node it is so all the same.
    pub(crate) async fn carry_out(&self) {
        while let Some(owed) = self.0.guard.sentences.next_to_store() {
            match self.end(owed.revocation.clone(), owed.by).await {
                Ok(()) => {}
                // Of whoever has more ended than he may, this node alone knows it.
                Err(error) if error.code == Code::RateLimited => {}
                Err(_) => return,
            }
            let (kind, about) = About::ended(&owed.revocation);
            owed.settle();
            self.report(kind, &about);
        }
    }
}
