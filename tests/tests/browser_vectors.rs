//! The vectors in real browsers: the rules as Wasm, and their cryptography once more by WebCrypto.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::{Server, bytes, html};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_mins(1);

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Vectors</title>
<script type="module">
  import load, { run_file } from "/bulla_vectors.js";
  import { check } from "/webcrypto.js";
  await load({ module_or_path: "/bulla_vectors_bg.wasm" });
  window.vectors = { run: run_file, check };
</script>
"#;

/// The files whose steps are pure.
const FILES: [&str; 4] = ["encodings", "opening", "proofs", "sealing"];

/// The steps that WebCrypto can do too.
const BY_WEBCRYPTO: [&str; 9] = [
    "digest",
    "key",
    "keys",
    "open",
    "opened",
    "proof",
    "record-keys",
    "seal",
    "unseal",
];

bulla_tests::in_each_engine!(every_vector_holds);

async fn every_vector_holds(engine: Engine) -> Outcome {
    let server = server().await?;
    let browser = Browser::launch(engine).await?;
    browser.goto(&server.url("/")).await?;
    browser
        .wait_until("return window.vectors", PATIENCE)
        .await?;

    let mut checked = BTreeSet::new();
    for name in FILES {
        let file = fs::read_to_string(vectors().join(format!("{name}.json")))?;
        let count = serde_json::from_str::<Vec<Value>>(&file)?.len();
        let outcomes = browser
            .eval("return JSON.parse(vectors.run(args[0]))", [json!(file)])
            .await?;
        let outcomes = outcomes.as_array().ok_or("no outcomes")?;
        assert_eq!(outcomes.len(), count, "{engine}: {name}");
        for outcome in outcomes {
            assert_eq!(
                outcome["failure"],
                Value::Null,
                "{engine}: {name}: {outcome}"
            );
        }
        let counts = browser
            .eval(
                "return await vectors.check(JSON.parse(args[0]))",
                [json!(file)],
            )
            .await?;
        checked.extend(counts.as_object().ok_or("no counts")?.keys().cloned());
    }
    assert_eq!(
        checked,
        BTreeSet::from(BY_WEBCRYPTO.map(str::to_owned)),
        "{engine}"
    );

    // The same checks notice what is wrong.
    let wrong = browser
        .eval(
            "const [vector] = JSON.parse(args[0]).filter(({ step }) => step === 'record-keys');
            vector.in.salt = 'AAAAAAAAAAAAAAAAAAAAAA';
            const file = JSON.stringify([vector]);
            const byWasm = JSON.parse(vectors.run(file))[0].failure !== null;
            const byWebCrypto = await vectors.check([vector]).then(() => false, () => true);
            return { byWasm, byWebCrypto };",
            [json!(fs::read_to_string(vectors().join("sealing.json"))?)],
        )
        .await?;
    assert_eq!(
        wrong,
        json!({ "byWasm": true, "byWebCrypto": true }),
        "{engine}"
    );
    browser.quit().await?;
    Ok(())
}

async fn server() -> Outcome<Server> {
    let built = built().ok_or("the tests lie in no target folder")?;
    let read = |file: PathBuf| {
        fs::read(&file).map_err(|error| {
            format!(
                "{}: {error}; `cargo xtask test --suite browsers` builds it",
                file.display()
            )
        })
    };
    let router = Router::new()
        .route("/", html(PAGE))
        .route(
            "/webcrypto.js",
            bytes("text/javascript", read(vectors().join("webcrypto.js"))?),
        )
        .route(
            "/bulla_vectors.js",
            bytes("text/javascript", read(built.join("bulla_vectors.js"))?),
        )
        .route(
            "/bulla_vectors_bg.wasm",
            bytes(
                "application/wasm",
                read(built.join("bulla_vectors_bg.wasm"))?,
            ),
        );
    Ok(Server::start(router).await?)
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors")
}

/// Where xtask puts the vectors' module.
fn built() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    Some(target.join("vectors"))
}
