//! What is asked for, and where: `mode`, `access`, `[[paths]]`, and `[[tokens]]` with `unbound_tokens`.

use super::reader::{Place, Section};
use super::{Config, Member, values};
use crate::access::{RuleError, Rules, is_beginning};

/// What a path asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing: for what everybody may fetch, such as styles, pictures and webhooks. No bound cookie gets there.
    Public,
    /// A verified session, sealed or not.
    Signed,
    /// A sealed request.
    #[default]
    Sealed,
    /// A sealed request whose path nobody on the way has seen. For everybody else the path does not exist.
    Concealed,
}

impl Access {
    pub(super) const ALL: [Self; 4] = [Self::Public, Self::Signed, Self::Sealed, Self::Concealed];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Signed => "signed",
            Self::Sealed => "sealed",
            Self::Concealed => "concealed",
        }
    }
}

/// What is asked for at the paths that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// The beginning of the path, byte for byte, such as `/static/`.
    pub prefix: String,
    /// What is asked for there.
    pub access: Access,
}

/// Where a bearer token is in what the application answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRule {
    /// The path, or the beginning of it, as in a [`PathRule`].
    pub path: String,
    /// The member of the JSON text.
    pub member: Member,
}

/// What becomes of a bearer token that is bound to no device and comes by a session to a path that is not public, where
/// there is any [`TokenRule`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unbound {
    /// It is refused: it may be anybody's.
    #[default]
    Refuse,
    /// It passes.
    Pass,
}

impl Unbound {
    pub(super) const ALL: [Self; 2] = [Self::Refuse, Self::Pass];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Pass => "pass",
        }
    }
}

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are only reported, and nothing is protected.
    Monitor,
}

impl Mode {
    pub(crate) const ALL: [Self; 2] = [Self::Enforce, Self::Monitor];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
        }
    }
}

/// The rules, and where the prefix of each is.
pub(super) fn paths<'r, 't>(root: &mut Section<'r, 't>) -> (Vec<PathRule>, Vec<Place<'r, 't>>) {
    let mut rules: Vec<PathRule> = Vec::new();
    let mut places: Vec<Place<'r, 't>> = Vec::new();
    for mut section in root.sections("paths").unwrap_or_default() {
        let place = section.place("prefix");
        let prefix = section.needed("prefix", values::prefix);
        let access = section.needed("access", values::access);
        section.end();
        let (Some(prefix), Some(access)) = (prefix, access) else {
            continue;
        };
        if let Some(first) = rules.iter().position(|rule| rule.prefix == prefix) {
            let line = places[first].line();
            place.problem(format!("{prefix:?} has a rule in line {line} already"));
        } else {
            rules.push(PathRule { prefix, access });
            places.push(place);
        }
    }
    (rules, places)
}

/// Reports the rules that cannot be kept, one by one.
pub(super) fn check_rules(config: &Config, places: &[Place<'_, '_>]) {
    let mut rest = config.clone();
    while let Err(error) = Rules::new(&rest) {
        let (RuleError::Path(wrong) | RuleError::BelowPublic(wrong, _)) = &error;
        let is_wrong = |rule: &PathRule| rule.prefix == *wrong;
        if let Some(index) = config.paths.iter().position(is_wrong) {
            places[index].problem(error.to_string());
        }
        rest.paths.retain(|rule| !is_wrong(rule));
    }
}

/// Where tokens are, and where the path of each is.
pub(super) fn tokens<'r, 't>(root: &mut Section<'r, 't>) -> (Vec<TokenRule>, Vec<Place<'r, 't>>) {
    let mut rules: Vec<TokenRule> = Vec::new();
    let mut places: Vec<Place<'r, 't>> = Vec::new();
    for mut section in root.sections("tokens").unwrap_or_default() {
        let place = section.place("path");
        let path = section.needed("path", values::prefix);
        let member = section.needed("member", values::member);
        section.end();
        let (Some(path), Some(member)) = (path, member) else {
            continue;
        };
        let rule = TokenRule { path, member };
        if let Some(first) = rules.iter().position(|other| *other == rule) {
            let line = places[first].line();
            place.problem(format!("this token has a rule in line {line} already"));
        } else {
            rules.push(rule);
            places.push(place);
        }
    }
    (rules, places)
}

/// Reports the tokens that cannot be bound, since nothing comes there, or nothing proves who asks.
pub(super) fn check_tokens(config: &Config, places: &[Place<'_, '_>]) {
    let rules = Rules::new(config).ok();
    for (TokenRule { path, .. }, place) in config.tokens.iter().zip(places) {
        if !is_beginning(path) {
            place.problem(RuleError::Path(path.clone()).to_string());
        } else if rules.as_ref().map(|rules| rules.at(path)) == Some(Access::Public) {
            place.problem(format!(
                "{path:?} is public: a token that is handed out there is bound to nobody"
            ));
        }
    }
}
