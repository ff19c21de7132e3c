//! JSON that clients read: answers to openings, and refusals.
//!
//! By a reader of what these have in them: objects, strings, whole numbers, booleans. It keeps neither places nor reasons
//! of errors, which nobody is told, and has nothing that panics: what a panic would print is 10 KB in the browser's module.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// How many objects and lists a text may have, so that a deep one cannot use up the stack.
const MAX_NESTED: usize = 64;

/// Reads a text that is one value and nothing else. What nobody asks for is passed over, and not looked at closely.
pub(crate) fn read<T: for<'a> Deserialize<'a>>(text: &[u8]) -> Option<T> {
    let nested = text.iter().filter(|byte| matches!(byte, b'{' | b'['));
    if nested.count() > MAX_NESTED {
        return None;
    }
    let mut reader = Reader(text);
    let value = T::deserialize(&mut reader).ok()?;
    reader.peek().is_none().then_some(value)
}

/// Not JSON, or not of the shape that is wanted.
#[derive(Debug)]
struct Wrong;

impl core::fmt::Display for Wrong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("wrong")
    }
}

impl core::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: core::fmt::Display>(_: T) -> Self {
        Self
    }
}

/// What is left of a text.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.0 {
            self.0 = rest;
        }
        self.0.first().copied()
    }

    /// Takes what has to be next.
    fn take(&mut self, wanted: &[u8]) -> Result<(), Wrong> {
        self.peek();
        self.0 = self.0.strip_prefix(wanted).ok_or(Wrong)?;
        Ok(())
    }

    /// Takes so many bytes.
    fn split(&mut self, len: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Wrong)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Takes the bytes that are of this kind, at least one.
    fn run(&mut self, is_one: impl Fn(&u8) -> bool) -> Result<&'a [u8], Wrong> {
        self.peek();
        let run = self.0.iter().take_while(|byte| is_one(byte)).count();
        if run == 0 {
            Err(Wrong)
        } else {
            self.split(run)
        }
    }

    /// What is between the quotes of a string, with its escapes.
    fn quoted(&mut self) -> Result<&'a [u8], Wrong> {
        self.take(b"\"")?;
        let mut len = 0;
        loop {
            len += match self.0.get(len) {
                Some(b'"') => break,
                Some(b'\\') => 2,
                Some(0x20..) => 1,
                _ => return Err(Wrong),
            };
        }
        let quoted = self.split(len)?;
        self.take(b"\"")?;
        Ok(quoted)
    }

    fn string(&mut self) -> Result<String, Wrong> {
        let text = unescaped(self.quoted()?).ok_or(Wrong)?;
        String::from_utf8(text).map_err(|_| Wrong)
    }

    fn number(&mut self) -> Result<u32, Wrong> {
        let digits = self.run(u8::is_ascii_digit)?;
        if digits.len() > 1 && digits.starts_with(b"0") {
            return Err(Wrong);
        }
        let add = |sum: u32, digit: &u8| sum.checked_mul(10)?.checked_add((digit - b'0').into());
        digits.iter().try_fold(0, add).ok_or(Wrong)
    }

    /// Passes over a value.
    fn skip(&mut self) -> Result<(), Wrong> {
        match self.peek() {
            Some(b'{') => self.skip_all(b"{", b"}", true),
            Some(b'[') => self.skip_all(b"[", b"]", false),
            Some(b'"') => self.quoted().map(drop),
            Some(b't') => self.take(b"true"),
            Some(b'f') => self.take(b"false"),
            Some(b'n') => self.take(b"null"),
            _ => self
                .run(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
                .map(drop),
        }
    }

    fn skip_all(&mut self, open: &[u8], close: &[u8], are_members: bool) -> Result<(), Wrong> {
        self.take(open)?;
        if self.take(close).is_ok() {
            return Ok(());
        }
        loop {
            if are_members {
                self.quoted()?;
                self.take(b":")?;
            }
            self.skip()?;
            if self.take(b",").is_err() {
                return self.take(close);
            }
        }
    }
}

/// A string without its escapes. Characters that are written as two halves are in nothing that is read here.
fn unescaped(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(quoted.len());
    let mut rest = quoted.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        let character = match rest.next()? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = 0;
                for _ in 0..4 {
                    code = code * 16 + char::from(*rest.next()?).to_digit(16)?;
                }
                char::from_u32(code)?
            }
            same @ (b'"' | b'\\' | b'/') => char::from(*same),
            _ => return None,
        };
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(text)
}

impl<'de> Deserializer<'de> for &mut Reader<'_> {
    type Error = Wrong;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.take(b"{")?;
        let value = visitor.visit_map(Members {
            reader: self,
            is_first: true,
        })?;
        self.take(b"}")?;
        Ok(value)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_string(self.string()?)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_string(self.string()?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_u32(self.number()?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let is_true = self.take(b"true").is_ok();
        if !is_true {
            self.take(b"false")?;
        }
        visitor.visit_bool(is_true)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.take(b"null").is_ok() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.skip()?;
        visitor.visit_unit()
    }

    /// There is no such thing in what is read here.
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Wrong> {
        Err(Wrong)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str bytes byte_buf
        unit unit_struct newtype_struct seq tuple tuple_struct map enum
    }
}

/// The members of an object.
struct Members<'r, 'a> {
    reader: &'r mut Reader<'a>,
    is_first: bool,
}

impl<'de> MapAccess<'de> for Members<'_, '_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        if self.reader.peek() == Some(b'}') {
            return Ok(None);
        }
        if !core::mem::take(&mut self.is_first) {
            self.reader.take(b",")?;
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        self.reader.take(b":")?;
        seed.deserialize(&mut *self.reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Shape {
        text: String,
        number: u32,
        #[serde(default)]
        inner: Option<Box<Shape>>,
    }

    /// The same, where nothing is passed over: of that, less is looked at.
    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Known {
        text: String,
        number: u32,
        #[serde(default)]
        inner: Option<Box<Known>>,
    }

    fn shape(text: &str, number: u32, inner: Option<Shape>) -> Shape {
        Shape {
            text: text.into(),
            number,
            inner: inner.map(Box::new),
        }
    }

    #[test]
    fn escapes_white_space_and_unknown_members_are_read() {
        assert_eq!(
            read(br#" { "text" : "a\n\"\u00e9\\" , "new":[{"x":[1,-2.5e3,null]}], "number":7 } "#),
            Some(shape("a\n\"\u{e9}\\", 7, None))
        );
        assert_eq!(
            read(br#"{"number":0,"inner":{"text":"","number":4294967295},"text":"b"}"#),
            Some(shape("b", 0, Some(shape("", u32::MAX, None))))
        );
    }

    #[test]
    fn what_is_not_of_the_shape_is_refused() {
        for bad in [
            "",
            "{}",
            r#"{"text":"a"}"#,
            r#"{"text":"a","number":1"#,
            r#"{"text":"a","number":1}x"#,
            r#"{"text":"a","number":1,}"#,
            r#"{"text":"a","number":1,"number":1}"#,
            r#"{"text":"a","number":4294967296}"#,
            r#"{"text":"a","number":-1}"#,
            r#"{"text":"a","number":1.5}"#,
            r#"{"text":"a","number":"1"}"#,
            r#"{"text":"a","number":01}"#,
            r#"{"text":"\x","number":1}"#,
            r#"{"text":"\u00e","number":1}"#,
            r#"{"text":"\u+0e9","number":1}"#,
            r#"{"text":"\ud83c\udffa","number":1}"#,
            r#"{"text":"a\","number":1}"#,
            r#"{"text":"a","number":}"#,
            r#"{"text":"a" "number":1}"#,
            r#"{,"text":"a","number":1}"#,
            r#"{"text":"a","number":1,"new":[1,]}"#,
            r#"{"text":"a","number":1,"new":{"x"}}"#,
            r#"{"text":"a","number":1,"new":nul}"#,
            r#"{text:"a","number":1}"#,
            r#"["a",1]"#,
        ] {
            assert_eq!(read::<Shape>(bad.as_bytes()), None, "{bad}");
        }
        for bad in [&b"\xff"[..], b"\0", b"\n", b"\x1f"] {
            let text = [b"{\"text\":\"", bad, b"\",\"number\":1}"].concat();
            assert_eq!(read::<Shape>(&text), None, "{bad:?}");
        }
    }

    /// Each text with one or two of its bytes changed, lost or doubled, by chance.
    #[test]
    fn it_reads_what_the_servers_reader_reads() {
        const TEXTS: [&str; 4] = [
            r#" { "text" : "a\n\"\u00e9\\\/ \u{1f3fa}" , "number" : 4294967295 } "#,
            r#"{"number":0,"inner":{"text":"","number":10,"inner":null},"text":"\b\f\r\t"}"#,
            r#"{"inner":{"inner":{"text":"c","number":1},"number":2,"text":"b"},"text":"a","number":3}"#,
            r#"{"text":"true","number":99,"inner":null}"#,
        ];
        const BYTES: &[u8] = br#"{}[]":,\ 0129-+.eEtrufalsn/b"#;
        let mut state = 1_u32;
        let mut chance = |below: usize| {
            // Xorshift.
            for shift in [13_i8, -17, 5] {
                let by = u32::from(shift.unsigned_abs());
                state ^= if shift > 0 { state << by } else { state >> by };
            }
            state as usize % below
        };
        let mut agreed = [0; 2];
        for _ in 0..100_000 {
            let mut text = TEXTS[chance(TEXTS.len())].as_bytes().to_vec();
            for _ in 0..=chance(2) {
                let at = chance(text.len());
                match chance(3) {
                    0 => text[at] = BYTES[chance(BYTES.len())],
                    1 => drop(text.remove(at)),
                    _ => text.insert(at, BYTES[chance(BYTES.len())]),
                }
            }
            let theirs: Option<Known> = serde_json::from_slice(&text).ok();
            let ours = read(&text);
            agreed[usize::from(ours.is_some())] += 1;
            assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&text));
        }
        assert!(agreed.iter().all(|count| *count > 2_000), "{agreed:?}");
    }

    #[test]
    fn deep_texts_do_not_use_up_the_stack() {
        let nested = |depth| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"text":"a","number":1,"new":{open}{close}}}"#)
        };
        assert!(read::<Shape>(nested(MAX_NESTED - 1).as_bytes()).is_some());
        assert_eq!(read::<Shape>(nested(MAX_NESTED).as_bytes()), None);
    }
}
