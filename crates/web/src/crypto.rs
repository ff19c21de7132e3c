//! Keys, all of them WebCrypto's: handles that work and cannot be read.

use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::PublicKey;
use bulla_protocol::opening::{Agreements, MAC_INFO, Transcript};
use bulla_protocol::seal::{CEK_INFO, NONCE_INFO, Record, RecordNonce};
use js_sys::{Array, Object, Promise, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::platform::{member, object, settle};

const REFUSED: Error = Code::Unsupported.because("WebCrypto is missing or refused");

#[wasm_bindgen]
extern "C" {
    /// A handle of a key.
    #[derive(Clone)]
    pub(crate) type CryptoKey;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = generateKey, catch)]
    fn generate_key(
        algorithm: &Object,
        extractable: bool,
        usages: &Array,
    ) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = importKey, catch)]
    fn import_key(
        format: &str,
        bytes: &[u8],
        algorithm: &Object,
        extractable: bool,
        usages: &Array,
    ) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = exportKey, catch)]
    fn export_key(format: &str, key: &CryptoKey) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = deriveKey, catch)]
    fn derive_key(
        algorithm: &Object,
        base: &CryptoKey,
        derived: &Object,
        extractable: bool,
        usages: &Array,
    ) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = deriveBits, catch)]
    fn derive_bits(algorithm: &Object, base: &CryptoKey, length: u32) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], catch)]
    fn sign(algorithm: &Object, key: &CryptoKey, data: &[u8]) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], js_name = verify, catch)]
    fn verify_signature(
        algorithm: &Object,
        key: &CryptoKey,
        signature: &[u8],
        data: &[u8],
    ) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], catch)]
    fn encrypt(algorithm: &Object, key: &CryptoKey, data: &[u8]) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_namespace = ["crypto", "subtle"], catch)]
    fn decrypt(algorithm: &Object, key: &CryptoKey, data: &[u8]) -> Result<Promise, JsValue>;
}

/// The device key: made once, signs for as long as the browser keeps it.
#[derive(Clone)]
pub(crate) struct DeviceKey {
    private: CryptoKey,
    public: PublicKey,
}

impl DeviceKey {
    /// Makes one.
    pub(crate) async fn generate() -> Result<Self, Error> {
        let (private, public) = generate_pair("ECDSA", "sign").await?;
        Ok(Self { private, public })
    }

    /// Takes what [`to_stored`](Self::to_stored) gave; `None` if it is something else.
    pub(crate) fn from_stored(stored: &JsValue) -> Option<Self> {
        let public = member(stored, "public").dyn_into::<Uint8Array>().ok()?;
        Some(Self {
            private: stored_key(stored, "private")?,
            public: PublicKey::from_uncompressed(&public.to_vec()).ok()?,
        })
    }

    /// An object for the store.
    pub(crate) fn to_stored(&self) -> JsValue {
        object([
            ("private", self.private.clone().into()),
            (
                "public",
                Uint8Array::from(self.public.as_uncompressed().as_slice()).into(),
            ),
        ])
        .into()
    }

    /// The public half.
    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs, as `ecdsa-p256-sha256`.
    pub(crate) async fn sign(&self, data: &[u8]) -> Result<Vec<u8>, Error> {
        bytes(sign(&ecdsa(), &self.private, data)).await
    }
}

/// Checks a signature of `ecdsa-p256-sha256`.
pub(crate) async fn verify(key: &PublicKey, data: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = import_public(key, "ECDSA", &["verify"]).await else {
        return false;
    };
    settle(verify_signature(&ecdsa(), &key, signature, data))
        .await
        .is_ok_and(|valid| valid.is_truthy())
}

/// The client's key for one agreement.
pub(crate) struct AgreementKey {
    private: CryptoKey,
    public: PublicKey,
}

impl AgreementKey {
    /// Makes one.
    pub(crate) async fn generate() -> Result<Self, Error> {
        let (private, public) = generate_pair("ECDH", "deriveKey").await?;
        Ok(Self { private, public })
    }

    /// The public half.
    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }

    /// Agrees on a session's keys. The third shared secret yields the MAC key and nothing else: its
    /// handle, which could be made to yield that key once more, is dropped here.
    pub(crate) async fn agree(
        self,
        server: &Agreements,
        transcript: &Transcript,
    ) -> Result<SessionKeys, Error> {
        let request = self.shared(&server.request).await?;
        let response = self.shared(&server.response).await?;
        let mac = self.shared(&server.mac).await?;
        let derived = object([
            ("name", "HMAC".into()),
            ("hash", "SHA-256".into()),
            ("length", 256.into()),
        ]);
        let hkdf = hkdf(&transcript.0, MAC_INFO);
        let mac = derive_key(&hkdf, &mac, &derived, false, &usages(&["sign"]));
        Ok(SessionKeys {
            request,
            response,
            mac: key(mac).await?,
        })
    }

    async fn shared(&self, server: &PublicKey) -> Result<CryptoKey, Error> {
        let server = import_public(server, "ECDH", &[]).await?;
        let ecdh = object([("name", "ECDH".into()), ("public", server.into())]);
        let derived = named("HKDF");
        let may = usages(&["deriveKey", "deriveBits"]);
        key(derive_key(&ecdh, &self.private, &derived, false, &may)).await
    }
}

/// The handles of a session's keys.
#[derive(Clone)]
pub(crate) struct SessionKeys {
    request: CryptoKey,
    response: CryptoKey,
    mac: CryptoKey,
}

impl SessionKeys {
    /// Takes the members that [`store`](Self::store) set; `None` if one is missing.
    pub(crate) fn from_stored(stored: &JsValue) -> Option<Self> {
        Some(Self {
            request: stored_key(stored, "request")?,
            response: stored_key(stored, "response")?,
            mac: stored_key(stored, "mac")?,
        })
    }

    /// Sets the members of an object for the store.
    pub(crate) fn store(&self, object: &Object) {
        for (name, key) in [
            ("request", &self.request),
            ("response", &self.response),
            ("mac", &self.mac),
        ] {
            crate::platform::set(object, name, key);
        }
    }

    /// Signs, as `hmac-sha256`.
    pub(crate) async fn mac(&self, data: &[u8]) -> Result<Vec<u8>, Error> {
        bytes(sign(&named("HMAC"), &self.mac, data)).await
    }

    /// The keys of one request.
    pub(crate) async fn request(&self, salt: &[u8; 16]) -> Result<ContentKey, Error> {
        ContentKey::derive(&self.request, salt, "encrypt").await
    }

    /// The keys of one reply.
    pub(crate) async fn response(&self, salt: &[u8; 16]) -> Result<ContentKey, Error> {
        ContentKey::derive(&self.response, salt, "decrypt").await
    }
}

/// What seals or opens the records of one message (RFC 8188 section 2.2 and 2.3).
pub(crate) struct ContentKey {
    key: CryptoKey,
    nonce: RecordNonce,
}

impl ContentKey {
    async fn derive(base: &CryptoKey, salt: &[u8; 16], usage: &str) -> Result<Self, Error> {
        let aes = object([("name", "AES-GCM".into()), ("length", 128.into())]);
        // Both are under way before either is waited for.
        let cek = derive_key(&hkdf(salt, CEK_INFO), base, &aes, false, &usages(&[usage]));
        let nonce = derive_bits(&hkdf(salt, NONCE_INFO), base, 96);
        let cek = key(cek).await?;
        let nonce = bytes(nonce).await?.try_into().map_err(|_| REFUSED)?;
        Ok(Self {
            key: cek,
            nonce: RecordNonce::new(nonce),
        })
    }

    /// Starts to seal a record.
    pub(crate) fn seal(&self, record: &Record) -> Result<Promise, JsValue> {
        encrypt(&self.gcm(record), &self.key, &record.bytes)
    }

    /// Starts to open a record.
    pub(crate) fn open(&self, record: &Record) -> Result<Promise, JsValue> {
        decrypt(&self.gcm(record), &self.key, &record.bytes)
    }

    fn gcm(&self, record: &Record) -> Object {
        let iv = Uint8Array::from(self.nonce.at(record.number).as_slice());
        object([("name", "AES-GCM".into()), ("iv", iv.into())])
    }
}

/// The bytes that a call gives.
pub(crate) async fn bytes(promise: Result<Promise, JsValue>) -> Result<Vec<u8>, Error> {
    let buffer = settle(promise).await.map_err(|_| REFUSED)?;
    Ok(Uint8Array::new(&buffer).to_vec())
}

async fn key(promise: Result<Promise, JsValue>) -> Result<CryptoKey, Error> {
    Ok(settle(promise).await.map_err(|_| REFUSED)?.unchecked_into())
}

async fn generate_pair(algorithm: &str, usage: &str) -> Result<(CryptoKey, PublicKey), Error> {
    let pair = settle(generate_key(&p256(algorithm), false, &usages(&[usage])))
        .await
        .map_err(|_| REFUSED)?;
    let public = member(&pair, "publicKey").unchecked_into();
    let public = bytes(export_key("raw", &public)).await?;
    Ok((
        member(&pair, "privateKey").unchecked_into(),
        PublicKey::from_uncompressed(&public).map_err(|_| REFUSED)?,
    ))
}

async fn import_public(
    public: &PublicKey,
    algorithm: &str,
    may: &[&str],
) -> Result<CryptoKey, Error> {
    let point = public.as_uncompressed();
    key(import_key(
        "raw",
        point,
        &p256(algorithm),
        false,
        &usages(may),
    ))
    .await
}

fn stored_key(stored: &JsValue, name: &str) -> Option<CryptoKey> {
    let key = member(stored, name);
    key.is_object().then(|| key.unchecked_into())
}

fn named(algorithm: &str) -> Object {
    object([("name", algorithm.into())])
}

fn p256(algorithm: &str) -> Object {
    object([("name", algorithm.into()), ("namedCurve", "P-256".into())])
}

fn ecdsa() -> Object {
    object([("name", "ECDSA".into()), ("hash", "SHA-256".into())])
}

fn hkdf(salt: &[u8], info: &[u8]) -> Object {
    object([
        ("name", "HKDF".into()),
        ("hash", "SHA-256".into()),
        ("salt", Uint8Array::from(salt).into()),
        ("info", Uint8Array::from(info).into()),
    ])
}

fn usages(names: &[&str]) -> Array {
    names.iter().map(|name| JsValue::from_str(name)).collect()
}
