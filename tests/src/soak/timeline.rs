//! What was done to the system when, and what may be refused because of it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bulla_client::Code;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Redis is killed, and started again over what it had saved a moment before.
    RedisRestart,
    /// Redis is killed, and started again with nothing.
    RedisLost,
    /// Redis is stopped where it is.
    RedisFrozen,
    /// Redis has no memory left.
    RedisFull,
    /// A node is killed, and started again.
    NodeKilled,
    /// A node is stopped where it is.
    NodeFrozen,
    /// A node's clock is ahead or behind, by more than is allowed or by less.
    ClockJump,
    /// Nothing passes between a node and Redis.
    LinkDown,
    /// What passes between a node and Redis takes longer.
    LinkSlow,
    /// What passes between clients and nodes takes longer.
    ClientsSlow,
    /// Replies are truncated, and connections of clients reset.
    ClientsCut,
    /// A node's packets are lost, by the kernel.
    PacketLoss,
    /// A node's packets wait in a queue, by the kernel.
    PacketDelay,
    /// The ring has another key. Nothing is done to bring that about, and nothing may be refused because of it.
    RingRotated,
}

/// What a kind of fault is about, for the plots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The store.
    Redis,
    /// A server.
    Node,
    /// Time.
    Clock,
    /// What lies in between.
    Network,
    /// The ring.
    Ring,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Redis,
        Self::Node,
        Self::Clock,
        Self::Network,
        Self::Ring,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Node => "node",
            Self::Clock => "clock",
            Self::Network => "network",
            Self::Ring => "ring",
        }
    }
}

impl Kind {
    /// Those that are brought about.
    pub const ALL: [Self; 13] = [
        Self::RedisRestart,
        Self::RedisLost,
        Self::RedisFrozen,
        Self::RedisFull,
        Self::NodeKilled,
        Self::NodeFrozen,
        Self::ClockJump,
        Self::LinkDown,
        Self::LinkSlow,
        Self::ClientsSlow,
        Self::ClientsCut,
        Self::PacketLoss,
        Self::PacketDelay,
    ];

    /// What it is about.
    pub fn part(self) -> Part {
        match self {
            Self::RedisRestart | Self::RedisLost | Self::RedisFrozen | Self::RedisFull => {
                Part::Redis
            }
            Self::NodeKilled | Self::NodeFrozen => Part::Node,
            Self::ClockJump => Part::Clock,
            Self::RingRotated => Part::Ring,
            _ => Part::Network,
        }
    }

    /// Whether it is done to packets, in a network namespace.
    pub(super) fn is_of_packets(self) -> bool {
        matches!(self, Self::PacketLoss | Self::PacketDelay)
    }

    /// Whether an honest client may be told this because of it. What the documents say: `docs/operations.md` on Redis,
    /// `docs/server.md` on clocks and several nodes, `docs/protocol.md` on what codes mean.
    fn explains(self, code: Code) -> bool {
        // A login whose answer was lost, or that nobody could say of whether it was done.
        if code == Code::SessionRevoked {
            return self != Self::RingRotated;
        }
        let is_lost = matches!(code, Code::Network | Code::ReplyTruncated);
        let has_ended = matches!(
            code,
            Code::TicketInvalid | Code::TicketExpired | Code::NonceStale
        );
        // Streams break off, too, whose session has ended, or of which nobody can say whether it has.
        let is_away = is_lost || code == Code::StoreUnavailable;
        match self {
            Self::RedisRestart | Self::RedisLost => is_away || has_ended,
            // What was under way when the ring was dropped; and by nodes whose times differ a nonce is stale to one and not to
            // the other, as is the work that comes with it. What one has refused for that a thief brings to the other, and
            // it is its client who repeats it.
            Self::ClockJump => {
                let of_nonces = matches!(code, Code::WorkRequired | Code::Replayed);
                is_away || has_ended || of_nonces || code == Code::Internal
            }
            Self::RedisFrozen
            | Self::RedisFull
            | Self::LinkDown
            | Self::LinkSlow
            | Self::NodeKilled
            | Self::NodeFrozen
            | Self::PacketLoss
            | Self::PacketDelay => is_away,
            Self::ClientsSlow | Self::ClientsCut => is_lost,
            Self::RingRotated => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RedisRestart => "Redis restarted with old data",
            Self::RedisLost => "Redis restarted empty",
            Self::RedisFrozen => "Redis stopped",
            Self::RedisFull => "Redis full",
            Self::NodeKilled => "node killed",
            Self::NodeFrozen => "node stopped",
            Self::ClockJump => "clock of a node wrong",
            Self::LinkDown => "node cut off from Redis",
            Self::LinkSlow => "Redis far away",
            Self::ClientsSlow => "clients far away",
            Self::ClientsCut => "replies cut, connections reset",
            Self::PacketLoss => "packets lost",
            Self::PacketDelay => "packets delayed",
            Self::RingRotated => "ring rotated",
        })
    }
}

/// One fault. Times are in seconds since the run began.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What kind it is.
    pub kind: Kind,
    /// More about it.
    pub detail: String,
    /// When it began.
    pub start: f64,
    /// When it was over.
    pub end: Option<f64>,
    /// How much longer than others it is felt after that.
    pub lasts: f64,
}

/// All faults, and the time that they are told by.
pub(super) struct Timeline {
    began: Instant,
    /// How long after a fault it may still be felt.
    grace: f64,
    faults: Mutex<Vec<Fault>>,
}

impl Timeline {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            began: Instant::now(),
            grace: grace.as_secs_f64(),
            faults: Mutex::default(),
        }
    }

    /// Seconds since the run began.
    pub(super) fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Notes that a fault begins, and returns its number.
    pub(super) fn begin(&self, kind: Kind, detail: String) -> usize {
        let start = self.now();
        println!("soak: {start:7.1} s  {kind}{}", in_brackets(&detail));
        let mut faults = self.lock();
        faults.push(Fault {
            kind,
            detail,
            start,
            end: None,
            lasts: 0.0,
        });
        faults.len() - 1
    }

    pub(super) fn end(&self, number: usize, lasts: Duration) {
        let now = self.now();
        if let Some(fault) = self.lock().get_mut(number) {
            fault.end = Some(now);
            fault.lasts = lasts.as_secs_f64();
        }
    }

    /// Whether there was a fault since `start` that explains this.
    pub(super) fn explains(&self, code: Code, start: f64) -> bool {
        self.lock().iter().any(|fault| {
            let is_felt = |end| end + fault.lasts + self.grace >= start;
            fault.end.is_none_or(is_felt) && fault.kind.explains(code)
        })
    }

    /// What is going on, for people.
    pub(super) fn said(&self) -> String {
        let now = self.now();
        let faults = self.lock();
        let last = faults
            .iter()
            .rev()
            .find(|fault| fault.kind != Kind::RingRotated);
        match last {
            None => "before any fault".to_owned(),
            Some(fault) => {
                let what = format!("{}{}", fault.kind, in_brackets(&fault.detail));
                match fault.end {
                    None => format!("during: {what}"),
                    Some(end) => format!("{:.1} s after: {what}", now - end),
                }
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Fault> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_brackets(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(" ({detail})")
    }
}
