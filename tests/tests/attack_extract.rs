//! What script in the page can carry away: everything that storage and objects hand out is tried in
//! every way, and everything that can be reached is searched for the keys, which the server knows.
//!
//! The device key and the session MAC key come out by no way. The sealing keys do, since a handle that
//! derives can be made to derive: they protect against the path, not against script, and open nothing.

use std::time::Duration;

use bulla_keys::{Aes128Gcm, MacKey, SigningKey, SystemRandom, ece};
use bulla_protocol::base64;
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::field;
use bulla_protocol::limits::Limits;
use bulla_protocol::message::{self, Control, Event, Head, Reader};
use bulla_protocol::opening::{MAC_INFO, SessionId, Ticket};
use bulla_protocol::proof::{Binding, ProofKind, ProofNonce, ReceivedProof, prove};
use bulla_protocol::seal::{CEK_INFO, Header, NONCE_INFO, RecordNonce, Splitter};
use bulla_protocol::signature;
use bulla_tests::attack::Name::{Asvs, Dpop, Sess};
use bulla_tests::attack::With::{Held, Works};
use bulla_tests::attack::{
    Attack, EXTRACT_KEYS, Exchange, HOOK_WASM, Outcome, Proxy, Secrets, Shown, TAKE_MEMORY,
    TAKE_REACHABLE, TAKE_STORAGE, Twin, Witness, find, in_page,
};
use bulla_tests::bank::Bank;
use bulla_tests::browser::{Browser, Engine};
use http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);

bulla_tests::attacks! {
    nothing_can_be_carried_away in each engine: [SEARCHES_MEMORY, EXPORTS_KEYS, DERIVES_KEYS],
}

/// Stands where it must be found, so that nothing found means something.
const PLANTED: [u8; 32] = *b"a value that is put there by us!";

static SEARCHES_MEMORY: Attack = Attack {
    has: "script in the page",
    does: "searches Wasm memory, all storage and all that it can reach for keys",
    twin: Twin::Weakened("a page that keeps a key as bytes"),
    without: "it finds them",
    with: Held("none of the session's keys is there, in no form"),
    names: &[Dpop(4), Asvs("14.3.3"), Sess(4)],
    shown: Shown::nothing(),
};

static EXPORTS_KEYS: Attack = Attack {
    has: "script in the page",
    does: "has the handles of the device key and of the MAC key give their bytes, in some sixty ways each",
    twin: Twin::Weakened("a key that can be exported, as apps keep one"),
    without: "they are had at the first try",
    with: Held("none gives anything"),
    names: &[Dpop(4), Sess(9)],
    shown: Shown::nothing(),
};

static DERIVES_KEYS: Attack = Attack {
    has: "script in the page",
    does: "has the handles of the sealing keys derive",
    twin: Twin::Weakened("a key that can be exported, as apps keep one"),
    without: "the key is had as it is",
    with: Works(
        "it reads what is sealed, if it has the records; by these keys alone nothing is proved",
    ),
    names: &[Dpop(4)],
    shown: Shown::nothing(),
};

async fn nothing_can_be_carried_away(engine: Engine) -> Outcome {
    let proxy = Proxy::start().await?;
    let (origin, witness) = (proxy.origin(), Witness::default());
    let random = witness.clone();
    // With session proofs, where the MAC key is worth most.
    let bank = Bank::open_with(|builder| {
        let builder = builder.origin(origin).proof(ProofKind::Session);
        builder.random(random)
    })
    .await?;
    proxy.forward_to(bank.server.port());
    let browser = Browser::launch(engine).await?;
    use_the_bank(&browser, &bank, &proxy).await?;
    let authority = proxy.origin().replace("https://", "");
    let secrets = witness.secrets(&authority, &proxy.seen())?;
    the_witness_is_right(&secrets, &authority, &proxy.seen())?;

    nothing_is_lying_about(&browser, &proxy.origin(), &secrets).await?;
    handles_do_not_give_their_keys(&browser, &secrets).await?;
    let paid = bank.ledger.transfers().len();
    what_seals_does_not_sign(&browser, &bank, &proxy, &secrets).await?;
    assert_eq!(bank.ledger.transfers().len(), paid);

    let me = browser
        .eval(
            "return session.fetch('/api/me').then((reply) => reply.json())",
            [],
        )
        .await?;
    assert_eq!(
        (&me["subject"], &me["proof"]),
        (&json!("ann"), &json!("session"))
    );
    browser.quit().await?;
    Ok(())
}

/// Opens a session, logs Ann in and pays; and keeps a key of the kind that the twin's app would keep.
async fn use_the_bank(browser: &Browser, bank: &Bank, proxy: &Proxy) -> Outcome {
    browser.goto(&format!("{}/page", proxy.origin())).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    in_page(browser, HOOK_WASM, json!([])).await?;
    in_page(
        browser,
        "window.session = await bulla.open({ server: location.origin, identity: args[0] });
         const post = (path, body) => session.fetch(path, {
           method: 'POST',
           headers: { 'content-type': 'application/json' },
           body: JSON.stringify(body),
         }).then((reply) => reply.json());
         await post('/api/login', { user: 'ann' });
         await post('/api/transfer', { to: 'bob', amount: 7 });
         await post('/api/transfer', { to: 'bob', amount: 8 });
         await session.fetch('/api/me').then((reply) => reply.json());
         const key = await crypto.subtle.importKey('raw', new Uint8Array(args[1]),
           { name: 'HMAC', hash: 'SHA-256' }, true, ['sign']);
         const opening = indexedDB.open('twin');
         opening.onupgradeneeded = () => opening.result.createObjectStore('keys');
         const database = await new Promise((resolve) => {
           opening.onsuccess = () => resolve(opening.result);
         });
         const transaction = database.transaction('keys', 'readwrite');
         transaction.objectStore('keys').put({ mac: key }, 'twin');
         await new Promise((resolve) => { transaction.oncomplete = resolve; });
         database.close();",
        json!([bank.identity(), PLANTED.to_vec()]),
    )
    .await?;
    Ok(())
}

/// What is searched for are the session's keys indeed: the last request opens with one of them, and its
/// proof holds under another.
fn the_witness_is_right(secrets: &Secrets, authority: &str, traffic: &[Exchange]) -> Outcome {
    assert!(secrets.messages.len() >= 6, "three requests and replies");
    let body = traffic.last().ok_or("nothing recorded")?.request.body();
    let (header, records) = Header::parse(body)?.ok_or("not sealed")?;
    let inner = ece::open_whole(&secrets.request, &header, records)?;
    let events = Reader::new(Limits::default()).push(inner)?;
    let Some(Event::Head(head)) = events.into_iter().next() else {
        return Err("no head".into());
    };
    let mut fields = head.fields;
    let ticket = Ticket::new(header.keyid)?.to_field();
    fields.push((field::TICKET.to_owned(), ticket));
    let request = signature::Request {
        method: "GET",
        authority,
        path: "/api/me",
        query: None,
        fields: &fields,
    };
    let proof = ReceivedProof::parse(&fields)?;
    assert_eq!(proof.kind, ProofKind::Session);
    let covered = proof.check_coverage(&request, Binding::Digest)?;
    MacKey::new(&secrets.mac).verify(covered.base.as_bytes(), &covered.signature)?;
    Ok(())
}

async fn nothing_is_lying_about(browser: &Browser, origin: &str, secrets: &Secrets) -> Outcome {
    let storage = in_page(browser, TAKE_STORAGE, json!([])).await?;
    let ticket = ticket(&storage)?;
    let memories = in_page(browser, TAKE_MEMORY, json!([])).await?;
    let memories: Vec<String> = serde_json::from_value(memories)?;
    assert_eq!(memories.len(), 1, "one instance of the module");
    let memory = base64::decode_standard(&memories[0]).ok_or("no base64")?;
    let reachable = in_page(browser, TAKE_REACHABLE, json!([])).await?;
    assert_eq!(reachable["left"], 0, "all was walked through");
    assert!(
        reachable["count"].as_u64() > Some(1000),
        "{}",
        reachable["count"]
    );
    let text = reachable["text"].as_str().unwrap_or_default();
    let storage = storage.to_string();
    for (place, content) in [
        ("Wasm memory", &memory[..]),
        ("storage", storage.as_bytes()),
        ("the page", text.as_bytes()),
    ] {
        for (name, secret) in secrets.named() {
            assert_eq!(find(content, secret), None, "{name} in {place}");
        }
        SEARCHES_MEMORY.with(secrets.named().len() > 4);
    }

    // The same search finds what is there: the origin, the ticket, and what is planted, in each form.
    assert_eq!(find(&memory, origin.as_bytes()), Some("raw"));
    assert_eq!(find(storage.as_bytes(), &ticket), Some("base64"));
    for (form, plant) in [
        ("raw", "return String.fromCharCode(...bytes);"),
        ("hex", "return new Uint8Array(bytes);"),
        ("decimal", "return bytes;"),
        ("decimal", "return bytes.join(', ');"),
        ("base64", "return btoa(String.fromCharCode(...bytes));"),
    ] {
        let script = format!(
            "const encode = (bytes) => {{ {plant} }};
             class Holder {{ #value = encode(args[0]); get value() {{ return this.#value; }} }}
             window.planted = new Map([['x', {{ deep: [new Holder()] }}]]);"
        );
        in_page(browser, &script, json!([PLANTED.to_vec()])).await?;
        let reachable = in_page(browser, TAKE_REACHABLE, json!([])).await?;
        let text = reachable["text"].as_str().unwrap_or_default();
        SEARCHES_MEMORY.without(find(text.as_bytes(), &PLANTED) == Some(form));
    }
    in_page(browser, "delete window.planted;", json!([])).await?;
    Ok(())
}

async fn handles_do_not_give_their_keys(browser: &Browser, secrets: &Secrets) -> Outcome {
    let labels = [&b""[..], MAC_INFO, CEK_INFO, NONCE_INFO];
    let arguments = json!([secrets.transcript.to_vec(), labels, secrets.points]);
    let attempts = in_page(browser, EXTRACT_KEYS, arguments).await?;
    let attempts = attempts.as_array().ok_or("no attempts")?;
    let of = |kinds: &[&str]| -> Vec<&Value> {
        let wanted = |attempt: &&Value| {
            let record = attempt["record"].as_str().unwrap_or_default();
            let record = record.split(' ').next().unwrap_or_default();
            let name = attempt["name"].as_str().unwrap_or_default();
            kinds.contains(&format!("{record}/{name}").as_str())
        };
        attempts.iter().filter(wanted).collect()
    };
    let gave = |attempts: &[&Value]| -> Vec<String> {
        let gave = attempts
            .iter()
            .filter(|attempt| !attempt["bytes"].is_null());
        gave.map(|attempt| format!("{} {}", attempt["name"], attempt["how"]))
            .collect()
    };

    let guarded = of(&["device/private", "session/mac"]);
    let ways = of(&["device/private"]).len();
    assert!(ways > 60 && guarded.len() == 2 * ways, "{ways} ways");
    EXPORTS_KEYS.with(gave(&guarded).is_empty());

    // What derives can be made to derive, but not to give itself, nor the MAC key.
    let sealing = of(&["session/request", "session/response"]);
    let derived = gave(&sealing);
    assert!(derived.iter().any(|how| how.contains("deriveBits")));
    assert!(derived.iter().any(|how| how.contains("deriveKey")));
    DERIVES_KEYS.with(!derived.is_empty());
    assert!(
        derived.iter().all(|how| how.contains("derive")),
        "{derived:?}"
    );
    let everything = serde_json::to_string(attempts)?;
    for (name, secret) in secrets.named() {
        assert_eq!(find(everything.as_bytes(), secret), None, "{name}");
    }
    // The module is handed none.
    let known = ["device", "session", "twin"];
    for attempt in attempts {
        let record = attempt["record"].as_str().unwrap_or_default();
        assert!(
            known.iter().any(|known| record.starts_with(known)),
            "{record}"
        );
    }

    // A key that an app keeps as apps do is had at the first try, and in several ways.
    let twin = of(&["twin/mac"]);
    assert!(gave(&twin).len() > 5);
    let exported = twin
        .iter()
        .find(|attempt| attempt["how"] == "exportKey raw");
    let exported = &exported.ok_or("not tried")?["bytes"];
    let is_had = *exported == json!(PLANTED.to_vec());
    EXPORTS_KEYS.without(is_had);
    DERIVES_KEYS.without(is_had);
    Ok(())
}

/// A thief seals with what the handles derive, off the device. His envelopes open at the server, and
/// that is all that they do.
async fn what_seals_does_not_sign(
    browser: &Browser,
    bank: &Bank,
    proxy: &Proxy,
    secrets: &Secrets,
) -> Outcome {
    let loot = Derived::take(browser, secrets).await?;
    let authority = proxy.origin().replace("https://", "");
    for (kind, wanted) in [
        (None, "proof_missing"),
        (Some(ProofKind::Device), "proof_mismatch"),
        (Some(ProofKind::Session), "proof_mismatch"),
    ] {
        let envelope = loot.forge(&authority, kind)?;
        let request = Request::post("/.well-known/bulla/sealed")
            .header("host", &authority)
            .header("content-type", field::BHTTP)
            .header("content-encoding", field::AES128GCM)
            .body(envelope.into())?;
        proxy.send(request).await?;
        let refused = bank.ledger.refusals();
        assert_eq!(refused.last(), Some(&wanted), "{kind:?}");
    }
    Ok(())
}

/// What the handle of the request key gives, once it has left the browser.
#[derive(Deserialize)]
struct Derived {
    id: String,
    nonce: String,
    ticket: Vec<u8>,
    /// The key of a message with this [`Self::SALT`], and its base nonce.
    cek: [u8; 16],
    base: [u8; 12],
    /// What the MAC key would be, if it came from the request key.
    mac: [u8; 32],
}

impl Derived {
    const SALT: [u8; 16] = [7; 16];

    async fn take(browser: &Browser, secrets: &Secrets) -> Outcome<Self> {
        const DERIVE: &str = "
            const [salt, transcript, cek, nonce, mac] = args.map((array) => new Uint8Array(array));
            const opening = indexedDB.open('bulla');
            const database = await new Promise((resolve) => {
              opening.onsuccess = () => resolve(opening.result);
            });
            const name = `session ${location.origin}`;
            const getting = database.transaction('records').objectStore('records').get(name);
            const record = await new Promise((resolve) => {
              getting.onsuccess = () => resolve(getting.result);
            });
            database.close();
            const derive = async (salt, info, length) => {
              const how = { name: 'HKDF', hash: 'SHA-256', salt, info };
              return [...new Uint8Array(await crypto.subtle.deriveBits(how, record.request, length))];
            };
            const ticket = Array.from(atob(record.ticket.slice(1, -1)), (character) => character.charCodeAt(0));
            return {
              id: record.id, nonce: record.nonce, ticket,
              cek: await derive(salt, cek, 128),
              base: await derive(salt, nonce, 96),
              mac: await derive(transcript, mac, 256),
            };";
        let arguments = json!([
            Self::SALT,
            secrets.transcript,
            CEK_INFO,
            NONCE_INFO,
            MAC_INFO
        ]);
        let derived = in_page(browser, DERIVE, arguments).await?;
        Ok(serde_json::from_value(derived)?)
    }

    /// A transfer to Mallory in Ann's session, proved with a device key of his own, with what he has for
    /// a MAC key, or not at all.
    fn forge(&self, authority: &str, kind: Option<ProofKind>) -> Outcome<Vec<u8>> {
        let body = br#"{"to":"mallory","amount":1}"#;
        let digest = ContentDigest::of(body).to_field();
        let mut fields = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            (field::CONTENT_DIGEST.to_owned(), digest),
        ];
        if let Some(kind) = kind {
            let proof = self.prove(authority, kind, &fields)?;
            fields.extend(proof.map(|(name, value)| (name.to_owned(), value)));
        }
        let head = Head {
            control: Control::Request {
                method: "POST".to_owned(),
                scheme: "https".to_owned(),
                authority: authority.to_owned(),
                target: "/api/transfer".to_owned(),
            },
            fields,
        };
        let header = Header {
            salt: Self::SALT,
            record_size: 4096,
            keyid: self.ticket.clone(),
        };
        let mut records = Splitter::new(header.record_size);
        assert!(records.push(&message::whole(head, body)?).is_empty());
        let mut record = records.finish().bytes;
        let nonce = RecordNonce::new(self.base).at(0);
        Aes128Gcm::new(&self.cek).seal_in_place(nonce, &[], &mut record)?;
        Ok([header.encode(), record].concat())
    }

    fn prove(
        &self,
        authority: &str,
        kind: ProofKind,
        fields: &[(String, String)],
    ) -> Outcome<[(&'static str, String); 2]> {
        let mut fields = fields.to_vec();
        let ticket = Ticket::new(self.ticket.clone())?.to_field();
        fields.push((field::TICKET.to_owned(), ticket));
        let request = signature::Request {
            method: "POST",
            authority,
            path: "/api/transfer",
            query: None,
            fields: &fields,
        };
        let nonce = ProofNonce {
            server: self.nonce.clone(),
            random: [kind as u8; 16],
        };
        let id: SessionId = self.id.parse()?;
        let fields_of_app = [].into_iter();
        let to_sign = prove(
            kind,
            id,
            &request,
            fields_of_app,
            Binding::Digest,
            &nonce,
            0,
        )?;
        let base = to_sign.base.as_bytes();
        let proof = match kind {
            ProofKind::Device => SigningKey::generate(&SystemRandom)?.sign(base)?.to_vec(),
            ProofKind::Session => MacKey::new(&self.mac).sign(base).to_vec(),
        };
        Ok(to_sign.fields(&proof))
    }
}

fn ticket(storage: &Value) -> Outcome<Vec<u8>> {
    let databases = storage["databases"].as_array().into_iter().flatten();
    let stores = databases
        .filter_map(|database| database["stores"].as_array())
        .flatten();
    let mut records = stores
        .filter_map(|store| store["records"].as_array())
        .flatten();
    let session = records.find(|record| {
        let key = record["key"].as_str();
        key.is_some_and(|key| key.starts_with("session "))
    });
    let record = &session.ok_or("no session is stored")?["value"]["object"];
    let ticket = record["ticket"]["value"].as_str().unwrap_or_default();
    Ok(Ticket::from_field(ticket)?.as_bytes().to_vec())
}
