//! Whole exchanges: requests to the real verifier, each code that a server has among the answers.

use std::cell::Cell;

use bulla_protocol::base64;
use bulla_protocol::error::Code;
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::ProofNonce;
use serde_json::{Value, json};

use super::{
    Case, Counted, field_value, fixed16, given, passes, private, public, refused, remove_field,
    set_field, state, with,
};
use crate::exchange::{Reply, Sent, Server, line, ticket, wait};
use crate::input::{Input, text};

const STEP: &str = "exchange";
const AUTHORITY: &str = "bank.example";
const SESSION: &str = "/.well-known/bulla/session";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        {
            let mut talk = Talk::new();
            talk.signed(ECHO, "device");
            talk.passes("a signed request")
        },
        {
            let mut talk = Talk::new();
            talk.sealed(ECHO, "/.well-known/bulla/sealed");
            talk.passes("a sealed request")
        },
        {
            let mut talk = Talk::new();
            talk.sealed(ECHO, "/api/echo");
            talk.passes("a sealed request to its own path")
        },
        {
            let mut talk = Talk::new();
            talk.signed(ECHO, "device");
            talk.signed(("DELETE", SESSION, ""), "device");
            talk.passes("a session is ended")
        },
        {
            let mut talk = Talk::new();
            let reply = talk.signed(LOGIN, "device");
            talk.open(Some(&ticket(&reply, "bulla-carry-over")));
            talk.signed(ECHO, "device");
            talk.passes("a login, and the session that comes of it")
        },
    ];
    cases.extend(of_openings());
    cases.extend(of_requests());
    cases.extend(of_sessions());
    cases.extend(of_the_store());
    cases
}

type At = (&'static str, &'static str, &'static str);

const ECHO: At = ("POST", "/api/echo?x=1", "hello");
const LOGIN: At = ("POST", "/api/login", "alice");

fn of_openings() -> Vec<Case> {
    let opening = |change: &dyn Fn(&mut Value)| {
        let mut talk = Talk::unopened();
        let sent = with(&opening(None), change);
        talk.send(&sent);
        talk
    };
    let with_body = |body: &str| {
        opening(&|sent| {
            let digest = given("digest", &json!({ "content": text(body) }));
            let digest = digest["field"].as_str().unwrap();
            set_field(&mut sent["fields"], "content-digest", digest);
            sent["body"] = text(body);
        })
    };
    let other = with(&super::opening::open(), |open| {
        open["open"]["identity"] = json!(public("other").thumbprint());
    });
    let mut expects_other = Talk::unopened();
    expects_other.send(&as_sent(&given("open", &other)));
    vec![
        with_body("{").refused(Code::Malformed, "an opening that is no JSON"),
        with_body(&" ".repeat(4097)).refused(Code::TooLarge, "an opening of 4097 bytes"),
        with_body(r#"{"version":2}"#).refused(Code::VersionUnsupported, "version 2"),
        opening(&|sent| set_field(&mut sent["fields"], "host", "other.example"))
            .refused(Code::AuthorityMismatch, "an opening for another authority"),
        expects_other.refused(Code::IdentityMismatch, "another identity is expected"),
        opening(&|sent| remove_field(&mut sent["fields"], "signature"))
            .refused(Code::ProofMissing, "an opening without a signature"),
    ]
}

fn of_requests() -> Vec<Case> {
    // A request that has everything right, changed on its way.
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut talk = Talk::new();
        let sent = with(&talk.make_signed(ECHO, "device"), change);
        talk.send(&sent);
        talk
    };
    let envelope = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut talk = Talk::new();
        let sent = talk.make_sealed(ECHO, "/.well-known/bulla/sealed", &|_| ());
        let sent = with(&sent, |sent| {
            let mut bytes = base64::decode(sent["body"].as_str().unwrap()).unwrap();
            change(&mut bytes);
            sent["body"] = text(bytes);
        });
        talk.send(&sent);
        talk
    };
    let inside = |change: &dyn Fn(&mut Value)| {
        let mut talk = Talk::new();
        let sent = talk.make_sealed(ECHO, "/.well-known/bulla/sealed", change);
        talk.send(&sent);
        talk
    };
    let mut elsewhere = Talk::new();
    elsewhere.sealed(ECHO, "/api/other");
    let mut unsigned = Talk::new();
    unsigned.send(&json!({
        "method": "GET", "target": "/api/echo", "fields": [["host", AUTHORITY]], "body": "",
    }));
    vec![
        unsigned.refused(Code::ProofMissing, "no proof at all"),
        changed(&|sent| remove_field(&mut sent["fields"], "signature"))
            .refused(Code::ProofMissing, "the signature is gone"),
        changed(&|sent| sent["method"] = "PUT".into())
            .refused(Code::ProofMismatch, "another method"),
        changed(&|sent| sent["target"] = "/api/echo?x=2".into())
            .refused(Code::ProofMismatch, "another query"),
        changed(&|sent| sent["target"] = "/api/../api/echo?x=1".into())
            .refused(Code::PathRefused, "a dot segment"),
        changed(&|sent| sent["body"] = text("Hello")).refused(Code::DigestMismatch, "another body"),
        changed(&|sent| set_field(&mut sent["fields"], "content-encoding", "gzip"))
            .refused(Code::CoverageMissing, "a field came in on the way"),
        changed(&|sent| {
            let fields = sent["fields"].as_array_mut().unwrap();
            fields.push(json!(["content-type", "text/html"]));
        })
        .refused(Code::FieldRefused, "a covered field on two lines"),
        changed(&|sent| set_field(&mut sent["fields"], "host", "other.example"))
            .refused(Code::AuthorityMismatch, "another authority"),
        changed(&|sent| set_field(&mut sent["fields"], "bulla-ticket", ":AAAA:"))
            .refused(Code::TicketInvalid, "a ticket that is none"),
        changed(&|sent| {
            let input = field_value(&sent["fields"], "signature-input");
            let input = input.replace(";alg=", ";alg=\"none\";alg=");
            set_field(&mut sent["fields"], "signature-input", &input);
        })
        .refused(Code::Malformed, "a parameter twice"),
        envelope(&|bytes| *bytes.last_mut().unwrap() ^= 1)
            .refused(Code::SealBroken, "a changed record"),
        envelope(&|bytes| bytes[0] ^= 1).refused(Code::SealBroken, "a changed salt"),
        envelope(&|bytes| bytes[100] ^= 1).refused(Code::TicketInvalid, "a changed ticket"),
        envelope(&|bytes| bytes.push(0)).refused(Code::SealBroken, "a longer envelope"),
        inside(&|inner| inner["authority"] = "other.example".into())
            .refused(Code::AuthorityMismatch, "another authority inside"),
        inside(&|inner| set_field(&mut inner["fields"], "cookie", "a=b"))
            .refused(Code::FieldRefused, "a cookie inside"),
        inside(&|inner| inner["content"] = text("Hello"))
            .refused(Code::DigestMismatch, "another body inside"),
        elsewhere.refused(Code::PathRefused, "another path outside"),
    ]
}

fn of_sessions() -> Vec<Case> {
    let mut stale = Talk::new();
    stale.after = 121;
    stale.signed(ECHO, "device");
    let mut expired = Talk::new();
    expired.after = 901;
    expired.signed(ECHO, "device");
    let mut unconfirmed = Talk::new();
    unconfirmed.signed(ECHO, "session");
    let mut weak = Talk::new();
    weak.signed(ECHO, "device");
    weak.signed(ECHO, "session");
    let mut revoked = Talk::new();
    revoked.signed(("DELETE", SESSION, ""), "device");
    revoked.signed(ECHO, "device");
    let mut logged_in = Talk::new();
    logged_in.signed(LOGIN, "device");
    logged_in.signed(ECHO, "device");
    let mut carried = Talk::new();
    let reply = carried.signed(LOGIN, "device");
    let carry_over = ticket(&reply, "bulla-carry-over");
    carried.open(Some(&carry_over));
    carried.open(Some(&carry_over));
    let mut as_ticket = Talk::new();
    let reply = as_ticket.signed(LOGIN, "device");
    as_ticket.ticket = Some(ticket(&reply, "bulla-carry-over"));
    as_ticket.signed(ECHO, "device");
    let mut anonymous = Talk::new();
    anonymous.signed(("GET", "/api/user", ""), "device");
    let mut long_ago = Talk::new();
    let reply = long_ago.signed(LOGIN, "device");
    long_ago.open(Some(&ticket(&reply, "bulla-carry-over")));
    long_ago.after = 61;
    long_ago.signed(("GET", "/api/recent", ""), "device");
    let mut unsealed = Talk::new();
    unsealed.signed(("GET", "/api/sealed", ""), "device");
    vec![
        stale.refused(Code::NonceStale, "a nonce from two lives ago"),
        expired.refused(Code::TicketExpired, "a ticket past its life"),
        unconfirmed.refused(Code::SessionUnconfirmed, "a session proof comes first"),
        weak.refused(
            Code::ProofWeak,
            "a session proof where a device proof is due",
        ),
        revoked.refused(Code::SessionRevoked, "a session that has been ended"),
        logged_in.refused(Code::SessionRevoked, "the session from before the login"),
        carried.refused(Code::SessionRevoked, "a carry-over ticket twice"),
        as_ticket.refused(Code::TicketInvalid, "a carry-over ticket in a request"),
        anonymous.refused(Code::LoginRequired, "nobody is logged in"),
        long_ago.refused(
            Code::InsufficientUserAuthentication,
            "a login of more than a minute ago",
        ),
        unsealed.refused(Code::SealRequired, "a route that wants a seal"),
    ]
}

fn of_the_store() -> Vec<Case> {
    let mut replayed = Talk::new();
    let sent = replayed.make_signed(ECHO, "device");
    replayed.send(&sent);
    replayed.send(&sent);
    let mut sealed = Talk::new();
    let sent = sealed.make_sealed(ECHO, "/.well-known/bulla/sealed", &|_| ());
    sealed.send(&sent);
    sealed.send(&sent);
    let mut busy = Talk::with(|state| state["quota"] = 1.into());
    busy.signed(ECHO, "device");
    busy.signed(ECHO, "device");
    let mut full = Talk::with(|state| state["capacity"] = 0.into());
    full.signed(ECHO, "device");
    let mut flooded = Talk::unopened();
    flooded.state["openings"] = 1.into();
    flooded.server = Server::new(Input(&flooded.state), Counted::default()).unwrap();
    flooded.send(&opening(None));
    flooded.send(&opening(None));
    let mut again = Talk::with(|state| state["sessions"] = 1.into());
    let reply = again.signed(LOGIN, "device");
    again.open(Some(&ticket(&reply, "bulla-carry-over")));
    // It is not used: whoever runs this draws other random values, and it is called something else there.
    again.open(None);
    again.signed(LOGIN, "device");
    let mut dry = Talk::unopened();
    dry.state["exhausted"] = true.into();
    dry.server = Server::new(Input(&dry.state), Counted::default()).unwrap();
    dry.send(&opening(None));
    let mut stalled = Talk::new();
    let sent = with(&stalled.make_signed(ECHO, "device"), |sent| {
        sent["body"] = text(b"he");
        sent["stalls"] = 21.into();
    });
    stalled.send(&sent);
    vec![
        stalled.refused(Code::TooSlow, "a body that does not go on"),
        replayed.refused(Code::Replayed, "a signed request twice"),
        sealed.refused(Code::Replayed, "a sealed request twice"),
        again.refused(Code::SessionLimit, "a login more than the user may have"),
        busy.refused(Code::RateLimited, "more requests than a session may have"),
        full.refused(Code::StoreUnavailable, "a store that is full"),
        flooded.refused(Code::WorkRequired, "more openings than are for nothing"),
        dry.refused(Code::Internal, "a server without random values"),
    ]
}

/// A client that talks to the verifier and keeps what it sent.
struct Talk {
    state: Value,
    server: Server,
    sent: Vec<Value>,
    /// How many seconds pass before the next request.
    after: u64,
    keys: Value,
    session: Value,
    nonce: String,
    ticket: Option<Ticket>,
    drawn: Cell<u32>,
}

impl Talk {
    /// One with a session. What was sent to open it is not kept: the state says it all.
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Value)) -> Self {
        let mut talk = Self::unopened();
        talk.state = with(&talk.state, change);
        talk.server = Server::new(Input(&talk.state), Counted::default()).unwrap();
        talk.open(None);
        talk.sent.clear();
        talk
    }

    fn unopened() -> Self {
        let state = state();
        Self {
            server: Server::new(Input(&state), Counted::default()).unwrap(),
            state,
            sent: Vec::new(),
            after: 0,
            keys: json!({ "response_key": text([0; 32]) }),
            session: Value::Null,
            nonce: String::new(),
            ticket: None,
            drawn: Cell::default(),
        }
    }

    fn passes(self, name: &str) -> Case {
        passes(STEP, name, self.input())
    }

    fn refused(self, code: Code, name: &str) -> Case {
        refused(STEP, code, name, self.input())
    }

    fn input(self) -> Value {
        let state = with(&self.state, |state| {
            state["response_key"] = self.keys["response_key"].clone();
        });
        json!({ "state": state, "requests": self.sent })
    }

    fn open(&mut self, ticket: Option<&Ticket>) {
        let reply = self.send(&opening(ticket));
        if reply.status != 200 {
            return;
        }
        let request = with(&super::opening::open(), |open| {
            if let Some(ticket) = ticket {
                open["open"]["ticket"] = json!(ticket);
            }
        });
        let opened = given(
            "opened",
            &json!({
                "request": request,
                "status": 200,
                "fields": reply.fields,
                "body": String::from_utf8(reply.content.clone()).unwrap(),
            }),
        );
        let body: Value = serde_json::from_slice(&reply.content).unwrap();
        self.keys = given(
            "keys",
            &json!({
                "agreement": private("client agreement"),
                "server": body["agreement"],
                "transcript": opened["transcript"],
            }),
        );
        self.session = opened["session"].clone();
        self.ticket = serde_json::from_value(opened["ticket"].clone()).unwrap();
    }

    fn send(&mut self, sent: &Value) -> Reply {
        let sent = with(sent, |sent| {
            if self.after > 0 {
                sent["after"] = self.after.into();
            }
        });
        self.after = 0;
        let key = Input(&self.keys).array("response_key").unwrap();
        let request: Sent = serde_json::from_value(sent.clone()).unwrap();
        let reply = wait(self.server.send(&request, &key)).unwrap();
        self.sent.push(sent);
        if let Some(nonce) = line(&reply.fields, "bulla-nonce") {
            nonce.trim_matches('"').clone_into(&mut self.nonce);
        }
        if line(&reply.fields, "bulla-ticket").is_some() {
            self.ticket = Some(ticket(&reply, "bulla-ticket"));
        }
        reply
    }

    fn signed(&mut self, at: At, proof: &str) -> Reply {
        let sent = self.make_signed(at, proof);
        self.send(&sent)
    }

    fn sealed(&mut self, at: At, outer: &str) -> Reply {
        let sent = self.make_sealed(at, outer, &|_| ());
        self.send(&sent)
    }

    fn make_signed(&self, at: At, proof: &str) -> Value {
        let (method, target, body) = at;
        let mut fields = self.proved(at, proof);
        set_field(&mut fields, "host", AUTHORITY);
        json!({ "method": method, "target": target, "fields": fields, "body": text(body) })
    }

    fn make_sealed(&self, at: At, outer: &str, change: &dyn Fn(&mut Value)) -> Value {
        let (method, target, body) = at;
        let mut fields = self.proved(at, "device");
        remove_field(&mut fields, "bulla-ticket");
        let inner = with(
            &json!({
                "method": method, "scheme": "https", "authority": AUTHORITY, "target": target,
                "fields": fields, "content": text(body),
            }),
            change,
        );
        let sealed = given(
            "seal",
            &json!({
                "key": self.keys["request_key"],
                "salt": text(self.draw("salt")),
                "record_size": 65_536,
                "keyid": text(self.ticket.as_ref().unwrap().as_bytes()),
                "stream": false,
                "plain": [given("message", &inner)["bytes"]],
            }),
        );
        json!({
            "method": "POST",
            "target": outer,
            "fields": [
                ["content-type", "message/bhttp"],
                ["content-encoding", "aes128gcm"],
                ["host", AUTHORITY],
            ],
            "body": sealed["sealed"],
        })
    }

    /// The fields of a request with its proof.
    fn proved(&self, (method, target, body): At, proof: &str) -> Value {
        let digest = given("digest", &json!({ "content": text(body) }));
        let mut fields = json!([
            ["content-type", "text/plain"],
            ["content-digest", digest["field"]],
            ["bulla-ticket", self.ticket.as_ref().unwrap().to_field()],
        ]);
        let nonce = ProofNonce {
            server: self.nonce.clone(),
            random: self.draw("proof"),
        };
        let signed = given(
            "proof",
            &json!({
                "proof": proof,
                "binding": "digest",
                "session": self.session,
                "device": private("device"),
                "mac_key": self.keys["mac_key"],
                "nonce": nonce.to_param(),
                "created": 1_800_000_000,
                "method": method,
                "authority": AUTHORITY,
                "target": target,
                "fields": fields,
            }),
        );
        for field in signed["fields"].as_array().unwrap() {
            set_field(
                &mut fields,
                field[0].as_str().unwrap(),
                field[1].as_str().unwrap(),
            );
        }
        fields
    }

    fn draw(&self, what: &str) -> [u8; 16] {
        self.drawn.set(self.drawn.get() + 1);
        fixed16(&format!("{what} {}", self.drawn.get()))
    }
}

/// An opening as it is sent.
fn opening(ticket: Option<&Ticket>) -> Value {
    let open = with(&super::opening::open(), |open| {
        if let Some(ticket) = ticket {
            open["open"]["ticket"] = json!(ticket);
        }
    });
    as_sent(&given("open", &open))
}

fn as_sent(open: &Value) -> Value {
    let mut fields = open["fields"].clone();
    set_field(&mut fields, "host", AUTHORITY);
    json!({
        "method": open["method"],
        "target": open["path"],
        "fields": fields,
        "body": text(open["body"].as_str().unwrap()),
    })
}
