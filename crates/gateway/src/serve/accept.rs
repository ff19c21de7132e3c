//! Who connects to one address, until it is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::connection::{App, Serving};

/// How far an address is from being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// Nobody new is let in, and what is in flight is finished.
    Closing,
    Closed,
}

/// Closes addresses.
pub(super) struct Door(watch::Sender<Phase>);

impl Door {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Phase::Open))
    }

    /// Nobody new is let in, idle connections are closed, and what is in flight is finished.
    pub(super) fn close(&self) {
        self.0.send_replace(Phase::Closing);
    }

    /// What is in flight is cut.
    pub(super) fn cut(&self) {
        self.0.send_replace(Phase::Closed);
    }

    /// Waits until the last who came by it is through.
    pub(super) async fn empties(&self) {
        self.0.closed().await;
    }

    /// Serves all who connect, until the door is closed and the last of them is through.
    pub(super) fn serve<S: App>(
        &self,
        listener: TcpListener,
        serving: Serving<S>,
    ) -> JoinHandle<()> {
        tokio::spawn(serve(listener, Arc::new(serving), self.0.subscribe()))
    }

    #[cfg(test)]
    pub(super) fn closing(&self) -> Closing {
        Closing(self.0.subscribe())
    }
}

/// What a connection knows of its door.
#[derive(Clone)]
pub(super) struct Closing(watch::Receiver<Phase>);

impl Closing {
    /// Waits until nobody new is let in.
    pub(super) async fn begins(&mut self) {
        reaches(&mut self.0, Phase::Closing).await;
    }
}

async fn reaches(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // A door that is gone is closed.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

async fn serve<S: App>(
    listener: TcpListener,
    serving: Arc<Serving<S>>,
    mut phase: watch::Receiver<Phase>,
) {
    let closing = Closing(phase.clone());
    let mut all = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = reaches(&mut phase, Phase::Closing) => break,
            // One that is through is forgotten.
            Some(_) = all.join_next() => {}
            accepted = listener.accept() => if let Some((stream, peer)) = taken(accepted).await {
                let (serving, closing) = (Arc::clone(&serving), closing.clone());
                all.spawn(async move { serving.serve(stream, peer, closing).await });
            }
        }
    }
    drop(listener);
    while !all.is_empty() {
        tokio::select! {
            _ = all.join_next() => {}
            () = reaches(&mut phase, Phase::Closed) => {
                tracing::warn!(connections = all.len(), "it ends before all were through");
                all.shutdown().await;
            }
        }
    }
}

/// How long nobody is let in if there is no room: some connection may be closed until then.
const PAUSE: Duration = Duration::from_secs(1);

async fn taken(accepted: io::Result<(TcpStream, SocketAddr)>) -> Option<(TcpStream, SocketAddr)> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(error) if is_of_one(&error) => {
            tracing::debug!(%error, "a connection was not taken");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "no connection can be taken");
            sleep(PAUSE).await;
            None
        }
    }
}

/// Whether it is who connects that has failed (accept(2)).
fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
    )
}
