//! HTTP Message Signatures (RFC 9421): components, signature parameters and the signature base.
//!
//! Only what Bulla signs is here: derived components and whole fields, `;req`, and `;key` for the two
//! signature fields. Who must cover what is decided in [`crate::proof`] and [`crate::opening`].

use core::fmt::Write as _;

use std::borrow::Cow;

use sfv::{BareItemFromInput, ListSerializer, StringRef, integer, key_ref};

use crate::error::{Code, Error};
use crate::field::{self, Fields};
use crate::structured::{self, Member, Params, Value};

/// The label that Bulla's own halves use (RFC 9421 section 4.1). A verifier goes by the tag.
pub const LABEL: &str = "bulla";

/// `ecdsa-p256-sha256`, RFC 9421 section 3.3.4.
pub const ECDSA_P256_SHA256: &str = "ecdsa-p256-sha256";
/// `hmac-sha256`, RFC 9421 section 3.3.3.
pub const HMAC_SHA256: &str = "hmac-sha256";

const MALFORMED: Error = Code::Malformed.because("the signature fields could not be parsed");

/// A component identifier (RFC 9421 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component<'a> {
    /// `@method` and the like, or a lower-case field name.
    pub name: &'a str,
    /// Taken from the request that the signed response answers (section 2.4).
    pub req: bool,
    /// A member of a Dictionary field (section 2.1.2).
    pub key: Option<&'a str>,
}

impl<'a> Component<'a> {
    /// A component without parameters.
    pub const fn new(name: &'a str) -> Self {
        Self {
            name,
            req: false,
            key: None,
        }
    }

    /// A component of the request, in the signature of a response.
    pub const fn of_request(name: &'a str) -> Self {
        Self {
            name,
            req: true,
            key: None,
        }
    }

    /// A member of a Dictionary field of the request, in the signature of a response.
    pub const fn member_of_request(name: &'a str, key: &'a str) -> Self {
        Self {
            name,
            req: true,
            key: Some(key),
        }
    }

    fn parse(name: &BareItemFromInput<'a>, params: &Params<'a>) -> Result<Self, Error> {
        let name = text(name)?;
        // A field under many spellings would be many times in the base.
        if !name.starts_with('@') {
            field::check_name(name.as_bytes()).map_err(|_| MALFORMED)?;
        }
        let mut component = Self::new(name);
        for (key, value) in params {
            match key.as_str() {
                "req" if value.as_boolean() == Some(true) => component.req = true,
                "key" => component.key = Some(text(value)?),
                _ => return Err(MALFORMED),
            }
        }
        Ok(component)
    }
}

/// A String without escapes. What Bulla names in a signature has none.
fn text<'a>(item: &BareItemFromInput<'a>) -> Result<&'a str, Error> {
    match item {
        BareItemFromInput::String(Cow::Borrowed(text)) => Ok(text.as_str()),
        _ => Err(MALFORMED),
    }
}

/// The signature parameters that Bulla uses (RFC 9421 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureParams<'a> {
    /// Seconds since 1970 by the signer's clock. Nobody relies on it.
    pub created: u64,
    /// Which key.
    pub keyid: &'a str,
    /// What makes a request's proof fresh and unique.
    pub nonce: Option<&'a str>,
    /// [`ECDSA_P256_SHA256`] or [`HMAC_SHA256`].
    pub alg: &'a str,
    /// What the signature is for.
    pub tag: &'a str,
}

impl<'a> SignatureParams<'a> {
    /// Unknown ones are an error: they might mean something to the signer.
    fn parse(params: &Params<'a>) -> Result<Self, Error> {
        let mut created = None;
        let (mut keyid, mut nonce, mut alg, mut tag) = (None, None, None, None);
        for (key, value) in params {
            match key.as_str() {
                "created" => {
                    let seconds = value.as_integer().map(i64::from);
                    created = seconds.and_then(|seconds| u64::try_from(seconds).ok());
                }
                "keyid" => keyid = Some(text(value)?),
                "nonce" => nonce = Some(text(value)?),
                "alg" => alg = Some(text(value)?),
                "tag" => tag = Some(text(value)?),
                _ => return Err(MALFORMED),
            }
        }
        match (created, keyid, alg, tag) {
            (Some(created), Some(keyid), Some(alg), Some(tag)) => Ok(Self {
                created,
                keyid,
                nonce,
                alg,
                tag,
            }),
            _ => Err(Code::Malformed.because("a signature parameter is missing")),
        }
    }

    /// The value of `@signature-params`: the Inner List of components with these parameters.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if a text is not visible ASCII and spaces.
    pub fn serialize(&self, components: &[Component<'_>]) -> Result<String, Error> {
        let text = |text| {
            StringRef::from_str(text)
                .map_err(|_| Code::Malformed.because("not a string for a field"))
        };
        let mut list = ListSerializer::new();
        let mut inner = list.inner_list();
        for component in components {
            let mut item = inner.bare_item(text(component.name)?);
            if component.req {
                item = item.parameter(key_ref("req"), true);
            }
            if let Some(key) = component.key {
                let _ = item.parameter(key_ref("key"), text(key)?);
            }
        }
        let created = i64::try_from(self.created).unwrap_or(0);
        let mut params = inner
            .finish()
            .parameter(
                key_ref("created"),
                sfv::Integer::try_from(created).unwrap_or(integer(0)),
            )
            .parameter(key_ref("keyid"), text(self.keyid)?);
        if let Some(nonce) = self.nonce {
            params = params.parameter(key_ref("nonce"), text(nonce)?);
        }
        let _ = params
            .parameter(key_ref("alg"), text(self.alg)?)
            .parameter(key_ref("tag"), text(self.tag)?);
        list.finish().ok_or(MALFORMED)
    }
}

/// One signature as it came: not checked yet.
#[derive(Debug)]
pub struct ReceivedSignature<'a> {
    /// The label that the signer chose.
    pub label: &'a str,
    /// The covered components, each at most once.
    pub components: Vec<Component<'a>>,
    /// The parameters.
    pub params: SignatureParams<'a>,
    /// The value of `@signature-params`, serialized anew from what was parsed (RFC 9421 section 2.5).
    pub signature_params: String,
    /// The signature itself.
    pub signature: Vec<u8>,
}

impl<'a> ReceivedSignature<'a> {
    /// Finds the one signature with this tag.
    ///
    /// `None` if there is no signature at all with this tag.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if the fields cannot be parsed strictly (a key, label or component stands
    /// twice, an unknown parameter), or if two signatures have this tag.
    pub fn find(input: &'a str, signature: &'a str, tag: &str) -> Result<Option<Self>, Error> {
        let tagged = |params: &Params<'_>| {
            let found = params.iter().find(|(key, _)| key.as_str() == "tag");
            found.is_some_and(|(_, value)| value.as_string().is_some_and(|t| t.as_str() == tag))
        };
        let mut members = structured::dictionary(input)?
            .into_iter()
            .filter(|member| tagged(&member.params));
        let Some(member) = members.next() else {
            return Ok(None);
        };
        if members.next().is_some() {
            return Err(Code::Malformed.because("two signatures have the same tag"));
        }
        let Value::List(items) = member.value else {
            return Err(MALFORMED);
        };
        let signature = structured::dictionary(signature)?
            .into_iter()
            .find(|other| other.key == member.key)
            .and_then(Member::into_bytes)
            .ok_or(MALFORMED)?;
        let signature_params = structured::inner_list(&items, &member.params).ok_or(MALFORMED)?;
        let mut components = Vec::with_capacity(items.len());
        for (name, params) in &items {
            let component = Component::parse(name, params)?;
            if components.contains(&component) {
                return Err(MALFORMED);
            }
            components.push(component);
        }
        Ok(Some(Self {
            label: member.key,
            components,
            params: SignatureParams::parse(&member.params)?,
            signature_params,
            signature,
        }))
    }

    /// Refuses components with parameters. The signature of a request needs none.
    ///
    /// # Errors
    ///
    /// [`Code::CoverageMissing`].
    pub fn check_whole(&self) -> Result<(), Error> {
        let mut components = self.components.iter();
        if components.any(|component| component.req || component.key.is_some()) {
            return Err(Code::CoverageMissing.because("a component has parameters"));
        }
        Ok(())
    }

    /// Whether it covers all of these.
    pub fn covers(&self, wanted: &[Component<'_>]) -> bool {
        wanted.iter().all(|wanted| self.components.contains(wanted))
    }
}

/// The derived components and fields of a request (RFC 9421 section 2.2).
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// `@method`.
    pub method: &'a str,
    /// `@authority`: a configured origin's, never the received one.
    pub authority: &'a str,
    /// `@path`.
    pub path: &'a str,
    /// `@query`, without the question mark.
    pub query: Option<&'a str>,
    /// The fields.
    pub fields: &'a dyn Fields,
}

impl Request<'_> {
    fn write(&self, component: Component<'_>, base: &mut String) -> Result<(), Error> {
        match (component.name, component.key) {
            ("@method", None) => base.push_str(self.method),
            ("@authority", None) => base.push_str(self.authority),
            ("@path", None) => base.push_str(self.path),
            ("@query", None) => {
                base.push('?');
                base.push_str(self.query.unwrap_or_default());
            }
            (name, None) if !name.starts_with('@') => {
                base.push_str(self.fields.line(name)?.ok_or(ABSENT)?);
            }
            (name @ (field::SIGNATURE | field::SIGNATURE_INPUT), Some(key)) => {
                let value = self.fields.line(name)?.ok_or(ABSENT)?;
                base.push_str(&structured::member(value, key)?.ok_or(ABSENT)?);
            }
            _ => return Err(ABSENT),
        }
        Ok(())
    }
}

const ABSENT: Error = Code::ProofMismatch.because("a covered component is not in the message");

/// The signature base of a request (RFC 9421 section 2.5).
///
/// # Errors
///
/// [`Code::ProofMismatch`] if a component is not in the request, [`Code::FieldRefused`] if a field cannot be
/// signed, [`Code::Malformed`] if one of which a member is covered is no Dictionary.
pub fn request_base(
    request: &Request<'_>,
    components: &[Component<'_>],
    params: &str,
) -> Result<String, Error> {
    base(components, params, |component, base| {
        if component.req {
            return Err(ABSENT);
        }
        request.write(component, base)
    })
}

/// The signature base of a response to a request.
///
/// # Errors
///
/// As [`request_base`].
pub fn response_base(
    status: u16,
    fields: &dyn Fields,
    request: &Request<'_>,
    components: &[Component<'_>],
    params: &str,
) -> Result<String, Error> {
    base(components, params, |component, base| {
        match component {
            _ if component.req => return request.write(component, base),
            Component {
                name: "@status", ..
            } => {
                let _ = write!(base, "{status}");
            }
            Component {
                name, key: None, ..
            } if !name.starts_with('@') => {
                base.push_str(fields.line(name)?.ok_or(ABSENT)?);
            }
            _ => return Err(ABSENT),
        }
        Ok(())
    })
}

fn base(
    components: &[Component<'_>],
    params: &str,
    value: impl Fn(Component<'_>, &mut String) -> Result<(), Error>,
) -> Result<String, Error> {
    let mut base = String::with_capacity(params.len() * 3);
    for component in components {
        base.push('"');
        base.push_str(component.name);
        base.push('"');
        if component.req {
            base.push_str(";req");
        }
        if let Some(key) = component.key {
            let _ = write!(base, ";key=\"{key}\"");
        }
        base.push_str(": ");
        value(*component, &mut base)?;
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(params);
    Ok(base)
}

/// A signature base that waits for its signature.
#[derive(Clone)]
pub struct ToSign {
    /// What is signed, as ASCII bytes.
    pub base: String,
    params: String,
}

impl ToSign {
    /// Prepares a signature over a request.
    ///
    /// # Errors
    ///
    /// As [`SignatureParams::serialize`] and [`request_base`].
    pub fn request(
        request: &Request<'_>,
        components: &[Component<'_>],
        params: &SignatureParams<'_>,
    ) -> Result<Self, Error> {
        let params = params.serialize(components)?;
        Ok(Self {
            base: request_base(request, components, &params)?,
            params,
        })
    }

    /// Prepares a signature over a response.
    ///
    /// # Errors
    ///
    /// As [`SignatureParams::serialize`] and [`response_base`].
    pub fn response(
        status: u16,
        fields: &dyn Fields,
        request: &Request<'_>,
        components: &[Component<'_>],
        params: &SignatureParams<'_>,
    ) -> Result<Self, Error> {
        let params = params.serialize(components)?;
        let base = response_base(status, fields, request, components, &params)?;
        Ok(Self { base, params })
    }

    /// The two fields that carry the signature.
    pub fn fields(&self, signature: &[u8]) -> [(&'static str, String); 2] {
        self.labelled(LABEL, signature)
    }

    /// The same, under another label.
    pub fn labelled(&self, label: &str, signature: &[u8]) -> [(&'static str, String); 2] {
        [
            (field::SIGNATURE_INPUT, format!("{label}={}", self.params)),
            (
                field::SIGNATURE,
                structured::dictionary_of_bytes(label, signature),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9421 appendix B.2.6, with the parameters in its order.
    const INPUT: &str = r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#;

    #[test]
    fn builds_the_base_of_rfc_9421_b_2_6() {
        let fields = vec![
            (
                "date".to_owned(),
                "Tue, 20 Apr 2021 02:07:55 GMT".to_owned(),
            ),
            ("content-type".to_owned(), "application/json".to_owned()),
            ("content-length".to_owned(), "18".to_owned()),
        ];
        let request = Request {
            method: "POST",
            authority: "example.com",
            path: "/foo",
            query: Some("param=Value&Pet=dog"),
            fields: &fields,
        };
        let with_tag = format!(r#"{INPUT};alg="a";tag="t""#);
        let received = ReceivedSignature::find(&with_tag, "sig-b26=:AA==:", "t")
            .unwrap()
            .unwrap();
        let base = request_base(&request, &received.components, &received.signature_params);
        let expected = [
            r#""date": Tue, 20 Apr 2021 02:07:55 GMT"#,
            r#""@method": POST"#,
            r#""@path": /foo"#,
            r#""@authority": example.com"#,
            r#""content-type": application/json"#,
            r#""content-length": 18"#,
            &format!(r#""@signature-params": {}"#, &with_tag["sig-b26=".len()..]),
        ];
        assert_eq!(base.unwrap(), expected.join("\n"));
    }

    #[test]
    fn finds_exactly_one() {
        fn find<'a>(
            input: &'a str,
            signature: &'a str,
        ) -> Result<Option<ReceivedSignature<'a>>, Error> {
            ReceivedSignature::find(input, signature, "bulla")
        }
        let one = r#"a=("@method");created=1;keyid="k";alg="x";tag="bulla""#;
        assert!(find(one, "a=:AA==:").unwrap().is_some());
        assert!(find(r#"a=();tag="other""#, "a=:AA==:").unwrap().is_none());
        for (input, signature) in [
            (format!("{one}, b=();tag=\"bulla\""), "a=:AA==:, b=:AA==:"),
            (format!("{one}, {one}"), "a=:AA==:"),
            (one.to_owned(), "b=:AA==:"),
            (one.to_owned(), "a=:AA==:, a=:AA==:"),
            (one.to_owned(), "a=1"),
            (r#"a=1;tag="bulla""#.to_owned(), "a=:AA==:"),
            ("a=(".to_owned(), "a=:AA==:"),
        ] {
            let error = find(&input, signature).unwrap_err();
            assert_eq!(error.code, Code::Malformed, "{input} {signature}");
        }
    }

    #[test]
    fn parameters_and_components_are_strict() {
        let parse = |input: &str| {
            let received = ReceivedSignature::find(input, "a=:AA==:", "t")?;
            Ok::<_, Error>(received.ok_or(MALFORMED)?.components.len())
        };
        let with = |list: &str, params: &str| parse(&format!("a={list};tag=\"t\"{params}"));
        let good = r#";created=1;keyid="k";alg="a""#;
        assert_eq!(with(r#"("@method" "a";req "b";key="c")"#, good), Ok(3));
        for (list, params) in [
            ("(\"a\" \"a\")", good),
            ("(a)", good),
            (r#"("a";bs)"#, good),
            (r#"("a\"b")"#, good),
            (r#"("a";req=?0)"#, good),
            (r#"("a")"#, r#";created=1;keyid="k";alg="a";x=1"#),
            (r#"("a")"#, r#";created=1.5;keyid="k";alg="a""#),
            (r#"("a")"#, r#";created=-1;keyid="k";alg="a""#),
            (r#"("a")"#, r#";keyid="k";alg="a""#),
            (r#"("a")"#, r#";created=1;keyid="k""#),
            (r#"("a")"#, r#";created=1;keyid="k";alg="a";alg="b""#),
        ] {
            assert_eq!(
                with(list, params).unwrap_err().code,
                Code::Malformed,
                "{list}{params}"
            );
        }
    }
}
