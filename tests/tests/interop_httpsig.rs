//! RFC 9421 as the crate `httpsig` has it: our proofs under its rules, and its proofs under ours.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bulla_keys::aws_lc::{SigningKey, SystemRandom};
use bulla_tests::attack::Outcome;
use bulla_tests::standards::{ALTERED_PROOFS, PROOFS, PROOFS_WITH_LESS};
use bulla_vectors::{Vector, step};
use httpsig::prelude::message_component::{HttpMessageComponent, HttpMessageComponentId};
use httpsig::prelude::{
    AlgorithmName, HttpSignatureBase, HttpSignatureHeaders, HttpSignatureParams, PublicKey,
    SecretKey, SharedKey, VerifyingKey as _,
};
use serde_json::{Value, json};

/// What it makes of a proof.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// The signature is right. Whether it covers enough is for ours to say.
    Good,
    /// The signature is wrong.
    Bad,
    /// There is none, or not one, that it understands.
    None,
}

#[test]
fn httpsig_verifies_our_proofs_and_refuses_what_is_altered() -> Outcome {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/proofs.json");
    let vectors: Vec<Vector> = serde_json::from_slice(&fs::read(file)?)?;
    let mut names: [Vec<&str>; 3] = Default::default();
    for vector in vectors.iter().filter(|it| it.step == "proof-received") {
        let read = read(&vector.input).unwrap_or(Read::None);
        if vector.out.is_some() {
            assert_eq!(read, Read::Good, "{}", vector.name);
        }
        names[read as usize].push(&vector.name);
    }
    let [good, bad, none] = names;
    // Ours refuses the last ones, and not for their signatures.
    assert_eq!(good, [&PROOFS[..], &PROOFS_WITH_LESS].concat());
    for altered in ALTERED_PROOFS {
        assert!(bad.contains(&altered), "{altered}");
    }
    assert!(none.contains(&"no proof"), "{none:?}");
    Ok(())
}

/// Where it verifies a message by itself it puts the parameters in an order of its own, and not in the one that was
/// signed (section 2.5). Nothing else of what it hashes differs; once it does not either, `read` has no reason to put
/// the last line there.
#[test]
fn httpsig_reorders_the_parameters_of_what_it_verifies() -> Outcome {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/proofs.json");
    let vectors: Vec<Vector> = serde_json::from_slice(&fs::read(file)?)?;
    let of = |step: &str| vectors.iter().find(|it| it.step == step);
    let (sent, made) = of("proof-received").zip(of("proof")).ok_or("no vectors")?;
    let ours = made.out.as_ref().and_then(|out| out["base"].as_str());
    let (ours, ours_last) = ours.and_then(|base| base.rsplit_once('\n')).ok_or("none")?;

    let headers = headers(&sent.input)?;
    let params = headers.signature_params();
    let base = HttpSignatureBase::try_new(&components(&sent.input, params)?, params)?;
    let theirs = base.to_string();
    let (theirs, theirs_last) = theirs.rsplit_once('\n').ok_or("one line")?;
    assert_eq!(theirs, ours);
    let sorted = |line: &str| {
        let mut parts: Vec<String> = line.split(';').map(str::to_owned).collect();
        parts.sort();
        parts
    };
    assert_ne!(theirs_last, ours_last);
    assert_eq!(sorted(theirs_last), sorted(ours_last));
    Ok(())
}

#[test]
fn ours_verify_the_proofs_of_httpsig_and_refuse_what_is_altered() -> Outcome {
    let key = SigningKey::generate(&SystemRandom)?;
    let private = SecretKey::from_der(&AlgorithmName::EcdsaP256Sha256, &key.to_pkcs8_der()?)?;
    let shared = SharedKey::from_base64(&AlgorithmName::HmacSha256, &STANDARD.encode([7; 32]))?;
    let request = json!({
        "binding": "digest", "device": key.public(), "mac_key": URL_SAFE_NO_PAD.encode([7; 32]),
        "method": "POST", "authority": "bank.example", "target": "/api/transfer?dry=1",
        "fields": [
            ["content-digest", "sha-256=:WNdexcV4C3cbr+9obwQ2ZI/Wrv3O7a2vSvGWRUizTXg=:"],
            ["bulla-ticket", ":c29tZSB0aWNrZXQ=:"],
            ["content-type", "application/json"],
        ],
    });
    let covered = ["content-digest", "bulla-ticket", "content-type"];
    let ids = ["@method", "@authority", "@path", "@query"]
        .into_iter()
        .chain(covered)
        .map(HttpMessageComponentId::try_from)
        .collect::<Result<Vec<_>, _>>()?;
    let nonce = format!("server.nonce.{}", URL_SAFE_NO_PAD.encode([5; 16]));
    let session = URL_SAFE_NO_PAD.encode([6; 16]);

    for proof in ["device", "session"] {
        let mut params = HttpSignatureParams::try_new(&ids)?;
        params
            .set_nonce(&nonce)
            .set_keyid(&session)
            .set_tag("bulla");
        params.set_alg(match proof {
            "device" => &AlgorithmName::EcdsaP256Sha256,
            _ => &AlgorithmName::HmacSha256,
        });
        let base = HttpSignatureBase::try_new(&components(&request, &params)?, &params)?;
        let signed = match proof {
            "device" => base.build_signature_headers(&private, Some("bulla"))?,
            _ => base.build_signature_headers(&shared, Some("bulla"))?,
        };
        let mut input = request.clone();
        let fields = input["fields"].as_array_mut().ok_or("no fields")?;
        fields.push(json!([
            "signature-input",
            signed.signature_input_header_value()
        ]));
        fields.push(json!(["signature", signed.signature_header_value()]));

        let judge = |input: Value, out: Option<Value>, code: Option<&str>| {
            let vector = Vector {
                name: proof.to_owned(),
                step: "proof-received".to_owned(),
                input,
                out,
                code: code.map(str::to_owned),
            };
            vector.judge(step::run(&vector.step, &vector.input)).failure
        };
        let out = json!({ "proof": proof, "session": session, "nonce": nonce, "covered": covered });
        assert_eq!(judge(input.clone(), Some(out), None), None, "{proof}");
        for (member, value) in [
            ("/method", "PUT"),
            ("/authority", "bank.example:444"),
            ("/target", "/api/transfer?dry=0"),
            ("/fields/1/1", ":c29tZSB0aWNrZXU=:"),
            ("/fields/2/1", "text/plain"),
        ] {
            let mut altered = input.clone();
            *altered.pointer_mut(member).ok_or("no such member")? = json!(value);
            let failure = judge(altered, None, Some("proof_mismatch"));
            assert_eq!(failure, None, "{proof} {member}");
        }
    }
    Ok(())
}

/// Verifies a request of the vectors: lines, key and signature are read by it. The last line is as it was received.
fn read(input: &Value) -> Outcome<Read> {
    let headers = headers(input)?;
    let params = headers.signature_params();
    let mut base = String::new();
    for component in components(input, params)? {
        writeln!(base, "{component}")?;
    }
    let received = value(input, "signature-input").and_then(|text| text.split_once('='));
    let (_, received) = received.ok_or("no parameters")?;
    write!(base, "\"@signature-params\": {received}")?;

    let signature = STANDARD.decode(headers.signature().to_string())?;
    let verified = if params.alg.as_deref() == Some("hmac-sha256") {
        let key = URL_SAFE_NO_PAD.decode(input["mac_key"].as_str().ok_or("no key")?)?;
        SharedKey::from_base64(&AlgorithmName::HmacSha256, &STANDARD.encode(key))?
            .verify(base.as_bytes(), &signature)
    } else {
        let device: bulla_protocol::jwk::PublicKey =
            serde_json::from_value(input["device"].clone())?;
        PublicKey::from_bytes(&AlgorithmName::EcdsaP256Sha256, device.as_uncompressed())?
            .verify(base.as_bytes(), &signature)
    };
    Ok(verified.map_or(Read::Bad, |()| Read::Good))
}

/// The one signature with our label.
fn headers(input: &Value) -> Outcome<HttpSignatureHeaders> {
    let fields = value(input, "signature").zip(value(input, "signature-input"));
    let (signature, signature_input) = fields.ok_or("no signature")?;
    let all = HttpSignatureHeaders::try_parse(signature, signature_input)?;
    Ok(all.get("bulla").ok_or("no signature of ours")?.clone())
}

/// The covered components of a request of the vectors, in the order of the parameters.
fn components(input: &Value, params: &HttpSignatureParams) -> Outcome<Vec<HttpMessageComponent>> {
    let text = |member: &str| input[member].as_str().unwrap_or_default().to_owned();
    let target = text("target");
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let component = |id: &HttpMessageComponentId| {
        let values = match id.name.to_string().trim_matches('"') {
            "@method" => vec![text("method")],
            "@authority" => vec![text("authority")],
            "@path" => vec![path.to_owned()],
            "@query" => vec![format!("?{query}")],
            name => vec![value(input, name).ok_or("no such field")?.to_owned()],
        };
        Ok(HttpMessageComponent::try_from((id, &values[..]))?)
    };
    params.covered_components.iter().map(component).collect()
}

/// The value of a field that stands once.
fn value<'a>(input: &'a Value, name: &str) -> Option<&'a str> {
    let fields = input["fields"].as_array().into_iter().flatten();
    let mut values = fields.filter(|field| field[0] == name);
    let value = values.next()?[1].as_str();
    values.next().is_none().then_some(value).flatten()
}
