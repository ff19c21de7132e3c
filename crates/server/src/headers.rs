//! Header fields: which the verifier reads, and which a handler sees.

use bulla_protocol::error::{Code, Error};
use bulla_protocol::field::{self, Fields};
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue};

/// What a handler does not see: everything but what the proof covers, and a short list of what the
/// browser adds.
pub(crate) fn hidden(
    headers: &HeaderMap,
    covered: &[&str],
    upstream: &[HeaderName],
) -> Vec<HeaderName> {
    let own = [field::SIGNATURE, field::SIGNATURE_INPUT];
    let is_shown = |name: &str| {
        // What may not stand inside a seal is no better where there is none: anyone can sign a cookie
        // or an `x-forwarded-for` with his own key.
        !own.contains(&name)
            && !field::is_refused_inside(name)
            && (covered.contains(&name) || field::is_benign(name))
    };
    let names = headers.keys();
    let names = names.filter(|name| upstream.contains(name) || !is_shown(name.as_str()));
    names.cloned().collect()
}

/// What is no application's to see, also where a proof is only looked at.
pub(crate) static PROOF_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static(field::SIGNATURE),
    HeaderName::from_static(field::SIGNATURE_INPUT),
    HeaderName::from_static(field::TICKET),
];

/// The fields of a sealed request: those inside, and what only the browser can say, which stands
/// outside.
pub(crate) fn inner_headers(
    fields: &[(String, String)],
    outer: &HeaderMap,
    upstream: &[HeaderName],
) -> Result<HeaderMap, Error> {
    const BAD: Error = Code::FieldRefused.because("a field cannot be carried");
    const UPSTREAM: Error = Code::FieldRefused.because("a field may not stand inside the seal");
    let len = fields.len().saturating_add(outer.len());
    let mut headers = HeaderMap::try_with_capacity(len).map_err(|_| BAD)?;
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BAD)?;
        if upstream.contains(&name) {
            return Err(UPSTREAM);
        }
        let value = HeaderValue::from_str(value).map_err(|_| BAD)?;
        headers.try_append(name, value).map_err(|_| BAD)?;
    }
    for (name, value) in outer {
        // Whoever unpacks the envelope undoes no coding of what is in it.
        let is_of_envelope = name == ACCEPT_ENCODING;
        if field::is_benign(name.as_str()) && !is_of_envelope && !headers.contains_key(name) {
            headers.try_append(name, value.clone()).map_err(|_| BAD)?;
        }
    }
    Ok(headers)
}

/// The fields as the verifier sees them: those of the message, and what it states itself.
pub(crate) struct View<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) stated: Option<&'a Stated>,
}

/// The fields that stand for an envelope's header, which RFC 8188 does not authenticate.
pub(crate) struct Stated {
    pub(crate) ticket: String,
    pub(crate) salt: String,
}

impl Fields for View<'_> {
    fn line(&self, name: &str) -> Result<Option<&str>, Error> {
        match (name, self.stated) {
            (field::TICKET, Some(stated)) => Ok(Some(&stated.ticket)),
            (field::SALT, stated) => Ok(stated.map(|stated| stated.salt.as_str())),
            _ => field::single(self.headers.get_all(name).iter().map(HeaderValue::as_bytes)),
        }
    }
}
