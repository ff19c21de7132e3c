//! The server's half: from what came to an opening whose sender holds the device key, and the answer.

use super::{
    Agreements, JSON, OPEN_COMPONENTS, OPEN_TAG, OPENED_COMPONENTS, OPENED_TAG, Open, Opening,
    ROTATE_TAG, Transcript, VersionOnly,
};
use crate::digest::ContentDigest;
use crate::error::{Code, Error};
use crate::field::{self, Fields};
use crate::jwk::{PublicKey, Thumbprint};
use crate::limits::{MAX_OPENING_LEN, VERSION};
use crate::signature::{
    ECDSA_P256_SHA256, LABEL, ReceivedSignature, Request, SignatureParams, ToSign, request_base,
};

/// An opening as the server received it, its signature not yet checked.
#[derive(Debug)]
pub struct ReceivedOpening {
    /// What the client said.
    pub open: Open,
    own: DeviceSignature,
    rotation: Option<DeviceSignature>,
}

/// A signature of an opening by a device key, not yet checked: by the one that opens, or by the one before it.
#[derive(Debug)]
struct DeviceSignature {
    keyid: String,
    base: String,
    signature: Vec<u8>,
}

impl ReceivedOpening {
    /// Reads an opening.
    ///
    /// # Errors
    ///
    /// [`Code::TooLarge`] beyond 4096 bytes; [`Code::VersionUnsupported`]; [`Code::DigestMismatch`];
    /// [`Code::ProofMissing`] if it is not signed; [`Code::ProofMismatch`] if another key has signed it, or not as
    /// `ecdsa-p256-sha256`; [`Code::CoverageMissing`]; [`Code::FieldRefused`] for a field that cannot be signed;
    /// [`Code::Malformed`] for all else.
    pub fn parse(request: &Request<'_>, body: &[u8]) -> Result<Self, Error> {
        const INVALID: Error = Code::Malformed.because("the opening could not be parsed");
        const MISSING: Error = Code::ProofMissing.because("the opening is not signed");
        if body.len() > MAX_OPENING_LEN {
            return Err(Code::TooLarge.because("the opening is too large"));
        }
        if request.method != Opening::METHOD || request.fields.line("content-type")? != Some(JSON) {
            return Err(INVALID);
        }
        let digest = request.fields.line(field::CONTENT_DIGEST)?.ok_or(INVALID)?;
        ContentDigest::check(digest, body)?;
        let version: VersionOnly = serde_json::from_slice(body).map_err(|_| INVALID)?;
        if version.version != VERSION {
            return Err(Code::VersionUnsupported.because("only version 1 is spoken here"));
        }
        let open: Open = serde_json::from_slice(body).map_err(|_| INVALID)?;

        let input = request
            .fields
            .line(field::SIGNATURE_INPUT)?
            .ok_or(MISSING)?;
        let signature = request.fields.line(field::SIGNATURE)?.ok_or(MISSING)?;
        let received = ReceivedSignature::find(input, signature, OPEN_TAG)?.ok_or(MISSING)?;
        // The answer signs the request's signature by this label.
        if received.label != LABEL {
            return Err(INVALID);
        }
        let own = DeviceSignature::parse(request, received)?;
        if own.keyid != open.device.thumbprint().to_string() {
            return Err(Code::ProofMismatch.because("the opening is signed with another key"));
        }
        let rotation = ReceivedSignature::find(input, signature, ROTATE_TAG)?;
        let rotation = rotation.map(|received| DeviceSignature::parse(request, received));
        Ok(Self {
            open,
            own,
            rotation: rotation.transpose()?,
        })
    }

    /// Has the signature checked, with the device key, over the base.
    ///
    /// # Errors
    ///
    /// [`Code::ProofMismatch`] if `check` says no.
    pub fn verify(
        self,
        check: impl FnOnce(&PublicKey, &[u8], &[u8]) -> bool,
    ) -> Result<VerifiedOpening, Error> {
        let DeviceSignature {
            base, signature, ..
        } = self.own;
        if !check(&self.open.device, base.as_bytes(), &signature) {
            return Err(Code::ProofMismatch.because("the opening's signature is wrong"));
        }
        Ok(VerifiedOpening {
            open: self.open,
            base,
            rotation: self.rotation,
        })
    }
}

impl DeviceSignature {
    fn parse(request: &Request<'_>, received: ReceivedSignature<'_>) -> Result<Self, Error> {
        if received.params.alg != ECDSA_P256_SHA256 {
            return Err(Code::ProofMismatch.because("a device key signs as ecdsa-p256-sha256"));
        }
        received.check_whole()?;
        if !received.covers(&OPEN_COMPONENTS) {
            return Err(Code::CoverageMissing.because("the opening's signature covers too little"));
        }
        Ok(Self {
            keyid: received.params.keyid.to_owned(),
            base: request_base(request, &received.components, &received.signature_params)?,
            signature: received.signature,
        })
    }
}

/// An opening whose sender holds the device key.
#[derive(Debug)]
pub struct VerifiedOpening {
    /// What the client said.
    pub open: Open,
    base: String,
    rotation: Option<DeviceSignature>,
}

impl VerifiedOpening {
    /// Whether this device key has signed in the one that opens, by the signature that it is to have checked. All that
    /// the opening says is under it: the new key, and the ticket.
    pub fn is_signed_in_by(
        &self,
        previous: &Thumbprint,
        check: impl FnOnce(&[u8], &[u8]) -> bool,
    ) -> bool {
        self.rotation.as_ref().is_some_and(|rotation| {
            rotation.keyid == previous.to_string()
                && check(rotation.base.as_bytes(), &rotation.signature)
        })
    }

    /// The transcript, once the server has chosen its keys.
    pub fn transcript(
        &self,
        agreement: &Agreements,
        identity: &Thumbprint,
        random: &[u8; 32],
    ) -> Transcript {
        Transcript::new(&self.base, agreement, identity, random)
    }

    /// Prepares the signature of the answer. `fields` must hold `content-type` and `content-digest` of
    /// the answer, as [`opened_fields`] makes them.
    ///
    /// # Errors
    ///
    /// [`Code::ProofMismatch`] if a part that is to be covered is not there, [`Code::Malformed`] or
    /// [`Code::FieldRefused`] if it cannot be written.
    pub fn sign_answer(
        &self,
        request: &Request<'_>,
        identity: &Thumbprint,
        fields: &dyn Fields,
        created: u64,
    ) -> Result<ToSign, Error> {
        let keyid = identity.to_string();
        let params = SignatureParams {
            created,
            keyid: &keyid,
            nonce: None,
            alg: ECDSA_P256_SHA256,
            tag: OPENED_TAG,
        };
        ToSign::response(200, fields, request, &OPENED_COMPONENTS, &params)
    }
}

/// The fields of the answer to an opening that its signature covers.
pub fn opened_fields(body: &[u8]) -> Vec<(String, String)> {
    vec![
        ("content-type".to_owned(), JSON.to_owned()),
        (
            field::CONTENT_DIGEST.to_owned(),
            ContentDigest::of(body).to_field(),
        ),
    ]
}
