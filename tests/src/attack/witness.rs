//! What the server knows of a session's keys, worked out from the random bytes that it drew.

use std::sync::{Arc, Mutex, PoisonError};

use bulla_keys::{AgreementKey, Prk, Random, RandomError, SystemRandom};
use bulla_protocol::jwk::PublicKey;
use bulla_protocol::opening::{MAC_INFO, Open, Opened, ReceivedOpening};
use bulla_protocol::seal::{CEK_INFO, Header};
use bulla_protocol::signature::Request as SignedRequest;

use super::{Exchange, Outcome};

/// The system's random bytes, remembered. To be handed to the server.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Vec<[u8; 32]>>>);

impl Random for Witness {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        SystemRandom.fill(out)?;
        if let Ok(drawn) = <[u8; 32]>::try_from(&*out) {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(drawn);
        }
        Ok(())
    }
}

/// Secrets of one session, with their names.
pub struct Secrets {
    /// The hash of the opening, which is no secret: whoever has recorded it can compute it.
    pub transcript: [u8; 32],
    /// The points of the server's agreement keys, for requests, for replies and for the MAC key: no secrets
    /// either.
    pub points: [Vec<u8>; 3],
    /// The key that requests are sealed under.
    pub request: [u8; 32],
    /// The key that replies are sealed under.
    pub response: [u8; 32],
    /// The shared secret from which the MAC key is derived.
    pub mac_secret: [u8; 32],
    /// The session MAC key.
    pub mac: [u8; 32],
    /// The keys of the recorded messages.
    pub messages: Vec<[u8; 16]>,
}

impl Secrets {
    /// All of them by name.
    pub fn named(&self) -> Vec<(&'static str, &[u8])> {
        let mut named: Vec<(&str, &[u8])> = vec![
            ("request key", &self.request),
            ("response key", &self.response),
            ("MAC secret", &self.mac_secret),
            ("MAC key", &self.mac),
        ];
        let messages = self.messages.iter().map(|key| ("message key", &key[..]));
        named.extend(messages);
        named
    }
}

impl Witness {
    /// The secrets of the session that was opened last.
    ///
    /// # Errors
    ///
    /// If none was, or the server drew its bytes elsewhere.
    pub fn secrets(&self, authority: &str, traffic: &[Exchange]) -> Outcome<Secrets> {
        let at = traffic
            .iter()
            .rposition(|exchange| exchange.request.uri().path().ends_with("/session"))
            .ok_or("no opening was recorded")?;
        let Exchange { request, reply } = &traffic[at];
        let open: Open = serde_json::from_slice(request.body())?;
        let opened: Opened = serde_json::from_slice(reply.body())?;
        let fields: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned())))
            .collect::<Outcome<_>>()?;
        let signed = SignedRequest {
            method: request.method().as_str(),
            authority,
            path: request.uri().path(),
            query: None,
            fields: &fields,
        };
        let transcript = ReceivedOpening::parse(&signed, request.body())?
            .verify(|key, base, signature| bulla_keys::verify(key, base, signature).is_ok())?
            .transcript(
                &opened.agreement,
                &opened.identity.thumbprint(),
                &opened.random,
            )
            .0;
        let agreements = [
            opened.agreement.request,
            opened.agreement.response,
            opened.agreement.mac,
        ];
        let points = agreements.map(|public| public.as_uncompressed().to_vec());
        let [request, response, mac_secret] =
            agreements.map(|public| self.agree(&public, &open.agreement));
        let (request, response, mac_secret) = (request?, response?, mac_secret?);
        let mut mac = [0; 32];
        Prk::extract(&transcript, &mac_secret).expand(&[MAC_INFO], &mut mac);
        let mut messages = Vec::new();
        for exchange in &traffic[at + 1..] {
            for (body, key) in [
                (exchange.request.body(), &request),
                (exchange.reply.body(), &response),
            ] {
                if let Ok(Some((header, _))) = Header::parse(body) {
                    let mut message = [0; 16];
                    Prk::extract(&header.salt, key).expand(&[CEK_INFO], &mut message);
                    messages.push(message);
                }
            }
        }
        Ok(Secrets {
            transcript,
            points,
            request,
            response,
            mac_secret,
            mac,
            messages,
        })
    }

    /// What the server's key with this public half agrees on with the client's.
    fn agree(&self, public: &PublicKey, client: &PublicKey) -> Outcome<[u8; 32]> {
        struct Drawn([u8; 32]);

        impl Random for Drawn {
            fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
                out.copy_from_slice(&self.0);
                Ok(())
            }
        }

        let drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = drawn
            .iter()
            .filter_map(|bytes| AgreementKey::generate(&Drawn(*bytes)).ok());
        let mut own = keys.filter(|key| key.public() == public);
        let key = own.next().ok_or("the server drew this key elsewhere")?;
        Ok(*key.agree(client)?.as_bytes())
    }
}
