//! One thing handed in where another is due: an algorithm, a key, a tag, a direction, a kind of token.
//!
//! The twin is a verifier that leaves out the one rule that is in the way.

use bulla_client::{Client, Code, Mode, ProofKind, Session};
use bulla_keys::{MacKey, RandomError, SigningKey, SystemRandom, ece};
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::jwk::PublicKey;
use bulla_protocol::opening::OPEN_TAG;
use bulla_protocol::proof::{Binding, TAG, required};
use bulla_protocol::seal::Header;
use bulla_protocol::signature::{
    Component, ECDSA_P256_SHA256, HMAC_SHA256, ReceivedSignature, Request as SignedRequest,
    SignatureParams, ToSign,
};
use bulla_protocol::{base64, field, jws};
use bulla_server::dpop::{self, Freshness};
use bulla_tests::attack::Name::{Api, Asvs, Dpop, Sess};
use bulla_tests::attack::With::Refused;
use bulla_tests::attack::{Attack, Outcome, Shown, Twin, code, error_code, log_in};
use bulla_tests::bank::Bank;
use bulla_tests::dpop::{Resource, Signer};
use bytes::Bytes;
use http::{HeaderName, Request};
use serde_json::Value;

bulla_tests::attacks! {
    a_proof_is_one_by_its_own_algorithm: [MAC_BY_PUBLIC_KEY, NO_ALGORITHM],
    a_signature_for_something_else_is_no_proof: [OTHER_TAG],
    a_proof_covers_what_the_verifier_wants: [COVERS_LESS],
    a_ticket_is_good_for_its_own_name_only: [HIS_NAME_HER_TICKET],
    each_direction_has_a_key_of_its_own: [REQUEST_AS_REPLY, REPLY_AS_REQUEST],
    what_is_inside_is_for_the_path_that_is_outside: [OTHER_PATH_INSIDE],
    a_dpop_proof_is_one_by_its_type_and_algorithm: [
        DPOP_NO_ALGORITHM, DPOP_MAC_BY_PUBLIC_KEY, DPOP_OTHER_TYPE,
    ],
}

const PATH: &str = "/api/transfer";
const BODY: &str = r#"{"to":"mallory","amount":1}"#;

/// Her device key, once for her client and once for the test, which signs with it what her client would not.
fn her_key() -> Outcome<SigningKey> {
    struct Drawn;

    impl bulla_keys::Random for Drawn {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
            out.fill(7);
            Ok(())
        }
    }

    Ok(SigningKey::generate(&Drawn)?)
}

/// What anybody knows of a key who has seen an opening: its x, as a key for a MAC.
fn as_mac_key(key: &PublicKey) -> Outcome<MacKey> {
    let x = key.as_uncompressed()[1..33].try_into()?;
    Ok(MacKey::new(x))
}

/// A bank at which Ann has logged in, and what is needed to make requests in her session by hand.
struct Place {
    bank: Bank,
    ann: Session,
    key: SigningKey,
}

/// What makes a signature of a base.
type Sign<'a> = dyn Fn(&[u8]) -> Outcome<Vec<u8>> + 'a;

/// What is said of a signature, and what it is.
struct Made<'a> {
    tag: &'a str,
    alg: &'a str,
    keyid: String,
    /// What it covers; all that it must, if there is nothing here.
    covers: Vec<Component<'a>>,
    sign: &'a Sign<'a>,
}

impl Place {
    async fn new() -> Outcome<Self> {
        let bank = Bank::open().await?;
        let client = Client::builder(bank.server.origin()).device_key(her_key()?);
        let ann = client.build()?.open().await?;
        log_in(&ann).await?;
        Ok(Self {
            bank,
            ann,
            key: her_key()?,
        })
    }

    fn authority(&self) -> String {
        self.bank.server.origin().replace("http://", "")
    }

    fn name(&self) -> Outcome<String> {
        Ok(self.ann.id().ok_or("no session")?.to_string())
    }

    /// An order in Ann's session, with her ticket and this signature.
    fn order(&self, made: &Made<'_>) -> Outcome<Request<Bytes>> {
        let ticket = self.ann.dangerous_loot()?.ticket.to_field();
        let mut fields = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            (
                field::CONTENT_DIGEST.to_owned(),
                ContentDigest::of(BODY.as_bytes()).to_field(),
            ),
            (field::TICKET.to_owned(), ticket),
        ];
        let authority = self.authority();
        let to_sign = {
            let request = signed("POST", &authority, &fields);
            let mut components = made.covers.clone();
            if components.is_empty() {
                components = required(&fields, Binding::Digest)?;
            }
            let params = SignatureParams {
                created: 0,
                keyid: &made.keyid,
                nonce: Some(&self.ann.fresh_nonce()?.to_param()),
                alg: made.alg,
                tag: made.tag,
            };
            ToSign::request(&request, &components, &params)?
        };
        let signature = to_sign.fields(&(made.sign)(to_sign.base.as_bytes())?);
        fields.extend(signature.map(|(name, value)| (name.to_owned(), value)));
        let mut request = Request::post(self.bank.server.url(PATH)).body(Bytes::from(BODY))?;
        for (name, value) in &fields {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            request.headers_mut().insert(name, value.parse()?);
        }
        Ok(request)
    }

    /// Carries it out against the bank, and against the verifier that lacks a rule.
    async fn attack(&self, attack: &Attack, made: &Made<'_>, twin: &Careless) -> Outcome {
        let request = self.order(made)?;
        attack.without(twin.takes(&request, &self.authority())?);
        let answer = self.ann.client().send_unverified(request).await?;
        attack.refused(code(&answer));
        assert!(self.bank.ledger.transfers().is_empty());
        Ok(())
    }

    /// As it should be, for both of them.
    fn right<'a>(&self, sign: &'a Sign<'a>) -> Outcome<Made<'a>> {
        Ok(Made {
            tag: TAG,
            alg: ECDSA_P256_SHA256,
            keyid: self.name()?,
            covers: Vec::new(),
            sign,
        })
    }

    /// A verifier that has all rules.
    fn careful(&self) -> Outcome<Careless> {
        Ok(Careless {
            keys: vec![(self.name()?, *self.key.public())],
            session: Some(self.name()?),
            tags: &[TAG],
            covers: true,
            algorithm: true,
        })
    }

    /// Whether both take what is right, and the careful one refuses what is not.
    async fn all_else_is_right(&self, made: &Made<'_>) -> Outcome {
        let careful = self.careful()?;
        assert!(!careful.takes(&self.order(made)?, &self.authority())?);
        let sign = |base: &[u8]| Ok(self.key.sign(base)?.to_vec());
        let request = self.order(&self.right(&sign)?)?;
        assert!(careful.takes(&request, &self.authority())?);
        assert_eq!(
            self.ann.client().send_unverified(request).await?.status(),
            200
        );
        Ok(())
    }
}

fn signed<'a>(
    method: &'a str,
    authority: &'a str,
    fields: &'a Vec<(String, String)>,
) -> SignedRequest<'a> {
    SignedRequest {
        method,
        authority,
        path: PATH,
        query: None,
        fields,
    }
}

/// A verifier of HTTP Message Signatures as one might write it, with each rule to be left out.
struct Careless {
    /// The device keys of sessions, by their names.
    keys: Vec<(String, PublicKey)>,
    /// The session whose ticket it is, if it is compared.
    session: Option<String>,
    tags: &'static [&'static str],
    /// Whether it wants more covered than the signer did.
    covers: bool,
    /// Whether a key is for one algorithm, and not for the one that a signature names.
    algorithm: bool,
}

impl Careless {
    fn takes(&self, request: &Request<Bytes>, authority: &str) -> Outcome<bool> {
        let mut fields = Vec::new();
        for (name, value) in request.headers() {
            fields.push((name.to_string(), value.to_str()?.to_owned()));
        }
        let value = |name: &str| {
            let field = fields.iter().find(|(other, _)| other == name);
            field.map_or("", |(_, value)| value)
        };
        let (input, signature) = (value(field::SIGNATURE_INPUT), value(field::SIGNATURE));
        let mut found = None;
        for tag in self.tags {
            found = found.or(ReceivedSignature::find(input, signature, tag)?);
        }
        let Some(found) = found else {
            return Ok(false);
        };
        let request = signed(request.method().as_str(), authority, &fields);
        if self.covers && !found.covers(&required(&fields, Binding::Digest)?) {
            return Ok(false);
        }
        let params = &found.params;
        if self
            .session
            .as_ref()
            .is_some_and(|name| name != params.keyid)
        {
            return Ok(false);
        }
        let Some((_, key)) = self.keys.iter().find(|(name, _)| name == params.keyid) else {
            return Ok(false);
        };
        let base = bulla_protocol::signature::request_base(
            &request,
            &found.components,
            &found.signature_params,
        )?;
        let (base, signature) = (base.as_bytes(), &found.signature);
        Ok(match params.alg {
            ECDSA_P256_SHA256 => bulla_keys::verify(key, base, signature).is_ok(),
            _ if self.algorithm => false,
            HMAC_SHA256 => as_mac_key(key)?.verify(base, signature).is_ok(),
            alg => alg == "none",
        })
    }
}

const BY_ALG: Twin = Twin::Weakened("a verifier that uses a key as the signature says");

static MAC_BY_PUBLIC_KEY: Attack = Attack {
    has: "her ticket, and her public key, as in every opening",
    does: "makes a MAC with the public key, and says that it is one",
    twin: BY_ALG,
    without: "it is taken",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Dpop(6), Sess(10), Asvs("9.1.2")],
    shown: Shown::nothing(),
};

static NO_ALGORITHM: Attack = Attack {
    has: "her ticket",
    does: "says that the signature has no algorithm, and signs nothing",
    twin: BY_ALG,
    without: "it is taken",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Dpop(6), Sess(10), Asvs("9.1.2")],
    shown: Shown::nothing(),
};

async fn a_proof_is_one_by_its_own_algorithm() -> Outcome {
    let place = Place::new().await?;
    let public = as_mac_key(place.key.public())?;
    let mac = |base: &[u8]| Ok(public.sign(base).to_vec());
    let nothing = |_: &[u8]| Ok(Vec::new());
    let ways: [(&Attack, &str, &Sign<'_>); 2] = [
        (&MAC_BY_PUBLIC_KEY, HMAC_SHA256, &mac),
        (&NO_ALGORITHM, "none", &nothing),
    ];
    for (attack, alg, sign) in ways {
        let made = Made {
            alg,
            ..place.right(sign)?
        };
        let twin = Careless {
            algorithm: false,
            ..place.careful()?
        };
        place.attack(attack, &made, &twin).await?;
    }
    let made = Made {
        alg: "none",
        ..place.right(&nothing)?
    };
    place.all_else_is_right(&made).await
}

static OTHER_TAG: Attack = Attack {
    has: "a signature of her device key over an order, made for something else",
    does: "sends it as a proof",
    twin: Twin::Weakened("a verifier that does not look at the tag"),
    without: "it is taken",
    with: Refused(&[Code::ProofMissing]),
    names: &[Dpop(5), Asvs("9.2.2")],
    shown: Shown::nothing(),
};

async fn a_signature_for_something_else_is_no_proof() -> Outcome {
    let place = Place::new().await?;
    let sign = |base: &[u8]| Ok(place.key.sign(base)?.to_vec());
    let made = Made {
        tag: OPEN_TAG,
        ..place.right(&sign)?
    };
    let twin = Careless {
        tags: &[TAG, OPEN_TAG],
        ..place.careful()?
    };
    place.attack(&OTHER_TAG, &made, &twin).await?;
    place.all_else_is_right(&made).await
}

static COVERS_LESS: Attack = Attack {
    has: "a signature of her device key over little: the method and the host",
    does: "puts an order below it",
    twin: Twin::Weakened("a verifier that goes by what the signer has covered"),
    without: "it is taken, whatever the order",
    with: Refused(&[Code::CoverageMissing]),
    names: &[Dpop(7), Asvs("4.1.5")],
    shown: Shown::nothing(),
};

async fn a_proof_covers_what_the_verifier_wants() -> Outcome {
    let place = Place::new().await?;
    let sign = |base: &[u8]| Ok(place.key.sign(base)?.to_vec());
    let made = Made {
        covers: ["@method", "@authority"].map(Component::new).into(),
        ..place.right(&sign)?
    };
    let twin = Careless {
        covers: false,
        ..place.careful()?
    };
    place.attack(&COVERS_LESS, &made, &twin).await?;
    place.all_else_is_right(&made).await
}

static HIS_NAME_HER_TICKET: Attack = Attack {
    has: "her ticket, and a session of his own",
    does: "signs both by his key, in his own session's name",
    twin: Twin::Weakened(
        "a verifier that takes the key of whom the signature names, and the user of the ticket",
    ),
    without: "he orders as her",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Sess(8), Sess(9), Dpop(8)],
    shown: Shown::nothing(),
};

async fn a_ticket_is_good_for_its_own_name_only() -> Outcome {
    let place = Place::new().await?;
    let own = SigningKey::generate(&SystemRandom)?;
    let his = Client::builder(place.bank.server.origin())
        .build()?
        .open()
        .await?;
    let name = his.id().ok_or("no session")?.to_string();
    let sign = |base: &[u8]| Ok(own.sign(base)?.to_vec());
    let made = Made {
        keyid: name.clone(),
        ..place.right(&sign)?
    };
    let mut twin = Careless {
        session: None,
        ..place.careful()?
    };
    twin.keys.push((name, *own.public()));
    place.attack(&HIS_NAME_HER_TICKET, &made, &twin).await?;
    place.all_else_is_right(&made).await
}

const ONE_KEY: Twin = Twin::Weakened("one key for both directions");

static REQUEST_AS_REPLY: Attack = Attack {
    has: "a place on the way",
    does: "sends her own request back to her as its answer",
    twin: ONE_KEY,
    without: "it opens",
    with: Refused(&[Code::ReplyInvalid, Code::ReplyBroken]),
    names: &[Asvs("11.3.4")],
    shown: Shown::nothing(),
};

static REPLY_AS_REQUEST: Attack = Attack {
    has: "a place on the way",
    does: "sends an answer to the bank as a request",
    twin: ONE_KEY,
    without: "it opens",
    with: Refused(&[Code::Malformed, Code::SealBroken]),
    names: &[Asvs("11.3.4")],
    shown: Shown::nothing(),
};

async fn each_direction_has_a_key_of_its_own() -> Outcome {
    let place = Place::new().await?;
    let (session, loot) = (&place.ann, place.ann.dangerous_loot()?);
    let request = Request::get("/api/me").body(Bytes::new())?;
    let nonce = session.fresh_nonce()?;
    let prepared = session.prepare(request, Mode::Sealed, ProofKind::Device, nonce)?;
    let reply = session
        .client()
        .send_unverified(prepared.request.clone())
        .await?;

    // With the ticket, and as if it were a reply.
    let (sent, records) = Header::parse(prepared.request.body())?.ok_or("no envelope")?;
    let bare = Header {
        keyid: Vec::new(),
        ..sent.clone()
    };
    for header in [&sent, &bare] {
        let mut reflected = reply.clone();
        *reflected.body_mut() = [&header.encode(), records].concat().into();
        let refused = prepared.open_reply(reflected).await.err();
        REQUEST_AS_REPLY.refused(refused.map(|error| error.code));
    }
    let one_key = ece::open_whole(&loot.request_key, &bare, records);
    REQUEST_AS_REPLY.without(one_key.is_ok());

    let (bare, records) = Header::parse(reply.body())?.ok_or("no envelope")?;
    let ticketed = Header {
        keyid: sent.keyid,
        ..bare.clone()
    };
    for header in [&bare, &ticketed] {
        let mut reflected = prepared.request.clone();
        *reflected.body_mut() = [&header.encode(), records].concat().into();
        let refused = session.client().send_unverified(reflected).await?;
        REPLY_AS_REQUEST.refused(code(&refused));
    }
    let one_key = ece::open_whole(&loot.response_key, &ticketed, records);
    REPLY_AS_REQUEST.without(one_key.is_ok());
    assert_eq!(prepared.open_reply(reply).await?.status(), 200);
    Ok(())
}

static OTHER_PATH_INSIDE: Attack = Attack {
    has: "a session of his own, before a proxy that lets nobody order",
    does: "seals an order, and sends it to a path that the proxy lets through",
    twin: Twin::Weakened(
        "sealed requests by a path that says nothing, as they are where paths are concealed",
    ),
    without: "it is carried out: the proxy's rule has no path to go by",
    with: Refused(&[Code::PathRefused]),
    names: &[Api(5), Api(8)],
    shown: Shown::nothing(),
};

async fn what_is_inside_is_for_the_path_that_is_outside() -> Outcome {
    let place = Place::new().await?;
    let is_let_through = |request: &Request<Bytes>| request.uri().path() != PATH;
    let prepare = |mode| -> Outcome<_> {
        let nonce = place.ann.fresh_nonce()?;
        let order = Request::post(PATH).header("content-type", "application/json");
        let order = order.body(Bytes::from(BODY))?;
        Ok(place.ann.prepare(order, mode, ProofKind::Device, nonce)?)
    };
    let visible = prepare(Mode::SealedAtPath)?;
    assert!(!is_let_through(&visible.request));
    let mut request = visible.request.clone();
    *request.uri_mut() = place.bank.server.url("/api/me").parse()?;
    assert!(is_let_through(&request));
    let answer = place.ann.client().send_unverified(request).await?;
    let refused = match code(&answer) {
        None => error_code(visible.open_reply(answer).await),
        refused => refused,
    };
    OTHER_PATH_INSIDE.refused(refused);
    assert!(place.bank.ledger.transfers().is_empty());

    let concealed = prepare(Mode::Sealed)?;
    assert!(is_let_through(&concealed.request));
    let answer = place
        .ann
        .client()
        .send_unverified(concealed.request.clone())
        .await?;
    let is_served = concealed.open_reply(answer).await?.status() == 200;
    OTHER_PATH_INSIDE.without(is_served && place.bank.ledger.transfers().len() == 1);
    Ok(())
}

static DPOP_NO_ALGORITHM: Attack = Attack {
    has: "her access token",
    does: "makes a DPoP proof for her key with the algorithm `none`",
    twin: BY_ALG,
    without: "it is taken",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Dpop(6), Sess(10), Asvs("9.1.2")],
    shown: Shown::nothing(),
};

static DPOP_MAC_BY_PUBLIC_KEY: Attack = Attack {
    has: "her access token, and her public key, as in every proof",
    does: "makes a DPoP proof with the algorithm `HS256`, by the public key",
    twin: BY_ALG,
    without: "it is taken",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Dpop(6), Sess(10), Asvs("9.1.2")],
    shown: Shown::nothing(),
};

static DPOP_OTHER_TYPE: Attack = Attack {
    has: "her access token, and a JWT that her key has signed for something else",
    does: "sends it as a DPoP proof",
    twin: Twin::Weakened("a verifier that does not look at the type"),
    without: "it is taken",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Dpop(5), Sess(10), Asvs("9.2.2")],
    shown: Shown::nothing(),
};

/// A careless verifier of DPoP proofs: whether the signature holds, by the algorithm that the proof names.
fn holds(proof: &str) -> Outcome<bool> {
    let (signed, signature) = proof.rsplit_once('.').ok_or("no JWS")?;
    let signature = base64::decode(signature).ok_or("no base64")?;
    let header = signed.split('.').next().unwrap_or_default();
    let header: Value = serde_json::from_slice(&base64::decode(header).ok_or("no base64")?)?;
    let key: PublicKey = serde_json::from_value(header["jwk"].clone())?;
    Ok(match header["alg"].as_str() {
        Some("ES256") => bulla_keys::verify(&key, signed.as_bytes(), &signature).is_ok(),
        Some("HS256") => as_mac_key(&key)?
            .verify(signed.as_bytes(), &signature)
            .is_ok(),
        _ => true,
    })
}

async fn a_dpop_proof_is_one_by_its_type_and_algorithm() -> Outcome {
    let resource = Resource::start(Freshness::Nonce).await?;
    let her = dpop::SigningKey::generate(&SystemRandom)?;
    let token = resource.mint("ann", &her)?.token;
    for (attack, alg, kind) in [
        (&DPOP_NO_ALGORITHM, "none", "dpop+jwt"),
        (&DPOP_MAC_BY_PUBLIC_KEY, "HS256", "dpop+jwt"),
        (&DPOP_OTHER_TYPE, "ES256", "JWT"),
    ] {
        let nonce = resource.nonce().await?;
        let mut attempt = resource.attempt(&her, &token, Some(&nonce))?;
        attempt.header["alg"] = alg.into();
        attempt.header["typ"] = kind.into();
        if alg != "ES256" {
            attempt.signer = Signer::Nobody(&[]);
        }
        let mut proof = attempt.proof()?;
        if alg == "HS256" {
            let signed = jws::to_sign(&attempt.header, &attempt.claims)?;
            let mac = as_mac_key(her.public())?.sign(signed.as_bytes());
            proof = format!("{signed}.{}", base64::encode(mac));
        }
        attack.without(holds(&proof)?);
        attempt.proofs = Some(vec![proof]);
        let refused = resource.send(&attempt).await?;
        assert_eq!(refused.status, 401);
        attack.refused(resource.refusals().last().copied());
        // All else of it is right.
        let right = resource.attempt(&her, &token, Some(&nonce))?;
        assert_eq!(resource.send(&right).await?.status, 200);
    }
    Ok(())
}
