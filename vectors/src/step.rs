//! The pure steps.

use std::cell::Cell;
use std::time::Duration;

use bulla_keys::ece::{self, MessageKey};
use bulla_keys::rustcrypto::{MacKey, Prk, verify};
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::{Code, Problem};
use bulla_protocol::field;
use bulla_protocol::jwk::PublicKey;
use bulla_protocol::limits::{DEFAULT_PREFIX, Limits};
use bulla_protocol::message::{self, Control, Event, Head, Reader};
use bulla_protocol::opening::{
    Agreements, MAC_INFO, Open, Opening, ReceivedOpening, SentOpening, SessionId, Ticket,
    Transcript,
};
use bulla_protocol::padding::padme;
use bulla_protocol::proof::{Binding, ProofKind, ProofNonce, ReceivedProof, prove};
use bulla_protocol::retry::{Attempt, Kind, Next};
use bulla_protocol::seal::{CEK_INFO, Header, NONCE_INFO, RecordNonce, Splitter};
use bulla_protocol::signature;
use bulla_protocol::target::{Origin, Target};
use serde_json::{Value, json};

use crate::Stop;
use crate::input::{Input, text};

type Given = Result<Value, Stop>;

/// Runs a step.
///
/// # Errors
///
/// What the step refuses with, or what makes the vector unusable.
pub fn run(step: &str, input: &Value) -> Given {
    let input = Input(input);
    match step {
        "key" => key(input),
        "origin" => origin(input),
        "target" => target(input),
        "digest" => Ok(json!({ "field": ContentDigest::of(&input.bytes("content")?).to_field() })),
        "digest-check" => {
            ContentDigest::check(input.text("field")?, &input.bytes("content")?)?;
            Ok(json!({}))
        }
        "ticket" => {
            let ticket = Ticket::from_field(input.text("field")?)?;
            Ok(json!({ "bytes": text(ticket.as_bytes()), "field": ticket.to_field() }))
        }
        "nonce" => {
            let nonce = ProofNonce::parse(input.text("nonce")?)?;
            Ok(json!({ "server": nonce.server, "random": text(nonce.random) }))
        }
        "padding" => {
            let len = usize::try_from(input.number("length")?).unwrap_or(usize::MAX);
            Ok(json!({ "length": padme(len) }))
        }
        "retry" => retry(input),
        "problem" => problem(input),
        "open" => open(input),
        "open-received" => open_received(input),
        "opened" => opened(input),
        "keys" => keys(input),
        "record-keys" => record_keys(input),
        "seal" => seal(input),
        "unseal" => unseal(input),
        "message" => message(input),
        "message-stream" => message_stream(input),
        "message-read" => message_read(input),
        "proof" => proof(input),
        "proof-received" => proof_received(input),
        other => Err(Stop::Unusable(format!("there is no step {other}"))),
    }
}

fn key(input: Input<'_>) -> Given {
    // Where a key stands in a message, one that is no key makes the message malformed.
    let key = input
        .key("jwk")
        .map_err(|_| Code::Malformed.because("not a public key"))?;
    Ok(json!({
        "thumbprint": key.thumbprint().to_string(),
        "uncompressed": text(key.as_uncompressed()),
        "compressed": text(key.to_compressed()),
    }))
}

fn origin(input: Input<'_>) -> Given {
    let origin = Origin::parse(input.text("origin")?)?;
    Ok(json!({ "origin": origin.as_str(), "authority": origin.authority() }))
}

fn target(input: Input<'_>) -> Given {
    let target = Target::parse(input.text("target")?)?;
    Ok(json!({ "path": target.path, "query": target.query }))
}

fn retry(input: Input<'_>) -> Given {
    let mut attempt = Attempt {
        proof: input.value("proof")?,
        request: Kind::new(input.value("safe")?, input.value("ends")?),
        retried: input.value("retried")?,
        reopened: input.value("reopened")?,
        elapsed: Duration::from_secs(input.number("elapsed")?),
        nonce_life: Duration::from_secs(input.number("nonce_life")?),
    };
    let code = input.text("refusal")?.parse::<Code>();
    let code = code.map_err(|_| Stop::Unusable("an unknown code".into()))?;
    Ok(match attempt.after(code, input.value("sealed")?) {
        Next::Retry => "retry",
        Next::Prove => "prove",
        Next::ProveAnew => "prove-anew",
        Next::ProveAndFail => "prove-and-fail",
        Next::Reopen => "reopen",
        Next::ReopenAndFail => "reopen-and-fail",
        Next::Ended => "ended",
        Next::Fail => "fail",
    }
    .into())
}

fn problem(input: Input<'_>) -> Given {
    // Whatever is not one of ours is the application's.
    let code = Problem::parse(input.text("body")?.as_bytes());
    Ok(json!({ "code": code.map(Code::as_str) }))
}

/// The opening that the members `open`, `authority` and `created` describe.
fn opening(input: Input<'_>) -> Result<Opening, Stop> {
    let device = input.signing_key("device")?;
    let part = input.part("open")?;
    let open = Open {
        version: 1,
        device: *device.public(),
        agreement: *input.agreement_key("agreement")?.public(),
        identity: if part.has("identity") {
            Some(part.value("identity")?)
        } else {
            None
        },
        random: part.array("random")?,
        ticket: if part.has("ticket") {
            Some(part.value("ticket")?)
        } else {
            None
        },
        work: None,
    };
    let created = input.number("created")?;
    let previous = if input.has("previous") {
        Some(*input.signing_key("previous")?.public())
    } else {
        None
    };
    Ok(Opening::new(
        open,
        previous,
        input.text("authority")?,
        DEFAULT_PREFIX,
        created,
    )?)
}

fn open(input: Input<'_>) -> Given {
    let opening = opening(input)?;
    let base = opening.base().to_owned();
    let rotation_base = opening.rotation_base().map(str::to_owned);
    let sent = signed(input, opening)?;
    let mut given = json!({
        "method": Opening::METHOD,
        "path": sent.path(),
        "fields": sent.fields(),
        "body": String::from_utf8_lossy(sent.body()),
        "base": base,
    });
    if let Some(base) = rotation_base {
        given["rotation_base"] = base.into();
    }
    Ok(given)
}

/// Signs an opening with the members `device` and, if it is there, `previous`.
fn signed(input: Input<'_>, opening: Opening) -> Result<SentOpening, Stop> {
    let sign = |key, base: &str| {
        let signature = input.signing_key(key)?.sign(base.as_bytes());
        signature.map_err(|error| Stop::Unusable(error.to_string()))
    };
    let signature = sign("device", opening.base())?;
    let rotation = opening.rotation_base();
    let rotation = rotation.map(|base| sign("previous", base)).transpose()?;
    Ok(opening.signed(&signature, rotation.as_ref().map(AsRef::as_ref)))
}

/// A request as the server has it, from the members `method`, `authority`, `target` and `fields`.
fn with_request<T>(
    input: Input<'_>,
    then: impl FnOnce(&signature::Request<'_>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let fields = input.fields("fields")?;
    let target = Target::parse(input.text("target")?)?;
    then(&signature::Request {
        method: input.text("method")?,
        authority: input.text("authority")?,
        path: target.path,
        query: target.query,
        fields: &fields,
    })
}

fn open_received(input: Input<'_>) -> Given {
    with_request(input, |request| {
        let body = input.text("body")?;
        let opening = ReceivedOpening::parse(request, body.as_bytes())?
            .verify(|key, base, signature| verify(key, base, signature).is_ok())?;
        let open = &opening.open;
        let mut given = json!({
            "device": open.device.thumbprint(),
            "agreement": open.agreement.thumbprint(),
            "identity": open.identity,
            "ticket": open.ticket,
        });
        if input.has("previous") {
            let previous: PublicKey = input.value("previous")?;
            let check = |base: &[u8], signature: &[u8]| verify(&previous, base, signature).is_ok();
            let is_signed_in = opening.is_signed_in_by(&previous.thumbprint(), check);
            given["signed_in"] = is_signed_in.into();
        }
        Ok(given)
    })
}

fn opened(input: Input<'_>) -> Given {
    let request = input.part("request")?;
    let sent = signed(request, opening(request)?)?;
    let base = Cell::default();
    let status = u16::try_from(input.number("status")?).unwrap_or_default();
    let fields = input.fields("fields")?;
    let verified = sent
        .read(status, &fields, input.text("body")?.as_bytes())?
        .verify(|key, signed, signature| {
            base.set(signed.to_vec());
            verify(key, signed, signature).is_ok()
        })?;
    Ok(json!({
        "base": String::from_utf8_lossy(&base.take()),
        "transcript": text(verified.transcript.0),
        "session": verified.transcript.session_id().to_string(),
        "ticket": verified.opened.ticket,
        "nonce": verified.opened.nonce,
    }))
}

fn keys(input: Input<'_>) -> Given {
    let agreement = input.agreement_key("agreement")?;
    let keys: Agreements = input.value("server")?;
    let transcript = Transcript(input.array("transcript")?);
    let secret = |key| {
        let secret = agreement.agree(key);
        secret.map_err(|error| Stop::Unusable(error.to_string()))
    };
    let shared = secret(&keys.mac)?;
    let mut mac = [0; 32];
    Prk::extract(&transcript.0, shared.as_bytes()).expand(&[MAC_INFO], &mut mac);
    Ok(json!({
        "request_key": text(secret(&keys.request)?.as_bytes()),
        "response_key": text(secret(&keys.response)?.as_bytes()),
        "mac_secret": text(shared.as_bytes()),
        "mac_key": text(mac),
    }))
}

fn record_keys(input: Input<'_>) -> Given {
    let prk = Prk::extract(&input.array::<16>("salt")?, &input.array::<32>("key")?);
    let (mut key, mut nonce) = ([0; 16], [0; 12]);
    prk.expand(&[CEK_INFO], &mut key);
    prk.expand(&[NONCE_INFO], &mut nonce);
    let nonce = RecordNonce::new(nonce);
    let nonces = [0, 1, 256].map(|number| text(nonce.at(number)));
    Ok(json!({
        "content_encryption_key": text(key),
        "nonces": nonces,
    }))
}

fn seal(input: Input<'_>) -> Given {
    let key = input.array("key")?;
    let header = Header {
        salt: input.array("salt")?,
        record_size: input.value("record_size")?,
        keyid: input.bytes("keyid")?,
    };
    // A stream flushes after every piece, and pads its last record.
    let is_stream: bool = input.value("stream")?;
    let message_key = MessageKey::derive(&key, &header.salt);
    let mut splitter = Splitter::new(header.record_size);
    let mut records = Vec::new();
    for piece in input.pieces("plain")? {
        records.extend(splitter.push(&piece));
        if is_stream {
            records.extend(splitter.flush());
        }
    }
    records.push(if is_stream {
        splitter.finish_padded()
    } else {
        splitter.finish()
    });
    let mut sealed = header.encode();
    for record in records {
        sealed.extend(message_key.seal(record)?);
    }
    Ok(json!({ "sealed": text(sealed) }))
}

fn unseal(input: Input<'_>) -> Given {
    const CUT: bulla_protocol::error::Error = Code::SealBroken.because("the header is cut");
    let sealed = input.bytes("sealed")?;
    let (header, records) = Header::parse(&sealed)?.ok_or(CUT)?;
    let plain = ece::open_whole(&input.array("key")?, &header, records)?;
    Ok(json!({ "keyid": text(header.keyid), "plain": text(plain) }))
}

fn head(input: Input<'_>) -> Result<Head, Stop> {
    let control = if input.has("status") {
        Control::Response(input.value("status")?)
    } else {
        Control::Request {
            method: input.value("method")?,
            scheme: input.value("scheme")?,
            authority: input.value("authority")?,
            target: input.value("target")?,
        }
    };
    Ok(Head {
        control,
        fields: input.fields("fields")?,
    })
}

fn message(input: Input<'_>) -> Given {
    let bytes = message::whole(head(input)?, &input.bytes("content")?)?;
    Ok(json!({ "bytes": text(bytes) }))
}

fn message_stream(input: Input<'_>) -> Given {
    let mut bytes = message::head(head(input)?)?;
    for piece in input.pieces("content")? {
        bytes.extend(message::chunk(&piece));
    }
    bytes.extend(message::END);
    Ok(json!({ "bytes": text(bytes) }))
}

fn message_read(input: Input<'_>) -> Given {
    let mut reader = Reader::new(Limits::default());
    let (mut head, mut content) = (None, Vec::new());
    for event in reader.push(input.bytes("bytes")?)? {
        match event {
            Event::Head(found) => head = Some(found),
            Event::Content(bytes) => content.extend(bytes),
        }
    }
    reader.finish()?;
    let head = head.ok_or(Code::Malformed.because("there is no message"))?;
    let fields = &head.fields;
    let content = text(content);
    Ok(match &head.control {
        Control::Request {
            method,
            scheme,
            authority,
            target,
        } => json!({
            "method": method, "scheme": scheme, "authority": authority, "target": target,
            "fields": fields, "content": content,
        }),
        Control::Response(status) => {
            json!({ "status": status, "fields": fields, "content": content })
        }
    })
}

fn binding(input: Input<'_>) -> Result<Binding, Stop> {
    Ok(match input.text("binding")? {
        "digest" => Binding::Digest,
        _ => Binding::Salt,
    })
}

fn proof(input: Input<'_>) -> Given {
    let kind: ProofKind = input.value("proof")?;
    with_request(input, |request| {
        let own = [field::TICKET, field::CONTENT_DIGEST, field::SALT];
        let fields = input.fields("fields")?;
        let names = fields.iter().map(|(name, _)| name.as_str());
        let session: SessionId = input.text("session")?.parse()?;
        let nonce = ProofNonce::parse(input.text("nonce")?)?;
        let to_sign = prove(
            kind,
            session,
            request,
            names.filter(|name| !own.contains(name)),
            binding(input)?,
            &nonce,
            input.number("created")?,
        )?;
        let base = to_sign.base.as_bytes();
        let signed = match kind {
            ProofKind::Device => {
                let signature = input.signing_key("device")?.sign(base);
                to_sign.fields(&signature.map_err(|error| Stop::Unusable(error.to_string()))?)
            }
            ProofKind::Session => to_sign.fields(&MacKey::new(&input.array("mac_key")?).sign(base)),
        };
        Ok(json!({ "base": to_sign.base, "fields": signed }))
    })
}

fn proof_received(input: Input<'_>) -> Given {
    const WRONG: bulla_protocol::error::Error =
        Code::ProofMismatch.because("the signature is wrong");
    let received = input.fields("fields")?;
    let proof = ReceivedProof::parse(&received)?;
    with_request(input, |request| {
        let covered = proof.check_coverage(request, binding(input)?)?;
        let base = covered.base.as_bytes();
        match proof.kind {
            ProofKind::Device => verify(&input.key("device")?, base, &covered.signature),
            ProofKind::Session => {
                MacKey::new(&input.array("mac_key")?).verify(base, &covered.signature)
            }
        }
        .map_err(|_| WRONG)?;
        Ok(json!({
            "proof": proof.kind,
            "session": proof.session.to_string(),
            "nonce": proof.nonce.to_param(),
            "covered": covered.covered,
        }))
    })
}
