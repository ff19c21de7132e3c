//! What browsers hold the application's code to: `[delivery]`.

use std::path::{Path, PathBuf};

use super::reader::{Place, Section};
use super::{Access, Config, values};
use crate::access::Rules;

/// What browsers hold the application's code to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where the list of it comes from.
    pub source: Source,
    /// What becomes of the strict policy for scripts (CSP) that pages are told.
    pub script_policy: Policy,
    /// What becomes of `Integrity-Policy`.
    pub integrity_policy: Policy,
    /// What becomes of Trusted Types.
    pub trusted_types: Policy,
}

impl Delivery {
    /// With this list. Browsers only report what is against its policies.
    pub fn of(source: Source) -> Self {
        Self {
            source,
            script_policy: Policy::default(),
            integrity_policy: Policy::default(),
            trusted_types: Policy::default(),
        }
    }
}

/// Where the list of an application's code comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file that `bulla-gateway sign` has written.
    Signed(PathBuf),
    /// The gateway looks for itself what the application serves below this path.
    Learnt(String),
}

/// What becomes of a policy that pages are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// They are told none.
    Off,
    /// Browsers only report what is against it.
    #[default]
    Report,
    /// Browsers keep to it.
    Enforce,
}

impl Policy {
    pub(super) const ALL: [Self; 3] = [Self::Off, Self::Report, Self::Enforce];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Report => "report",
            Self::Enforce => "enforce",
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>, folder: &Path) -> Option<Delivery> {
    let place = section.place("manifest");
    let (is_signed, is_learnt) = (section.has("manifest"), section.has("learn"));
    let manifest = section.text("manifest", values::file);
    let base = section.text("learn", values::base);
    let mut policy = |key| section.text(key, values::policy).unwrap_or_default();
    let (script_policy, integrity_policy, trusted_types) = (
        policy("script_policy"),
        policy("integrity_policy"),
        policy("trusted_types"),
    );
    section.end();
    if is_signed == is_learnt {
        place.problem(if is_signed {
            "is there, and so is learn: one of them says where the list comes from"
        } else {
            "is missing, and so is learn: one of them has to say where the list comes from"
        });
    }
    let signed = manifest.map(|file| Source::Signed(folder.join(file)));
    let source = signed.or_else(|| base.map(Source::Learnt))?;
    Some(Delivery {
        script_policy,
        integrity_policy,
        trusted_types,
        ..Delivery::of(source)
    })
}

/// Reports where nobody would get what is looked for.
pub(super) fn check_learnt(config: &Config, place: Option<&Place<'_, '_>>) {
    let Some(Source::Learnt(base)) = config.delivery.as_ref().map(|delivery| &delivery.source)
    else {
        return;
    };
    let is_public = Rules::new(config).is_ok_and(|rules| rules.at(base) == Access::Public);
    if let Some(place) = place.filter(|_| !is_public) {
        place.problem(format!(
            "{base:?} is not public: what comes under a seal nobody changes on its way, and what not everybody may see is \
             not listed where everybody sees it"
        ));
    }
}
