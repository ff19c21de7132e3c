//! Proofs of possession: what a request's signature must cover, and how its parameters read.
//!
//! Signer and verifier both build the list of components that must be covered with
//! [`required`]; the verifier does so from the request as received.

use serde::{Deserialize, Serialize};

use crate::base64;
use crate::error::{Code, Error};
use crate::field::{self, Fields};
use crate::opening::SessionId;
use crate::signature::{
    Component, ECDSA_P256_SHA256, HMAC_SHA256, ReceivedSignature, Request, SignatureParams, ToSign,
};

/// The `tag` of a request's proof.
pub const TAG: &str = "bulla";

/// Which key proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum ProofKind {
    /// `hmac-sha256` under the session MAC key.
    Session,
    /// `ecdsa-p256-sha256` under the device key.
    Device,
}

/// The code that reads enums would be the browser module's for this one alone.
impl TryFrom<String> for ProofKind {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        match &*name {
            "session" => Ok(Self::Session),
            "device" => Ok(Self::Device),
            _ => Err(Code::Malformed.because("a proof is by session or device")),
        }
    }
}

impl ProofKind {
    /// The `alg` parameter.
    pub const fn alg(self) -> &'static str {
        match self {
            Self::Session => HMAC_SHA256,
            Self::Device => ECDSA_P256_SHA256,
        }
    }
}

/// How the proof binds the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// By `content-digest`.
    Digest,
    /// By the envelope's salt, which fixes the keys that authenticate every record: for a sealed
    /// body that is too large to be digested before it is sent.
    Salt,
}

/// The `nonce` parameter: the server's part, a dot, and 16 random bytes in base64url.
///
/// The random part is drawn once for a request and kept when it is sent again; the server's part is
/// the newest that the client has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofNonce {
    /// What the server handed out.
    pub server: String,
    /// What makes the proof unique, together with the device.
    pub random: [u8; 16],
}

impl ProofNonce {
    /// Length of the server's part at most, in characters.
    pub const MAX_SERVER_LEN: usize = 64;

    /// Whether a server's part has a length that there can be.
    pub fn takes(server: &str) -> bool {
        (1..=Self::MAX_SERVER_LEN).contains(&server.len())
    }

    /// Reads the parameter.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if there is no dot, the server's part is not 1 to 64 characters, or the random part not
    /// 16 bytes of base64url.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const MALFORMED: Error = Code::Malformed.because("the nonce could not be parsed");
        let (server, random) = text.rsplit_once('.').ok_or(MALFORMED)?;
        if !Self::takes(server) {
            return Err(MALFORMED);
        }
        Ok(Self {
            server: server.to_owned(),
            random: base64::decode_array(random).ok_or(MALFORMED)?,
        })
    }

    /// Writes the parameter.
    pub fn to_param(&self) -> String {
        format!("{}.{}", self.server, base64::encode(self.random))
    }
}

/// The components that must be covered whatever else is, in the order in which Bulla signs them.
///
/// # Errors
///
/// [`Code::FieldRefused`] if one of them cannot be signed, as [`field::Fields::line`].
pub fn required(fields: &dyn Fields, binding: Binding) -> Result<Vec<Component<'static>>, Error> {
    let mut components: Vec<_> = ["@method", "@authority", "@path", "@query"]
        .into_iter()
        .chain([match binding {
            Binding::Digest => field::CONTENT_DIGEST,
            Binding::Salt => field::SALT,
        }])
        .chain([field::TICKET])
        .map(Component::new)
        .collect();
    for name in field::COVERED_IF_PRESENT {
        if fields.line(name)?.is_some() {
            components.push(Component::new(name));
        }
    }
    Ok(components)
}

/// Prepares the proof of a request that is about to be sent.
///
/// `request.fields` holds the ticket, the digest (or the salt) and everything else that the
/// application set; `names` are the application's fields, all of which are covered.
///
/// # Errors
///
/// [`Code::ProofMismatch`] if `request.fields` lacks one of those that are covered, [`Code::FieldRefused`] if one
/// cannot be signed, [`Code::Malformed`] if a parameter cannot be written.
pub fn prove<'a>(
    kind: ProofKind,
    session: SessionId,
    request: &Request<'_>,
    names: impl Iterator<Item = &'a str>,
    binding: Binding,
    nonce: &ProofNonce,
    created: u64,
) -> Result<ToSign, Error> {
    let mut components: Vec<Component<'_>> = required(request.fields, binding)?;
    for name in names {
        if !components.iter().any(|known| known.name == name) {
            components.push(Component::new(name));
        }
    }
    let params = SignatureParams {
        created,
        keyid: &session.to_string(),
        nonce: Some(&nonce.to_param()),
        alg: kind.alg(),
        tag: TAG,
    };
    ToSign::request(request, &components, &params)
}

/// A proof as received, its coverage not checked yet.
pub struct ReceivedProof<'a> {
    signature: ReceivedSignature<'a>,
    /// Which key it claims to be made with.
    pub kind: ProofKind,
    /// Which session it is for.
    pub session: SessionId,
    /// What makes it fresh and unique.
    pub nonce: ProofNonce,
}

impl<'a> ReceivedProof<'a> {
    /// Reads the one proof that a request carries.
    ///
    /// # Errors
    ///
    /// [`Code::ProofMissing`] if there is none, [`Code::Malformed`] if it cannot be read,
    /// [`Code::ProofMismatch`] if it names an algorithm that no proof has.
    pub fn parse(fields: &'a dyn Fields) -> Result<Self, Error> {
        const MISSING: Error = Code::ProofMissing.because("the request carries no proof");
        let input = fields.line(field::SIGNATURE_INPUT)?.ok_or(MISSING)?;
        let signature = fields.line(field::SIGNATURE)?.ok_or(MISSING)?;
        let signature = ReceivedSignature::find(input, signature, TAG)?.ok_or(MISSING)?;
        let params = &signature.params;
        let kind = match params.alg {
            ECDSA_P256_SHA256 => ProofKind::Device,
            HMAC_SHA256 => ProofKind::Session,
            _ => return Err(Code::ProofMismatch.because("no proof has this algorithm")),
        };
        let session = params.keyid.parse()?;
        let nonce = params
            .nonce
            .ok_or(Code::Malformed.because("the proof has no nonce"))
            .and_then(ProofNonce::parse)?;
        Ok(Self {
            signature,
            kind,
            session,
            nonce,
        })
    }

    /// How the proof binds the content. [`Binding::Salt`] is for the verifier to allow or refuse.
    pub fn binding(&self) -> Binding {
        let mut components = self.signature.components.iter();
        if components.any(|component| component.name == field::SALT) {
            Binding::Salt
        } else {
            Binding::Digest
        }
    }

    /// Checks that the proof covers all that it must, and returns what must now be verified.
    ///
    /// `request.fields` must be what the verifier sees, with the ticket (and the salt) as the verifier
    /// knows them.
    ///
    /// # Errors
    ///
    /// [`Code::CoverageMissing`] if one is not covered, or a component has parameters; [`Code::ProofMismatch`] if
    /// one that is covered is not there; [`Code::FieldRefused`] if one cannot be signed.
    pub fn check_coverage(
        &self,
        request: &Request<'_>,
        binding: Binding,
    ) -> Result<CoveredProof<'a>, Error> {
        self.signature.check_whole()?;
        let components = &self.signature.components;
        if !self.signature.covers(&required(request.fields, binding)?) {
            return Err(Code::CoverageMissing.because("a required component is not covered"));
        }
        let params = &self.signature.signature_params;
        Ok(CoveredProof {
            base: crate::signature::request_base(request, components, params)?,
            covered: components
                .iter()
                .map(|component| component.name)
                .filter(|name| !name.starts_with('@'))
                .collect(),
            signature: self.signature.signature.clone(),
        })
    }
}

/// A proof that covers all that it must. Its signature is still to be verified over `base`.
pub struct CoveredProof<'a> {
    /// The signature base.
    pub base: String,
    /// The fields that it covers.
    pub covered: Vec<&'a str>,
    /// The signature.
    pub signature: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<(String, String)> {
        [
            (field::TICKET, ":dGlja2V0:"),
            (field::CONTENT_DIGEST, "sha-256=:AA==:"),
            ("content-type", "text/plain"),
            ("x-app", "1"),
            ("authorization", "Bearer t"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn request(fields: &Vec<(String, String)>) -> Request<'_> {
        Request {
            method: "POST",
            authority: "bank.example",
            path: "/api",
            query: None,
            fields,
        }
    }

    fn nonce() -> ProofNonce {
        ProofNonce {
            server: "server".into(),
            random: [7; 16],
        }
    }

    fn signed(names: &[&str]) -> Vec<(String, String)> {
        let mut fields = fields();
        let to_sign = prove(
            ProofKind::Device,
            SessionId([1; 16]),
            &request(&fields),
            names.iter().copied(),
            Binding::Digest,
            &nonce(),
            5,
        )
        .unwrap();
        fields.extend(to_sign.fields(b"signature").map(|(n, v)| (n.to_owned(), v)));
        fields
    }

    #[test]
    fn both_sides_build_the_same_base() {
        let fields = signed(&["x-app", "content-type"]);
        let proof = ReceivedProof::parse(&fields).unwrap();
        assert_eq!(
            (proof.kind, proof.session),
            (ProofKind::Device, SessionId([1; 16]))
        );
        assert_eq!(proof.nonce, nonce());
        let covered = proof
            .check_coverage(&request(&fields), Binding::Digest)
            .unwrap();
        assert_eq!(covered.signature, b"signature");
        assert!(
            covered
                .base
                .starts_with("\"@method\": POST\n\"@authority\": bank.example\n")
        );
        assert!(covered.base.contains("\n\"@query\": ?\n"));
        assert!(covered.covered.contains(&"x-app"));
    }

    #[test]
    fn whatever_is_present_must_be_covered() {
        let mut fields = signed(&[]);
        for (at, component) in ["@path", "content-digest", "bulla-ticket", "authorization"]
            .iter()
            .enumerate()
        {
            let mut less = fields.clone();
            let input = less
                .iter_mut()
                .find(|(name, _)| name == field::SIGNATURE_INPUT)
                .unwrap();
            input.1 = input
                .1
                .replace(&format!("\"{component}\""), "\"@method\";req");
            let proof = ReceivedProof::parse(&less).unwrap();
            let error = proof
                .check_coverage(&request(&less), Binding::Digest)
                .unwrap_err();
            assert_eq!(error.code, Code::CoverageMissing, "{at} {component}");
        }
        // One that needs a parameter is none of a request's, though all the others are there.
        let mut more = fields.clone();
        for (_, value) in &mut more {
            let with_member = "\"@method\" \"signature\";key=\"bulla\"";
            *value = value.replacen("\"@method\"", with_member, 1);
        }
        let proof = ReceivedProof::parse(&more).unwrap();
        let error = proof.check_coverage(&request(&more), Binding::Digest);
        assert_eq!(error.unwrap_err().code, Code::CoverageMissing);
        // A field that came in on the way.
        fields.push(("content-encoding".into(), "gzip".into()));
        let proof = ReceivedProof::parse(&fields).unwrap();
        let error = proof
            .check_coverage(&request(&fields), Binding::Digest)
            .unwrap_err();
        assert_eq!(error.code, Code::CoverageMissing);
        let error = proof
            .check_coverage(&request(&fields), Binding::Salt)
            .unwrap_err();
        assert_eq!(error.code, Code::CoverageMissing);
    }

    #[test]
    fn a_missing_or_unknown_proof_is_refused() {
        assert_eq!(
            ReceivedProof::parse(&fields()).unwrap_err().code,
            Code::ProofMissing
        );
        let with = |from: &str, to: &str| {
            let mut fields = signed(&[]);
            for (_, value) in &mut fields {
                *value = value.replace(from, to);
            }
            ReceivedProof::parse(&fields).unwrap_err().code
        };
        assert_eq!(
            with("tag=\"bulla\"", "tag=\"bulla-open\""),
            Code::ProofMissing
        );
        assert_eq!(with(ECDSA_P256_SHA256, "ed25519"), Code::ProofMismatch);
        assert_eq!(with("server.", "server"), Code::Malformed);
        assert_eq!(with("keyid=\"", "keyid=\"A"), Code::Malformed);
    }
}
