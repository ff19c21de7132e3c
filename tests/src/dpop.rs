//! A resource server for standard clients of OAuth, and a client that is written out step by step, so that each of
//! its steps can be made wrong.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use bulla_keys::SystemRandom;
use bulla_protocol::dpop::token_hash;
use bulla_protocol::{base64, jws};
use bulla_server::dpop::{
    Access, Freshness, Minted, NewToken, SigningKey, TokenClaims, TokenIssuer, TokenVerifier,
};
use bulla_server::{
    Builder, Bulla, Clock as _, Code, Confirmation, Identity, MemoryStore, Random as _,
    SecurityEvent,
};
use reqwest::header::{HOST, WWW_AUTHENTICATE};
use serde_json::{Value, json};

use crate::bank::MovedClock;
use crate::serve::Server;

/// Who issues the tokens.
pub const ISSUER: &str = "https://login.example";
/// Whom they are for.
pub const AUDIENCE: &str = "https://bank.example";
/// What is asked for.
pub const PATH: &str = "/accounts";
/// The same, from a server that takes the same tokens from whoever has them.
pub const TWIN: &str = "/bearer/accounts";

/// The claims that the handlers see.
pub type Claims = TokenClaims<Value>;

/// A running resource server.
pub struct Resource {
    /// Where it is served.
    pub server: Server,
    /// The verifier beside which it is.
    pub bulla: Bulla,
    /// The verifier's clock.
    pub clock: MovedClock,
    /// Who mints its tokens.
    pub issuer: Arc<TokenIssuer>,
    origin: String,
    events: Arc<Mutex<Vec<SecurityEvent>>>,
    http: reqwest::Client,
}

impl Resource {
    /// Starts one that the world knows as [`AUDIENCE`], as if something before it ended TLS.
    ///
    /// # Errors
    ///
    /// If no port can be had.
    pub async fn start(freshness: Freshness) -> io::Result<Self> {
        Self::start_as(Some(AUDIENCE), freshness).await
    }

    /// Starts one that is known by this origin, or by where it is.
    ///
    /// # Errors
    ///
    /// If no port can be had.
    pub async fn start_as(origin: Option<&str>, freshness: Freshness) -> io::Result<Self> {
        let key = SigningKey::generate(&SystemRandom).map_err(io::Error::other)?;
        let issuer = Arc::new(TokenIssuer::new(ISSUER, key));
        Self::start_with(origin, freshness, issuer, |builder| builder).await
    }

    /// Starts one that takes this issuer's tokens, and whose verifier is configured further.
    ///
    /// # Errors
    ///
    /// If no port can be had.
    pub async fn start_with(
        origin: Option<&str>,
        freshness: Freshness,
        issuer: Arc<TokenIssuer>,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> io::Result<Self> {
        let clock = MovedClock::default();
        let events: Arc<Mutex<Vec<SecurityEvent>>> = Arc::default();
        let mut built = None;
        let server = Server::start_with(|here| {
            let seen = Arc::clone(&events);
            let origin = origin.unwrap_or(here).to_owned();
            let builder = Bulla::builder()
                .origin(&origin)
                .clock(clock.clone())
                .on_event(move |event| lock(&seen).push(event.clone()))
                .identity(Identity::generate(&SystemRandom).map_err(io::Error::other)?)
                .store(MemoryStore::new().map_err(io::Error::other)?)
                .allow_origin("https://app.example");
            let bulla = configure(builder).build().map_err(io::Error::other)?;
            let tokens = || {
                let tokens = TokenVerifier::<Value>::new(ISSUER, AUDIENCE);
                tokens.key(issuer.public()).map_err(io::Error::other)
            };
            let routes = Router::new()
                .route(PATH, any(accounts))
                .route("/logout", any(logout));
            let dpop = bulla.dpop(tokens()?).freshness(freshness);
            let twin = Router::new()
                .route(TWIN, get(bearer))
                .with_state((Arc::new(tokens()?), clock.clone()));
            let app = bulla.protect(Router::new().route("/sealed", any(async || "sealed")));
            built = Some((bulla, origin));
            Ok(app.merge(dpop.protect(routes)).merge(twin))
        })
        .await?;
        let (bulla, origin) = built.ok_or_else(|| io::Error::other("nothing was built"))?;
        let http = reqwest::Client::builder().no_proxy().build();
        Ok(Self {
            server,
            bulla,
            clock,
            issuer,
            origin,
            events,
            http: http.map_err(io::Error::other)?,
        })
    }

    /// A token for this user, bound to this device.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn mint(&self, subject: &str, device: &SigningKey) -> io::Result<Minted> {
        let grant = NewToken {
            subject: subject.to_owned(),
            client_id: "app".to_owned(),
            audience: AUDIENCE.to_owned(),
            scope: Some("accounts".to_owned()),
            confirmation: Confirmation {
                jkt: device.thumbprint(),
            },
            lifetime: Duration::from_hours(1),
            extra: json!({ "tenant": 7 }),
        };
        let minted = self.issuer.mint(grant, self.clock.now(), &SystemRandom);
        minted.map_err(io::Error::other)
    }

    /// An attempt that is right in everything, but that it has the nonce that it is given.
    ///
    /// # Errors
    ///
    /// If there are no random bytes.
    pub fn attempt<'a>(
        &self,
        device: &'a SigningKey,
        token: &str,
        nonce: Option<&str>,
    ) -> io::Result<Attempt<'a>> {
        let mut jti = [0; 16];
        SystemRandom.fill(&mut jti).map_err(io::Error::other)?;
        let mut claims = json!({
            "jti": base64::encode(jti),
            "htm": "GET",
            "htu": format!("{}{PATH}", self.origin),
            "iat": self.clock.now(),
            "ath": token_hash(token),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        Ok(Attempt {
            method: "GET",
            path: PATH.to_owned(),
            scheme: "DPoP",
            token: token.to_owned(),
            header: json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": device.public() }),
            claims,
            signer: Signer::Device(device),
            proofs: None,
            fields: Vec::new(),
        })
    }

    /// Sends an attempt.
    ///
    /// # Errors
    ///
    /// If it cannot be sent.
    pub async fn send(&self, attempt: &Attempt<'_>) -> io::Result<Answer> {
        let url = format!("http://127.0.0.1:{}{}", self.server.port(), attempt.path);
        let method = attempt.method.parse().map_err(io::Error::other)?;
        let host = self.origin.split("//").last().unwrap_or_default();
        let mut request = self.http.request(method, url).header(HOST, host);
        if !attempt.scheme.is_empty() {
            request = request.header(
                AUTHORIZATION,
                format!("{} {}", attempt.scheme, attempt.token),
            );
        }
        let proofs = match &attempt.proofs {
            Some(proofs) => proofs.clone(),
            None => vec![attempt.proof()?],
        };
        for proof in proofs {
            request = request.header("DPoP", proof);
        }
        for (name, value) in &attempt.fields {
            request = request.header(*name, value);
        }
        let response = request.send().await.map_err(io::Error::other)?;
        let text = |name: &str| {
            let line = response.headers().get(name);
            line.and_then(|line| line.to_str().ok()).map(str::to_owned)
        };
        Ok(Answer {
            status: response.status().as_u16(),
            challenge: text(WWW_AUTHENTICATE.as_str()),
            nonce: text("dpop-nonce"),
            headers: response.headers().clone(),
            body: response.text().await.map_err(io::Error::other)?,
        })
    }

    /// The nonce of now, as any client is handed one.
    ///
    /// # Errors
    ///
    /// If none is handed out.
    pub async fn nonce(&self) -> io::Result<String> {
        let device = SigningKey::generate(&SystemRandom).map_err(io::Error::other)?;
        let mut stranger = self.attempt(&device, "none", None)?;
        stranger.scheme = "";
        let answer = self.send(&stranger).await?;
        self.taken();
        answer
            .nonce
            .ok_or_else(|| io::Error::other("no nonce was handed out"))
    }

    /// What was refused since it was last asked for.
    pub fn taken(&self) -> Vec<SecurityEvent> {
        std::mem::take(&mut *lock(&self.events))
    }

    /// The codes of that.
    pub fn refusals(&self) -> Vec<Code> {
        let events = self.taken();
        events
            .iter()
            .filter_map(|event| event.kind.code())
            .collect()
    }
}

/// A request on its way to be made.
pub struct Attempt<'a> {
    /// Its method.
    pub method: &'static str,
    /// Its path and query.
    pub path: String,
    /// The scheme of its authorization; if empty there is none.
    pub scheme: &'static str,
    /// The access token.
    pub token: String,
    /// The proof's header.
    pub header: Value,
    /// The proof's claims.
    pub claims: Value,
    /// Who signs the proof.
    pub signer: Signer<'a>,
    /// What is sent in place of the proof.
    pub proofs: Option<Vec<String>>,
    /// Further fields.
    pub fields: Vec<(&'static str, String)>,
}

/// Who signs a proof.
#[derive(Clone, Copy)]
pub enum Signer<'a> {
    /// A device, by ES256.
    Device(&'a SigningKey),
    /// Nobody; these are the bytes in the signature's place.
    Nobody(&'a [u8]),
}

impl Attempt<'_> {
    /// The proof.
    ///
    /// # Errors
    ///
    /// If it cannot be signed.
    pub fn proof(&self) -> io::Result<String> {
        let signed = jws::to_sign(&self.header, &self.claims).map_err(io::Error::other)?;
        match self.signer {
            Signer::Device(key) => {
                let signature = key.sign(signed.as_bytes()).map_err(io::Error::other)?;
                Ok(jws::join(&signed, &signature))
            }
            Signer::Nobody(bytes) => Ok(format!("{signed}.{}", base64::encode(bytes))),
        }
    }
}

/// What the server says.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `WWW-Authenticate`.
    pub challenge: Option<String>,
    /// `DPoP-Nonce`.
    pub nonce: Option<String>,
    /// All fields.
    pub headers: HeaderMap,
    /// The content.
    pub body: String,
}

impl Answer {
    /// The value of `error` in the challenge.
    pub fn error(&self) -> Option<&str> {
        let (_, error) = self.challenge.as_deref()?.split_once("error=\"")?;
        Some(error.split_once('"')?.0)
    }
}

async fn accounts(access: Access<Claims>) -> Json<Value> {
    Json(json!({
        "subject": access.subject(),
        "device": access.device(),
        "scope": access.claims().scope,
        "tenant": access.claims().extra["tenant"],
    }))
}

async fn logout(access: Access<Claims>) -> Result<&'static str, bulla_server::Refused> {
    access.revoke().await?;
    Ok("gone")
}

type Twin = (Arc<TokenVerifier<Value>>, MovedClock);

/// Takes the token from whoever has it.
async fn bearer(State((tokens, clock)): State<Twin>, headers: HeaderMap) -> Response {
    let line = headers
        .get(AUTHORIZATION)
        .and_then(|line| line.to_str().ok());
    let token = line
        .and_then(|line| line.split_once(' '))
        .unwrap_or_default();
    match tokens.verify(token.1, clock.now()) {
        Ok(claims) => Json(json!({ "subject": claims.sub })).into_response(),
        Err(error) => (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
