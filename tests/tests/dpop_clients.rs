//! Clients of OAuth that others have written, under Node, against a resource server.

use std::env;
use std::io;
use std::os::unix::fs::symlink;
use std::process::Command;

use bulla_keys::SystemRandom;
use bulla_protocol::dpop::{self, Claims, token_hash};
use bulla_protocol::{base64, jws};
use bulla_server::Code;
use bulla_server::dpop::{Freshness, SigningKey};
use bulla_tests::attack::Outcome;
use bulla_tests::dpop::{AUDIENCE, ISSUER, Resource};
use serde_json::{Value, json};

const SCRIPT: &str = include_str!("pages/dpop.mjs");

#[tokio::test(flavor = "multi_thread")]
async fn common_clients_are_served() -> Outcome {
    let resource = Resource::start_as(None, Freshness::Nonce).await?;
    let device = SigningKey::generate(&SystemRandom)?;
    let mut issuer_key = json!(resource.issuer.public());
    issuer_key["kid"] = json!(resource.issuer.public().thumbprint());
    let token = resource.mint("ann", &device)?.token;
    // As the browser half has it.
    let claims = Claims {
        jti: "some proof".to_owned(),
        htm: "GET".to_owned(),
        htu: "https://bank.example/accounts".to_owned(),
        iat: 1_800_000_000,
        ath: Some(token_hash(&token)),
        nonce: Some("server.nonce".to_owned()),
    };
    let to_sign = dpop::to_sign(device.public(), &claims)?;
    let ours = jws::join(&to_sign, &device.sign(to_sign.as_bytes())?);
    let given = json!({
        "origin": resource.server.origin(),
        "token": token,
        "ours": ours,
        "key": base64::encode(device.to_pkcs8_der()?.as_slice()),
        "jwk": device.public(),
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "issuerKey": issuer_key,
    });
    let told = tokio::task::spawn_blocking(move || run(&given)).await??;

    let accounts = json!({
        "subject": "ann", "device": device.thumbprint(), "scope": "accounts", "tenant": 7,
    });
    let challenge = |error: &str| json!([{ "scheme": "dpop", "error": error, "algs": "ES256" }]);
    assert_eq!(
        told["first"],
        json!({ "nonce": true, "status": 401, "challenges": challenge("use_dpop_nonce") })
    );
    assert_eq!(told["second"], accounts);
    assert_eq!(told["third"], accounts);
    assert_eq!(
        told["bearer"],
        json!({ "status": 401, "challenges": challenge("invalid_token") })
    );
    assert_eq!(
        told["thief"],
        json!({ "status": 401, "challenges": challenge("invalid_dpop_proof") })
    );
    assert_eq!(
        told["validated"],
        json!({ "seen": [format!("{ISSUER}/jwks")], "sub": "ann", "scope": "accounts", "client": "app" })
    );
    let refused = |error: &str| {
        let challenge = format!(r#"DPoP error="{error}", algs="ES256""#);
        json!({ "status": 401, "challenge": challenge, "nonce": "string" })
    };
    assert_eq!(
        told["dpop"],
        json!([
            refused("use_dpop_nonce"),
            { "status": 200, "challenge": null, "body": accounts, "nonce": "string" },
            refused("invalid_dpop_proof"),
            refused("use_dpop_nonce"),
        ])
    );
    assert_eq!(
        told["jose"],
        json!([
            refused("use_dpop_nonce"),
            { "status": 200, "challenge": null, "body": accounts, "nonce": "string" },
            refused("invalid_dpop_proof"),
        ])
    );
    assert_eq!(
        told["read"],
        json!({
            "claims": claims,
            "device": device.thumbprint(),
            "altered": ["ERR_JWS_SIGNATURE_VERIFICATION_FAILED", "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"],
            "bound": { "jkt": device.thumbprint() },
        })
    );
    assert_eq!(
        resource.refusals(),
        [
            Code::NonceStale,
            Code::TicketInvalid,
            Code::NonceStale,
            Code::ProofMismatch,
            Code::NonceStale,
            Code::ProofMismatch,
            Code::NonceStale,
            Code::NonceStale,
            Code::ProofMismatch,
        ]
    );
    Ok(())
}

/// Runs the script where the clients are installed, to its end. Gives what it prints.
fn run(given: &Value) -> io::Result<Value> {
    // Cargo put this program at <target>/debug/deps.
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3);
    let modules = target.map(|target| target.join("tools/clients/node_modules"));
    let modules = modules.filter(|modules| modules.join("oauth4webapi").exists());
    let modules = modules.ok_or_else(|| {
        io::Error::other("the clients are missing; `cargo xtask test --suite dpop` installs them")
    })?;
    let folder = tempfile::tempdir()?;
    symlink(modules, folder.path().join("node_modules"))?;
    let script = folder.path().join("script.mjs");
    std::fs::write(&script, SCRIPT)?;
    let output = Command::new("node")
        .arg(script)
        .arg(given.to_string())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(io::Error::other(format!("{}: {said}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
