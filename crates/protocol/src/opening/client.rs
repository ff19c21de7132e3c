//! The client's half: from what it wants to a session that the server has vouched for.

use super::{
    JSON, OPEN_COMPONENTS, OPEN_TAG, OPENED_COMPONENTS, OPENED_TAG, Open, Opened, ROTATE_TAG,
    Transcript, session_path,
};
use crate::digest::ContentDigest;
use crate::error::{Code, Error};
use crate::field::{self, Fields};
use crate::json;
use crate::jwk::PublicKey;
use crate::limits::{MAX_OPENING_LEN, VERSION};
use crate::reply::refusal;
use crate::signature::{
    ECDSA_P256_SHA256, ReceivedSignature, Request, SignatureParams, ToSign, response_base,
};
use crate::structured;
use crate::work::Search;

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
                // It takes the path for one of the application's.
                Code::ProofMissing => Code::ReplyInvalid
                    .because("the server has no endpoint there: is the prefix the server's"),
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
            .because("no verifier has answered the opening; is one mounted at this origin");
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
