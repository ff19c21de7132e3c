//! What a user may see and do of his own sessions and devices.

use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;

use super::lists::Asking;
use super::name::DeviceName;
use super::record::{Entry, Record};
use super::{ListedDevice, ListedSession};
use crate::session::Session;
use crate::store::{Party, Revocation};
use crate::subject::Subject;
use crate::ticket::RevocationId;

const NOBODY: Error = Code::LoginRequired.because("nobody is logged in");

/// Lists, and the ends of what is on them, want a [registry](crate::Builder::registry).
impl Session {
    /// The sessions that this session's user is logged in to, the latest login first.
    ///
    /// # Errors
    ///
    /// [`Code::LoginRequired`] if nobody is logged in, [`Code::StoreUnavailable`] if the list cannot be had,
    /// [`Code::Internal`] without a registry.
    pub async fn sessions(&self) -> Result<Vec<ListedSession>, Error> {
        let asking = Some(self.asking());
        self.bulla.list_sessions(self.user()?, asking).await
    }

    /// The devices on which this session's user has logged in within a year, a hundred at most, the one last seen first.
    ///
    /// # Errors
    ///
    /// As [`Self::sessions`].
    pub async fn devices(&self) -> Result<Vec<ListedDevice>, Error> {
        let asking = Some(self.asking());
        self.bulla.list_devices(self.user()?, asking).await
    }

    /// Ends one of this user's sessions, by what the list calls it. Returns whether it was there: nobody ends another
    /// user's.
    ///
    /// # Errors
    ///
    /// As [`Self::sessions`], and as [`Self::logout`] if it is this one.
    pub async fn end_session(&self, id: RevocationId) -> Result<bool, Error> {
        let ended = self.end_those(|entry| entry.id == id || entry.current == id);
        Ok(ended.await? > 0)
    }

    /// Ends all of this user's sessions but this one, and returns how many: what to offer when a password or a second
    /// factor was changed (OWASP ASVS 5.0, 7.4.3). All that logged in before this one did, whether or not they are listed; of
    /// those that came later it goes by the list, on which every login is before its session can do anything. A later
    /// login that is not over is not on it, so check the new password there.
    ///
    /// # Errors
    ///
    /// As [`Self::sessions`]. Some may have ended then.
    pub async fn end_others(&self) -> Result<usize, Error> {
        let this = self.id().into();
        let ended = self.end_those(|entry| entry.current != this).await?;
        if let Some((user, login)) = self.facts.subject
            && let Some(before) = login.checked_sub(1)
        {
            // A list can be lost, and an end cannot. By the application, since no thief is to use up the user's part.
            let earlier = Revocation::Subject(user, before);
            self.bulla.end(earlier, Party::Application).await?;
        }
        Ok(ended)
    }

    /// Ends all of this user's sessions on a device, and takes it off his list. Returns whether it was there. Others who
    /// use the device do not notice; to lock it out is for the application
    /// ([`Revocation::Device`](crate::Revocation::Device)).
    ///
    /// # Errors
    ///
    /// As [`Self::end_session`].
    pub async fn end_device(&self, device: Thumbprint) -> Result<bool, Error> {
        let user = self.user()?;
        self.end_those(|entry| entry.device == device).await?;
        let forget = |record: &mut Record, _| {
            let before = record.devices.len();
            record.devices.retain(|known| known.key != device);
            record.devices.len() < before
        };
        self.bulla.change(user, forget).await
    }

    /// Names this session's device on its user's list: 1 to 64 characters ([`DeviceName`]).
    ///
    /// # Errors
    ///
    /// As [`Self::sessions`]; [`Code::Malformed`] for what is no name.
    pub async fn name_device(&self, name: &str) -> Result<(), Error> {
        let (user, device) = (self.user()?, self.device());
        let name: DeviceName = name.parse()?;
        let rename = |record: &mut Record, _| {
            let known = record.device(device);
            known.map(|known| known.name = Some(name.clone())).is_some()
        };
        if self.bulla.change(user, rename).await? {
            return Ok(());
        }
        Err(Code::StoreUnavailable.because("the device is not on the list yet"))
    }

    /// Ends those that fit. This one last: then the others have ended, whatever becomes of it.
    async fn end_those(&self, fits: impl Fn(&Entry) -> bool + Send + Sync) -> Result<usize, Error> {
        let (user, this) = (self.user()?, self.id().into());
        let record = self.bulla.record_of(user).await?;
        let (own, others): (Vec<_>, Vec<_>) = record
            .sessions
            .iter()
            .filter(|entry| fits(entry))
            .partition(|entry| entry.current == this);
        // Also those that seem to have ended: fresh keys may be taking the place of one just now.
        for entry in &others {
            self.bulla.end_listed(user, entry).await?;
        }
        if !own.is_empty() {
            self.logout().await?;
        }
        Ok(own.len() + others.len())
    }

    fn user(&self) -> Result<Subject, Error> {
        let (subject, _) = self.facts.subject.ok_or(NOBODY)?;
        Ok(subject)
    }

    fn asking(&self) -> Asking {
        Asking {
            session: self.id().into(),
            device: self.device(),
        }
    }
}
