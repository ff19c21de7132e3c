//! TOML, taken key by key, so that whatever is wrong with it has a line and a key.

use std::cell::RefCell;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the operator has named it, if it is in one.
    pub file: Option<String>,
    /// Its line, counted from 1, if it is in one.
    pub line: Option<usize>,
    /// The key, such as `paths[0].access`; empty if the file is no TOML.
    pub key: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// A text of TOML, and what is wrong with it so far.
pub(super) struct Reader<'t> {
    file: Option<String>,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(file: Option<String>, text: &'t str) -> Self {
        Self {
            file,
            text,
            problems: RefCell::default(),
        }
    }

    /// The outermost table; an empty one if this is no TOML.
    pub(super) fn root(&self) -> Section<'_, 't> {
        let table = match DeTable::parse(self.text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                self.found(Some(at), "", format!("is no TOML: {}", error.message()));
                DeTable::new()
            }
        };
        Section {
            reader: self,
            name: String::new(),
            start: None,
            table,
            known: Vec::new(),
        }
    }

    /// All that was found, in the order of lines.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    /// Reports what is wrong at an offset.
    fn found(&self, at: Option<usize>, key: &str, what: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            file: self.file.clone(),
            line: at.map(|at| self.line(at)),
            key: key.to_owned(),
            what: what.into(),
        });
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.bytes().take(at);
        1 + before.filter(|&byte| byte == b'\n').count()
    }
}

/// A table of which keys are taken. What is left over at its [end](Self::end) is no key of it.
pub(super) struct Section<'r, 't> {
    reader: &'r Reader<'t>,
    name: String,
    start: Option<usize>,
    table: DeTable<'t>,
    known: Vec<&'static str>,
}

impl<'r, 't> Section<'r, 't> {
    /// Takes text.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.entry(key)?.text(&parse)
    }

    /// Takes text that has to be there.
    pub(super) fn needed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let entry = self.entry(key);
        if entry.is_none() {
            self.problem(key, "is missing");
        }
        entry?.text(&parse)
    }

    /// Takes a list of texts of which no two are the same.
    pub(super) fn texts<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        are_same: impl Fn(&T, &T) -> bool,
    ) -> Option<Vec<T>> {
        let mut texts = Vec::new();
        for entry in self.list(key)? {
            let place = entry.place();
            if let Some(text) = entry.text(&parse) {
                if texts.iter().any(|other| are_same(other, &text)) {
                    place.problem("is there twice");
                }
                texts.push(text);
            }
        }
        Some(texts)
    }

    /// Takes a list of tables.
    pub(super) fn sections(&mut self, key: &'static str) -> Option<Vec<Section<'r, 't>>> {
        let entries = self.list(key)?;
        Some(entries.into_iter().filter_map(Entry::section).collect())
    }

    /// Takes a table.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'r, 't>> {
        self.entry(key)?.section()
    }

    /// Whether a key is there with an empty list.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        let list = self
            .table
            .get(key)
            .and_then(|value| value.get_ref().as_array());
        list.is_some_and(|list| list.is_empty())
    }

    /// Whether a key is there that has not been taken yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where a key is, if it has not been taken yet.
    pub(super) fn place(&self, key: &str) -> Place<'r, 't> {
        let value = self.table.get(key);
        Place {
            reader: self.reader,
            name: self.full(key),
            at: value.map(|value| value.span().start).or(self.start),
        }
    }

    /// Reports what is wrong with a key that is not there.
    pub(super) fn problem(&self, key: &str, what: impl Into<String>) {
        self.reader.found(self.start, &self.full(key), what);
    }

    /// Reports whatever is left over.
    pub(super) fn end(self) {
        for key in self.table.keys() {
            let known = self.known.join(", ");
            let what = format!("is no key here; there are {known}");
            let at = key.span().start;
            self.reader.found(Some(at), &self.full(key.get_ref()), what);
        }
    }

    fn list(&mut self, key: &'static str) -> Option<Vec<Entry<'r, 't>>> {
        let Entry { place, value } = self.entry(key)?;
        let DeValue::Array(values) = value else {
            place.problem("is no list in brackets");
            return None;
        };
        let entry = |(index, value): (usize, Spanned<DeValue<'t>>)| Entry {
            place: Place {
                reader: self.reader,
                name: format!("{}[{index}]", place.name),
                at: Some(value.span().start),
            },
            value: value.into_inner(),
        };
        Some(values.into_iter().enumerate().map(entry).collect())
    }

    fn entry(&mut self, key: &'static str) -> Option<Entry<'r, 't>> {
        let place = self.place(key);
        self.known.push(key);
        let value = self.table.remove(key)?.into_inner();
        Some(Entry { place, value })
    }

    fn full(&self, key: &str) -> String {
        match self.name.as_str() {
            "" => key.to_owned(),
            name => format!("{name}.{key}"),
        }
    }
}

/// Where a value is.
#[derive(Clone)]
pub(super) struct Place<'r, 't> {
    reader: &'r Reader<'t>,
    name: String,
    at: Option<usize>,
}

impl Place<'_, '_> {
    /// Reports what is wrong there.
    pub(super) fn problem(&self, what: impl Into<String>) {
        self.reader.found(self.at, &self.name, what);
    }

    /// Its line, counted from 1; 0 if it is in no file.
    pub(super) fn line(&self) -> usize {
        self.at.map_or(0, |at| self.reader.line(at))
    }
}

struct Entry<'r, 't> {
    place: Place<'r, 't>,
    value: DeValue<'t>,
}

impl<'r, 't> Entry<'r, 't> {
    fn place(&self) -> Place<'r, 't> {
        self.place.clone()
    }

    fn text<T>(self, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let Self { place, value } = self;
        let parsed = match &value {
            DeValue::String(text) => parse(text),
            DeValue::Array(_) | DeValue::Table(_) => {
                Err(format!("is {}, not text in quotes", named(&value)))
            }
            // What is right depends on the key, so its own words come first.
            DeValue::Integer(number) => parse(number.as_str()).and_then(|_| Err(unquoted(&value))),
            _ => Err(unquoted(&value)),
        };
        parsed.map_err(|what| place.problem(what)).ok()
    }

    fn section(self) -> Option<Section<'r, 't>> {
        let Self { place, value } = self;
        let DeValue::Table(table) = value else {
            place.problem(format!("is {}, not a table of keys", named(&value)));
            return None;
        };
        Some(Section {
            reader: place.reader,
            name: place.name,
            start: place.at,
            table,
            known: Vec::new(),
        })
    }
}

fn unquoted(value: &DeValue<'_>) -> String {
    format!("is {}; write it in quotes", named(value))
}

fn named(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
