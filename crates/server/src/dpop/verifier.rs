//! Verifying access tokens.

use std::fmt;
use std::marker::PhantomData;

use bulla_keys::{KeyError, VerifyingKey};
use bulla_protocol::jwk::PublicKey;
use bulla_protocol::jws::Compact;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::claims::{MAX_TOKEN_LEN, TYP, TokenClaims};
use super::token::{AccessToken, AccessTokens, TokenError};
use crate::clock::MAX_SKEW;
use crate::confirmation::Confirmation;
use crate::ticket::RevocationId;

#[derive(Deserialize)]
struct KeyHeader {
    kid: String,
}

/// Verifies access tokens that a [`TokenIssuer`](super::TokenIssuer) has minted, or anybody who makes JWTs by RFC 9068 with ES256, a `kid`
/// and `cnf.jkt`. Their `alg` selects nothing.
pub struct TokenVerifier<E = ()> {
    issuer: String,
    audience: String,
    keys: Vec<(String, VerifyingKey)>,
    extra: PhantomData<fn() -> E>,
}

impl<E: DeserializeOwned> TokenVerifier<E> {
    /// Takes tokens of this issuer that are for this audience, once it knows a key. Both are compared as they are
    /// written.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            keys: Vec::new(),
            extra: PhantomData,
        }
    }

    /// Adds a key of the issuer, by its RFC 7638 thumbprint. While one key takes over from another both are known.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the key cannot be used.
    pub fn key(self, key: &PublicKey) -> Result<Self, KeyError> {
        self.key_named(key.thumbprint().to_string(), key)
    }

    /// Adds a key of the issuer, by the `kid` that the issuer has given it.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the key cannot be used, or another one has this name.
    pub fn key_named(mut self, kid: impl Into<String>, key: &PublicKey) -> Result<Self, KeyError> {
        let kid = kid.into();
        if self.find(&kid).is_some() {
            return Err(KeyError);
        }
        self.keys.push((kid, VerifyingKey::new(key)?));
        Ok(self)
    }

    /// Verifies a token, and that it is not expired. Whoever shows it has yet to prove that he holds the key of its
    /// [`cnf`](TokenClaims::cnf). `now` is in seconds since 1970; the issuer's clock may be 30 seconds ahead.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn verify(&self, token: &str, now: u64) -> Result<TokenClaims<E>, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::Malformed);
        }
        let jws = Compact::parse(token, TYP).map_err(|_| TokenError::Malformed)?;
        let KeyHeader { kid } = jws.header().map_err(|_| TokenError::Malformed)?;
        let key = self.find(&kid).ok_or(TokenError::Signature)?;
        key.verify(jws.signed.as_bytes(), &jws.signature)
            .map_err(|_| TokenError::Signature)?;
        let claims: TokenClaims<E> = jws.payload().map_err(|_| unreadable(&jws))?;
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        if !claims.aud.has(&self.audience) {
            return Err(TokenError::Audience);
        }
        if claims.iat > now.saturating_add(MAX_SKEW) {
            return Err(TokenError::NotYet);
        }
        if claims.exp <= now {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }

    fn find(&self, kid: &str) -> Option<&VerifyingKey> {
        let found = self.keys.iter().find(|(known, _)| known == kid);
        found.map(|(_, key)| key)
    }
}

/// Why a genuine token cannot be read: most often its issuer has not been told to bind it.
fn unreadable(jws: &Compact<'_>) -> TokenError {
    #[derive(Deserialize)]
    struct Bound {
        #[serde(rename = "cnf")]
        _cnf: Confirmation,
    }
    match jws.payload::<Bound>() {
        Ok(_) => TokenError::Malformed,
        Err(_) => TokenError::Unbound,
    }
}

impl<E: DeserializeOwned + Send + Sync + 'static> AccessTokens for TokenVerifier<E> {
    type Claims = TokenClaims<E>;

    async fn check(
        &self,
        token: &str,
        now: u64,
    ) -> Result<AccessToken<TokenClaims<E>>, TokenError> {
        let claims = self.verify(token, now)?;
        Ok(AccessToken {
            id: RevocationId::of_token(&claims.iss, &claims.jti),
            confirmation: claims.cnf,
            subject: Some(claims.sub.clone()),
            issued: Some(claims.iat),
            expires: Some(claims.exp),
            claims,
        })
    }
}

impl<E> fmt::Debug for TokenVerifier<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids: Vec<_> = self.keys.iter().map(|(kid, _)| kid).collect();
        f.debug_struct("TokenVerifier")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("keys", &kids)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bulla_keys::{SigningKey, SystemRandom};
    use bulla_protocol::jwk::Thumbprint;
    use bulla_protocol::jws;
    use serde::Serialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::dpop::{MintError, NewToken, TokenIssuer};

    const NOW: u64 = 1_800_000_000;
    const ISSUER: &str = "https://login.example";
    const AUDIENCE: &str = "https://bank.example";

    fn issuer() -> TokenIssuer {
        TokenIssuer::new(ISSUER, SigningKey::generate(&SystemRandom).unwrap())
    }

    fn verifier<E: DeserializeOwned>(issuer: &TokenIssuer) -> TokenVerifier<E> {
        let verifier = TokenVerifier::new(ISSUER, AUDIENCE);
        verifier.key(issuer.public()).unwrap()
    }

    fn new_token<E>(extra: E) -> NewToken<E> {
        NewToken {
            subject: "ann".into(),
            client_id: "app".into(),
            audience: AUDIENCE.into(),
            scope: Some("read write".into()),
            confirmation: Confirmation {
                jkt: Thumbprint([7; 32]),
            },
            lifetime: Duration::from_mins(5),
            extra,
        }
    }

    /// A token of this issuer's key that says what the test wants.
    fn forge(issuer: &TokenIssuer, header: &Value, claims: &Value) -> String {
        let signed = jws::to_sign(header, claims).unwrap();
        jws::join(&signed, &issuer.key.sign(signed.as_bytes()).unwrap())
    }

    #[test]
    fn what_was_minted_is_verified() {
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        struct Extra {
            tenant: u64,
        }
        let issuer = issuer();
        let verifier = verifier::<Extra>(&issuer);
        let extra = Extra { tenant: 7 };
        let minted = issuer
            .mint(new_token(extra.clone()), NOW, &SystemRandom)
            .unwrap();
        let claims = verifier.verify(&minted.token, NOW).unwrap();
        assert_eq!(minted.id, RevocationId::of_token(ISSUER, &claims.jti));
        let times = (claims.iat, claims.exp);
        assert_eq!((claims.extra, times), (extra.clone(), (NOW, NOW + 300)));
        assert_eq!(claims.cnf.jkt, Thumbprint([7; 32]));
        for (now, refused) in [
            (NOW - 30, None),
            (NOW - 31, Some(TokenError::NotYet)),
            (NOW + 299, None),
            (NOW + 300, Some(TokenError::Expired)),
        ] {
            assert_eq!(verifier.verify(&minted.token, now).err(), refused, "{now}");
        }
        let again = issuer.mint(new_token(extra), NOW, &SystemRandom).unwrap();
        assert_ne!(again.id, minted.id);
    }

    #[test]
    fn what_nobody_could_read_is_not_minted() {
        let issuer = issuer();
        let mint = |token| issuer.mint(token, NOW, &SystemRandom).map(drop);
        assert_eq!(mint(new_token(json!({ "x": "a".repeat(4000) }))), Ok(()));
        assert_eq!(
            mint(new_token(json!({ "x": "a".repeat(8000) }))),
            Err(MintError)
        );
        assert_eq!(mint(new_token(json!({ "sub": "bob" }))), Err(MintError));
        // What was not granted is no extra, either.
        let no_scope = NewToken {
            scope: None,
            ..new_token(json!({ "scope": "admin" }))
        };
        assert_eq!(mint(no_scope), Err(MintError));
        let nobody = NewToken {
            subject: String::new(),
            ..new_token(json!({}))
        };
        assert_eq!(mint(nobody), Err(MintError));
    }

    #[test]
    fn any_other_token_is_refused() {
        let issuer = issuer();
        let verifier = verifier::<()>(&issuer);
        let header = json!({ "typ": "at+jwt", "alg": "ES256", "kid": issuer.kid });
        let claims = json!({
            "iss": ISSUER, "sub": "ann", "aud": [AUDIENCE, "other"], "client_id": "app", "exp": NOW + 60,
            "iat": NOW, "jti": "1", "cnf": { "jkt": Thumbprint([7; 32]) },
        });
        let good = forge(&issuer, &header, &claims);
        assert!(verifier.verify(&good, NOW).is_ok());

        let with = |value: &Value, name: &str, member: Value| {
            let mut value = value.clone();
            value[name] = member;
            value
        };
        for (name, member, refused) in [
            ("typ", json!("jwt"), TokenError::Malformed),
            ("typ", json!("dpop+jwt"), TokenError::Malformed),
            ("alg", json!("none"), TokenError::Malformed),
            ("alg", json!("HS256"), TokenError::Malformed),
            ("crit", json!(["x"]), TokenError::Malformed),
            ("kid", json!("other"), TokenError::Signature),
            ("kid", json!(null), TokenError::Malformed),
        ] {
            let token = forge(&issuer, &with(&header, name, member), &claims);
            assert_eq!(verifier.verify(&token, NOW).err(), Some(refused), "{name}");
        }
        for (name, member, refused) in [
            ("iss", json!("https://other.example"), TokenError::Issuer),
            ("aud", json!("other"), TokenError::Audience),
            ("aud", json!([]), TokenError::Audience),
            ("aud", json!(null), TokenError::Malformed),
            ("exp", json!("never"), TokenError::Malformed),
            ("exp", json!(NOW), TokenError::Expired),
            ("iat", json!(NOW + 31), TokenError::NotYet),
            ("jti", json!(1), TokenError::Malformed),
            ("cnf", json!({}), TokenError::Unbound),
            ("cnf", json!(null), TokenError::Unbound),
        ] {
            let token = forge(&issuer, &header, &with(&claims, name, member));
            assert_eq!(verifier.verify(&token, NOW).err(), Some(refused), "{name}");
        }
        for name in ["iss", "sub", "aud", "client_id", "exp", "iat", "jti", "cnf"] {
            let mut claims = claims.clone();
            claims.as_object_mut().unwrap().remove(name);
            let token = forge(&issuer, &header, &claims);
            assert!(verifier.verify(&token, NOW).is_err(), "{name}");
        }

        let (signed, _) = good.rsplit_once('.').unwrap();
        let thief = TokenIssuer::new(ISSUER, SigningKey::generate(&SystemRandom).unwrap());
        let forged = jws::join(signed, &thief.key.sign(signed.as_bytes()).unwrap());
        for bad in [forged.as_str(), &format!("{signed}."), signed, "", "9f2c"] {
            assert!(verifier.verify(bad, NOW).is_err(), "{bad}");
        }
        let long = with(&claims, "x", json!("a".repeat(8000)));
        let long = forge(&issuer, &header, &long);
        assert_eq!(
            verifier.verify(&long, NOW).err(),
            Some(TokenError::Malformed)
        );
    }

    /// Whoever makes a token up names whatever key he has.
    #[test]
    fn keys_that_a_token_names_itself_are_not_looked_at() {
        let (issuer, thief) = (issuer(), issuer());
        let verifier = verifier::<()>(&issuer);
        let claims = json!({
            "iss": ISSUER, "sub": "ann", "aud": AUDIENCE, "client_id": "app", "exp": NOW + 60, "iat": NOW,
            "jti": "1", "cnf": { "jkt": Thumbprint([7; 32]) },
        });
        let jwk = serde_json::to_value(thief.public()).unwrap();
        for (name, member) in [
            ("jwk", jwk),
            ("jku", json!("https://thief.example/keys")),
            ("x5u", json!("https://thief.example/chain")),
            ("x5c", json!(["AAAA"])),
        ] {
            let mut header = json!({ "typ": "at+jwt", "alg": "ES256", "kid": issuer.kid });
            header[name] = member;
            let good = forge(&issuer, &header, &claims);
            assert!(verifier.verify(&good, NOW).is_ok(), "{name}");
            let forged = verifier.verify(&forge(&thief, &header, &claims), NOW);
            assert_eq!(forged.err(), Some(TokenError::Signature), "{name}");
        }
    }

    #[test]
    fn keys_take_over_from_each_other_by_name() {
        let (old, new) = (issuer(), issuer());
        let both = verifier::<()>(&old).key(new.public()).unwrap();
        let token = |issuer: &TokenIssuer| {
            let minted = issuer.mint(new_token(()), NOW, &SystemRandom).unwrap();
            minted.token
        };
        for issuer in [&old, &new] {
            assert!(both.verify(&token(issuer), NOW).is_ok());
        }
        let only = verifier::<()>(&new);
        assert!(only.verify(&token(&new), NOW).is_ok());
        let refused = only.verify(&token(&old), NOW).err();
        assert_eq!(refused, Some(TokenError::Signature));
        assert!(both.key(old.public()).is_err());
    }
}
