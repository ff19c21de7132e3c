//! Events in `tracing`: refusals under one target, everything else under another.

use super::{EventKind, SecurityEvent};
use crate::rules::Rule;

/// Something was refused, or would have been: of interest to whoever keeps watch.
fn is_refusal(kind: &EventKind) -> bool {
    use EventKind as Kind;
    kind.error().is_some()
        || matches!(
            kind,
            Kind::ForeignTicket
                | Kind::CookieUnproven
                | Kind::CookieDropped
                | Kind::Rule(_)
                | Kind::Noticed(_)
        )
}

pub(super) fn is_on(kind: &EventKind) -> bool {
    if is_refusal(kind) {
        tracing::enabled!(target: "bulla::refused", tracing::Level::WARN)
    } else {
        tracing::enabled!(target: "bulla::session", tracing::Level::INFO)
    }
}

pub(super) fn write(event: &SecurityEvent) {
    let error = event.kind.error();
    if is_refusal(&event.kind) {
        tracing::warn!(
            target: "bulla::refused",
            kind = event.kind.name(),
            code = error.map(|error| error.code.as_str()),
            rule = event.kind.rule().map(Rule::name),
            noticed = event.kind.noticed(),
            detail = error.map(|error| error.detail),
            session = event.session.map(tracing::field::display),
            device = event.device.map(tracing::field::display),
            subject = event.subject.map(tracing::field::display),
            network = event.network.map(tracing::field::display),
            path = event.path.as_deref(),
        );
    } else {
        tracing::info!(
            target: "bulla::session",
            kind = event.kind.name(),
            session = event.session.map(tracing::field::display),
            device = event.device.map(tracing::field::display),
            subject = event.subject.map(tracing::field::display),
            network = event.network.map(tracing::field::display),
        );
    }
}
