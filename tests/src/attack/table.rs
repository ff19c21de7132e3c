//! The rows of `docs/attacks.md`, as the tests that carry the attacks out have them.
//!
//! A row stands beside its test, which takes from it what is to come of the attack, and which
//! [`attacks!`](crate::attacks) runs. After the test every row of it must have been shown, with Bulla and without: text
//! that no test has compared with what happened gets into no table.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bulla_protocol::error::Code;

use super::Outcome;

/// An attack, and what comes of it.
pub struct Attack {
    /// What the thief has, or where he is.
    pub has: &'static str,
    /// What he does.
    pub does: &'static str,
    /// What it is carried out against in order to show that it works.
    pub twin: Twin,
    /// What comes of it there.
    pub without: &'static str,
    /// What comes of it where there is Bulla.
    pub with: With,
    /// Where it, or what is to prevent it, has a name.
    pub names: &'static [Name],
    /// What has been seen of it.
    pub shown: Shown,
}

/// Where an attack is shown to work.
#[derive(Clone, Copy)]
pub enum Twin {
    /// The same application, or one with the same routes, without Bulla.
    App,
    /// The same with one check taken out, or something that a rule asks for: this.
    Weakened(&'static str),
}

/// What comes of an attack where there is Bulla.
#[derive(Clone, Copy)]
pub enum With {
    /// It is refused, by the server or the client; all of these codes are seen in the test.
    Refused(&'static [Code]),
    /// It is refused by one of these. Which one depends on who comes first.
    RefusedByOneOf(&'static [Code]),
    /// It is not refused, and he gains nothing: why.
    Held(&'static str),
    /// It works: how far.
    Works(&'static str),
}

/// Where an attack has a name.
#[derive(Clone, Copy)]
pub enum Name {
    /// OWASP Web Security Testing Guide, WSTG-SESS.
    Sess(u8),
    /// A section of RFC 9449, section 11.
    Dpop(u8),
    /// OWASP API Security Top 10, 2023.
    Api(u8),
    /// A requirement of OWASP ASVS 5.0 that `docs/asvs.md` has, too.
    Asvs(&'static str),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sess(number) => write!(f, "WSTG-SESS-{number:02}"),
            Self::Dpop(section) => write!(f, "RFC 9449 11.{section}"),
            Self::Api(number) => write!(f, "API{number}"),
            Self::Asvs(number) => write!(f, "ASVS {number}"),
        }
    }
}

/// What a test has seen of an attack.
#[derive(Default)]
pub struct Shown(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    twin: bool,
    held: bool,
    codes: Vec<Code>,
}

impl Shown {
    /// Nothing yet.
    pub const fn nothing() -> Self {
        Self(Mutex::new(Seen {
            twin: false,
            held: false,
            codes: Vec::new(),
        }))
    }
}

impl Attack {
    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.shown.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// It was carried out without Bulla; whether it worked.
    ///
    /// # Panics
    ///
    /// If it did not.
    #[track_caller]
    pub fn without(&self, worked: bool) {
        assert!(worked, "the twin withstood: he {}", self.does);
        self.note(|seen| seen.twin = true);
    }

    /// It was carried out against Bulla, and refused with this code.
    ///
    /// # Panics
    ///
    /// If the row says otherwise.
    #[track_caller]
    pub fn refused(&self, code: Option<Code>) {
        let (With::Refused(known) | With::RefusedByOneOf(known)) = self.with else {
            panic!("he {}: of this no code is told", self.does);
        };
        match code {
            Some(code) if known.contains(&code) => self.note(|seen| seen.codes.push(code)),
            other => panic!("he {}: {other:?}, and not {known:?}", self.does),
        }
    }

    /// It was carried out against Bulla, and what the row says held, or worked.
    ///
    /// # Panics
    ///
    /// If it did not.
    #[track_caller]
    pub fn with(&self, was_so: bool) {
        let (With::Held(what) | With::Works(what)) = self.with else {
            panic!("he {}: of this a code is told", self.does);
        };
        assert!(was_so, "he {}, and not so: {what}", self.does);
        self.note(|seen| seen.held = true);
    }

    /// What the test has left open.
    fn left(&self) -> Option<String> {
        let seen = self.shown.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unseen = match self.with {
            With::Refused(codes) => codes.iter().find(|code| !seen.codes.contains(code)),
            With::RefusedByOneOf(codes) if seen.codes.is_empty() => codes.first(),
            With::RefusedByOneOf(_) => None,
            With::Held(_) | With::Works(_) if seen.held => None,
            With::Held(what) | With::Works(what) => {
                return Some(format!("that {what}: he {}", self.does));
            }
        };
        if !seen.twin {
            return Some(format!("that it works without Bulla: he {}", self.does));
        }
        unseen.map(|code| format!("{code}: he {}", self.does))
    }
}

/// A test's name, and those of its rows with themselves.
pub type Tested = (&'static str, &'static [(&'static str, &'static Attack)]);

/// Looks at the rows of a test that has passed.
///
/// # Errors
///
/// If it has not shown all of them.
pub fn all_shown(attacks: &[&Attack]) -> Outcome {
    match attacks.iter().find_map(|attack| attack.left()) {
        Some(left) => Err(format!("the test does not show {left}").into()),
        None => Ok(()),
    }
}

/// Compares a test program's part of the page with its rows, or writes it, where `BULLA_ATTACKS` is `write`.
///
/// # Errors
///
/// If they differ, or the page has no place for it.
pub fn compare(program: &str, tests: &[Tested]) -> Outcome {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/attacks.md");
    let page = fs::read_to_string(&path)?;
    let made = put_into(&page, program, &part(program, tests)?)?;
    if made == page {
        return Ok(());
    }
    if std::env::var("BULLA_ATTACKS").is_ok_and(|what| what == "write") {
        return Ok(fs::write(path, made)?);
    }
    Err(format!("docs/attacks.md is out of date about {program}: cargo xtask attacks").into())
}

/// The page, with what stands between the marks of this part made anew.
///
/// # Errors
///
/// If it has no such marks.
pub fn put_into(page: &str, part: &str, made: &str) -> Outcome<String> {
    let (begin, end) = (
        format!("<!-- begin: {part} -->\n"),
        format!("<!-- end: {part} -->\n"),
    );
    let cut = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = cut.ok_or(format!("docs/attacks.md has no part for {part}"))?;
    Ok(format!("{before}{begin}{made}{end}{after}"))
}

fn part(program: &str, tests: &[Tested]) -> Outcome<String> {
    let mut part = format!(
        "[`{program}.rs`](../tests/tests/{program}.rs)\n\n\
         | attack | the thief has | he | without Bulla | with Bulla | named by | test |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    let mut names = BTreeSet::new();
    for (test, attacks) in tests {
        for (name, attack) in *attacks {
            if !names.insert(name) {
                return Err(format!("{name} stands there twice").into());
            }
            let name = name.to_lowercase().replace('_', " ");
            writeln!(part, "| {name} | {attack} | `{test}` |")?;
        }
    }
    Ok(part)
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {} | {}", self.has, self.does, self.without)?;
        if let Twin::Weakened(how) = self.twin {
            write!(f, " (*{how}*)")?;
        }
        f.write_str(" | ")?;
        match self.with {
            With::Refused(codes) => list(f, codes, ", ")?,
            With::RefusedByOneOf(codes) => list(f, codes, " or ")?,
            With::Held(why) => f.write_str(why)?,
            With::Works(how) => write!(f, "**succeeds**: {how}")?,
        }
        let names: Vec<_> = self.names.iter().map(Name::to_string).collect();
        write!(f, " | {}", names.join(", "))
    }
}

fn list(f: &mut fmt::Formatter<'_>, codes: &[Code], between: &str) -> fmt::Result {
    let codes: Vec<_> = codes.iter().map(|code| format!("`{code}`")).collect();
    f.write_str(&codes.join(between))
}

/// Says which attacks each test carries out. The test is run here, and then its rows are looked at; so it has no
/// `#[tokio::test]` of its own. One that takes an [`Engine`](crate::browser::Engine) is run in each.
///
/// The program's part of `docs/attacks.md` is compared with all of them.
#[macro_export]
macro_rules! attacks {
    ($($test:ident $(in $each:ident engine)?: [$($attack:ident),+ $(,)?]),+ $(,)?) => {
        $($crate::attacks!(@one $test $($each)?: [$($attack),+]);)+

        #[test]
        fn the_table_of_attacks_is_what_the_tests_say() -> $crate::attack::Outcome {
            static TESTS: &[$crate::attack::Tested] = &[
                $((stringify!($test), &[$((stringify!($attack), &$attack)),+])),+
            ];
            $crate::attack::compare(env!("CARGO_CRATE_NAME"), TESTS)
        }
    };
    (@one $test:ident: [$($attack:ident),+]) => {
        mod $test {
            #[tokio::test]
            async fn and_all_of_it_was_shown() -> $crate::attack::Outcome {
                // Some come from other threads.
                let passed = super::$test().await;
                passed.map_err(|error| -> Box<dyn std::error::Error> { error })?;
                $crate::attack::all_shown(&[$(&super::$attack),+])
            }
        }
    };
    (@one $test:ident each: [$($attack:ident),+]) => {
        mod $test {
            $crate::in_each_engine!(and_all_of_it_was_shown);

            async fn and_all_of_it_was_shown(engine: $crate::browser::Engine) -> $crate::attack::Outcome {
                super::$test(engine).await?;
                $crate::attack::all_shown(&[$(&super::$attack),+])
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROW: Attack = Attack {
        has: "a copy",
        does: "sends it",
        twin: Twin::Weakened("no store"),
        without: "it is taken",
        with: With::Refused(&[Code::Replayed, Code::NonceStale]),
        names: &[Name::Sess(9), Name::Asvs("7.2.1")],
        shown: Shown::nothing(),
    };

    #[test]
    fn a_row_is_shown_by_all_its_codes_and_its_twin() {
        ROW.refused(Some(Code::Replayed));
        assert!(all_shown(&[&ROW]).is_err());
        ROW.refused(Some(Code::NonceStale));
        assert!(all_shown(&[&ROW]).is_err());
        ROW.without(true);
        assert!(all_shown(&[&ROW]).is_ok());
        for wrong in [None, Some(Code::Malformed)] {
            assert!(std::panic::catch_unwind(|| ROW.refused(wrong)).is_err());
        }
        assert!(std::panic::catch_unwind(|| ROW.with(true)).is_err());
        assert!(std::panic::catch_unwind(|| ROW.without(false)).is_err());
    }

    #[test]
    fn a_part_is_put_between_its_marks_and_nowhere_else() -> Outcome {
        static ONCE: &[Tested] = &[("tested", &[("A_ROW", &ROW)])];
        static TWICE: &[Tested] = &[("tested", &[("A", &ROW), ("A", &ROW)])];
        let page = "a\n<!-- begin: x -->\nold\n<!-- end: x -->\nb\n";
        let made = part("x", ONCE)?;
        let row = "| a row | a copy | sends it | it is taken (*no store*) | `replayed`, `nonce_stale` | \
                   WSTG-SESS-09, ASVS 7.2.1 | `tested` |\n";
        assert!(made.ends_with(row), "{made}");
        let put = put_into(page, "x", &made)?;
        assert_eq!(
            put,
            format!("a\n<!-- begin: x -->\n{made}<!-- end: x -->\nb\n")
        );
        assert!(put_into(page, "y", &made).is_err());
        assert!(part("x", TWICE).is_err());
        Ok(())
    }
}
