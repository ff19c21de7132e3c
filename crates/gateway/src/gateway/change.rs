//! Another configuration while it runs.

use std::sync::{Arc, PoisonError};

use bulla_server::Cookies;

use super::{Current, Gateway, Inner, StartError};
use crate::config::{Config, Mode};

impl Gateway {
    /// Goes by another configuration from now on, as far as that can be done while it runs ([`Config::renewed`]); the manifest is
    /// read again, or what it lists looked for. Gives the keys of what waits for a start. If something is wrong, all
    /// stays as it is.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn reload(&self, config: &Config) -> Result<Vec<&'static str>, StartError> {
        let _changes = self.lock_changes();
        let Inner {
            signer, learning, ..
        } = &*self.0;
        let before = self.current();
        let (next, waiting) = before.config.renewed(config);
        let next = Current::new(&next, before.kept.clone(), signer)?;
        self.publish(next)?;
        learning.look_again();
        Ok(waiting)
    }

    /// Changes the mode until the next [`reload`](Self::reload). The file stays as it is.
    ///
    /// # Errors
    ///
    /// [`StartError::Verifier`].
    pub fn set_mode(&self, mode: Mode) -> Result<(), StartError> {
        let _changes = self.lock_changes();
        let next = self.current().in_mode(mode, self.identity());
        self.publish(next)
    }

    pub(super) fn lock_changes(&self) -> impl Drop + '_ {
        // Nothing is left half done by whoever panicked.
        let changing = self.0.changing.lock();
        changing.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn publish(&self, next: Current) -> Result<(), StartError> {
        let bulla = &self.0.bulla;
        bulla.set_paths(next.paths())?;
        bulla.set_cookies(Cookies::Named(next.bound_cookies()))?;
        next.kept.reports.inventory.sort(next.authorised());
        self.0.current.send_replace(Arc::new(next));
        Ok(())
    }
}
