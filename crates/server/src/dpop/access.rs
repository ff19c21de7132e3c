//! What a handler knows of the access token.

use std::fmt;
use std::sync::Arc;

use bulla_protocol::error::Error;
use bulla_protocol::jwk::Thumbprint;

use super::token::AccessToken;
use crate::bulla::Bulla;
use crate::event::{About, EventKind};
use crate::store::{Party, Revocation, SessionRef};
use crate::ticket::RevocationId;

/// An access token that was presented with a proof of its key. A value of this type exists only for a request that
/// has passed every check.
pub struct Access<C> {
    token: Arc<AccessToken<C>>,
    session: SessionRef,
    bulla: Bulla,
}

impl<C> Access<C> {
    pub(super) fn new(token: AccessToken<C>, session: SessionRef, bulla: Bulla) -> Self {
        Self {
            token: Arc::new(token),
            session,
            bulla,
        }
    }

    /// The RFC 7638 thumbprint of the key that the token is bound to, and that has signed this request.
    pub fn device(&self) -> Thumbprint {
        self.token.confirmation.jkt
    }

    /// Whom the token speaks for, if anybody.
    pub fn subject(&self) -> Option<&str> {
        self.token.subject.as_deref()
    }

    /// By what the token is revoked.
    pub fn id(&self) -> RevocationId {
        self.token.id
    }

    /// When the token was issued, in seconds since 1970, if that is known.
    pub fn issued(&self) -> Option<u64> {
        self.token.issued
    }

    /// What the token says.
    pub fn claims(&self) -> &C {
        &self.token.claims
    }

    /// Revokes this token, everywhere and at once.
    ///
    /// # Errors
    ///
    /// [`Code::RateLimited`](crate::Code::RateLimited) if too much of this user's has ended lately,
    /// [`Code::StoreUnavailable`](crate::Code::StoreUnavailable) if that could not be remembered.
    pub async fn revoke(&self) -> Result<(), Error> {
        let by = self.session.subject.map(|(subject, _)| subject);
        let token = Revocation::Session(self.token.id);
        let about = About {
            session: Some(self.token.id),
            device: Some(self.device()),
            subject: by,
            ..About::default()
        };
        self.bulla.end(token, Party::from(by)).await?;
        self.bulla.report(EventKind::SessionEnded, &about);
        Ok(())
    }

    pub(super) fn expires(&self) -> Option<u64> {
        self.token.expires
    }

    pub(super) fn session(&self) -> SessionRef {
        self.session.clone()
    }
}

impl<C> Clone for Access<C> {
    fn clone(&self) -> Self {
        Self {
            token: Arc::clone(&self.token),
            session: self.session.clone(),
            bulla: self.bulla.clone(),
        }
    }
}

impl<C> fmt::Debug for Access<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("id", &self.id())
            .field("device", &self.device())
            .finish_non_exhaustive()
    }
}
