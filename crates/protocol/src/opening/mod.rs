//! Opening a session: the two messages, and the transcript that names the session.

use serde::{Deserialize, Serialize};

pub use self::client::{Opening, OpeningWork, SentOpening, UnverifiedOpened, VerifiedOpened};
pub use self::server::{ReceivedOpening, VerifiedOpening, opened_fields};
pub use self::ticket::{SessionId, Ticket};
pub use self::transcript::Transcript;
use crate::base64;
use crate::error::{Code, Error};
use crate::field;
use crate::jwk::{PublicKey, Thumbprint};
use crate::proof::ProofKind;
use crate::signature::{Component, LABEL};
use crate::target::Target;
use crate::work::Work;

mod client;
mod server;
mod ticket;
mod transcript;

/// The `tag` of an opening.
pub const OPEN_TAG: &str = "bulla-open";
/// The `tag` of the answer to an opening.
pub const OPENED_TAG: &str = "bulla-opened";
/// The label and the `tag` of the signature by which a device key signs in the one that takes its place.
pub const ROTATE_TAG: &str = "bulla-rotate";

/// The label under which the session MAC key is derived: HKDF-SHA256 over the third shared secret,
/// salted with the [`Transcript`].
pub const MAC_INFO: &[u8] = b"bulla session mac v1";

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
    /// [`VERSION`](crate::limits::VERSION).
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
    /// [`VERSION`](crate::limits::VERSION).
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
    use crate::limits::{MAX_OPENING_LEN, VERSION};
    use crate::signature::{ECDSA_P256_SHA256, Request};

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
        let fields = sent.fields().to_vec();
        let put = Request {
            method: "PUT",
            ..request(&fields)
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
