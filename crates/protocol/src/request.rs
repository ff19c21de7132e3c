//! A request, on the client's side: what may be sent, what its proof is made over, and what of it stands
//! inside a seal. Who signs and enciphers it, and when, is left to the caller.

use crate::digest::ContentDigest;
use crate::error::Error;
use crate::field;
use crate::message::{Control, Head};
use crate::opening::{SessionId, Ticket};
use crate::proof::{Binding, ProofKind, ProofNonce, prove};
use crate::signature::{Request, ToSign};
use crate::structured;
use crate::target::{Origin, Target, check_method, is_safe};

/// A request that can be sent through a session, again and again if need be.
pub struct Outgoing {
    origin: Origin,
    method: String,
    /// Path and query as they are signed and sent.
    target: String,
    /// The application's.
    fields: Vec<(String, String)>,
}

/// What the proof binds the content by.
#[derive(Clone, Copy)]
pub enum Bound {
    /// By the digest of the whole content.
    Digest(ContentDigest),
    /// By the salt of the envelope that holds it, where it is a stream.
    Salt([u8; 16]),
}

impl Outgoing {
    /// Takes the application's request. `target` is the path with the query as they will be sent; no two of
    /// `fields` have one name.
    ///
    /// # Errors
    ///
    /// [`Code::PathRefused`](crate::error::Code::PathRefused) and the like, for what no server takes.
    pub fn new(
        origin: Origin,
        method: String,
        target: String,
        fields: Vec<(String, String)>,
    ) -> Result<Self, Error> {
        check_method(&method)?;
        Target::parse(&target)?;
        for (name, value) in &fields {
            field::of_application(name, value.as_bytes())?;
        }
        Ok(Self {
            origin,
            method,
            target,
            fields,
        })
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Path and query as they are signed and sent.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether the method is safe (RFC 9110 section 9.2.1).
    pub fn is_safe(&self) -> bool {
        is_safe(&self.method)
    }

    /// Prepares the proof of one sending. `created` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`](crate::error::Code::Malformed) if `session`, `nonce` or `created` cannot be written as
    /// parameters. All else was checked by [`Self::new`].
    pub fn prove(
        &self,
        kind: ProofKind,
        session: SessionId,
        ticket: &Ticket,
        nonce: &ProofNonce,
        content: Bound,
        created: u64,
    ) -> Result<Proof, Error> {
        let mut fields = self.fields.clone();
        let mut push = |name: &str, value| fields.push((name.to_owned(), value));
        let (binding, stated) = match content {
            Bound::Digest(digest) => {
                push(field::CONTENT_DIGEST, digest.to_field());
                (Binding::Digest, 1)
            }
            Bound::Salt(salt) => {
                push(field::SALT, structured::from_bytes(&salt));
                (Binding::Salt, 2)
            }
        };
        push(field::TICKET, ticket.to_field());
        let target = Target::parse(&self.target)?;
        let request = Request {
            method: &self.method,
            authority: self.origin.authority(),
            path: target.path,
            query: target.query,
            fields: &fields,
        };
        let names = self.fields.iter().map(|(name, _)| name.as_str());
        let to_sign = prove(kind, session, &request, names, binding, nonce, created)?;
        Ok(Proof {
            to_sign,
            fields,
            stated,
        })
    }

    /// The head of the message inside the seal.
    fn head(&self, fields: Vec<(String, String)>) -> Head {
        Head {
            control: Control::Request {
                method: self.method.clone(),
                scheme: self.origin.scheme().to_owned(),
                authority: self.origin.authority().to_owned(),
                target: self.target.clone(),
            },
            fields,
        }
    }
}

/// The proof of one sending, without its signature.
pub struct Proof {
    to_sign: ToSign,
    /// The application's fields, the digest, and what an envelope states.
    fields: Vec<(String, String)>,
    /// How many of them, at the end, an envelope states, so that they do not stand inside the seal as well.
    stated: usize,
}

impl Proof {
    /// What the device key or the session's MAC key signs.
    pub fn base(&self) -> &[u8] {
        self.to_sign.base.as_bytes()
    }

    /// All the fields of a request that is signed only.
    pub fn signed(self, signature: &[u8]) -> Vec<(String, String)> {
        let Self {
            to_sign,
            mut fields,
            ..
        } = self;
        fields.extend(owned(to_sign.fields(signature)));
        fields
    }

    /// The head of the message inside the seal of a sealed one.
    pub fn sealed(self, outgoing: &Outgoing, signature: &[u8]) -> Head {
        let Self {
            to_sign,
            mut fields,
            stated,
        } = self;
        fields.truncate(fields.len() - stated);
        fields.extend(owned(to_sign.fields(signature)));
        outgoing.head(fields)
    }
}

fn owned(fields: [(&'static str, String); 2]) -> [(String, String); 2] {
    fields.map(|(name, value)| (name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<Outgoing, Error> {
        let fields = fields.iter().map(|(name, value)| {
            let owned = |text: &str| text.to_owned();
            (owned(name), owned(value))
        });
        let origin = Origin::parse("https://bank.example")?;
        Outgoing::new(origin, method.into(), target.into(), fields.collect())
    }

    fn names(fields: &[(String, String)]) -> Vec<&str> {
        fields.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn what_no_server_takes_is_refused_at_once() {
        assert!(outgoing("POST", "/a?b", &[("x-app", "1"), ("accept", "*/*")]).is_ok());
        for (method, target, field) in [
            ("TRACE", "/", ("x-app", "1")),
            ("GET", "/a/../b", ("x-app", "1")),
            ("GET", "/", ("bulla-ticket", ":AA==:")),
            ("GET", "/", ("signature", "a=:AA==:")),
            ("GET", "/", ("content-digest", "sha-256=:AA==:")),
            ("GET", "/", ("cookie", "a=b")),
            ("GET", "/", ("host", "bank.example")),
            ("GET", "/", ("x-forwarded-for", "1.2.3.4")),
            ("GET", "/", ("x-app", "caf\u{e9}")),
        ] {
            assert!(
                outgoing(method, target, &[field]).is_err(),
                "{method} {target} {field:?}"
            );
        }
    }

    /// The verifier takes them from the envelope, and refuses them inside.
    #[test]
    fn what_the_envelope_states_does_not_stand_inside() {
        let outgoing = outgoing("POST", "/a?b", &[("x-app", "1")]).unwrap();
        let ticket = Ticket::new(vec![7; 40]).unwrap();
        let nonce = ProofNonce {
            server: "server".to_owned(),
            random: [7; 16],
        };
        let prove = |content| {
            let session = SessionId([1; 16]);
            outgoing.prove(ProofKind::Device, session, &ticket, &nonce, content, 5)
        };
        let whole = || prove(Bound::Digest(ContentDigest::of(b"content"))).unwrap();
        let covered = String::from_utf8(whole().base().to_vec()).unwrap();
        assert!(covered.contains("\"bulla-ticket\": ") && covered.contains("\"x-app\": 1"));
        let signed = whole().signed(b"");
        let proof = ["signature-input", "signature"];
        assert_eq!(
            names(&signed)[..3],
            ["x-app", "content-digest", "bulla-ticket"]
        );
        assert_eq!(names(&signed)[3..], proof);
        let sealed = whole().sealed(&outgoing, b"").fields;
        assert_eq!(names(&sealed)[..2], ["x-app", "content-digest"]);
        assert_eq!(names(&sealed)[2..], proof);

        let stream = prove(Bound::Salt([9; 16])).unwrap();
        let covered = String::from_utf8(stream.base().to_vec()).unwrap();
        assert!(covered.contains("\"bulla-salt\": ") && covered.contains("\"bulla-ticket\": "));
        let sealed = stream.sealed(&outgoing, b"").fields;
        assert_eq!(names(&sealed)[..1], ["x-app"]);
        assert_eq!(names(&sealed)[1..], proof);
    }
}
