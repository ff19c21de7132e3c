//! `bulla.toml`: what is right, what is wrong, and what the docs say of it.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulla_gateway::config::{
    Access, Config, Content, Delivery, Health, Limits, Mode, Network, Overrides, Policy, Reaction,
    Runtime, ScriptRule, Source, Unbound,
};
use bulla_server::ProofKind;

/// Reads a text as the file `bulla.toml` of a folder.
fn load(folder: &Path, text: &str, over: &Overrides) -> Result<Config, String> {
    let file = folder.join("bulla.toml");
    fs::write(&file, text).unwrap();
    let shown = format!("{}/", folder.display());
    Config::load(Some(&file), over).map_err(|error| error.to_string().replace(&shown, ""))
}

/// What is said of a text that does not have to say where the application is, by lines.
fn wrong(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let over = Overrides {
        upstreams: vec!["http://127.0.0.1:8000".parse().unwrap()],
        ..Overrides::default()
    };
    match load(folder.path(), text, &over) {
        Ok(_) => Vec::new(),
        Err(said) => said.lines().map(str::to_owned).collect(),
    }
}

#[test]
fn an_upstream_is_all_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = "http://127.0.0.1:8000";
    let text = format!("upstreams = [\"{upstream}\"]");
    let read = load(folder.path(), &text, &Overrides::default()).unwrap();
    let mut default = Config::for_upstream(upstream.parse().unwrap());
    default.state = folder.path().join("bulla");
    assert_eq!(read, default);

    let over = Overrides {
        upstreams: vec![upstream.parse().unwrap()],
        ..Overrides::default()
    };
    default.state = PathBuf::from("bulla");
    assert_eq!(Config::load(None, &over).unwrap(), default);
}

#[test]
#[allow(clippy::too_many_lines)] // it is a table
fn what_is_wrong_has_a_line_and_a_key_and_what_would_be_right() {
    let origin = "is no origin such as https://bank.example: scheme, host and port, with no path and no slash at the end";
    let upstream =
        "is no upstream such as http://127.0.0.1:8000: http or https, host and port, with no path";
    let beginning = "is no beginning of a path: it starts with a slash, and has no query, no dot segments and no encoded slashes";
    let cases: &[(&str, &str)] = &[
        (
            "listen = ",
            "bulla.toml:1: is no TOML: string values must be quoted, expected literal string",
        ),
        (
            "listen = \"a\"\nlisten = \"b\"",
            "bulla.toml:2: is no TOML: duplicate key",
        ),
        (
            "listen = \"8080\"",
            "bulla.toml:1: listen: \"8080\" is no address with a port, such as 127.0.0.1:8080 or [::]:443",
        ),
        (
            "listen = 8080",
            "bulla.toml:1: listen: \"8080\" is no address with a port, such as 127.0.0.1:8080 or [::]:443",
        ),
        (
            "listen = true",
            "bulla.toml:1: listen: is true or false; write it in quotes",
        ),
        (
            "listen = [\"127.0.0.1:80\"]",
            "bulla.toml:1: listen: is a list, not text in quotes",
        ),
        (
            "listen = \"127.0.0.1:0\"",
            "bulla.toml: origins: is missing: nobody knows the port yet, as listen leaves it to the system",
        ),
        (
            "state = \"\"",
            "bulla.toml:1: state: \"\" is no path of a file",
        ),
        (
            "state = 5",
            "bulla.toml:1: state: is a number; write it in quotes",
        ),
        (
            "\n\naccess = \"selaed\"",
            "bulla.toml:3: access: \"selaed\" is not one of public, signed, sealed, concealed",
        ),
        (
            "mode = \"Monitor\"",
            "bulla.toml:1: mode: \"Monitor\" is not one of enforce, monitor",
        ),
        (
            "proof = \"both\"",
            "bulla.toml:1: proof: \"both\" is not one of device, session",
        ),
        (
            "origins = \"https://a\"",
            "bulla.toml:1: origins: is no list in brackets",
        ),
        (
            "origins = []",
            "bulla.toml:1: origins: is empty; name one, such as https://bank.example",
        ),
        (
            "origins = [\n  \"https://a\",\n  \"https://A:443\",\n]",
            "bulla.toml:3: origins[1]: is there twice",
        ),
        (
            "bound_cookies = [\"a\", \"a b\"]",
            "bulla.toml:1: bound_cookies[1]: \"a b\" is no name of a cookie, such as sessionid",
        ),
        (
            "bound_cookies = [\"a\", \"a\"]",
            "bulla.toml:1: bound_cookies[1]: is there twice",
        ),
        (
            "acess = \"sealed\"",
            "bulla.toml:1: acess: is no key here; there are listen, tls, state, paths, tokens, origins, upstreams, \
             upstream_tls, access, mode, proof, bound_cookies, unbound_cookies, unbound_tokens, health, limits, network, operator, \
             delivery, runtime, scripts, fields, decision",
        ),
        (
            "tls = \"a.pem\"",
            "bulla.toml:1: tls: is text, not a table of keys",
        ),
        (
            "\n[tls]\nkey = \"k\"",
            "bulla.toml:2: tls.certificate: is missing",
        ),
        (
            "[tls]\ncertificate = \"c\"",
            "bulla.toml:1: tls.key: is missing",
        ),
        (
            "[tls]\ncertificate = \"c\"\nkey = \"k\"\nca = \"a\"",
            "bulla.toml:4: tls.ca: is no key here; there are certificate, key",
        ),
        (
            "[upstream_tls]",
            "bulla.toml:1: upstream_tls.ca: is missing",
        ),
        (
            "[paths]\nprefix = \"/\"",
            "bulla.toml:1: paths: is no list in brackets",
        ),
        (
            "\n[[paths]]\naccess = \"public\"",
            "bulla.toml:2: paths[0].prefix: is missing",
        ),
        (
            "[[paths]]\nprefix = \"/a/\"\naccess = \"public\"\n\n[[paths]]\nprefix = \"/a/\"\naccess = \"signed\"",
            "bulla.toml:6: paths[1].prefix: \"/a/\" has a rule in line 2 already",
        ),
        (
            "[[paths]]\nprefix = \"/.well-known/bulla/x\"\naccess = \"public\"",
            "bulla.toml:2: paths[0].prefix: \"/.well-known/bulla/x\" is the protocol's own, and takes no rule",
        ),
        (
            "[[paths]]\nprefix = \"/a/b/\"\naccess = \"sealed\"\n[[paths]]\nprefix = \"/a/\"\naccess = \"public\"",
            "bulla.toml:2: paths[0].prefix: \"/a/b/\" is protected and lies below \"/a/\", which is public: let the \
             default be public, or name what is public more narrowly",
        ),
        (
            "[runtime]\nscript = \"stop\"",
            "bulla.toml:2: runtime.script: \"stop\" is not one of record, step-up, end",
        ),
        (
            "[[scripts]]\njustification = \"x\"",
            "bulla.toml:1: scripts[0].url: is missing, and so is hash: one of them has to say which script it is",
        ),
        (
            "[[fields]]\npage = \"pay\"\nhash = \"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"\njustification = \"x\"",
            "bulla.toml:2: fields[0].page: \"pay\" is no path such as /pay/, without a query",
        ),
        (
            "[[fields]]\npage = \"/pay\"\njustification = \"x\"",
            "bulla.toml:1: fields[0].hash: is missing",
        ),
        (
            "[[scripts]]\nurl = \"/a.js\"",
            "bulla.toml:1: scripts[0].justification: is missing",
        ),
        (
            "[[scripts]]\nurl = \"/a.js\"\njustification = \" \"",
            "bulla.toml:3: scripts[0].justification: \" \" says nothing in one line",
        ),
        (
            "[[scripts]]\nhash = \"sha256-abc\"\njustification = \"x\"",
            "bulla.toml:2: scripts[0].hash: \"sha256-abc\" is no hash such as sha256-… as in an integrity attribute",
        ),
        (
            "[[tokens]]\npath = \"/login\"",
            "bulla.toml:1: tokens[0].member: is missing",
        ),
        (
            "[[tokens]]\nmember = \"token\"",
            "bulla.toml:1: tokens[0].path: is missing",
        ),
        (
            "[[tokens]]\npath = \"/login\"\nmember = \"/a~\"",
            "bulla.toml:3: tokens[0].member: \"/a~\" is no member, such as token, nor a JSON Pointer such as /data/token",
        ),
        (
            "[[tokens]]\npath = \"login\"\nmember = \"token\"",
            &format!("bulla.toml:2: tokens[0].path: \"login\" {beginning}"),
        ),
        (
            "[[tokens]]\npath = \"/a\"\nmember = \"t\"\n[[tokens]]\npath = \"/a\"\nmember = \"/t\"",
            "bulla.toml:5: tokens[1].path: this token has a rule in line 2 already",
        ),
        (
            "access = \"public\"\n[[tokens]]\npath = \"/login\"\nmember = \"token\"",
            "bulla.toml:3: tokens[0].path: \"/login\" is public: a token that is handed out there is bound to nobody",
        ),
        (
            "unbound_tokens = \"let\"",
            "bulla.toml:1: unbound_tokens: \"let\" is not one of refuse, pass",
        ),
        (
            "[health]\npath = \"health\"",
            "bulla.toml:2: health.path: \"health\" is no path such as /health",
        ),
        (
            "[health]\ninterval = \"0s\"",
            "bulla.toml:2: health.interval: \"0s\" is no time at all; 1ms to 24h",
        ),
        (
            "[health]\ntimeout = \"2d\"",
            "bulla.toml:2: health.timeout: \"2d\" is no time such as 250ms, 5s, 2m or 1h",
        ),
        (
            "[limits]\nhead = 5",
            "bulla.toml:2: limits.head: \"5\" is no time such as 250ms, 5s, 2m or 1h",
        ),
        (
            "[limits]\nanswer = \"25h\"",
            "bulla.toml:2: limits.answer: \"25h\" is too long; 1ms to 24h",
        ),
        (
            "[limits]\nshutdown = \"25h\"",
            "bulla.toml:2: limits.shutdown: \"25h\" is too long; 0s to 24h",
        ),
        (
            "[limits]\nbody = \"10MB\"",
            "bulla.toml:2: limits.body: \"10MB\" is no size such as 512KiB or 10MiB",
        ),
        (
            "[limits]\nbody = \"2GiB\"",
            "bulla.toml:2: limits.body: \"2GiB\" is too much; 1B to 1GiB",
        ),
        (
            "[limits]\nbody = \"0B\"",
            "bulla.toml:2: limits.body: \"0B\" is nothing at all; 1B to 1GiB",
        ),
        (
            "[limits]\nbodies = \"1B\"",
            "bulla.toml:2: limits.bodies: is no key here; there are connect, answer, quiet, head, idle, body, shutdown",
        ),
        (
            "[network]\nclient_address = \"x real ip\"",
            "bulla.toml:2: network.client_address: \"x real ip\" is no name of a header field, such as x-real-ip",
        ),
        (
            "[network]\nclient_address = \"Forwarded\"",
            "bulla.toml:2: network.client_address: \"Forwarded\" has more in it than an address (RFC 7239); name a field \
             of your own, such as x-real-ip",
        ),
        ("[operator]", "bulla.toml:1: operator.listen: is missing"),
        ("[decision]", "bulla.toml:1: decision.listen: is missing"),
        (
            "[decision]\nlisten = \"127.0.0.1:8080\"",
            "bulla.toml:2: decision.listen: 127.0.0.1:8080 is where everybody comes; take another port",
        ),
        (
            "[decision]\nlisten = \"127.0.0.1:1\"\ncontent = \"refused\"",
            "bulla.toml:3: decision.content: \"refused\" is not one of compared, unchecked",
        ),
        (
            "[operator]\nlisten = \"127.0.0.1:8080\"",
            "bulla.toml:2: operator.listen: 127.0.0.1:8080 is where everybody comes; take another port",
        ),
        (
            "[delivery]",
            "bulla.toml:1: delivery.manifest: is missing, and so is learn: one of them has to say where the list comes from",
        ),
        (
            "[delivery]\nmanifest = \"m\"\nlearn = \"/\"",
            "bulla.toml:2: delivery.manifest: is there, and so is learn: one of them says where the list comes from",
        ),
        (
            "[delivery]\nlearn = \"/static\"",
            "bulla.toml:2: delivery.learn: \"/static\" is no path of a folder, such as /static/",
        ),
        (
            "[delivery]\nlearn = \"/static/\"",
            "bulla.toml:2: delivery.learn: \"/static/\" is not public: what comes under a seal nobody changes on its way, \
             and what not everybody may see is not listed where everybody sees it",
        ),
        (
            "[delivery]\nmanifest = \"m\"\nscript_policy = \"strict\"",
            "bulla.toml:3: delivery.script_policy: \"strict\" is not one of off, report, enforce",
        ),
    ];
    for (text, said) in cases {
        assert_eq!(wrong(text), [*said], "{text}");
    }
    for bad in [
        "bank.example",
        "https://a/",
        "https://u@a",
        "ftp://a",
        "https://a:99999",
    ] {
        let said = format!("bulla.toml:1: origins[1]: \"{bad}\" {origin}");
        let text = format!("origins = [\"https://bank.example\", \"{bad}\"]");
        assert_eq!(wrong(&text), [said]);
    }
    for bad in [
        "127.0.0.1:8000",
        "http://a/b",
        "unix:/run/app.sock",
        "http://a:0",
    ] {
        let said = format!("bulla.toml:2: upstreams[1]: \"{bad}\" {upstream}");
        let text = format!("upstreams = [\"http://127.0.0.1:8000\",\n\"{bad}\"]");
        assert_eq!(wrong(&text), [said]);
    }
    for bad in ["", "static/", "/a?b", "/a/../b", "/a%2fb"] {
        let said = format!("bulla.toml:2: paths[0].prefix: \"{bad}\" {beginning}");
        let text = format!("[[paths]]\nprefix = \"{bad}\"\naccess = \"public\"");
        assert_eq!(wrong(&text), [said]);
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once_in_the_order_of_lines() {
    let text = "\
        mode = \"on\"\n\
        access = \"open\"\n\
        [[paths]]\n\
        prefix = \"a\"\n\
        access = \"no\"\n\
        [limits]\n\
        body = \"much\"\n";
    let lines: Vec<_> = wrong(text)
        .iter()
        .map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": "))
        .collect();
    let expected = [
        "bulla.toml:1: mode",
        "bulla.toml:2: access",
        "bulla.toml:5: paths[0].access",
        "bulla.toml:7: limits.body",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn an_application_has_to_be_somewhere() {
    let folder = tempfile::tempdir().unwrap();
    let what = "say where the application is, by upstreams = [\"http://127.0.0.1:8000\"] or by --upstream \
        http://127.0.0.1:8000";
    for (text, place) in [
        ("", "bulla.toml: upstreams: is missing"),
        ("[limits]", "bulla.toml: upstreams: is missing"),
        (
            "mode = \"monitor\"\nupstreams = []",
            "bulla.toml:2: upstreams: is empty",
        ),
    ] {
        let said = load(folder.path(), text, &Overrides::default()).unwrap_err();
        assert_eq!(said, format!("{place}; {what}"));
    }
    let said = Config::load(None, &Overrides::default()).unwrap_err();
    assert_eq!(said.to_string(), format!("upstreams: is missing; {what}"));
    let said = Config::load(Some(Path::new("/no/bulla.toml")), &Overrides::default()).unwrap_err();
    let missing = "/no/bulla.toml cannot be read: No such file or directory (os error 2)";
    assert_eq!(said.to_string(), missing);
}

#[test]
fn the_command_line_wins_over_the_file_which_is_checked_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let over = Overrides {
        listen: Some("0.0.0.0:443".parse().unwrap()),
        origins: vec!["https://bank.example".to_owned()],
        upstreams: vec!["https://app.internal".parse().unwrap()],
        state: Some(PathBuf::from("here")),
    };
    let text = "\
        listen = \"127.0.0.1:1\"\n\
        origins = [\"https://other.example\"]\n\
        upstreams = [\"http://127.0.0.1:2\"]\n\
        state = \"there\"\n";
    let config = load(folder.path(), text, &over).unwrap();
    assert_eq!(Some(config.listen), over.listen);
    assert_eq!(config.origins, over.origins);
    assert_eq!(config.upstreams, over.upstreams);
    assert_eq!(Some(config.state), over.state);
    let said = load(folder.path(), "listen = \"here\"", &over).unwrap_err();
    assert!(said.starts_with("bulla.toml:1: listen: "), "{said}");
}

#[test]
fn the_origin_is_by_default_what_a_browser_beside_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    for (port, tls, origin) in [
        (8080, "", "http://localhost:8080"),
        (80, "", "http://localhost"),
        (
            443,
            "[tls]\ncertificate = \"c\"\nkey = \"k\"",
            "https://localhost",
        ),
        (
            80,
            "[tls]\ncertificate = \"c\"\nkey = \"k\"",
            "https://localhost:80",
        ),
    ] {
        let text = format!("listen = \"[::]:{port}\"\nupstreams = [\"http://a\"]\n{tls}");
        let config = load(folder.path(), &text, &Overrides::default()).unwrap();
        assert_eq!(config.origins, [origin]);
    }
}

#[test]
fn notes_say_what_may_not_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    let notes = |text: &str| {
        let text = format!("upstreams = [\"http://127.0.0.1:8000\"]\n{text}");
        load(folder.path(), &text, &Overrides::default())
            .unwrap()
            .notes()
    };
    let none: [&str; 0] = [];
    assert_eq!(notes(""), none);
    assert_eq!(
        notes("origins = [\"http://127.0.0.1:8080\", \"http://app.localhost\"]"),
        none
    );
    assert_eq!(
        notes("origins = [\"https://bank.example\"]\nmode = \"monitor\""),
        [
            "there is no [tls]: something before the gateway has to end TLS for https://bank.example",
            "network.client_address is not there, so all who come by what ends TLS have its address, and share its limits",
            "mode is monitor: refusals are only reported, and nothing is protected",
        ]
    );
    assert_eq!(
        notes("origins = [\"http://bank.example\"]"),
        [
            "browsers have neither keys nor service workers at http://bank.example: that takes https, or localhost"
        ]
    );
    assert_eq!(
        notes("origins = [\"http://bank.example\"]\n[tls]\ncertificate = \"c\"\nkey = \"k\""),
        ["there is [tls], so nobody reaches http://bank.example: only https has TLS"]
    );
    assert_eq!(
        notes("[upstream_tls]\nca = \"ca.pem\""),
        ["there is [upstream_tls], and no upstream by https"]
    );
    let unwatched =
        "runtime.watch is off, so [[fields]] and the consequences under [runtime] do nothing";
    assert_eq!(notes("[runtime]\nwatch = \"off\""), none);
    assert_eq!(
        notes("[runtime]\nwatch = \"off\"\npatched = \"end\""),
        [unwatched]
    );
    assert_eq!(
        notes("listen = \"0.0.0.0:8080\"\n[operator]\nlisten = \"0.0.0.0:9090\""),
        [
            "it listens at 0.0.0.0:8080 and answers to nothing but http://localhost:8080: name the origins under which \
             others come",
            "the operator's address 0.0.0.0:9090 is open to other machines, and has no TLS: his token can be read on the way",
        ]
    );
    assert_eq!(
        notes("[decision]\nlisten = \"0.0.0.0:9191\"\ncontent = \"unchecked\""),
        [
            "the decision's address 0.0.0.0:9191 is open to other machines: only the proxy may reach it",
            "network.client_address is not there, so all who come by the proxy that asks have its address",
            "access is sealed, and a proxy that asks has signed requests only: they are refused",
            "decision.content is unchecked: something behind the proxy has to compare it with Content-Digest",
        ]
    );
}

#[test]
fn what_has_changed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        let text = format!("upstreams = [\"http://a\"]\n{text}");
        load(folder.path(), &text, &Overrides::default()).unwrap()
    };
    let new = "listen = \"[::]:1\"\norigins = [\"https://a\"]\nstate = \"s\"\naccess = \"public\"\n\
        mode = \"monitor\"\nproof = \"session\"\nbound_cookies = []\nunbound_cookies = [\"a\"]\nunbound_tokens = \"pass\"\n[[paths]]\nprefix = \"/a\"\n\
        access = \"signed\"\n[[tokens]]\npath = \"/a\"\nmember = \"t\"\n\
        [tls]\ncertificate = \"c\"\nkey = \"k\"\n[upstream_tls]\nca = \"c\"\n[health]\npath = \"/h\"\n[limits]\nbody = \"1B\"\n\
        [network]\nclient_address = \"x\"\n[operator]\nlisten = \"[::]:2\"\n\
        [delivery]\nmanifest = \"m\"\n[runtime]\nscript = \"end\"\n[[scripts]]\nurl = \"/a\"\njustification = \"x\"\n[[fields]]\nhash = \"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"\njustification = \"x\"\n[decision]\nlisten = \"[::]:3\"";
    let old = read("");
    let none: [&str; 0] = [];
    assert_eq!(old.changed(&old), none);
    let mut new = read(new);
    new.upstreams = vec!["http://b".parse().unwrap()];
    let mut known: Vec<_> = known("").into_iter().collect();
    let mut changed = old.changed(&new);
    known.sort_unstable();
    changed.sort_unstable();
    assert_eq!(changed, known);

    let (renewed, waiting) = old.renewed(&new);
    assert_eq!(renewed.changed(&new), waiting);
    let live: BTreeSet<_> = known.iter().map(String::as_str).collect();
    let live: BTreeSet<_> = &live - &waiting.into_iter().collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateway/operations.md");
    let docs = fs::read_to_string(path).unwrap();
    let (_, said) = docs.split_once("Of the file, ").unwrap();
    let (said, _) = said.split_once(" count from the next request on").unwrap();
    let said: BTreeSet<_> = said.split('`').skip(1).step_by(2).collect();
    assert_eq!(said, live);
}

/// The keys that there are in a table, by what is said of one that is none.
fn known(table: &str) -> BTreeSet<String> {
    let header = match table {
        "" => String::new(),
        "paths" | "tokens" | "scripts" | "fields" => format!("[[{table}]]\n"),
        table => format!("[{table}]\n"),
    };
    let said = wrong(&format!("{header}'?' = 0"));
    let said = said.iter().find_map(|line| line.split_once("there are "));
    let (_, keys) = said.unwrap();
    keys.split(", ").map(str::to_owned).collect()
}

/// What the docs say of the configuration.
fn docs() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateway/configuration.md");
    fs::read_to_string(path).unwrap()
}

/// The keys in the docs, from the head of their table on.
fn table() -> String {
    let docs = docs();
    docs.split_once("| key | written |").unwrap().1.to_owned()
}

/// The example of the docs.
fn example() -> String {
    let docs = docs();
    let (_, rest) = docs
        .split_once("<!-- bulla.toml: read by a test -->")
        .unwrap();
    let (_, rest) = rest.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_table_of_the_docs_has_every_key_and_no_other() {
    let mut keys = BTreeSet::new();
    for key in known("") {
        let below = match key.as_str() {
            "tls" | "upstream_tls" | "health" | "limits" | "network" | "operator" | "delivery"
            | "runtime" | "decision" | "paths" | "tokens" | "scripts" | "fields" => known(&key),
            _ => {
                keys.insert(key);
                continue;
            }
        };
        let is_list = ["paths", "tokens", "scripts", "fields"].contains(&key.as_str());
        let list = if is_list { "[]" } else { "" };
        keys.extend(below.iter().map(|name| format!("{key}{list}.{name}")));
    }
    let docs = docs();
    let (_, table) = docs.split_once("| key | written |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let named = rows.map(|row| row.split('`').nth(1).unwrap().to_owned());
    assert_eq!(named.collect::<BTreeSet<_>>(), keys);
}

#[test]
fn the_example_of_the_docs_is_right_and_its_defaults_are_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let as_it_is = load(folder.path(), &example(), &Overrides::default()).unwrap();
    let is_key = |rest: &str| {
        rest.split_once(" = ")
            .is_some_and(|(key, _)| !key.contains(' '))
    };
    let lines = example()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if is_key(rest) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect::<String>();
    // Where it has TLS, it is another origin.
    let lines = lines.replace("http://localhost", "https://localhost");
    let spelt_out = load(folder.path(), &lines, &Overrides::default()).unwrap();
    assert_eq!(spelt_out, as_it_is);

    // Every key is in it, so that none has a default which it does not say.
    for key in [
        "",
        "paths",
        "tokens",
        "scripts",
        "fields",
        "tls",
        "upstream_tls",
        "health",
        "limits",
        "network",
        "operator",
        "delivery",
        "runtime",
        "decision",
    ]
    .into_iter()
    .flat_map(known)
    {
        assert!(
            // The other name of a script, and the other source of a manifest.
            ["hash", "learn"].contains(&key.as_str())
                || lines.contains(&format!("{key} = "))
                || lines.contains(&format!("[{key}]")),
            "{key}"
        );
    }
    let table = table();
    let row = |key: &str, default: &str| {
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("| `{key}` |")));
        let says = row.unwrap().split('|').nth(3).unwrap().trim();
        assert_eq!(says, format!("`{default}`"), "{key}");
    };
    let Config {
        listen,
        access,
        mode,
        proof,
        ..
    } = Config::for_upstream("http://a".parse().unwrap());
    row("listen", &listen.to_string());
    row("access", access.name());
    row("mode", mode.name());
    assert_eq!(proof, ProofKind::Device);
    row("proof", "device");
    row("unbound_tokens", Unbound::default().name());
    row("decision.content", Content::default().name());
    for key in ["script_policy", "integrity_policy", "trusted_types"] {
        row(&format!("delivery.{key}"), Policy::default().name());
    }
    for key in ["script", "patched", "integrity", "transit", "policy"] {
        row(&format!("runtime.{key}"), Reaction::default().name());
    }
    assert!(Runtime::default().watch);
    row("runtime.watch", "on");
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    let Limits {
        body,
        connect,
        answer,
        quiet,
        head,
        idle,
        shutdown,
        ..
    } = Limits::default();
    row("limits.body", &format!("{}MiB", body / 1024 / 1024));
    for (key, time) in [
        ("limits.connect", connect),
        ("limits.answer", answer),
        ("limits.quiet", quiet),
        ("limits.head", head),
        ("limits.idle", idle),
        ("limits.shutdown", shutdown),
        ("health.interval", Health::default().interval),
        ("health.timeout", Health::default().timeout),
    ] {
        row(key, &seconds(time));
    }
}

#[test]
#[allow(clippy::too_many_lines)] // it is a table
fn every_key_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = load(folder.path(), &example(), &Overrides::default()).unwrap();
    let [rule] = &*config.paths else {
        panic!("{:?}", config.paths)
    };
    assert_eq!(
        (rule.prefix.as_str(), rule.access),
        ("/static/", Access::Public)
    );
    let [token] = &*config.tokens else {
        panic!("{:?}", config.tokens)
    };
    assert_eq!(token.path, "/api/login");
    assert_eq!(Ok(&token.member), "/token".parse().as_ref());
    let token = folder.path().join("operator.token");
    assert_eq!(config.operator_token_file(), token);
    let tls = config.tls.unwrap();
    assert_eq!(tls.certificate, folder.path().join("bank.pem"));
    assert_eq!(tls.key, folder.path().join("bank.key"));
    let ca = config.upstream_tls.map(|tls| tls.ca);
    assert_eq!(ca, Some(folder.path().join("ca.pem")));
    assert_eq!(config.health.path.as_deref(), Some("/health"));
    let field = Some(http::HeaderName::from_static("x-real-ip"));
    assert_eq!(
        config.network,
        Network {
            client_address: field
        }
    );
    let operator = config.operator.unwrap();
    assert_eq!(
        (operator.listen.port(), operator.token_file),
        (9090, Some(token))
    );
    let delivery = config.delivery.unwrap();
    let manifest = folder.path().join("static/bulla-manifest.json");
    assert_eq!(delivery, Delivery::of(Source::Signed(manifest)));
    let [script] = &*config.scripts else {
        panic!("{:?}", config.scripts)
    };
    assert_eq!(script.url.as_deref(), Some("https://pay.example/v3/"));
    assert_eq!(script.hash, None);
    assert!(script.justification.starts_with("Takes the card's number"));
    let [fields] = &*config.fields else {
        panic!("{:?}", config.fields)
    };
    assert_eq!(fields.page.as_deref(), Some("/pay/"));
    assert_eq!(
        Some(&*fields.hash),
        example()
            .split('"')
            .find(|text| text.starts_with("sha256-"))
    );
    assert!(fields.justification.starts_with("As it was reviewed"));
    let decision = config.decision.unwrap();
    assert_eq!(
        (decision.listen.port(), decision.content),
        (9191, Content::Compared)
    );

    let text = "mode = \"monitor\"\nproof = \"session\"\naccess = \"concealed\"\nbound_cookies = [\"a\"]\nunbound_cookies = [\"b\"]\n\
        unbound_tokens = \"pass\"\n\
        [health]\ninterval = \"1s\"\ntimeout = \"250ms\"\n\
        [limits]\nbody = \"1KiB\"\nconnect = \"1ms\"\nanswer = \"2m\"\nquiet = \"6m\"\nhead = \"3s\"\nidle = \"4h\"\nshutdown = \"0s\"\n\
        [runtime]\nwatch = \"off\"\nscript = \"end\"\npatched = \"step-up\"\nintegrity = \"end\"\ntransit = \"step-up\"\npolicy = \"step-up\"\n\
        [[scripts]]\nhash = \"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"\njustification = \"Nothing\"\n\
        [decision]\nlisten = \"127.0.0.1:1\"\ncontent = \"unchecked\"";
    let text = format!("upstreams = [\"http://a\"]\n{text}");
    let config = load(folder.path(), &text, &Overrides::default()).unwrap();
    assert_eq!(
        (config.mode, config.access),
        (Mode::Monitor, Access::Concealed)
    );
    assert_eq!(config.proof, ProofKind::Session);
    assert_eq!(config.bound_cookies, ["a"]);
    assert_eq!(config.unbound_cookies, ["b"]);
    assert_eq!(config.unbound_tokens, Unbound::Pass);
    let content = config.decision.map(|decision| decision.content);
    assert_eq!(content, Some(Content::Unchecked));
    let Health {
        interval, timeout, ..
    } = config.health;
    assert_eq!(
        (interval, timeout),
        (Duration::from_secs(1), Duration::from_millis(250))
    );
    let Limits {
        body,
        connect,
        answer,
        quiet,
        head,
        idle,
        shutdown,
        ..
    } = config.limits;
    assert_eq!((body, connect), (1024, Duration::from_millis(1)));
    assert_eq!(
        (answer, head),
        (Duration::from_mins(2), Duration::from_secs(3))
    );
    assert_eq!((idle, shutdown), (Duration::from_hours(4), Duration::ZERO));
    assert_eq!(quiet, Duration::from_mins(6));
    let runtime = Runtime {
        watch: false,
        script: Reaction::End,
        patched: Reaction::StepUp,
        integrity: Reaction::End,
        transit: Reaction::StepUp,
        policy: Reaction::StepUp,
    };
    assert_eq!(config.runtime, runtime);
    let script = ScriptRule {
        url: None,
        hash: Some("sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned()),
        justification: "Nothing".to_owned(),
    };
    assert_eq!(config.scripts, [script]);
}

#[test]
fn scripts_are_named_in_one_spelling() {
    let rule = |url: &str| {
        let text = format!("[[scripts]]\nurl = {url:?}\njustification = \"x\"");
        wrong(&text)
    };
    let nothing: [String; 0] = [];
    for url in [
        "/",
        "/static/app.js",
        "https://pay.example/",
        "http://localhost:3000/a%20b.js",
        "https://pay.example/v3/",
    ] {
        assert_eq!(rule(url), nothing, "{url}");
    }
    for url in [
        "",
        "app.js",
        "//pay.example/v3/",
        "https://pay.example",
        "https://PAY.example/",
        "https://pay.example:443/",
        "https://ann@pay.example/",
        "https://pay.example/a?b",
        "/a#b",
        "/a/../b",
        "/a b",
        "/a;script-src *",
        "https://*.example/",
        "data:,x",
        "ftp://pay.example/",
    ] {
        let said = rule(url);
        let place = format!("bulla.toml:2: scripts[0].url: {url:?} is no script such as");
        assert!(said.len() == 1 && said[0].starts_with(&place), "{said:?}");
    }
}

/// A part of a file that names no upstream is shown as what stands below one.
#[test]
fn every_piece_of_configuration_in_the_docs_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateway");
    let state = tempfile::tempdir().unwrap();
    let mut read = 0;
    for page in fs::read_dir(folder).unwrap() {
        let page = page.unwrap().path();
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let (piece, _) = block.split_once("```").unwrap();
            let is_whole = piece.contains("upstreams = ");
            let above = if is_whole {
                ""
            } else {
                "upstreams = [\"http://a\"]\n"
            };
            let loaded = load(
                state.path(),
                &format!("{above}{piece}"),
                &Overrides::default(),
            );
            assert!(loaded.is_ok(), "{}: {loaded:?}", page.display());
            read += 1;
        }
    }
    assert!(read > 8, "{read}");
}

#[test]
fn what_the_docs_say_of_what_is_wrong_is_said() {
    let docs = docs();
    let (_, block) = docs.split_once("```text\n").unwrap();
    let (shown, _) = block.split_once("\n```").unwrap();
    let text = format!(
        "{}[[paths]]\nprefix = \"/a\"\naccess = \"selaed\"",
        "\n".repeat(9)
    );
    assert_eq!(wrong(&text), [shown]);
}
