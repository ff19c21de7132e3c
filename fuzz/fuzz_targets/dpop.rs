//! DPoP proofs: what is taken is small, and says the same when it is written again. The input is a proof's parts, not
//! encoded, with a line between them; or the proof itself.
#![no_main]

use bulla_protocol::base64;
use bulla_protocol::dpop::{MAX_JTI_LEN, MAX_PROOF_LEN, Purpose, ReceivedProof, to_sign};
use bulla_protocol::jws::join;
use bulla_protocol::target::Origin;
use bulla_protocol::uri::normalise;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let made = text
        .split_once('\n')
        .map(|(header, claims)| join(&[base64::encode(header), base64::encode(claims)].join("."), &[7; 64]));
    for proof in [Some(text), made.as_deref()].into_iter().flatten() {
        check(proof);
    }
    if let Some(uri) = normalise(text) {
        assert_eq!(normalise(&uri).as_deref(), Some(&*uri), "there is one spelling");
        assert!(!uri.contains(['?', '#', ' ']));
        assert!(uri.split('/').skip(3).all(|segment| segment != "." && segment != ".."));
    }
});

fn check(text: &str) {
    let Ok(proof) = ReceivedProof::parse(text) else {
        return;
    };
    assert!(text.len() <= MAX_PROOF_LEN && (1..=MAX_JTI_LEN).contains(&proof.claims.jti.len()));
    let signed = to_sign(&proof.key, &proof.claims).expect("what was read can be written");
    let text = join(&signed, &proof.signature);
    // Escapes may have become longer.
    if let Ok(again) = ReceivedProof::parse(&text) {
        assert_eq!((again.key, &again.claims), (proof.key, &proof.claims));
    } else {
        assert!(text.len() > MAX_PROOF_LEN);
    }
    let origin = Origin::parse("https://bank.example").expect("an origin");
    let purpose = Purpose {
        method: &proof.claims.htm,
        origin: &origin,
        path: "/",
        token: "token",
    };
    assert!(proof.check_time(proof.claims.iat, 0).is_ok());
    if proof.check(&purpose).is_ok() {
        assert!(proof.claims.htu.to_ascii_lowercase().starts_with("https://bank.example"));
    }
}
