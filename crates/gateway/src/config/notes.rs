//! What an operator may not have meant.

use super::{Config, Mode, values};

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
    if config.mode == Mode::Monitor {
        notes.push(
            "mode is monitor: refusals are only reported, and nothing is protected".to_owned(),
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
    notes
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
