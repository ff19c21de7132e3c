//! What goes on beside requests.

use std::io;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Gateway;

/// How often it is written down what was seen.
const SAVE_EVERY: Duration = Duration::from_secs(10);

impl Gateway {
    /// Looks after the upstreams and the code that is listed, and writes down what was seen of scripts, fields and
    /// cookies, for as long as it is polled.
    pub fn upkeep(&self) -> impl Future<Output = ()> + Send + 'static {
        let gateway = self.clone();
        async move {
            tokio::join!(
                gateway.watch_upstreams(),
                gateway.save_regularly(),
                gateway.keep_looking()
            );
        }
    }

    async fn watch_upstreams(&self) {
        let mut current = self.0.current.subscribe();
        loop {
            let upstreams = current.borrow_and_update().upstreams.clone();
            tokio::select! {
                () = upstreams.watch() => {}
                changed = current.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn save_regularly(&self) {
        loop {
            sleep(SAVE_EVERY).await;
            let gateway = self.clone();
            let saved = spawn_blocking(move || gateway.save()).await;
            if let Err(error) = saved.map_err(io::Error::other).flatten() {
                tracing::error!("what was seen is not written down: {error}");
            }
        }
    }

    /// Writes down what was seen of scripts, fields and cookies, if any of it is new.
    ///
    /// # Errors
    ///
    /// If that cannot be done.
    pub fn save(&self) -> io::Result<()> {
        // Two at once would write into each other's file.
        let _alone = self.lock_changes();
        let kept = &self.current().kept;
        // What keeps the one from being written need not keep the other.
        let saved = [
            kept.reports.inventory.save(),
            kept.pages.save(),
            kept.learnt.save(),
        ];
        saved.into_iter().collect()
    }
}
