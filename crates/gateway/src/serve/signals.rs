//! What the system tells the process (POSIX signals).

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that are waited for. From here on none of them ends the process by itself.
pub(super) struct Signals {
    pub(super) end: End,
    pub(super) reload: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            end: End {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            reload: signal(SignalKind::hangup())?,
        })
    }
}

/// Whoever asks for the end.
pub(super) struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    /// Waits until somebody asks.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
