//! `bulla.toml`, key by key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bulla_server::ProofKind;

use super::reader::{Place, Problem, Reader, Section};
use super::{
    Access, Config, Decision, Delivery, FieldsRule, Health, Limits, Network, Operator, Overrides,
    PathRule, Runtime, ScriptRule, Source, Tls, TokenRule, UpstreamTls, values,
};
use crate::access::{RuleError, Rules, is_beginning};

/// Reads the text of a file, or of none.
///
/// # Errors
///
/// All that is wrong, in the order of lines.
pub(super) fn read(
    text: &str,
    file: Option<&Path>,
    over: &Overrides,
) -> Result<Config, Vec<Problem>> {
    let name = file.map(|file| file.display().to_string());
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let reader = Reader::new(name, text);
    let config = config(reader.root(), folder, over);
    let problems = reader.into_problems();
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(problems)
    }
}

/// What is wrong is reported, and has its default here.
fn config(mut root: Section<'_, '_>, folder: &Path, over: &Overrides) -> Config {
    let listen = root.text("listen", values::address);
    let listen = over.listen.or(listen).unwrap_or(super::LISTEN);
    let tls = root.section("tls").and_then(|section| tls(section, folder));
    let state = root.text("state", values::file);
    let state = state.unwrap_or_else(|| PathBuf::from(super::STATE));
    let (paths, places) = paths(&mut root);
    let (tokens, token_places) = tokens(&mut root);
    let mut learnt = None;
    let config = Config {
        listen,
        origins: origins(&mut root, over, listen, tls.is_some()),
        upstreams: upstreams(&mut root, over),
        upstream_tls: root
            .section("upstream_tls")
            .and_then(|section| upstream_tls(section, folder)),
        tls,
        state: over.state.clone().unwrap_or_else(|| folder.join(state)),
        access: root.text("access", values::access).unwrap_or_default(),
        mode: root.text("mode", values::mode).unwrap_or_default(),
        proof: root
            .text("proof", values::proof)
            .unwrap_or(ProofKind::Device),
        bound_cookies: root
            .texts("bound_cookies", values::cookie, |one, other| one == other)
            .unwrap_or_else(super::usual_cookies),
        unbound_cookies: root
            .texts("unbound_cookies", values::cookie, |one, other| one == other)
            .unwrap_or_default(),
        paths,
        tokens,
        unbound_tokens: root
            .text("unbound_tokens", values::unbound)
            .unwrap_or_default(),
        health: root.section("health").map(health).unwrap_or_default(),
        limits: root.section("limits").map(limits).unwrap_or_default(),
        network: root.section("network").map(network).unwrap_or_default(),
        operator: root
            .section("operator")
            .and_then(|section| operator(section, folder, listen)),
        delivery: root.section("delivery").and_then(|section| {
            learnt = Some(section.place("learn"));
            delivery(section, folder)
        }),
        runtime: root.section("runtime").map(runtime).unwrap_or_default(),
        scripts: scripts(&mut root),
        fields: fields(&mut root),
        decision: root
            .section("decision")
            .and_then(|section| decision(section, listen)),
    };
    root.end();
    check_rules(&config, &places);
    check_tokens(&config, &token_places);
    check_learnt(&config, learnt.as_ref());
    config
}

fn origins(
    root: &mut Section<'_, '_>,
    over: &Overrides,
    listen: SocketAddr,
    has_tls: bool,
) -> Vec<String> {
    let place = root.place("origins");
    let is_empty = root.is_empty_list("origins");
    // A request says which authority it is for, and not by which scheme.
    let are_same = |one: &String, other: &String| authority(one) == authority(other);
    let in_file = root.texts("origins", values::origin, are_same);
    if !over.origins.is_empty() {
        return over.origins.clone();
    }
    if is_empty {
        place.problem("is empty; name one, such as https://bank.example");
    }
    in_file.unwrap_or_else(|| {
        if listen.port() == 0 {
            place.problem(
                "is missing: nobody knows the port yet, as listen leaves it to the system",
            );
        }
        vec![super::own_origin(listen.port(), has_tls)]
    })
}

fn authority(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

fn upstreams(root: &mut Section<'_, '_>, over: &Overrides) -> Vec<http::Uri> {
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

fn tls(mut section: Section<'_, '_>, folder: &Path) -> Option<Tls> {
    let certificate = section.needed("certificate", values::file);
    let key = section.needed("key", values::file);
    section.end();
    Some(Tls {
        certificate: folder.join(certificate?),
        key: folder.join(key?),
    })
}

fn upstream_tls(mut section: Section<'_, '_>, folder: &Path) -> Option<UpstreamTls> {
    let ca = section.needed("ca", values::file);
    section.end();
    Some(UpstreamTls {
        ca: folder.join(ca?),
    })
}

/// The rules, and where the prefix of each is.
fn paths<'r, 't>(root: &mut Section<'r, 't>) -> (Vec<PathRule>, Vec<Place<'r, 't>>) {
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
fn check_rules(config: &Config, places: &[Place<'_, '_>]) {
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
fn tokens<'r, 't>(root: &mut Section<'r, 't>) -> (Vec<TokenRule>, Vec<Place<'r, 't>>) {
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
fn check_tokens(config: &Config, places: &[Place<'_, '_>]) {
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

fn health(mut section: Section<'_, '_>) -> Health {
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

fn limits(mut section: Section<'_, '_>) -> Limits {
    let default = Limits::default();
    let mut time = |key, default| section.text(key, values::some_time).unwrap_or(default);
    let limits = Limits {
        connect: time("connect", default.connect),
        answer: time("answer", default.answer),
        quiet: time("quiet", default.quiet),
        head: time("head", default.head),
        idle: time("idle", default.idle),
        body: section.text("body", values::size).unwrap_or(default.body),
        shutdown: section
            .text("shutdown", values::any_time)
            .unwrap_or(default.shutdown),
    };
    section.end();
    limits
}

fn network(mut section: Section<'_, '_>) -> Network {
    let network = Network {
        client_address: section.text("client_address", values::field),
    };
    section.end();
    network
}

fn operator(mut section: Section<'_, '_>, folder: &Path, public: SocketAddr) -> Option<Operator> {
    let listen = private(&mut section, public);
    let token_file = section.text("token_file", values::file);
    section.end();
    Some(Operator {
        listen: listen?,
        token_file: token_file.map(|file| folder.join(file)),
    })
}

fn decision(mut section: Section<'_, '_>, public: SocketAddr) -> Option<Decision> {
    let listen = private(&mut section, public);
    let content = section.text("content", values::content);
    section.end();
    Some(Decision {
        listen: listen?,
        content: content.unwrap_or_default(),
    })
}

/// Where else it listens than for everybody.
fn private(section: &mut Section<'_, '_>, public: SocketAddr) -> Option<SocketAddr> {
    let place = section.place("listen");
    let listen = section.needed("listen", values::address);
    if listen == Some(public) && public.port() != 0 {
        place.problem(format!(
            "{public} is where everybody comes; take another port"
        ));
    }
    listen
}

fn delivery(mut section: Section<'_, '_>, folder: &Path) -> Option<Delivery> {
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
fn check_learnt(config: &Config, place: Option<&Place<'_, '_>>) {
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

fn runtime(mut section: Section<'_, '_>) -> Runtime {
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

fn scripts(root: &mut Section<'_, '_>) -> Vec<ScriptRule> {
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

fn fields(root: &mut Section<'_, '_>) -> Vec<FieldsRule> {
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
