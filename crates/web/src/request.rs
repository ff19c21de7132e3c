//! A request as the application made it, and how it leaves: signed, and sealed.

use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::field;
use bulla_protocol::limits::{BULK_RECORD_SIZE, MAX_RECORDS_IN_FLIGHT};
use bulla_protocol::message::{self, Control, Head};
use bulla_protocol::opening::sealed_path;
use bulla_protocol::proof::{Binding, ProofKind, ProofNonce, prove};
use bulla_protocol::seal::{Header, Splitter, TAG_LEN};
use bulla_protocol::signature;
use bulla_protocol::target::{Origin, Target, check_method};
use js_sys::{Object, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{AbortSignal, Request, RequestInit, Url};

use crate::client::{Settings, headers};
use crate::crypto::{DeviceKey, bytes};
use crate::error::Failure;
use crate::platform::{self, global, member, object, set, settle, unless_aborted};
use crate::session::Live;

/// A request that can be sent, again and again if need be.
pub(crate) struct Outgoing {
    pub(crate) method: String,
    /// Path and query as they are signed and sent.
    pub(crate) target: String,
    /// The application's fields.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What makes the proof unique: drawn once, kept when the request is sent again.
    pub(crate) random: [u8; 16],
    pub(crate) redirect: String,
    pub(crate) signal: AbortSignal,
    /// Members of the platform's `Request` that apply to what really leaves.
    carried: Object,
}

impl Outgoing {
    /// Reads what the application has given to `fetch`. The platform serialises the body.
    pub(crate) async fn read(
        input: &JsValue,
        init: &JsValue,
        origin: &Origin,
    ) -> Result<Self, Failure> {
        let request = platform_request(input, init, origin)?;
        let url = platform::url(&request.url(), None).ok_or(Failure::from(ELSEWHERE))?;
        let target = target_of(&url, origin)?;
        let method = request.method();
        check_method(&method).map_err(invalid)?;
        let fields = platform::fields(&request.headers());
        check_fields(&fields)?;
        if member(&request, "integrity").as_string() != Some(String::new()) {
            const INTEGRITY: Error = Code::RequestInvalid
                .because("subresource integrity is not checked inside the seal");
            return Err(INTEGRITY.into());
        }
        let signal = request.signal();
        let body = unless_aborted(&signal, async {
            settle(request.array_buffer())
                .await
                .map_err(Failure::Platform)
        })
        .await?;
        let carried = Object::new();
        for name in ["credentials", "keepalive", "referrerPolicy"] {
            set(&carried, name, &member(&request, name));
        }
        Ok(Self {
            method,
            target,
            fields,
            body: Uint8Array::new(&body).to_vec(),
            random: platform::random()?,
            redirect: member(&request, "redirect").as_string().unwrap_or_default(),
            signal,
            carried,
        })
    }

    /// A request that the client makes by itself.
    pub(crate) fn own(method: &str, target: String) -> Result<Self, Failure> {
        Ok(Self {
            method: method.to_owned(),
            target,
            fields: Vec::new(),
            body: Vec::new(),
            random: platform::random()?,
            redirect: "error".to_owned(),
            signal: web_sys::AbortController::new()
                .map_err(Failure::Platform)?
                .signal(),
            carried: Object::new(),
        })
    }

    /// Turns this into the request that follows a redirect (Fetch standard, HTTP-redirect fetch).
    pub(crate) fn redirected(
        mut self,
        status: u16,
        location: &str,
        origin: &Origin,
    ) -> Result<Self, Failure> {
        let url =
            platform::url(location, Some(&self.url(origin))).ok_or(Failure::from(ELSEWHERE))?;
        self.target = target_of(&url, origin)?;
        self.random = platform::random()?;
        let becomes_get = match status {
            301 | 302 => self.method == "POST",
            303 => self.method != "GET" && self.method != "HEAD",
            _ => false,
        };
        if becomes_get {
            "GET".clone_into(&mut self.method);
            self.body.clear();
            self.fields.retain(|(name, _)| !describes_body(name));
        }
        Ok(self)
    }

    /// Where it goes, as the application sees it.
    pub(crate) fn url(&self, origin: &Origin) -> String {
        format!("{origin}{}", self.target)
    }

    /// Signs it, and seals it if that is wanted.
    pub(crate) async fn prepare(
        &self,
        settings: &Settings,
        device: &DeviceKey,
        live: &Live,
        kind: ProofKind,
        random: [u8; 16],
    ) -> Result<Prepared, Failure> {
        let nonce = ProofNonce {
            server: live.nonce.borrow().clone(),
            random,
        };
        let ticket = live.ticket.borrow().clone();
        let mut fields = self.fields.clone();
        fields.push((
            field::CONTENT_DIGEST.to_owned(),
            ContentDigest::of(&self.body).to_field(),
        ));
        fields.push((field::TICKET.to_owned(), ticket.to_field()));
        let target = Target::parse(&self.target).map_err(invalid)?;
        let to_sign = prove(
            kind,
            live.id,
            &signature::Request {
                method: &self.method,
                authority: settings.origin.authority(),
                path: target.path,
                query: target.query,
                fields: &fields,
            },
            self.fields.iter().map(|(name, _)| name.as_str()),
            Binding::Digest,
            &nonce,
            platform::unix_seconds(),
        )
        .map_err(invalid)?;
        let base = to_sign.base.as_bytes();
        let signature = match kind {
            ProofKind::Device => device.sign(base).await?,
            ProofKind::Session => live.keys.mac(base).await?,
        };
        if settings.seal {
            // The verifier takes the ticket from the envelope.
            fields.pop();
        }
        let signed = to_sign.fields(&signature);
        fields.extend(signed.map(|(name, value)| (name.to_owned(), value)));
        let init = Object::assign(
            &object([
                ("cache", "no-store".into()),
                ("signal", self.signal.clone().into()),
            ]),
            &self.carried,
        );
        let url = if settings.seal {
            let salt = platform::random()?;
            let head = Head {
                control: Control::Request {
                    method: self.method.clone(),
                    scheme: settings.origin.scheme().to_owned(),
                    authority: settings.origin.authority().to_owned(),
                    target: self.target.clone(),
                },
                fields,
            };
            let header = Header {
                salt,
                record_size: BULK_RECORD_SIZE,
                keyid: ticket.as_bytes().to_vec(),
            };
            let inner = message::whole(head, &self.body).map_err(invalid)?;
            let sealed = seal(live, &header, &inner).await?;
            set_body(&init, "POST", &SEALED_FIELDS.map(owned), &sealed);
            set(&init, "redirect", &"error".into());
            format!("{}{}", settings.origin, sealed_path(&settings.prefix))
        } else {
            set_body(&init, &self.method, &fields, &self.body);
            set(&init, "redirect", &"manual".into());
            self.url(&settings.origin)
        };
        Ok(Prepared { url, init, nonce })
    }
}

/// A request as it leaves.
pub(crate) struct Prepared {
    pub(crate) url: String,
    pub(crate) init: Object,
    /// What a sealed reply must answer to.
    pub(crate) nonce: ProofNonce,
}

const ELSEWHERE: Error =
    Code::RequestInvalid.because("a session reaches its own server's origin only");
const SEALED_FIELDS: [(&str, &str); 2] = [
    ("content-type", field::BHTTP),
    ("content-encoding", field::AES128GCM),
];

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Whatever rule a request breaks, it is the application's request that is wrong.
fn invalid(error: Error) -> Error {
    Code::RequestInvalid.because(error.detail)
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = String, catch)]
    fn to_string(value: &JsValue) -> Result<String, JsValue>;
}

fn platform_request(input: &JsValue, init: &JsValue, origin: &Origin) -> Result<Request, Failure> {
    let init = init.unchecked_ref::<RequestInit>();
    if let Some(request) = input.dyn_ref::<Request>() {
        return Request::new_with_request_and_init(request, init).map_err(Failure::Platform);
    }
    let text = to_string(input).map_err(Failure::Platform)?;
    // What cannot be resolved here is left for the platform to refuse in its own words.
    let url = platform::url(&text, Some(&base(origin))).map_or(text, |url| url.href());
    Request::new_with_str_and_init(&url, init).map_err(Failure::Platform)
}

/// What relative URLs are relative to: this page, if it is the server's, else the server.
fn base(origin: &Origin) -> String {
    let here = member(&global("document"), "baseURI")
        .as_string()
        .or_else(|| member(&global("location"), "href").as_string());
    // Not a `blob:` URL, which has an origin and no hierarchy.
    here.filter(|here| {
        let rest = here.strip_prefix(origin.as_str());
        rest.is_some_and(|rest| rest.starts_with('/'))
    })
    .unwrap_or_else(|| format!("{origin}/"))
}

fn target_of(url: &Url, origin: &Origin) -> Result<String, Error> {
    if url.origin() != origin.as_str() {
        return Err(ELSEWHERE);
    }
    let target = encode_rest(&format!("{}{}", url.pathname(), url.search()));
    Target::parse(&target).map_err(invalid)?;
    Ok(target)
}

/// URLs may hold characters that a request target may not (RFC 3986 appendix A); browsers send them
/// as they are.
fn encode_rest(target: &str) -> String {
    let mut encoded = String::with_capacity(target.len());
    for character in target.chars() {
        match character {
            '"' => encoded.push_str("%22"),
            '<' => encoded.push_str("%3C"),
            '>' => encoded.push_str("%3E"),
            '\\' => encoded.push_str("%5C"),
            '^' => encoded.push_str("%5E"),
            '`' => encoded.push_str("%60"),
            '{' => encoded.push_str("%7B"),
            '|' => encoded.push_str("%7C"),
            '}' => encoded.push_str("%7D"),
            other => encoded.push(other),
        }
    }
    encoded
}

/// Refuses what the server would refuse, and what Bulla sets itself.
fn check_fields(fields: &[(String, String)]) -> Result<(), Error> {
    for (name, value) in fields {
        let name = field::check_name(name.as_bytes()).map_err(invalid)?;
        field::check_value(value.as_bytes()).map_err(invalid)?;
        if field::is_refused_of_application(name) {
            return Err(
                Code::RequestInvalid.because("a header field cannot be sent through a session")
            );
        }
    }
    Ok(())
}

fn describes_body(name: &str) -> bool {
    matches!(
        name,
        "content-encoding" | "content-language" | "content-location" | "content-type"
    )
}

fn set_body(init: &Object, method: &str, fields: &[(String, String)], body: &[u8]) {
    set(init, "method", &method.into());
    set(init, "headers", &headers(fields));
    if !body.is_empty() {
        set(init, "body", &Uint8Array::from(body));
    }
}

async fn seal(live: &Live, header: &Header, plain: &[u8]) -> Result<Vec<u8>, Failure> {
    const REFUSED: Error = Code::Unsupported.because("WebCrypto refused to seal");
    let key = live.keys.request(&header.salt).await?;
    let mut splitter = Splitter::new(header.record_size);
    let mut records = splitter.push(plain);
    records.push(splitter.finish());
    let mut sealed = header.encode();
    sealed.reserve_exact(plain.len() + records.len() * (1 + TAG_LEN));
    for batch in records.chunks(MAX_RECORDS_IN_FLIGHT) {
        let mut in_flight = Vec::with_capacity(batch.len());
        for record in batch {
            in_flight.push(key.seal(record).map_err(|_| REFUSED)?);
        }
        for record in in_flight {
            sealed.extend_from_slice(&bytes(Ok(record)).await?);
        }
    }
    Ok(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_browsers_leave_in_urls_can_be_signed() {
        let encoded = encode_rest("/a|b?q={\"x\":[1]}&p=`^\\<>");
        assert_eq!(encoded, "/a%7Cb?q=%7B%22x%22:[1]%7D&p=%60%5E%5C%3C%3E");
        assert!(Target::parse(&encoded).is_ok());
        assert_eq!(encode_rest("/a%20b?c=d%26e"), "/a%20b?c=d%26e");
    }

    #[test]
    fn fields_that_are_ours_or_refused_are_refused_at_once() {
        assert_eq!(
            check_fields(&[pair("x-app", "1"), pair("accept", "*/*")]),
            Ok(())
        );
        for (name, value) in [
            ("bulla-ticket", ":AA==:"),
            ("signature", "a=:AA==:"),
            ("content-digest", "sha-256=:AA==:"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-app", "caf\u{e9}"),
        ] {
            let error = check_fields(&[pair(name, value)]).unwrap_err();
            assert_eq!(error.code, Code::RequestInvalid, "{name}");
        }
    }
}
