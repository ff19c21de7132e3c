//! JSON that clients read: answers to openings, and refusals.
//!
//! By a reader that is made for small machines. It keeps neither places nor reasons of errors, which
//! nobody is told, and so adds some 10 KB less to the browser's module than the one that servers use.

use serde::Deserialize;

/// How many objects and lists a text may have, so that a deep one cannot use up the stack.
const MAX_NESTED: usize = 64;

/// Reads a text that is one value and nothing else.
///
/// Strings are taken as they are written: whatever is read here is base64url or a name, which has nothing to escape. What
/// has an escape in it all the same is then no such value, and is refused by its own type.
pub(crate) fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Option<T> {
    let nested = text.iter().filter(|byte| matches!(byte, b'{' | b'['));
    if nested.count() > MAX_NESTED {
        return None;
    }
    let (value, _) = serde_json_core::from_slice(text).ok()?;
    Some(value)
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

    fn shape(text: &str, number: u32, inner: Option<Shape>) -> Shape {
        Shape {
            text: text.into(),
            number,
            inner: inner.map(Box::new),
        }
    }

    #[test]
    fn white_space_and_unknown_members_are_read() {
        assert_eq!(
            read(br#" { "text" : "a" , "new":[{"x":[1,-2.5e3,null,"\"]}"]}], "number":7 } "#),
            Some(shape("a", 7, None))
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
            r#"["a",1]"#,
        ] {
            assert_eq!(read::<Shape>(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(read::<Shape>(b"{\"text\":\"\xff\",\"number\":1}"), None);
    }

    #[test]
    fn strings_are_as_they_are_written() {
        assert_eq!(
            read(br#"{"text":"\u0061\"\\","number":1}"#),
            Some(shape(r#"\u0061\"\\"#, 1, None))
        );
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
