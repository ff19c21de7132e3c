//! What is noticed in pages, and what they may have: `[runtime]`, `[[scripts]]`, `[[fields]]`.

use super::reader::Section;
use super::values;

/// What is noticed in pages, and what becomes of the session of a page in which it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Whether pages are watched at all.
    pub watch: bool,
    /// A script that is not authorised.
    pub script: Reaction,
    /// A function of the platform's that was replaced.
    pub patched: Reaction,
    /// A file that is not what it should be.
    pub integrity: Reaction,
    /// A field that is not as it was sent, where the seal does not hold it.
    pub transit: Reaction,
    /// What the page's policies have refused.
    pub policy: Reaction,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            watch: true,
            script: Reaction::Record,
            patched: Reaction::Record,
            integrity: Reaction::Record,
            transit: Reaction::Record,
            policy: Reaction::Record,
        }
    }
}

/// What becomes of a session whose page has reported something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reaction {
    /// It goes on.
    #[default]
    Record,
    /// Its browser forgets the cookies that are bound, so that the application asks for a login.
    StepUp,
    /// The same, and it ends.
    End,
}

impl Reaction {
    pub(super) const ALL: [Self; 3] = [Self::Record, Self::StepUp, Self::End];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::StepUp => "step-up",
            Self::End => "end",
        }
    }
}

/// A script that pages may run, and why. What is said of it has to be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptRule {
    /// Its URL, or its path if it is of the page's origin; the beginning of it if this ends with a slash.
    pub url: Option<String>,
    /// As in an `integrity` attribute.
    pub hash: Option<String>,
    /// Why pages need it.
    pub justification: String,
}

impl ScriptRule {
    /// Whether it is about this script.
    pub(crate) fn matches(&self, url: &str, hash: &str) -> bool {
        let is_named =
            |named: &String| url == named || (named.ends_with('/') && url.starts_with(named));
        self.url.as_ref().is_none_or(is_named)
            && self.hash.as_ref().is_none_or(|named| named == hash)
    }
}

/// Fields that pages may have, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldsRule {
    /// The path of the page, or the beginning of it if this ends with a slash; all pages without it.
    pub page: Option<String>,
    /// Of all of them, as the inventory says.
    pub hash: String,
    /// Why they are as they should be.
    pub justification: String,
}

pub(super) fn read(mut section: Section<'_, '_>) -> Runtime {
    let watch = section.text("watch", values::on_or_off);
    let mut reaction = |key| section.text(key, values::reaction).unwrap_or_default();
    let runtime = Runtime {
        watch: watch.unwrap_or(true),
        script: reaction("script"),
        patched: reaction("patched"),
        integrity: reaction("integrity"),
        transit: reaction("transit"),
        policy: reaction("policy"),
    };
    section.end();
    runtime
}

pub(super) fn scripts(root: &mut Section<'_, '_>) -> Vec<ScriptRule> {
    let mut rules = Vec::new();
    for mut section in root.sections("scripts").unwrap_or_default() {
        let place = section.place("url");
        let is_named = section.has("url") || section.has("hash");
        let (url, hash) = (
            section.text("url", values::script),
            section.text("hash", values::hash),
        );
        let justification = section.needed("justification", values::sentence);
        section.end();
        if !is_named {
            place.problem("is missing, and so is hash: one of them has to say which script it is");
        }
        rules.extend(justification.map(|justification| ScriptRule {
            url,
            hash,
            justification,
        }));
    }
    rules
}

pub(super) fn fields(root: &mut Section<'_, '_>) -> Vec<FieldsRule> {
    let mut rules = Vec::new();
    for mut section in root.sections("fields").unwrap_or_default() {
        let page = section.text("page", values::page);
        let hash = section.needed("hash", values::hash);
        let justification = section.needed("justification", values::sentence);
        section.end();
        let both = hash.zip(justification);
        rules.extend(both.map(|(hash, justification)| FieldsRule {
            page,
            hash,
            justification,
        }));
    }
    rules
}
