//! Where the application is: `upstreams`, `[upstream_tls]`, `[health]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Section;
use super::{Overrides, values};

/// How upstreams are known that are asked by TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The certificates of the authorities that vouch for them, in PEM: of these alone, not of the system's.
    pub ca: PathBuf,
}

/// How upstreams are looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Asked for by GET; any status below 500 is well. `None`: an upstream is well if it can be connected to, by TLS for `https`.
    pub path: Option<String>,
    /// How often.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
        }
    }
}

pub(super) fn upstreams(root: &mut Section<'_, '_>, over: &Overrides) -> Vec<http::Uri> {
    let place = root.place("upstreams");
    let is_empty = root.is_empty_list("upstreams");
    let in_file = root.texts("upstreams", values::upstream, |one, other| one == other);
    if !over.upstreams.is_empty() {
        return over.upstreams.clone();
    }
    if is_empty || in_file.is_none() {
        let what = if is_empty { "is empty" } else { "is missing" };
        place.problem(format!(
            "{what}; say where the application is, by upstreams = [\"http://127.0.0.1:8000\"] or by --upstream \
             http://127.0.0.1:8000"
        ));
    }
    in_file.unwrap_or_default()
}

pub(super) fn upstream_tls(mut section: Section<'_, '_>, folder: &Path) -> Option<UpstreamTls> {
    let ca = section.needed("ca", values::file);
    section.end();
    Some(UpstreamTls {
        ca: folder.join(ca?),
    })
}

pub(super) fn health(mut section: Section<'_, '_>) -> Health {
    let default = Health::default();
    let health = Health {
        path: section.text("path", values::target),
        interval: section
            .text("interval", values::some_time)
            .unwrap_or(default.interval),
        timeout: section
            .text("timeout", values::some_time)
            .unwrap_or(default.timeout),
    };
    section.end();
    health
}
