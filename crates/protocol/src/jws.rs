//! JSON Web Signatures in their compact form (RFC 7515 section 7.1), by ES256 (RFC 7518 section 3.4) and by
//! nothing else.
//!
//! What one carries is read once it is known which kind it must be: `alg` and `typ` select nothing, they are
//! compared.

use core::fmt;
use std::borrow::Cow;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::base64;

/// The one algorithm.
pub const ALG: &str = "ES256";

/// A signed text that has been taken apart. Nobody has verified its signature yet.
pub struct Compact<'a> {
    header: Vec<u8>,
    payload: Vec<u8>,
    /// What was signed: header and payload, as they came (RFC 7515 section 5.2 step 8).
    pub signed: &'a str,
    /// `r || s`.
    pub signature: [u8; 64],
}

/// Not a JWS of the kind that is wanted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidJws {
    /// Not three parts in base64url, the last of 64 bytes, or not JSON objects whose members stand there once each
    /// and are of the right types.
    Malformed,
    /// The header's `typ` is another one, or there is none.
    Type,
    /// The header's `alg` is another one, or there is none.
    Algorithm,
    /// The header has a `crit`: there is something to be understood that nobody here does (RFC 7515 section
    /// 4.1.11).
    Critical,
}

impl fmt::Display for InvalidJws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a signed text in compact form",
            Self::Type => "signed for another purpose",
            Self::Algorithm => "not signed by ES256",
            Self::Critical => "there is a critical extension",
        })
    }
}

impl core::error::Error for InvalidJws {}

/// What is looked at in every header.
#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

impl<'a> Compact<'a> {
    /// Takes a text apart that is to be of this type. How long it may be is the caller's to say.
    ///
    /// # Errors
    ///
    /// Any [`InvalidJws`].
    pub fn parse(text: &'a str, typ: &str) -> Result<Self, InvalidJws> {
        let (signed, signature) = text.rsplit_once('.').ok_or(InvalidJws::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(InvalidJws::Malformed)?;
        let decode = |part| base64::decode(part).ok_or(InvalidJws::Malformed);
        let jws = Self {
            header: decode(header)?,
            payload: decode(payload)?,
            signed,
            signature: base64::decode_array(signature).ok_or(InvalidJws::Malformed)?,
        };
        let header: Header = jws.header()?;
        if !header.typ.is_some_and(|found| is_type(&found, typ)) {
            return Err(InvalidJws::Type);
        }
        if header.alg.as_deref() != Some(ALG) {
            return Err(InvalidJws::Algorithm);
        }
        if header.crit.is_some() {
            return Err(InvalidJws::Critical);
        }
        Ok(jws)
    }

    /// Reads members of the header.
    ///
    /// # Errors
    ///
    /// [`InvalidJws::Malformed`].
    pub fn header<T: DeserializeOwned>(&self) -> Result<T, InvalidJws> {
        read(&self.header)
    }

    /// Reads the payload.
    ///
    /// # Errors
    ///
    /// [`InvalidJws::Malformed`].
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, InvalidJws> {
        read(&self.payload)
    }
}

/// `typ` is a media type, whose `application/` may be left out (RFC 7515 section 4.1.9) and whose case does not
/// matter.
fn is_type(found: &str, wanted: &str) -> bool {
    const OMITTED: usize = "application/".len();
    let rest = match found.get(..OMITTED) {
        Some(start) if start.eq_ignore_ascii_case("application/") => &found[OMITTED..],
        _ => found,
    };
    rest.eq_ignore_ascii_case(wanted)
}

/// What is to be signed. `header` has to name its `typ`, and [`ALG`] as its `alg`.
///
/// # Errors
///
/// [`InvalidJws::Malformed`] if either is nothing that JSON can say.
pub fn to_sign(header: &impl Serialize, payload: &impl Serialize) -> Result<String, InvalidJws> {
    let part = |json: Result<Vec<u8>, _>| json.map(base64::encode);
    let header = part(serde_json::to_vec(header)).map_err(|_| InvalidJws::Malformed)?;
    let payload = part(serde_json::to_vec(payload)).map_err(|_| InvalidJws::Malformed)?;
    Ok(format!("{header}.{payload}"))
}

/// The whole text.
pub fn join(signed: &str, signature: &[u8; 64]) -> String {
    format!("{signed}.{}", base64::encode(signature))
}

/// `serde(deserialize_with = …)` for a `NumericDate` (RFC 7519 section 2), whose fraction is dropped.
///
/// # Errors
///
/// For what is not a number, and for what is before 1970.
pub fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Seconds;

    impl Visitor<'_> for Seconds {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("seconds since 1970")
        }

        fn visit_u64<E>(self, seconds: u64) -> Result<u64, E> {
            Ok(seconds)
        }

        fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<u64, E> {
            /// As far as every whole number has a value of its own.
            const MAX: f64 = 9_007_199_254_740_992.0;
            if !(0.0..MAX).contains(&seconds) {
                return Err(E::custom("not a time"));
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked above
            Ok(seconds as u64)
        }
    }

    deserializer.deserialize_any(Seconds)
}

/// Reads a text that is one object and nothing else. Of a member that stands there twice, two readers could take
/// two values: so whether anybody asks for it or not, there is none (RFC 7515 section 4).
fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, InvalidJws> {
    let is_object = json.first() == Some(&b'{');
    if !is_object || serde_json::from_slice::<Unique>(json).is_err() {
        return Err(InvalidJws::Malformed);
    }
    serde_json::from_slice(json).map_err(|_| InvalidJws::Malformed)
}

/// Any JSON in which no object has two members of one name.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self, A::Error> {
        let mut names = Vec::with_capacity(8);
        while let Some(Name(name)) = object.next_key()? {
            names.push(name);
            object.next_value::<Self>()?;
        }
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(A::Error::custom("a member stands here twice"));
        }
        Ok(self)
    }
}

/// A member's name, copied only if it has escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }

        deserializer.deserialize_str(Text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYP: &str = "dpop+jwt";

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Time {
        #[serde(deserialize_with = "seconds")]
        iat: u64,
    }

    fn text(header: &str, payload: &str) -> String {
        let signed = [base64::encode(header), base64::encode(payload)].join(".");
        join(&signed, &[7; 64])
    }

    fn refused(header: &str) -> Option<InvalidJws> {
        Compact::parse(&text(header, "{}"), TYP).err()
    }

    #[test]
    fn is_of_its_type_and_signed_in_the_one_way() {
        let text = text(r#"{"typ":"dpop+jwt","alg":"ES256"}"#, r#"{"iat":7}"#);
        let jws = Compact::parse(&text, TYP).unwrap();
        assert_eq!(jws.payload(), Ok(Time { iat: 7 }));
        assert_eq!(jws.signature, [7; 64]);
        assert_eq!(join(jws.signed, &jws.signature), text);
        for good in ["DPoP+jwt", "application/dpop+jwt", "APPLICATION/DPOP+JWT"] {
            assert_eq!(
                refused(&format!(r#"{{"alg":"ES256","typ":"{good}"}}"#)),
                None
            );
        }
        for bad in [
            r#"{"alg":"ES256"}"#,
            r#"{"typ":"jwt","alg":"ES256"}"#,
            r#"{"typ":"text/dpop+jwt","alg":"ES256"}"#,
            r#"{"typ":"application/","alg":"ES256"}"#,
        ] {
            assert_eq!(refused(bad), Some(InvalidJws::Type), "{bad}");
        }
        for bad in [
            r#"{"typ":"dpop+jwt"}"#,
            r#"{"typ":"dpop+jwt","alg":"none"}"#,
            r#"{"typ":"dpop+jwt","alg":"es256"}"#,
            r#"{"typ":"dpop+jwt","alg":"HS256"}"#,
        ] {
            assert_eq!(refused(bad), Some(InvalidJws::Algorithm), "{bad}");
        }
        let critical = r#"{"typ":"dpop+jwt","alg":"ES256","crit":["b64"],"b64":false}"#;
        assert_eq!(refused(critical), Some(InvalidJws::Critical));
    }

    #[test]
    fn no_member_stands_twice() {
        for bad in [
            r#"{"typ":"dpop+jwt","alg":"ES256","alg":"none"}"#,
            r#"{"typ":"dpop+jwt","alg":"ES256","x":1,"x":1}"#,
            r#"{"typ":"dpop+jwt","alg":"ES256","x":1,"\u0078":1}"#,
            r#"{"typ":"dpop+jwt","alg":"ES256","x":[{"y":{"z":1,"z":2}}]}"#,
            "[]",
            "",
            r#" {"typ":"dpop+jwt","alg":"ES256"}x"#,
        ] {
            assert_eq!(refused(bad), Some(InvalidJws::Malformed), "{bad}");
        }
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(refused(&deep), Some(InvalidJws::Malformed));
        let apart = r#"{"typ":"dpop+jwt","alg":"ES256","x":{"x":[{"x":1},{"x":2}]}}"#;
        assert_eq!(refused(apart), None);
    }

    #[test]
    fn three_parts_have_one_spelling() {
        let good = text(r#"{"typ":"dpop+jwt","alg":"ES256"}"#, "{}");
        assert!(Compact::parse(&good, TYP).is_ok());
        let (signed, signature) = good.rsplit_once('.').unwrap();
        for bad in [
            String::new(),
            "..".to_owned(),
            signed.to_owned(),
            format!("{good}."),
            format!("{good}.AA"),
            format!("{good}="),
            format!(" {good}"),
            format!("{signed}."),
            format!("{signed}.AAAA"),
            // The bits that no byte takes.
            format!("{signed}.{}B", &signature[..85]),
        ] {
            let error = Compact::parse(&bad, TYP).err();
            assert_eq!(error, Some(InvalidJws::Malformed), "{bad}");
        }
    }

    #[test]
    fn times_are_whole_seconds() {
        for (good, iat) in [("7", 7), ("7.9", 7), ("0", 0), ("1e3", 1000)] {
            let json = format!(r#"{{"iat":{good}}}"#);
            assert_eq!(read(json.as_bytes()), Ok(Time { iat }), "{good}");
        }
        for bad in ["-1", "-0.5", "1e300", "null", "\"7\"", "[7]", "true"] {
            let json = format!(r#"{{"iat":{bad}}}"#);
            assert!(read::<Time>(json.as_bytes()).is_err(), "{bad}");
        }
    }
}
