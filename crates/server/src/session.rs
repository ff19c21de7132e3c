//! What a handler knows of the session, and what it may do to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::opening::SessionId;
use bulla_protocol::proof::ProofKind;

use crate::assurance::Assurance;
use crate::bulla::Bulla;
use crate::event::{About, EventKind};
use crate::network::Network;
use crate::store::{Party, Revocation, SessionRef};
use crate::subject::Subject;

/// A verified session. A value of this type exists only for a request that has passed every check.
#[derive(Clone)]
pub struct Session {
    pub(crate) facts: Arc<Facts>,
    pub(crate) bulla: Bulla,
}

pub(crate) struct Facts {
    pub(crate) id: SessionId,
    pub(crate) device: Thumbprint,
    pub(crate) subject: Option<(Subject, u32)>,
    pub(crate) assurance: Assurance,
    /// The store's memory of revocations under which its ticket was sealed.
    pub(crate) memory: [u8; 16],
    pub(crate) network: Option<Network>,
    pub(crate) proof: ProofKind,
    pub(crate) sealed: bool,
    pub(crate) concealed: bool,
    /// Whether the store says so.
    pub(crate) must_step_up: bool,
    /// When the request had passed every check, in seconds since 1970.
    pub(crate) admitted: u32,
    pub(crate) outcome: Mutex<Outcome>,
}

/// What the handler did to the session, for the answer to tell the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    #[default]
    Unchanged,
    LoggedIn {
        subject: Subject,
        assurance: Assurance,
        /// Whether the device key may sign in another.
        rotates: bool,
    },
    Ended,
}

impl Session {
    pub(crate) fn new(facts: Arc<Facts>, bulla: Bulla) -> Self {
        Self { facts, bulla }
    }

    /// The session's name: a hash over its opening, new at every login.
    pub fn id(&self) -> SessionId {
        self.facts.id
    }

    /// The RFC 7638 thumbprint of the device key.
    pub fn device(&self) -> Thumbprint {
        self.facts.device
    }

    /// The app's user id, if somebody is logged in.
    pub fn subject(&self) -> Option<&str> {
        self.facts
            .subject
            .as_ref()
            .map(|(subject, _)| subject.as_str())
    }

    /// When the user logged in, in seconds since 1970.
    pub fn login_time(&self) -> Option<u64> {
        self.facts
            .subject
            .as_ref()
            .map(|(_, login)| u64::from(*login))
    }

    /// How long ago the user had logged in when this request came, in whole seconds.
    pub fn login_age(&self) -> Option<Duration> {
        let (_, login) = self.facts.subject.as_ref()?;
        let age = self.facts.admitted.saturating_sub(*login);
        Some(Duration::from_secs(age.into()))
    }

    /// Which key proved this request.
    pub fn proof(&self) -> ProofKind {
        self.facts.proof
    }

    /// Whether this request came sealed.
    pub fn is_sealed(&self) -> bool {
        self.facts.sealed
    }

    /// Whether it came sealed and by the endpoint that all such requests share, so that nobody on the way has seen
    /// its path.
    pub fn is_concealed(&self) -> bool {
        self.facts.concealed
    }

    /// How sure the application was of the user at the login.
    pub fn assurance(&self) -> Assurance {
        self.facts.assurance
    }

    /// Whether the user has to log in again, by a [rule](crate::Action::StepUp) or by the
    /// [application](crate::Revocation::RecentLogin).
    pub fn must_step_up(&self) -> bool {
        let Facts { id, admitted, .. } = *self.facts;
        self.facts.must_step_up || self.bulla.0.guard.must_step_up(id.into(), admitted)
    }

    /// Logs a user in: ends this session and hands the client a ticket that is good for one opening
    /// within a minute. The session that it opens has a new id, fresh keys and this subject, so neither
    /// an id nor a key from before the login is worth anything after it.
    ///
    /// `subject` is the app's user id, 1 to 48 bytes. The login counts from when this request came, so
    /// that a revocation in between, say for a new password, ends it too.
    ///
    /// # Errors
    ///
    /// [`Code::ProofWeak`] if the request had no device proof, [`Code::Internal`] if the subject does
    /// not fit, [`Code::SessionLimit`] if this user is logged in as often as [he may be](crate::Concurrency::AtMost),
    /// [`Code::RateLimited`] if too many sessions of this user have ended lately,
    /// [`Code::StoreUnavailable`] if the old session could not be ended, or nobody can say how many there are. At a
    /// refusal this session goes on as it was.
    pub async fn login(&self, subject: &str) -> Result<(), Error> {
        self.login_with(subject, Assurance::NONE).await
    }

    /// The same, and says how sure the application is of who it is: what
    /// [`Require::assurance`](crate::Require::assurance) asks for. Whoever shows a second factor later logs in again,
    /// with more.
    ///
    /// # Errors
    ///
    /// As [`Self::login`].
    pub async fn login_with(&self, subject: &str, assurance: Assurance) -> Result<(), Error> {
        if self.facts.proof != ProofKind::Device {
            return Err(Code::ProofWeak.because("login needs a device proof"));
        }
        // The application's mistake, not the client's.
        let does_not_fit = |error: Error| Code::Internal.because(error.detail);
        let subject = subject.parse().map_err(does_not_fit)?;
        self.bulla
            .expect_room(subject, self.facts.id.into())
            .await?;
        self.end(Some(subject)).await?;
        self.conclude(Outcome::LoggedIn {
            subject,
            assurance,
            rotates: false,
        });
        let mut about = About::by(&self.facts);
        about.subject = Some(subject);
        self.bulla.report(EventKind::LoggedIn, &about);
        Ok(())
    }

    /// Has the client make a new device key, which the present one signs in: to be called in the handler that
    /// [logs the user in](Self::login), after that. With the opening that follows, the device's place on the
    /// [list](Self::devices) is the new key's, and so are the cookies that were bound to it while this user was logged
    /// in; others are gone, also those from before any login. The old key is locked out, whoever has it: as
    /// by [`Revocation::Device`], other users' sessions on that device have ended too, and access tokens that were
    /// issued to it are good for nothing for as long as a session may live; none should live longer. A client that
    /// cannot make one goes on with the key that it has.
    ///
    /// Only with a login, since script in the page can use the key and could have it sign in one that it can carry
    /// away: whoever controls a login could log in on a device of his own just as well. Only in a sealed request, since
    /// whoever ends TLS could have the client throw its key away else.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] if nobody has been logged in by this request, [`Code::SealRequired`] if it was not sealed.
    pub fn rotate_device_key(&self) -> Result<(), Error> {
        const NO_LOGIN: Error =
            Code::Internal.because("a device key is rotated by a login, and there was none");
        const IN_THE_OPEN: Error =
            Code::SealRequired.because("a device key is rotated in sealed requests only");
        match &mut *self.facts.outcome_mut() {
            Outcome::LoggedIn { .. } if !self.facts.sealed => Err(IN_THE_OPEN),
            Outcome::LoggedIn { rotates, .. } => {
                *rotates = true;
                Ok(())
            }
            Outcome::Unchanged | Outcome::Ended => Err(NO_LOGIN),
        }
    }

    /// Ends this session, everywhere and at once.
    ///
    /// # Errors
    ///
    /// [`Code::RateLimited`] if too many sessions of this user have ended lately,
    /// [`Code::StoreUnavailable`] if that could not be remembered.
    pub async fn logout(&self) -> Result<(), Error> {
        self.end(self.facts.subject.map(|(subject, _)| subject))
            .await?;
        self.conclude(Outcome::Ended);
        let about = About::by(&self.facts);
        self.bulla.report(EventKind::SessionEnded, &about);
        Ok(())
    }

    /// Ends all sessions of this session's user that logged in up to now, this one included.
    ///
    /// # Errors
    ///
    /// [`Code::RateLimited`] if too many sessions of this user have ended lately,
    /// [`Code::StoreUnavailable`] if that could not be remembered.
    pub async fn logout_everywhere(&self) -> Result<(), Error> {
        if let Some((subject, _)) = &self.facts.subject {
            let now = self.bulla.now();
            let all = Revocation::Subject(*subject, now);
            let (kind, about) = About::ended(&all);
            self.bulla.end(all, Party::User(*subject)).await?;
            self.bulla.report(kind, &about);
            self.bulla.take_off(*subject, |_, login| login <= now).await;
        }
        self.logout().await
    }

    /// Reports that the application has noticed something in this session, as an event beside the verifier's own:
    /// [`EventKind::Noticed`](crate::EventKind::Noticed). `what` is a stable name for it, and tells nothing of anybody.
    pub fn notice(&self, what: &'static str) {
        let about = About::by(&self.facts);
        self.bulla.report(EventKind::Noticed(what), &about);
    }

    async fn end(&self, by: Option<Subject>) -> Result<(), Error> {
        let this = self.facts.id.into();
        self.bulla.end(Revocation::Session(this), by.into()).await?;
        if let Some((subject, _)) = self.facts.subject {
            self.bulla.take_off(subject, |other, _| other == this).await;
        }
        Ok(())
    }

    fn conclude(&self, outcome: Outcome) {
        *self.facts.outcome_mut() = outcome;
    }
}

impl core::fmt::Debug for Session {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.facts.id)
            .finish_non_exhaustive()
    }
}

/// For a route that wants a session and got none.
pub(crate) const MISSING: Error = Code::ProofMissing
    .because("the request carries no proof, or no verifier stands before this route");

impl Facts {
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome_mut().clone()
    }

    fn outcome_mut(&self) -> MutexGuard<'_, Outcome> {
        // A poisoned lock means that another clone panicked while it held it; there is nothing that it
        // could have left half done.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose the answer is: also if it is what has logged him in.
    pub(crate) fn owner(&self) -> Option<Subject> {
        match self.outcome() {
            Outcome::LoggedIn { subject, .. } => Some(subject),
            _ => self.subject.map(|(subject, _)| subject),
        }
    }

    pub(crate) fn session_ref(&self) -> SessionRef {
        SessionRef {
            session: self.id.into(),
            device: self.device,
            subject: self.subject,
            memory: self.memory,
        }
    }
}
