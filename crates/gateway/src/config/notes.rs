//! What an operator may not have meant.

use super::{Access, Config, Content, Decision, Mode, Reaction, values};

pub(super) fn all(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for origin in &config.origins {
        notes.extend(of_origin(config, origin));
    }
    let is_own = |origin: &String| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(values::is_this_machine)
    };
    if !config.listen.ip().is_loopback() && config.origins.iter().all(is_own) {
        notes.push(format!(
            "it listens at {} and answers to nothing but {}: name the origins under which others come",
            config.listen,
            config.origins.join(", ")
        ));
    }
    let by_tls = |upstream: &http::Uri| upstream.scheme_str() == Some("https");
    if config.upstream_tls.is_some() && !config.upstreams.iter().any(by_tls) {
        notes.push("there is [upstream_tls], and no upstream by https".to_owned());
    }
    let is_public = |origin: &String| origin.starts_with("https://") && !is_own(origin);
    if config.tls.is_none()
        && config.network.client_address.is_none()
        && config.decision.is_none()
        && config.origins.iter().any(is_public)
    {
        notes.push(
            "network.client_address is not there, so all who come by what ends TLS have its address, and share its limits"
                .to_owned(),
        );
    }
    if config.mode == Mode::Monitor {
        notes.push(
            "mode is monitor: refusals are only reported, and nothing is protected".to_owned(),
        );
    }
    let runtime = &config.runtime;
    let reactions = [
        runtime.script,
        runtime.patched,
        runtime.integrity,
        runtime.transit,
        runtime.policy,
    ];
    if !runtime.watch
        && (!config.fields.is_empty() || reactions.iter().any(|it| *it != Reaction::Record))
    {
        notes.push(
            "runtime.watch is off, so [[fields]] and the consequences under [runtime] do nothing"
                .to_owned(),
        );
    }
    if let Some(operator) = &config.operator
        && !operator.listen.ip().is_loopback()
    {
        notes.push(format!(
            "the operator's address {} is open to other machines, and has no TLS: his token can be read on the way",
            operator.listen
        ));
    }
    if let Some(decision) = &config.decision {
        of_decision(config, decision, &mut notes);
    }
    notes
}

fn of_decision(config: &Config, decision: &Decision, notes: &mut Vec<String>) {
    if !decision.listen.ip().is_loopback() {
        notes.push(format!(
            "the decision's address {} is open to other machines: only the proxy may reach it",
            decision.listen
        ));
    }
    if config.network.client_address.is_none() {
        notes.push(
            "network.client_address is not there, so all who come by the proxy that asks have its address"
                .to_owned(),
        );
    }
    if config.access > Access::Signed {
        notes.push(format!(
            "access is {}, and a proxy that asks has signed requests only: they are refused",
            config.access.name()
        ));
    }
    if decision.content == Content::Unchecked {
        notes.push(
            "decision.content is unchecked: something behind the proxy has to compare it with Content-Digest"
                .to_owned(),
        );
    }
}

fn of_origin(config: &Config, origin: &str) -> Option<String> {
    let (scheme, authority) = origin.split_once("://")?;
    let note = match (scheme, &config.tls) {
        ("https", None) => {
            format!("there is no [tls]: something before the gateway has to end TLS for {origin}")
        }
        ("http", Some(_)) => {
            format!("there is [tls], so nobody reaches {origin}: only https has TLS")
        }
        ("http", None) if !values::is_this_machine(authority) => format!(
            "browsers have neither keys nor service workers at {origin}: that takes https, or localhost"
        ),
        _ => return None,
    };
    Some(note)
}
