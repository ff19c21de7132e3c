//! Structured Fields (RFC 9651), read without the leniency that a verifier must not have: a key that
//! stands twice is an error here, where RFC 9651 lets the last one win.
//!
//! Each key is compared with all before it, and anyone may send a field before he has proved anything.
//! So there may be only so many.

use core::fmt;

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, InnerListVisitor, ItemVisitor, ParameterVisitor,
};
use sfv::{
    BareItemFromInput, DictSerializer, ItemSerializer, KeyRef, ListSerializer, Parser, StringRef,
};

use crate::error::{Code, Error};

/// Members of a Dictionary, and Items of an Inner List, at most: what RFC 9651 wants of every parser.
const MAX_MEMBERS: usize = 1024;

/// Parameters of one Item at most. A signature has six (RFC 9421 section 2.3).
const MAX_PARAMS: usize = 16;

/// A Dictionary's member: an Item or an Inner List.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: Value<'a>,
    pub(crate) params: Params<'a>,
}

#[derive(Debug)]
pub(crate) enum Value<'a> {
    Item(BareItemFromInput<'a>),
    List(Vec<(BareItemFromInput<'a>, Params<'a>)>),
}

pub(crate) type Params<'a> = Vec<(&'a KeyRef, BareItemFromInput<'a>)>;

impl Member<'_> {
    pub(crate) fn into_bytes(self) -> Option<Vec<u8>> {
        match self.value {
            Value::Item(BareItemFromInput::ByteSequence(bytes)) => Some(bytes),
            _ => None,
        }
    }
}

/// Reads a Dictionary.
pub(crate) fn dictionary(value: &str) -> Result<Vec<Member<'_>>, Error> {
    Parser::new(value)
        .parse_dictionary_with_visitor(Members(Vec::new()))
        .map_err(|_| Code::Malformed.because("a structured field could not be parsed"))
}

/// One member of a Dictionary, serialized by itself (RFC 9421 section 2.1.2).
pub(crate) fn member(value: &str, key: &str) -> Result<Option<String>, Error> {
    let members = dictionary(value)?;
    let Some(member) = members.iter().find(|member| member.key == key) else {
        return Ok(None);
    };
    match &member.value {
        Value::List(items) => Ok(inner_list(items, &member.params)),
        Value::Item(item) => {
            let mut serializer = ItemSerializer::new().bare_item(item);
            for (key, value) in &member.params {
                serializer = serializer.parameter(key, value);
            }
            Ok(Some(serializer.finish()))
        }
    }
}

/// Writes an Inner List with its parameters.
pub(crate) fn inner_list(
    items: &[(BareItemFromInput<'_>, Params<'_>)],
    params: &Params<'_>,
) -> Option<String> {
    let mut list = ListSerializer::new();
    let mut inner = list.inner_list();
    for (item, params) in items {
        let mut serializer = inner.bare_item(item);
        for (key, value) in params {
            serializer = serializer.parameter(key, value);
        }
    }
    let mut serializer = inner.finish();
    for (key, value) in params {
        serializer = serializer.parameter(key, value);
    }
    list.finish()
}

/// Reads an Item that is a Byte Sequence without parameters.
///
/// # Errors
///
/// [`Code::Malformed`].
pub fn bytes(value: &str) -> Result<Vec<u8>, Error> {
    match item(value)? {
        BareItemFromInput::ByteSequence(bytes) => Ok(bytes),
        _ => Err(Code::Malformed.because("a structured field is not a byte sequence")),
    }
}

/// Reads an Item that is a String without parameters.
///
/// # Errors
///
/// [`Code::Malformed`].
pub fn string(value: &str) -> Result<String, Error> {
    match item(value)? {
        BareItemFromInput::String(text) => Ok(text.as_str().to_owned()),
        _ => Err(Code::Malformed.because("a structured field is not a string")),
    }
}

/// Writes an Item that is a Byte Sequence.
pub fn from_bytes(bytes: &[u8]) -> String {
    ItemSerializer::new().bare_item(bytes).finish()
}

/// Writes an Item that is a String. Takes visible ASCII and spaces.
///
/// # Errors
///
/// [`Code::Malformed`] for any other character.
pub fn from_string(text: &str) -> Result<String, Error> {
    let text = StringRef::from_str(text)
        .map_err(|_| Code::Malformed.because("a string has bytes that a field cannot hold"))?;
    Ok(ItemSerializer::new().bare_item(text).finish())
}

/// Writes a Dictionary whose only member is a Byte Sequence.
pub(crate) fn dictionary_of_bytes(key: &str, bytes: &[u8]) -> String {
    let mut dictionary = DictSerializer::new();
    if let Ok(key) = KeyRef::from_str(key) {
        dictionary.bare_item(key, bytes);
    }
    dictionary.finish().unwrap_or_default()
}

fn item(value: &str) -> Result<BareItemFromInput<'_>, Error> {
    Parser::new(value)
        .parse_item_with_visitor(|item| Ok::<_, Refused>(NoParams(item)))
        .map_err(|_| Code::Malformed.because("a structured field could not be parsed"))
}

/// What a visitor returns to stop; the reason is lost in [`Code::Malformed`].
#[derive(Debug)]
pub(crate) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl core::error::Error for Refused {}

struct NoParams<'a>(BareItemFromInput<'a>);

impl<'a> ParameterVisitor<'a> for NoParams<'a> {
    type Out = BareItemFromInput<'a>;
    type Error = Refused;

    fn parameter(&mut self, _: &'a KeyRef, _: BareItemFromInput<'a>) -> Result<(), Refused> {
        Err(Refused)
    }

    fn finish(self) -> Result<Self::Out, Refused> {
        Ok(self.0)
    }
}

struct Members<'a>(Vec<Member<'a>>);

impl<'a> DictionaryVisitor<'a> for Members<'a> {
    type Out = Vec<Member<'a>>;
    type Error = Refused;

    fn entry(&mut self, key: &'a KeyRef) -> Result<impl EntryVisitor<'a>, Refused> {
        let is_known = |member: &Member<'_>| member.key == key.as_str();
        if self.0.len() == MAX_MEMBERS || self.0.iter().any(is_known) {
            return Err(Refused);
        }
        Ok(self.0.push_mut(Member {
            key: key.as_str(),
            value: Value::List(Vec::new()),
            params: Vec::new(),
        }))
    }

    fn finish(self) -> Result<Self::Out, Refused> {
        Ok(self.0)
    }
}

impl<'a> EntryVisitor<'a> for &mut Member<'a> {
    type Error = Refused;

    fn item(self) -> Result<impl ItemVisitor<'a>, Refused> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'a>, Refused> {
        Ok(self)
    }
}

impl<'a> ItemVisitor<'a> for &mut Member<'a> {
    type Out = ();
    type Error = Refused;

    fn bare_item(
        self,
        item: BareItemFromInput<'a>,
    ) -> Result<impl ParameterVisitor<'a, Out = ()>, Refused> {
        self.value = Value::Item(item);
        Ok(Distinct(&mut self.params))
    }
}

impl<'a> InnerListVisitor<'a> for &mut Member<'a> {
    type Error = Refused;

    fn item(&mut self) -> Result<impl ItemVisitor<'a>, Refused> {
        match &mut self.value {
            Value::List(items) if items.len() < MAX_MEMBERS => Ok(ListItem(items)),
            _ => Err(Refused),
        }
    }

    fn finish(self) -> Result<impl ParameterVisitor<'a>, Refused> {
        Ok(Distinct(&mut self.params))
    }
}

struct ListItem<'l, 'a>(&'l mut Vec<(BareItemFromInput<'a>, Params<'a>)>);

impl<'a> ItemVisitor<'a> for ListItem<'_, 'a> {
    type Out = ();
    type Error = Refused;

    fn bare_item(
        self,
        item: BareItemFromInput<'a>,
    ) -> Result<impl ParameterVisitor<'a, Out = ()>, Refused> {
        Ok(Distinct(&mut self.0.push_mut((item, Vec::new())).1))
    }
}

struct Distinct<'p, 'a>(&'p mut Params<'a>);

impl<'a> ParameterVisitor<'a> for Distinct<'_, 'a> {
    type Out = ();
    type Error = Refused;

    fn parameter(&mut self, key: &'a KeyRef, value: BareItemFromInput<'a>) -> Result<(), Refused> {
        if self.0.len() == MAX_PARAMS || self.0.iter().any(|(known, _)| *known == key) {
            return Err(Refused);
        }
        self.0.push((key, value));
        Ok(())
    }

    fn finish(self) -> Result<(), Refused> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_refused() {
        assert_eq!(dictionary("a=1, b=(1 2);c").unwrap().len(), 2);
        for bad in [
            "a=1, a=2",
            "a=1;b;b",
            "a=(1);b;b",
            "a=(1;b;b)",
            "a=",
            "a=1,",
        ] {
            assert_eq!(dictionary(bad).unwrap_err().code, Code::Malformed, "{bad}");
        }
    }

    #[test]
    fn fields_have_only_so_many_parts() {
        type Write = fn(Vec<String>) -> String;
        let keys = |count: usize| (0..count).map(|at| format!("a{at}")).collect::<Vec<_>>();
        let ways: [(usize, Write); 5] = [
            (MAX_MEMBERS, |keys| keys.join(",")),
            (MAX_MEMBERS, |keys| format!("a=({})", keys.join(" "))),
            (MAX_PARAMS, |keys| format!("a;{}", keys.join(";"))),
            (MAX_PARAMS, |keys| format!("a=(1);{}", keys.join(";"))),
            (MAX_PARAMS, |keys| format!("a=(1;{})", keys.join(";"))),
        ];
        for (most, write) in ways {
            assert!(dictionary(&write(keys(most))).is_ok());
            let error = dictionary(&write(keys(most + 1))).unwrap_err();
            assert_eq!(error.code, Code::Malformed);
        }
    }

    #[test]
    fn items_round_trip() {
        assert_eq!(bytes(&from_bytes(b"\0seal")).unwrap(), b"\0seal");
        assert_eq!(string(&from_string("a \"b\"").unwrap()).unwrap(), "a \"b\"");
        assert!(from_string("\u{e9}").is_err());
        assert!(
            bytes("\"text\"").is_err() && string(":AA==:").is_err() && bytes(":AA==:;a").is_err()
        );
    }
}
