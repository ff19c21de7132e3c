//! Opening a session: the two messages, and the transcript that names the session.

use core::fmt;
use core::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::base64;
use crate::digest::ContentDigest;
use crate::error::{Code, Error};
use crate::field::{self, Fields};
use crate::json;
use crate::jwk::{PublicKey, Thumbprint};
use crate::limits::{MAX_OPENING_LEN, MAX_TICKET_LEN, VERSION};
use crate::proof::ProofKind;
use crate::reply::refusal;
use crate::signature::{
    Component, ECDSA_P256_SHA256, LABEL, ReceivedSignature, Request, SignatureParams, ToSign,
    request_base, response_base,
};
use crate::structured;
use crate::target::Target;
use crate::work::{Search, Work};

/// The `tag` of an opening.
pub const OPEN_TAG: &str = "bulla-open";
/// The `tag` of the answer to an opening.
pub const OPENED_TAG: &str = "bulla-opened";
/// The label and the `tag` of the signature by which a device key signs in the one that takes its place.
pub const ROTATE_TAG: &str = "bulla-rotate";

/// The label under which the session MAC key is derived: HKDF-SHA256 over the third shared secret,
/// salted with the [`Transcript`].
pub const MAC_INFO: &[u8] = b"bulla session mac v1";

const TRANSCRIPT_LABEL: &[u8] = b"bulla session v1\0";
const JSON: &str = "application/json";

const OPEN_COMPONENTS: [Component<'static>; 5] = [
    Component::new("@method"),
    Component::new("@authority"),
    Component::new("@path"),
    Component::new("content-type"),
    Component::new(field::CONTENT_DIGEST),
];

/// A signature that covers a signature does not cover what that one covered (RFC 9421 section 7.3.7
/// on signing signatures), so the request is named part by part.
const OPENED_COMPONENTS: [Component<'static>; 9] = [
    Component::new("@status"),
    Component::new("content-type"),
    Component::new(field::CONTENT_DIGEST),
    Component::of_request("@method"),
    Component::of_request("@authority"),
    Component::of_request("@path"),
    Component::of_request(field::CONTENT_DIGEST),
    Component::member_of_request(field::SIGNATURE, LABEL),
    Component::member_of_request(field::SIGNATURE_INPUT, LABEL),
];

/// The body of an opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// [`VERSION`].
    pub version: u32,
    /// The device key.
    pub device: PublicKey,
    /// The client's ephemeral agreement key.
    pub agreement: PublicKey,
    /// The server identity that the client expects; absent only when it knows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Thumbprint>,
    /// Makes every opening different.
    #[serde(with = "base64::array")]
    pub random: [u8; 32],
    /// The ticket of a session that is to be carried over to fresh keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
    /// What the server has asked for, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
}

/// The server's ephemeral agreement keys. Each stands for a shared secret of its own, since a stored
/// HKDF key can be made to yield any key derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreements {
    /// For the keys that seal requests.
    pub request: PublicKey,
    /// For the keys that seal replies.
    pub response: PublicKey,
    /// For the session MAC key.
    pub mac: PublicKey,
}

impl Agreements {
    /// Refuses equal keys: they would give equal secrets.
    fn check_distinct(&self, client: &PublicKey) -> Result<(), Error> {
        let keys = [&self.request, &self.response, &self.mac, client];
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].contains(key) {
                return Err(Code::ReplyInvalid.because("two agreement keys are equal"));
            }
        }
        Ok(())
    }
}

/// The body of the answer to an opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// [`VERSION`].
    pub version: u32,
    /// The server's identity key.
    pub identity: PublicKey,
    /// The server's agreement keys.
    pub agreement: Agreements,
    /// Makes every session different.
    #[serde(with = "base64::array")]
    pub random: [u8; 32],
    /// The session's ticket.
    pub ticket: Ticket,
    /// How long a server nonce is taken, in seconds.
    pub nonce_life: u32,
    /// How long a ticket is taken, in seconds: the idle timeout.
    pub ticket_life: u32,
    /// How long the session can last at most from now on, in seconds.
    pub session_life: u32,
    /// The weakest proof that the server takes by default.
    pub proof: ProofKind,
    /// The first server nonce.
    pub nonce: String,
    /// Whether the session has a subject.
    pub authenticated: bool,
}

/// A session's state, sealed by the server for itself: 1 to 255 bytes that mean nothing to others.
///
/// It is not a bearer token: without the device key it opens nothing. It is kept out of `Debug` all
/// the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(Vec<u8>);

impl Ticket {
    /// Takes the bytes, if there are as many as may be.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if there are none, or more than 255.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let bytes = bytes.into();
        if !(1..=MAX_TICKET_LEN).contains(&bytes.len()) {
            return Err(Code::Malformed.because("a ticket has 1 to 255 bytes"));
        }
        Ok(Self(bytes))
    }

    /// Reads a field value: a Byte Sequence.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if it is no Byte Sequence, or not as long as [`Self::new`] takes it.
    pub fn from_field(value: &str) -> Result<Self, Error> {
        Self::new(structured::bytes(value)?)
    }

    /// Writes the field value.
    pub fn to_field(&self) -> String {
        structured::from_bytes(&self.0)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

impl Serialize for Ticket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Ticket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = base64::decode(String::deserialize(deserializer)?);
        bytes
            .and_then(|bytes| Self::new(bytes).ok())
            .ok_or_else(|| D::Error::custom("not a ticket"))
    }
}

/// A session's name: the first 16 bytes of its [`Transcript`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(self.0))
    }
}

impl FromStr for SessionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        base64::decode_array(text)
            .map(Self)
            .ok_or(Code::Malformed.because("not a session id"))
    }
}

/// The hash of everything that an opening agreed on. Both sides compute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript(pub [u8; 32]);

impl Transcript {
    /// SHA-256 over a label, the length and text of the opening's signature base, the server's
    /// agreement keys (uncompressed), the identity thumbprint and the server's random value.
    pub fn new(
        open_base: &str,
        agreement: &Agreements,
        identity: &Thumbprint,
        random: &[u8; 32],
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(TRANSCRIPT_LABEL);
        hash.update((open_base.len() as u64).to_be_bytes());
        hash.update(open_base);
        for key in [&agreement.request, &agreement.response, &agreement.mac] {
            hash.update(key.as_uncompressed());
        }
        hash.update(identity.0);
        hash.update(random);
        Self(hash.finalize().into())
    }

    /// The session's name.
    pub fn session_id(&self) -> SessionId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[..16]);
        SessionId(id)
    }
}

/// What an opening is made of.
#[derive(Clone)]
struct Source {
    open: Open,
    previous: Option<PublicKey>,
    authority: String,
    path: String,
    created: u64,
}

/// The client's side of an opening: the request, waiting for its signature.
pub struct Opening {
    source: Source,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    to_sign: ToSign,
    /// What the key before this one signs.
    rotation: Option<ToSign>,
}

impl Opening {
    /// The method of an opening.
    pub const METHOD: &str = "POST";

    /// Prepares the request `POST {prefix}/session`. `previous` is the device key whose place this one's takes, which has
    /// to be the one of the session that is carried over.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if the opening or its signature's parameters cannot be written.
    pub fn new(
        open: Open,
        previous: Option<PublicKey>,
        authority: &str,
        prefix: &str,
        created: u64,
    ) -> Result<Self, Error> {
        Self::of(Source {
            open,
            previous,
            authority: authority.to_owned(),
            path: session_path(prefix),
            created,
        })
    }

    fn of(source: Source) -> Result<Self, Error> {
        let body = serde_json::to_vec(&source.open)
            .map_err(|_| Code::Malformed.because("the opening could not be written"))?;
        let fields = vec![
            ("content-type".to_owned(), JSON.to_owned()),
            (
                field::CONTENT_DIGEST.to_owned(),
                ContentDigest::of(&body).to_field(),
            ),
        ];
        let request = Request {
            method: Self::METHOD,
            authority: &source.authority,
            path: &source.path,
            query: None,
            fields: &fields,
        };
        let to_sign = |key: &PublicKey, tag| {
            let keyid = key.thumbprint().to_string();
            let params = SignatureParams {
                created: source.created,
                keyid: &keyid,
                nonce: None,
                alg: ECDSA_P256_SHA256,
                tag,
            };
            ToSign::request(&request, &OPEN_COMPONENTS, &params)
        };
        let rotation = source.previous.as_ref();
        let rotation = rotation.map(|key| to_sign(key, ROTATE_TAG)).transpose()?;
        let to_sign = to_sign(&source.open.device, OPEN_TAG)?;
        Ok(Self {
            source,
            fields,
            body,
            to_sign,
            rotation,
        })
    }

    /// What the device key signs.
    pub fn base(&self) -> &str {
        &self.to_sign.base
    }

    /// What the key before it signs, if there is one.
    pub fn rotation_base(&self) -> Option<&str> {
        Some(&self.rotation.as_ref()?.base)
    }

    /// Adds the device key's signature, and that of the key before it.
    pub fn signed(mut self, signature: &[u8], rotation: Option<&[u8]>) -> SentOpening {
        let mut fields = self.to_sign.fields(signature);
        if let (Some(to_sign), Some(signature)) = (&self.rotation, rotation) {
            let more = to_sign.labelled(ROTATE_TAG, signature);
            for ((_, value), (_, more)) in fields.iter_mut().zip(&more) {
                value.push_str(", ");
                value.push_str(more);
            }
        }
        self.fields
            .extend(fields.map(|(name, value)| (name.to_owned(), value)));
        SentOpening(self)
    }
}

/// An opening that is on its way.
pub struct SentOpening(Opening);

impl SentOpening {
    /// Where it goes.
    pub fn path(&self) -> &str {
        &self.0.source.path
    }

    /// Its header fields.
    pub fn fields(&self) -> &[(String, String)] {
        &self.0.fields
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// The work that the answer asks for, if it is nothing but that: once, and no more than [`MAX_WORK_BITS`]. Whoever sits
    /// on the way can ask for it, too.
    ///
    /// [`MAX_WORK_BITS`]: crate::work::MAX_WORK_BITS
    pub fn work(&self, status: u16, fields: &dyn Fields, body: &[u8]) -> Option<OpeningWork> {
        let Source { open, .. } = &self.0.source;
        if open.work.is_some() || refusal(status, fields, body)?.code != Code::WorkRequired {
            return None;
        }
        let bits = fields.line(field::WORK).ok()??.parse().ok()?;
        let nonce = structured::string(fields.line(field::NONCE).ok()??).ok()?;
        Some(OpeningWork {
            search: Search::new(&open.device.thumbprint(), &open.random, nonce, bits)?,
            source: self.0.source.clone(),
        })
    }

    /// Reads the answer: everything but its signature, which is checked with
    /// [`UnverifiedOpened::verify`].
    ///
    /// # Errors
    ///
    /// The server's refusal; [`Code::IdentityChanged`] if the identity is not the pinned one, or if the
    /// server says so; [`Code::ReplyInvalid`] for all else that is wrong with the answer.
    pub fn read(
        &self,
        status: u16,
        fields: &dyn Fields,
        body: &[u8],
    ) -> Result<UnverifiedOpened, Error> {
        if let Some(refusal) = refusal(status, fields, body) {
            return Err(match refusal.code {
                // What the client expects is the pin.
                Code::IdentityMismatch => Code::IdentityChanged
                    .because("the server says that its identity is not the pinned one"),
                _ => refusal,
            });
        }
        self.read_opened(status, fields, body)
            .map_err(|error| match error.code {
                Code::IdentityChanged => error,
                _ => Code::ReplyInvalid.because(error.detail),
            })
    }

    fn read_opened(
        &self,
        status: u16,
        fields: &dyn Fields,
        body: &[u8],
    ) -> Result<UnverifiedOpened, Error> {
        const INVALID: Error = Code::ReplyInvalid
            .because("no verifier has answered the opening: is one mounted at this origin?");
        if status != 200
            || body.len() > MAX_OPENING_LEN
            || fields.line("content-type")? != Some(JSON)
        {
            return Err(INVALID);
        }
        let digest = fields.line(field::CONTENT_DIGEST)?.ok_or(INVALID)?;
        ContentDigest::check(digest, body)?;
        let opened: Opened = json::read(body).ok_or(INVALID)?;
        if opened.version != VERSION {
            return Err(Code::ReplyInvalid.because("the server answers with another version"));
        }
        let identity = opened.identity.thumbprint();
        let sent = &self.0.source;
        if sent.open.identity.is_some_and(|pinned| pinned != identity) {
            return Err(Code::IdentityChanged.because("the identity is not the pinned one"));
        }
        opened.agreement.check_distinct(&sent.open.agreement)?;

        let input = fields.line(field::SIGNATURE_INPUT)?.ok_or(INVALID)?;
        let signature = fields.line(field::SIGNATURE)?.ok_or(INVALID)?;
        let received = ReceivedSignature::find(input, signature, OPENED_TAG)?.ok_or(INVALID)?;
        let params = &received.params;
        if params.alg != ECDSA_P256_SHA256 || params.keyid != identity.to_string() {
            return Err(INVALID);
        }
        if !received.covers(&OPENED_COMPONENTS) {
            return Err(INVALID);
        }
        let request = Request {
            method: Opening::METHOD,
            authority: &sent.authority,
            path: &sent.path,
            query: None,
            fields: &self.0.fields,
        };
        Ok(UnverifiedOpened {
            base: response_base(
                status,
                fields,
                &request,
                &received.components,
                &received.signature_params,
            )?,
            signature: received.signature,
            transcript: Transcript::new(
                self.0.base(),
                &opened.agreement,
                &identity,
                &opened.random,
            ),
            opened,
        })
    }
}

/// The work that has to be done before an opening is answered.
pub struct OpeningWork {
    search: Search,
    source: Source,
}

impl OpeningWork {
    /// Tries so many times, and gives the opening that shows it once it is done: to be signed anew.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if it cannot be written, which it could before.
    pub fn run(&mut self, tries: u32) -> Result<Option<Opening>, Error> {
        let Some(work) = self.search.run(tries) else {
            return Ok(None);
        };
        self.source.open.work = Some(work);
        Opening::of(self.source.clone()).map(Some)
    }
}

/// The answer to an opening, its signature not yet checked.
#[derive(Debug)]
pub struct UnverifiedOpened {
    opened: Opened,
    transcript: Transcript,
    base: String,
    signature: Vec<u8>,
}

impl UnverifiedOpened {
    /// The server's identity key, which has to have made the signature.
    pub fn identity(&self) -> &PublicKey {
        &self.opened.identity
    }

    /// What has to have been signed.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Has the signature checked, with the identity key, over the base.
    ///
    /// # Errors
    ///
    /// [`Code::ReplyInvalid`] if `check` says no.
    pub fn verify(
        self,
        check: impl FnOnce(&PublicKey, &[u8], &[u8]) -> bool,
    ) -> Result<VerifiedOpened, Error> {
        if !check(&self.opened.identity, self.base.as_bytes(), &self.signature) {
            return Err(Code::ReplyInvalid.because("the server's signature is wrong"));
        }
        Ok(VerifiedOpened {
            opened: self.opened,
            transcript: self.transcript,
        })
    }
}

/// An opening that both sides agree on.
#[derive(Debug)]
pub struct VerifiedOpened {
    /// What the server said.
    pub opened: Opened,
    /// What it was said about.
    pub transcript: Transcript,
}

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

/// Whether the protocol can live under this path: an absolute one, in its one spelling, without a query and
/// without a slash at its end.
///
/// # Errors
///
/// [`Code::PathRefused`].
pub fn check_prefix(prefix: &str) -> Result<(), Error> {
    let is_path = Target::parse(prefix).is_ok_and(|target| target.query.is_none());
    if !is_path || prefix.ends_with('/') {
        return Err(
            Code::PathRefused.because("the prefix is not a path without a slash at its end")
        );
    }
    Ok(())
}

/// `{prefix}/session`: where sessions are opened.
pub fn session_path(prefix: &str) -> String {
    format!("{prefix}/session")
}

/// `{prefix}/sealed`: where sealed requests go.
pub fn sealed_path(prefix: &str) -> String {
    format!("{prefix}/sealed")
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

#[cfg(test)]
mod tests {
    use p256::elliptic_curve::sec1::ToSec1Point as _;
    use p256::{ProjectivePoint, Scalar};

    use super::*;

    const SIGNED: &[u8] = b"signature";

    fn key(multiple: u64) -> PublicKey {
        let point = ProjectivePoint::GENERATOR * Scalar::from(multiple);
        let point = point.to_affine().to_sec1_point(false);
        PublicKey::from_uncompressed(point.as_bytes()).unwrap()
    }

    fn sent() -> SentOpening {
        let open = Open {
            version: VERSION,
            device: key(1),
            agreement: key(2),
            identity: Some(key(3).thumbprint()),
            random: [1; 32],
            ticket: None,
            work: None,
        };
        let opening = Opening::new(open, None, "bank.example", "/.well-known/bulla", 5).unwrap();
        opening.signed(SIGNED, None)
    }

    fn request(fields: &Vec<(String, String)>) -> Request<'_> {
        Request {
            method: Opening::METHOD,
            authority: "bank.example",
            path: "/.well-known/bulla/session",
            query: None,
            fields,
        }
    }

    /// The server's answer, whose agreement keys are these multiples.
    fn answer(sent: &SentOpening, keys: [u64; 3]) -> (Vec<(String, String)>, Vec<u8>) {
        let [request_key, response, mac] = keys.map(key);
        let opened = Opened {
            version: VERSION,
            identity: key(3),
            agreement: Agreements {
                request: request_key,
                response,
                mac,
            },
            random: [2; 32],
            ticket: Ticket::new(*b"ticket").unwrap(),
            nonce_life: 60,
            ticket_life: 900,
            session_life: 43_200,
            proof: ProofKind::Device,
            nonce: "nonce".into(),
            authenticated: false,
        };
        let body = serde_json::to_vec(&opened).unwrap();
        let mut fields = opened_fields(&body);
        let fields_sent = sent.fields().to_vec();
        let opening = ReceivedOpening::parse(&request(&fields_sent), sent.body()).unwrap();
        let opening = opening.verify(|_, _, signature| signature == SIGNED);
        let to_sign = opening
            .unwrap()
            .sign_answer(&request(&fields_sent), &key(3).thumbprint(), &fields, 5)
            .unwrap();
        let signature = to_sign.fields(SIGNED);
        fields.extend(signature.map(|(name, value)| (name.to_owned(), value)));
        (fields, body)
    }

    fn change(fields: &[(String, String)], from: &str, to: &str) -> Vec<(String, String)> {
        let mut changed = fields.to_vec();
        let input = changed
            .iter_mut()
            .find(|(name, _)| name == field::SIGNATURE_INPUT);
        let (_, input) = input.unwrap();
        assert!(input.contains(from), "{from}");
        *input = input.replacen(from, to, 1);
        changed
    }

    /// Whoever may sign, may sign too little.
    #[test]
    fn an_opening_covers_each_component_with_its_own_key() {
        let sent = sent();
        let refused = |fields: Vec<(String, String)>| {
            let refused = ReceivedOpening::parse(&request(&fields), sent.body());
            refused.unwrap_err().code
        };
        for component in OPEN_COMPONENTS {
            // An empty list is none either, so something else takes its place.
            let quoted = format!("\"{}\"", component.name);
            let less = change(sent.fields(), &quoted, "\"x-other\"");
            assert_eq!(refused(less), Code::CoverageMissing, "{quoted}");
        }
        let put = Request {
            method: "PUT",
            ..request(&sent.0.fields)
        };
        let refused_put = ReceivedOpening::parse(&put, sent.body()).unwrap_err();
        assert_eq!(refused_put.code, Code::Malformed);
        let mut text = sent.fields().to_vec();
        text[0].1 = "text/plain".to_owned();
        assert_eq!(refused(text), Code::Malformed);
        let (own, other) = (key(1).thumbprint(), key(9).thumbprint());
        let other = change(sent.fields(), &own.to_string(), &other.to_string());
        assert_eq!(refused(other), Code::ProofMismatch);
        let hmac = change(
            sent.fields(),
            ECDSA_P256_SHA256,
            crate::signature::HMAC_SHA256,
        );
        assert_eq!(refused(hmac), Code::ProofMismatch);
        let proof = change(sent.fields(), OPEN_TAG, crate::proof::TAG);
        assert_eq!(refused(proof), Code::ProofMissing);
    }

    #[test]
    fn an_answer_covers_each_component_with_the_identity() {
        let sent = sent();
        let (fields, body) = answer(&sent, [4, 5, 6]);
        let read = |fields: &Vec<(String, String)>| sent.read(200, fields, &body);
        let verified = read(&fields).unwrap();
        assert!(
            verified
                .verify(|key, base, signature| {
                    // All of the request is in what was signed.
                    let base = core::str::from_utf8(base).unwrap();
                    assert!(base.contains("\n\"@path\";req: /.well-known/bulla/session\n"));
                    *key == self::key(3) && signature == SIGNED
                })
                .is_ok()
        );
        let wrong = read(&fields).unwrap().verify(|_, _, _| false);
        assert_eq!(wrong.unwrap_err().code, Code::ReplyInvalid);

        let created = sent.read(201, &fields, &body).unwrap_err();
        assert_eq!(created.code, Code::ReplyInvalid);
        let mut text = fields.clone();
        text[0].1 = "text/plain".to_owned();
        assert_eq!(read(&text).unwrap_err().code, Code::ReplyInvalid);
        let padded = [&body[..], &[b' '; MAX_OPENING_LEN]].concat();
        let long = [opened_fields(&padded), fields[2..].to_vec()].concat();
        let long = sent.read(200, &long, &padded).unwrap_err();
        assert_eq!(long.code, Code::ReplyInvalid);

        let refused = |fields: Vec<(String, String)>| read(&fields).unwrap_err().code;
        for component in OPENED_COMPONENTS {
            let mut text = format!("\"{}\"", component.name);
            if component.req {
                text.push_str(";req");
            }
            if let Some(key) = component.key {
                text = format!("{text};key=\"{key}\"");
            }
            // With the space behind it or before it, so that `content-digest` is not found twice.
            let less = if fields
                .iter()
                .any(|(_, value)| value.contains(&format!("{text} ")))
            {
                change(&fields, &format!("{text} "), "")
            } else {
                change(&fields, &format!(" {text}"), "")
            };
            assert_eq!(refused(less), Code::ReplyInvalid, "{text}");
        }
        let (own, other) = (key(3).thumbprint(), key(9).thumbprint());
        for (from, to) in [
            (own.to_string(), other.to_string()),
            (
                ECDSA_P256_SHA256.to_owned(),
                crate::signature::HMAC_SHA256.to_owned(),
            ),
            (OPENED_TAG.to_owned(), OPEN_TAG.to_owned()),
        ] {
            assert_eq!(refused(change(&fields, &from, &to)), Code::ReplyInvalid);
        }
    }

    /// Equal keys give equal secrets: what seals replies would seal requests.
    #[test]
    fn no_two_agreement_keys_are_equal() {
        let sent = sent();
        for keys in [
            [4, 4, 6],
            [4, 5, 4],
            [4, 5, 5],
            [2, 5, 6],
            [4, 2, 6],
            [4, 5, 2],
        ] {
            let (fields, body) = answer(&sent, keys);
            let refused = sent.read(200, &fields, &body).unwrap_err();
            assert_eq!(refused.code, Code::ReplyInvalid, "{keys:?}");
        }
    }
}
