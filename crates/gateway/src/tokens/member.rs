//! A place in a JSON text, and what stands there. The text is not written anew, so that all else of it stays byte for byte.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

/// A member of a JSON text: by its name, if it is one of the outermost object, or by a JSON Pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member(Vec<String>);

/// The text names no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMember;

impl FromStr for Member {
    type Err = NoMember;

    fn from_str(text: &str) -> Result<Self, NoMember> {
        let Some(pointer) = text.strip_prefix('/') else {
            return match text {
                "" => Err(NoMember),
                name => Ok(Self(vec![name.to_owned()])),
            };
        };
        pointer
            .split('/')
            .map(unescaped)
            .collect::<Option<_>>()
            .map(Self)
            .ok_or(NoMember)
    }
}

/// RFC 6901 section 4: `~1` is a slash, `~0` a tilde, and there is no other escape.
fn unescaped(step: &str) -> Option<String> {
    let rest = step.replace("~0", "").replace("~1", "");
    (!rest.contains('~')).then(|| step.replace("~1", "/").replace("~0", "~"))
}

/// The text is no JSON (RFC 8259), or names one of the members on the way twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

impl Member {
    /// Where in a text its value stands, if there is one.
    pub(super) fn find(&self, text: &str) -> Result<Option<Range<usize>>, NotJson> {
        let mut value: &RawValue = serde_json::from_str(text).map_err(|_| NotJson)?;
        for step in &self.0 {
            if !value.get().starts_with(['{', '[']) {
                return Ok(None);
            }
            let mut reader = serde_json::Deserializer::from_str(value.get());
            match Step(step).deserialize(&mut reader).map_err(|_| NotJson)? {
                Some(next) => value = next,
                None => return Ok(None),
            }
        }
        // It borrows from the text.
        let start = value
            .get()
            .as_ptr()
            .addr()
            .wrapping_sub(text.as_ptr().addr());
        Ok(Some(start..start + value.get().len()))
    }
}

/// Goes from an object or a list to what is in it.
struct Step<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value()?).is_some() {
                // Some readers take the first, and some the last.
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        // RFC 6901 section 4: without leading zeros.
        let index = self.0.parse::<usize>().ok();
        let index = index.filter(|index| index.to_string() == self.0);
        let (mut found, mut at) = (None, 0);
        while let Some(value) = list.next_element()? {
            if Some(at) == index {
                found = Some(value);
            }
            at += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(member: &str, text: &str) -> Result<Option<String>, NotJson> {
        let member: Member = member.parse().unwrap();
        Ok(member.find(text)?.map(|at| text[at].to_owned()))
    }

    #[test]
    fn members_are_found_wherever_they_are() {
        let text = "\n{ \"a\" : { \"b/c\" : [ 1.0e400 , { \"~\" : \"x\\\"y\" } ] } , \"/a\": null,\"token\":\"t\"\t} ";
        for (member, value) in [
            ("token", Some("\"t\"")),
            ("/token", Some("\"t\"")),
            ("/a/b~1c/0", Some("1.0e400")),
            ("/a/b~1c/1/~0", Some("\"x\\\"y\"")),
            ("/a/b~1c/01", None),
            ("/a/b~1c/2", None),
            ("/a/b~1c/-", None),
            ("/~1a", Some("null")),
            ("/token/x", None),
            ("b/c", None),
        ] {
            assert_eq!(find(member, text), Ok(value.map(str::to_owned)), "{member}");
        }
        for text in ["\"token\"", "[]", "{}", "null", "-1", "[[\"token\"]]"] {
            assert_eq!(find("token", text), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_or_says_two_things_is_nothing() {
        for text in [
            "",
            "{\"token\":\"t\"",
            "{\"token\":\"t\"}x",
            "{\"token\":\"t\",}",
            "{\"token\":\"t\",\"token\":\"u\"}",
            "{\"token\":\"t\",\"\\u0074oken\":\"u\"}",
            "\u{feff}{\"token\":\"t\"}",
            ")]}',\n{\"token\":\"t\"}",
        ] {
            assert_eq!(find("token", text), Err(NotJson), "{text}");
        }
    }

    #[test]
    fn depth_uses_up_nothing() {
        let deep = |depth| {
            format!(
                "{{\"x\":{}{},\"token\":\"t\"}}",
                "[".repeat(depth),
                "]".repeat(depth)
            )
        };
        assert_eq!(find("token", &deep(100)), Ok(Some("\"t\"".to_owned())));
        let _ = find("token", &deep(100_000));
    }

    #[test]
    fn some_texts_name_no_member() {
        for text in ["", "/a~", "/~2", "/a/~x"] {
            assert_eq!(text.parse::<Member>(), Err(NoMember), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC*|[{}\\[\\]\",:a0 \\\\]{0,40}", member in "[a/0~]{1,6}") {
            if let Ok(member) = member.parse::<Member>()
                && let Ok(Some(at)) = member.find(&text)
            {
                prop_assert!(text.get(at).is_some());
            }
        }
    }
}
