//! Security events: what was refused, what has begun and ended, for whoever keeps watch.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;
use http::Uri;
use tokio::sync::broadcast;

use crate::bulla::Bulla;
use crate::network::Network;
use crate::rules::Rule;
use crate::session::Facts;
use crate::store::Revocation;
use crate::subject::Subject;
use crate::ticket::{RevocationId, SessionState};

pub(crate) mod feed;
mod log;
#[cfg(feature = "metrics")]
pub(crate) mod meter;
mod pseudonym;

pub use feed::{Events, Missed};
pub use pseudonym::{Pseudonym, Pseudonyms};

/// Something that a security team wants to know.
///
/// Whom it is about is said by [pseudonyms](Pseudonyms), and no secret is in it, but for what an application puts into its
/// [paths](Self::path). Where they hold none and name nobody it can go to any log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityEvent {
    /// When, in seconds since 1970.
    pub time: u64,
    /// What has happened.
    pub kind: EventKind,
    /// The session, where a ticket has told it.
    pub session: Option<Pseudonym>,
    /// The device key, once a request has come as far as its signature.
    pub device: Option<Pseudonym>,
    /// Who is logged in, or was.
    pub subject: Option<Pseudonym>,
    /// Where the request came from, where [that is known](crate::Builder::network).
    pub network: Option<Pseudonym>,
    /// The path that the request was for, as it came, without its query: 256 bytes of it at most. Of a sealed request it is
    /// the inner one, once that could be read, which nobody on the way has seen. A token that resets a password, say, or an
    /// e-mail address stands here if it stands in the path: drop or shorten it before it is kept, and in `tracing` filter the
    /// target `bulla::refused`. What is not visible ASCII is percent-encoded, and so are quotes and backslashes.
    pub path: Option<String>,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A request was refused: by the verifier, by [`Require`](crate::Require), by the `Session` extractor, or
    /// by a handler that answers with [`Refused`](crate::Refused).
    Refused(Error),
    /// A request would have been refused, and has passed, since its path is only
    /// [monitored](crate::Builder::monitor).
    LetPass(Error),
    /// A ticket, or an access token, was shown by another device than the one that it was made for: it has been copied.
    /// The request was refused, too. The session is the ticket's, the device is whoever showed it.
    ForeignTicket,
    /// A bound cookie was shown without any proof, and the request was refused: stolen, or a link was followed to what
    /// only `fetch` reaches. The device is the cookie's.
    CookieUnproven,
    /// A bound cookie of another device, or one that was made up, was dropped; the request went on without it.
    CookieDropped,
    /// A streamed upload broke when the handler had it already.
    UploadBroken(Error),
    /// A session goes on from another network.
    NetworkChanged,
    /// A rule has fired: something happens too often.
    Rule(Rule),
    /// A session was opened: a new one, or one that was carried over to fresh keys.
    Opened,
    /// A device key has been rotated, and its user logged in. The device is the new key's; that the old one is locked out
    /// is a [`DeviceEnded`](Self::DeviceEnded) of its own, just before.
    KeyRotated,
    /// Somebody has logged in. The session is the one that ends with it.
    LoggedIn,
    /// A session has ended, by itself or by the application.
    SessionEnded,
    /// All sessions of a user have ended.
    SubjectEnded,
    /// All sessions of a device have ended, and it can open no others.
    DeviceEnded,
    /// All sessions have ended.
    AllEnded,
    /// A user has to log in again where a recent login is asked for.
    StepUp,
    /// The application has noticed something in a session, and [says so](crate::Session::notice) by a name of its own.
    Noticed(&'static str),
}

impl EventKind {
    /// Its stable name, as it stands in logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::LetPass(_) => "let_pass",
            Self::ForeignTicket => "foreign_ticket",
            Self::CookieUnproven => "cookie_unproven",
            Self::CookieDropped => "cookie_dropped",
            Self::UploadBroken(_) => "upload_broken",
            Self::NetworkChanged => "network_changed",
            Self::Rule(_) => "rule",
            Self::Opened => "opened",
            Self::KeyRotated => "key_rotated",
            Self::LoggedIn => "logged_in",
            Self::SessionEnded => "session_ended",
            Self::SubjectEnded => "subject_ended",
            Self::DeviceEnded => "device_ended",
            Self::AllEnded => "all_ended",
            Self::StepUp => "step_up",
            Self::Noticed(_) => "noticed",
        }
    }

    /// Why, where something was refused or would have been.
    pub const fn error(&self) -> Option<Error> {
        match self {
            Self::Refused(error) | Self::LetPass(error) | Self::UploadBroken(error) => Some(*error),
            _ => None,
        }
    }

    /// The code of [`Self::error`]: why, where something was refused or would have been. `None` for all other kinds.
    pub fn code(&self) -> Option<Code> {
        self.error().map(|error| error.code)
    }

    /// Which rule has fired, if one has.
    pub const fn rule(&self) -> Option<Rule> {
        match self {
            Self::Rule(rule) => Some(*rule),
            _ => None,
        }
    }

    /// What the application has noticed, by its own name for it.
    pub const fn noticed(&self) -> Option<&'static str> {
        match self {
            Self::Noticed(what) => Some(*what),
            _ => None,
        }
    }
}

/// Is told of every event. Must be quick: it runs on the request's way.
#[derive(Clone)]
pub(crate) struct Listener(pub(crate) Arc<dyn Fn(&SecurityEvent) + Send + Sync>);

/// What is known of a request so far, should there be something to report.
#[derive(Clone, Default)]
pub(crate) struct About {
    pub(crate) uri: Option<Uri>,
    pub(crate) session: Option<RevocationId>,
    pub(crate) device: Option<Thumbprint>,
    pub(crate) subject: Option<Subject>,
    /// When that one logged in, in seconds since 1970.
    pub(crate) login: Option<u32>,
    pub(crate) network: Option<Network>,
}

impl About {
    /// Nothing but where it was sent to, and where it came from.
    pub(crate) fn new(uri: Uri, network: Option<Network>) -> Self {
        Self {
            uri: Some(uri),
            network,
            ..Self::default()
        }
    }

    /// What a ticket says.
    pub(crate) fn learn(&mut self, state: &SessionState) {
        self.session = Some(state.id.into());
        self.subject = state.subject;
        self.login = state.subject.map(|_| state.login);
    }

    /// What a handler has done to its session.
    pub(crate) fn by(facts: &Facts) -> Self {
        Self {
            uri: None,
            session: Some(facts.id.into()),
            device: Some(facts.device),
            subject: facts.subject.map(|(subject, _)| subject),
            login: facts.subject.map(|(_, login)| login),
            network: facts.network,
        }
    }

    /// What has ended, and no request is known.
    pub(crate) fn ended(revocation: &Revocation) -> (EventKind, Self) {
        let mut about = Self::default();
        let kind = match revocation {
            Revocation::Session(session) => {
                about.session = Some(*session);
                EventKind::SessionEnded
            }
            Revocation::Subject(subject, _) => {
                about.subject = Some(*subject);
                EventKind::SubjectEnded
            }
            Revocation::RecentLogin(subject, _) => {
                about.subject = Some(*subject);
                EventKind::StepUp
            }
            Revocation::Device(device) => {
                about.device = Some(*device);
                EventKind::DeviceEnded
            }
        };
        (kind, about)
    }

    /// The path, for the log: whoever makes it up decides how long it is, and what is in it.
    fn path(&self) -> Option<String> {
        let mut path = String::new();
        for byte in self.uri.as_ref()?.path().bytes() {
            let is_plain = byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
            let len = if is_plain { 1 } else { 3 };
            if path.len() + len > MAX_PATH_LEN {
                break;
            }
            if is_plain {
                path.push(byte.into());
            } else {
                // It can be written to a string.
                let _ = write!(path, "%{byte:02X}");
            }
        }
        Some(path)
    }
}

/// As much of a path stands in an event, in bytes.
const MAX_PATH_LEN: usize = 256;

/// Whoever is told.
pub(crate) struct Watch {
    pub(crate) pseudonyms: Pseudonyms,
    pub(crate) listener: Option<Listener>,
    pub(crate) feed: broadcast::Sender<Arc<SecurityEvent>>,
}

impl Bulla {
    /// What stands for sessions, devices and users in events and logs.
    pub fn pseudonyms(&self) -> &Pseudonyms {
        &self.0.watch.pseudonyms
    }

    /// Every security event from now on, for a task that stores or sends them.
    pub fn events(&self) -> Events {
        Events::new(self.0.watch.feed.subscribe())
    }

    /// Says that a server has refused by itself what came from this address, because it was no HTTP that could be read
    /// (RFC 9112 section 3): [`EventKind::Refused`] with [`Code::Malformed`]. It has seen no more of it. The address is
    /// that of the client, not of a proxy before the server, and `None` if only that one is known.
    pub fn unreadable(&self, from: Option<IpAddr>) {
        let refused = Code::Malformed.because("it is no HTTP");
        let about = About {
            network: from.map(Network::from),
            ..About::default()
        };
        self.report(EventKind::Refused(refused), &about);
    }

    /// Tells whoever is to know, and then counts it.
    pub(crate) fn report(&self, kind: EventKind, about: &About) {
        self.tell(kind, about);
        self.judge(&kind, about);
    }

    /// Tells the log, the meters, and whoever listens.
    fn tell(&self, kind: EventKind, about: &About) {
        #[cfg(feature = "metrics")]
        meter::count(&kind);
        let watch = &self.0.watch;
        if !log::is_on(&kind) && watch.listener.is_none() && watch.feed.receiver_count() == 0 {
            return;
        }
        let names = &watch.pseudonyms;
        let event = SecurityEvent {
            time: u64::from(self.now()),
            kind,
            session: about.session.map(|id| names.session(id)),
            device: about.device.map(|device| names.device(device)),
            subject: about.subject.map(|subject| names.subject(subject.as_str())),
            network: about.network.map(|network| names.network(network)),
            path: about.path(),
        };
        log::write(&event);
        if let Some(Listener(listener)) = &watch.listener {
            listener(&event);
        }
        // Nobody may be listening.
        let _ = watch.feed.send(Arc::new(event));
    }
}
