use proptest::prelude::*;

use super::*;

const URL: &str = "https://bank.example/.well-known/bulla/gateway/1/loader.js";
const SW: &str = "https://bank.example/.well-known/bulla/gateway/sw.js";
const HASH: &str = "'sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC'";

fn needs() -> Needs {
    Needs::of(&Loader {
        script: "/.well-known/bulla/gateway/1/loader.js".to_owned(),
        integrity: HASH.trim_matches('\'').to_owned(),
        worker: "/.well-known/bulla/gateway/sw.js".to_owned(),
        origin: "https://bank.example".to_owned(),
        watch: false,
    })
}

fn merge(policy: &str) -> Option<String> {
    merged(policy.as_bytes(), &needs()).map(|merged| String::from_utf8(merged).unwrap())
}

/// A policy, and what it becomes, in which `URL`, `SW` and `HASH` stand for what they are. `=`: it stays.
const TABLE: &[(&str, &str)] = &[
    // Nothing that is about scripts or workers.
    ("", "="),
    (" ;;\t; ", "="),
    ("img-src 'none'; frame-ancestors 'self'", "="),
    ("upgrade-insecure-requests", "="),
    ("connect-src 'none'", "="),
    // The origin itself.
    ("default-src 'self'", "="),
    ("DEFAULT-SRC 'SELF'", "="),
    ("default-src https:", "="),
    ("script-src * 'unsafe-inline'", "="),
    ("default-src https://bank.example", "="),
    ("script-src 'self' 'nonce-abc'", "="),
    // None.
    (
        "default-src 'none'",
        "script-src URL; worker-src SW; default-src 'none'",
    ),
    ("script-src 'none'", "worker-src SW; script-src URL"),
    ("script-src", "worker-src SW; script-src URL"),
    ("script-src;", "worker-src SW; script-src URL;"),
    // 'none' beside others is nothing.
    (
        "script-src 'none' https://cdn.example",
        "worker-src SW https://cdn.example; script-src URL 'none' https://cdn.example",
    ),
    // Addresses, and what a hash would switch off.
    (
        "script-src https://cdn.example 'unsafe-inline'",
        "worker-src SW https://cdn.example 'unsafe-inline'; script-src URL https://cdn.example 'unsafe-inline'",
    ),
    (
        "default-src 'unsafe-inline' data:",
        "script-src URL 'unsafe-inline' data:; worker-src SW 'unsafe-inline' data:; default-src 'unsafe-inline' data:",
    ),
    (
        "script-src http:",
        "worker-src SW http:; script-src URL http:",
    ),
    // Nonces and hashes.
    (
        "script-src 'nonce-abc'",
        "worker-src SW 'nonce-abc'; script-src HASH 'nonce-abc'",
    ),
    (
        "script-src 'sha256-abc='; worker-src 'self'",
        "script-src HASH 'sha256-abc='; worker-src 'self'",
    ),
    (
        "script-src 'NONCE-abc' 'unsafe-inline'; worker-src 'self'",
        "script-src HASH 'NONCE-abc' 'unsafe-inline'; worker-src 'self'",
    ),
    (
        "default-src 'none'; script-src 'Sha512-abc'; child-src 'self'",
        "default-src 'none'; script-src HASH 'Sha512-abc'; child-src 'self'",
    ),
    // 'strict-dynamic'.
    (
        "script-src 'nonce-abc' 'strict-dynamic'",
        "script-src HASH 'nonce-abc' 'strict-dynamic'",
    ),
    (
        "script-src 'self' 'Strict-Dynamic' https: 'unsafe-inline' 'nonce-abc'",
        "script-src HASH 'self' 'Strict-Dynamic' https: 'unsafe-inline' 'nonce-abc'",
    ),
    (
        "default-src 'self' 'nonce-abc' 'strict-dynamic'",
        "script-src HASH 'self' 'nonce-abc' 'strict-dynamic'; default-src 'self' 'nonce-abc' 'strict-dynamic'",
    ),
    (
        "child-src 'none'; default-src 'nonce-abc' 'strict-dynamic'",
        "script-src HASH 'nonce-abc' 'strict-dynamic'; worker-src SW; \
         child-src 'none'; default-src 'nonce-abc' 'strict-dynamic'",
    ),
    // The directive for elements comes before that for scripts, which stays that for workers.
    (
        "script-src 'self'; script-src-elem https://cdn.example",
        "script-src 'self'; script-src-elem URL https://cdn.example",
    ),
    (
        "script-src-elem 'self'; script-src 'none'",
        "worker-src SW; script-src-elem 'self'; script-src 'none'",
    ),
    // Workers.
    (
        "script-src 'self'; worker-src 'none'",
        "script-src 'self'; worker-src SW",
    ),
    (
        "script-src 'self'; worker-src blob:",
        "script-src 'self'; worker-src SW blob:",
    ),
    ("worker-src", "worker-src SW"),
    ("worker-src 'self'; child-src 'none'", "="),
    (
        "child-src https://frames.example; script-src 'self'",
        "worker-src SW https://frames.example; child-src https://frames.example; script-src 'self'",
    ),
    // Trusted Types.
    ("require-trusted-types-for 'script'", "="),
    ("require-trusted-types-for 'script'; trusted-types *", "="),
    ("trusted-types bulla-gateway other", "="),
    (
        "require-trusted-types-for 'script'; trusted-types one two",
        "require-trusted-types-for 'script'; trusted-types bulla-gateway one two",
    ),
    (
        "trusted-types Bulla-Gateway",
        "trusted-types bulla-gateway Bulla-Gateway",
    ),
    ("trusted-types 'none'", "trusted-types bulla-gateway"),
    ("trusted-types", "trusted-types bulla-gateway"),
    (
        "trusted-types 'allow-duplicates'; script-src 'self'",
        "trusted-types bulla-gateway 'allow-duplicates'; script-src 'self'",
    ),
    // The first of a name counts.
    (
        "script-src 'self'; script-src 'none'; worker-src 'self'; worker-src 'none'",
        "=",
    ),
    (
        "worker-src 'self'; script-src 'none'; SCRIPT-SRC 'self'",
        "worker-src 'self'; script-src URL; SCRIPT-SRC 'self'",
    ),
    // Odd white space, and what nobody knows, stay.
    (
        " ;\t script-src \t'none' ;\u{c} unknown  x ;worker-src 'self'",
        " ;\t script-src \tURL ;\u{c} unknown  x ;worker-src 'self'",
    ),
    (
        "script-src 'none'; report-uri /r\u{e9}sum\u{e9}; worker-src 'self'",
        "script-src URL; report-uri /r\u{e9}sum\u{e9}; worker-src 'self'",
    ),
    // A directive with other characters counts for nothing.
    (
        "script-src \u{e9}; default-src 'self'; worker-src 'self'",
        "=",
    ),
    // Several policies.
    ("default-src 'self', img-src *", "="),
    (
        "worker-src 'self'; script-src 'none',default-src 'self' , trusted-types a",
        "worker-src 'self'; script-src URL,default-src 'self' , trusted-types bulla-gateway a",
    ),
    (
        "img-src *, default-src 'none'",
        "img-src *,script-src URL; worker-src SW;  default-src 'none'",
    ),
];

#[test]
fn policies_let_the_loader_and_the_worker_through() {
    for (policy, expected) in TABLE {
        let expected = (*expected != "=").then(|| {
            let expected = expected.replace("URL", URL);
            expected.replace("SW", SW).replace("HASH", HASH)
        });
        assert_eq!(merge(policy), expected, "{policy:?}");
    }
}

#[test]
fn what_has_been_added_to_needs_no_more() {
    for (policy, _) in TABLE {
        if let Some(merged) = merge(policy) {
            assert_eq!(merge(&merged), None, "{policy:?}");
        }
    }
}

#[test]
fn bytes_of_no_known_encoding_stay() {
    let merged = merged(
        b"script-src 'none'; x \xff\xfe; worker-src 'self'",
        &needs(),
    )
    .unwrap();
    let expected = [
        b"script-src ",
        URL.as_bytes(),
        b"; x \xff\xfe; worker-src 'self'",
    ]
    .concat();
    assert_eq!(merged, expected);
}

#[test]
fn a_plain_origin_is_no_other_scheme() {
    let mut needs = needs();
    needs.origin = "http://localhost:8080".to_owned();
    assert!(merged(b"script-src https:", &needs).is_some());
    assert!(merged(b"script-src http:", &needs).is_none());
}

#[test]
fn a_sandbox_counts_unless_it_leaves_scripts_and_the_origin() {
    for (field, expected) in [
        ("sandbox", true),
        ("SANDBOX allow-scripts", true),
        ("img-src *, sandbox allow-same-origin", true),
        ("sandbox allow-scripts Allow-Same-Origin", false),
        ("script-src 'none'", false),
        ("sandbox allow-scripts allow-same-origin; sandbox", false),
    ] {
        assert_eq!(is_sandboxed(field.as_bytes()), expected, "{field}");
    }
}

/// Lists of directives, as they are read.
type Read = Vec<(String, Vec<String>)>;

fn read(policy: &[u8]) -> Read {
    let read = |directive: &Directive<'_>| {
        let tokens = directive.tokens.iter().map(|&(_, token)| token.to_owned());
        (directive.name.to_ascii_lowercase(), tokens.collect())
    };
    directives(policy).iter().map(read).collect()
}

fn policy() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "default-src",
        "script-src",
        "Script-Src-Elem",
        "worker-src",
        "child-src",
        "trusted-types",
        "require-trusted-types-for",
        "img-src",
        "unknown",
    ]);
    let token = prop::sample::select(vec![
        "'none'",
        "'self'",
        "'unsafe-inline'",
        "'nonce-abc'",
        "'sha256-abc='",
        "'strict-dynamic'",
        "https:",
        "https://cdn.example/a.js",
        "*",
        "blob:",
        "bulla-gateway",
        "\u{e9}",
    ]);
    let space = prop::sample::select(vec![" ", "  ", "\t", "\n", "\u{c}"]);
    let value = prop::collection::vec((space.clone(), token), 0..4);
    let directive = (prop_oneof![Just(""), space], name, value).prop_map(|(space, name, value)| {
        let value: String = value.into_iter().flat_map(|(a, b)| [a, b]).collect();
        format!("{space}{name}{value}")
    });
    prop::collection::vec(directive, 0..6).prop_map(|all| all.join(";"))
}

proptest! {
    #[test]
    fn what_stood_in_a_policy_stands_in_it_still(policy in policy()) {
        let needs = needs();
        let Some(merged) = merged(policy.as_bytes(), &needs) else { return Ok(()) };
        let (before, after) = (read(policy.as_bytes()), read(&merged));
        let ours = [&needs.script, &needs.hash, &needs.worker, TRUSTED];
        for (name, tokens) in &before {
            let now = &after.iter().find(|(other, _)| other == name).unwrap().1;
            for token in tokens.iter().filter(|token| *token != NONE) {
                prop_assert!(now.contains(token), "{name} {token}: {after:?}");
            }
            // And nothing more does but ours.
            for token in now {
                prop_assert!(tokens.contains(token) || ours.contains(&token.as_str()), "{name} {token}");
            }
            // What allows inline scripts is not switched off.
            let strict = |tokens: &[String]| tokens.iter().any(|token| is_nonce_or_hash(token));
            prop_assert!(strict(tokens) || !strict(now) || tokens.iter().any(|token| token == "'strict-dynamic'"));
        }
        // What is new has what it would have fallen back to.
        for (name, tokens) in &after {
            if before.iter().any(|(other, _)| other == name) { continue }
            let fallbacks: &[&str] = match name.as_str() {
                "script-src" => &["default-src"],
                "worker-src" => &["child-src", "script-src", "default-src"],
                _ => &[],
            };
            let fallback = fallbacks.iter().find_map(|name| before.iter().find(|(other, _)| other == name));
            let fallback = &fallback.unwrap().1;
            let mut rest: Vec<_> = tokens.iter().filter(|token| !ours[..3].contains(&token.as_str())).collect();
            rest.retain(|token| *token != NONE);
            let copied: Vec<_> = fallback.iter().filter(|token| *token != NONE).collect();
            prop_assert_eq!(rest, copied);
        }
        // All bytes that were there are there, in their order, but for 'none'.
        let mut at = 0;
        let without = policy.replace(NONE, "");
        for byte in without.bytes() {
            let found = merged[at..].iter().position(|other| *other == byte);
            prop_assert!(found.is_some());
            at += found.unwrap() + 1;
        }
    }

    #[test]
    fn any_bytes_are_a_policy(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(merged) = merged(&bytes, &needs()) {
            prop_assert!(merged.len() > bytes.len());
        }
    }
}
