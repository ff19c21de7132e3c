//! The application's own access tokens, bound to a device.

use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;
use serde::{Deserialize, Serialize};

use crate::session::Session;

/// The value of an access token's `cnf` claim (RFC 7800 section 3.1): which key whoever presents the token
/// must hold, by its JWK thumbprint (RFC 9449 section 6.1).
///
/// [`Session::confirmation`] makes one for a token that is issued, [`Session::confirm`] checks the one of a
/// token that is presented. A claim without `jkt` is none; other members are not looked at, as the RFC has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The RFC 7638 thumbprint of the device key.
    pub jkt: Thumbprint,
}

impl Session {
    /// What a token carries, as its claim `cnf`, that only this session's device may present.
    pub fn confirmation(&self) -> Confirmation {
        Confirmation { jkt: self.device() }
    }

    /// Checks that a token with this claim was issued to this session's device. Without it a token is good
    /// for whoever has it: anyone can open a session with a key of his own. Whether the token itself is
    /// genuine is for the application to check first.
    ///
    /// # Errors
    ///
    /// [`Code::ProofMismatch`]; as [`Refused`](crate::Refused) it makes a security event like any other.
    pub fn confirm(&self, claimed: &Confirmation) -> Result<(), Error> {
        // Both are public, so nothing is told by how long it takes.
        if *claimed == self.confirmation() {
            return Ok(());
        }
        Err(Code::ProofMismatch.because("the token was issued to another device"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_and_written_as_the_rfcs_have_it() {
        // RFC 9449 section 6.1, figure 9.
        let claim = r#"{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#;
        let read: Confirmation = serde_json::from_str(claim).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), claim);
        let more = claim.replace('}', r#","kid":"x"}"#);
        assert_eq!(serde_json::from_str::<Confirmation>(&more).unwrap(), read);
        for bad in ["{}", r#"{"jkt":""}"#, r#"{"jkt":null}"#, r#"{"kid":"x"}"#] {
            assert!(serde_json::from_str::<Confirmation>(bad).is_err(), "{bad}");
        }
    }
}
