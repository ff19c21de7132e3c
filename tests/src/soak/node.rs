//! A node: the application behind the verifier, in a process of its own. It notes what it carries out in a journal,
//! before it answers.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Params, State};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use bulla_server::store::{Ended, Ending, Memory, Replacement, SessionRef, StoreFuture, Tell};
use bulla_server::store::{UsedProof, Verdict};
use bulla_server::{
    Bulla, Clock, Identity, Lifetimes, RedisStore, Refused, Ring, Session, Store, WrappingKey,
};
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use tokio::net::TcpListener;

use super::chance::content;
use super::{Outcome, Weakness};

/// Shorter than by default, so that each of them ends many times in a run.
pub(super) const LIFETIMES: Lifetimes = Lifetimes {
    nonce: Duration::from_secs(20),
    ticket: Duration::from_mins(2),
    session: Duration::from_mins(10),
    carry_over: Duration::from_mins(1),
};
/// The shortest that there is.
pub(super) const RING_PERIOD: Duration = Duration::from_mins(1);
/// How long a piece of a stream is.
pub(super) const PIECE: usize = 3000;

/// What tells a node how to begin, as words on its command line.
pub(super) struct Start {
    pub(super) folder: PathBuf,
    pub(super) origin: String,
    pub(super) redis: String,
    pub(super) number: usize,
    pub(super) listen: SocketAddr,
    pub(super) weakness: Weakness,
}

impl Start {
    pub(super) fn words(&self) -> Vec<String> {
        vec![
            "node".to_owned(),
            self.folder.to_string_lossy().into_owned(),
            self.origin.clone(),
            self.redis.clone(),
            self.number.to_string(),
            self.listen.to_string(),
            self.weakness.name().to_owned(),
        ]
    }

    fn parse(words: &[String]) -> Outcome<Self> {
        let [folder, origin, redis, number, listen, weakness] = words else {
            return Err("a node wants FOLDER ORIGIN REDIS NUMBER LISTEN WEAKNESS".into());
        };
        Ok(Self {
            folder: folder.into(),
            origin: origin.clone(),
            redis: redis.clone(),
            number: number.parse()?,
            listen: listen.parse()?,
            weakness: Weakness::named(weakness)?,
        })
    }
}

/// Where the node with this number notes what it carries out.
pub(super) fn journal(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("journal-{number}"))
}

/// A clock that whoever started the node moves.
#[derive(Clone, Default)]
struct Moved(Arc<AtomicI64>);

impl Clock for Moved {
    fn now(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default()
            .as_secs()
            .saturating_add_signed(self.0.load(Ordering::Relaxed))
    }

    // As where a clock is set: no time passes by this one.
    fn monotonic(&self) -> Duration {
        bulla_server::SystemClock.monotonic()
    }
}

struct Node {
    journal: File,
    weakness: Weakness,
    handled: AtomicU64,
    leak: Mutex<Vec<Vec<u8>>>,
}

/// Serves until its standard input ends; a line there sets by how many seconds its clock is ahead. Prints its port and
/// its identity once it listens.
///
/// # Errors
///
/// If it cannot begin.
pub fn serve(words: &[String]) -> Outcome {
    let start = Start::parse(words)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve_from(start))
}

async fn serve_from(start: Start) -> Outcome {
    let clock = Moved::default();
    let store = RedisStore::connect(&*start.redis).await?;
    let wrapping = WrappingKey::load(start.folder.join("wrapping.key"))?;
    let ring: Ring = store.ring(wrapping).await?;
    let builder = Bulla::builder()
        .origin(&*start.origin)
        .identity(Identity::load_or_create(start.folder.join("identity.pem"))?)
        .ring(ring.with_period(RING_PERIOD))
        .lifetimes(LIFETIMES)
        .clock(clock.clone());
    let builder = match start.weakness {
        Weakness::Proofs | Weakness::Ends => builder.store(Weak::new(store, start.weakness)),
        _ => builder.store(store),
    };
    let bulla = builder.build()?;
    let journal = OpenOptions::new()
        .create(true)
        .append(true)
        .open(journal(&start.folder, start.number))?;
    let node = Arc::new(Node {
        journal,
        weakness: start.weakness,
        handled: AtomicU64::new(0),
        leak: Mutex::default(),
    });
    let app = bulla.protect(routes().with_state(node));
    let listener = TcpListener::bind(start.listen).await?;
    println!("{} {}", listener.local_addr()?.port(), bulla.identity());
    // Else a stream's pieces wait for each other's confirmation, and latency is that of a timer.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    std::thread::spawn(move || obey(&clock));
    axum::serve(listener, app).await?;
    Ok(())
}

fn obey(clock: &Moved) {
    for line in io::stdin().lock().lines() {
        let ahead = line.ok().and_then(|line| line.trim().parse().ok());
        let Some(ahead) = ahead else { break };
        clock.0.store(ahead, Ordering::Relaxed);
    }
    // Whoever started it is gone.
    std::process::exit(0);
}

fn routes() -> Router<Arc<Node>> {
    Router::new()
        .route("/read/{id}/{len}", get(read))
        .route("/write/{id}", post(write))
        .route("/stream/{id}/{pieces}", get(pieces))
        .route("/upload/{id}/{len}", post(upload))
        .route("/me/{id}", get(me))
        .route("/login/{id}", post(login))
        .route("/logout/{id}", post(logout))
}

impl Node {
    /// Notes that a request is carried out: what is killed now has it on file.
    fn note(&self, id: u64) -> Result<(), StatusCode> {
        let handled = self.handled.fetch_add(1, Ordering::Relaxed);
        match self.weakness {
            Weakness::Writes if handled % 64 == 63 => return Ok(()),
            Weakness::Memory => {
                let mut leak = self.leak.lock().unwrap_or_else(PoisonError::into_inner);
                leak.push(vec![1; 8 << 10]);
            }
            _ => {}
        }
        let line = format!("{id}\n");
        (&self.journal)
            .write_all(line.as_bytes())
            .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn answer(&self, id: u64, len: usize) -> Vec<u8> {
        let mut answer = content(id, len);
        if self.weakness == Weakness::Answers && id.is_multiple_of(64) {
            answer[0] ^= 1;
        }
        answer
    }
}

async fn read(
    _: Session,
    State(node): State<Arc<Node>>,
    Params((id, len)): Params<(u64, usize)>,
) -> Result<Vec<u8>, StatusCode> {
    node.note(id)?;
    Ok(node.answer(id, len.min(1 << 20)))
}

async fn write(
    _: Session,
    State(node): State<Arc<Node>>,
    Params(id): Params<u64>,
    body: Bytes,
) -> Result<Vec<u8>, StatusCode> {
    if *body != content(id, body.len()) {
        return Err(StatusCode::UNPROCESSABLE_ENTITY);
    }
    node.note(id)?;
    Ok(node.answer(!id, 32))
}

async fn pieces(
    _: Session,
    State(node): State<Arc<Node>>,
    Params((id, count)): Params<(u64, u64)>,
) -> Result<Body, StatusCode> {
    node.note(id)?;
    let pieces = stream::iter(0..count.min(1000)).then(move |number| async move {
        tokio::task::yield_now().await;
        Ok::<_, io::Error>(Bytes::from(content(id ^ (number << 40), PIECE)))
    });
    Ok(Body::from_stream(pieces))
}

/// Reads what is sent as it comes.
async fn upload(
    _: Session,
    State(node): State<Arc<Node>>,
    Params((id, len)): Params<(u64, usize)>,
    body: Body,
) -> Result<Vec<u8>, StatusCode> {
    const WRONG: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
    let expected = content(id, len.min(1 << 20));
    let mut rest = &expected[..];
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| StatusCode::BAD_REQUEST)?;
        rest = rest.strip_prefix(&*piece).ok_or(WRONG)?;
    }
    if !rest.is_empty() {
        return Err(WRONG);
    }
    node.note(id)?;
    Ok(node.answer(!id, 32))
}

async fn me(
    session: Session,
    State(node): State<Arc<Node>>,
    Params(id): Params<u64>,
) -> Result<String, StatusCode> {
    node.note(id)?;
    Ok(session.subject().unwrap_or_default().to_owned())
}

async fn login(
    session: Session,
    State(node): State<Arc<Node>>,
    Params(id): Params<u64>,
    user: String,
) -> Result<Result<(), StatusCode>, Refused> {
    session.login(&user).await?;
    Ok(node.note(id))
}

async fn logout(
    session: Session,
    State(node): State<Arc<Node>>,
    Params(id): Params<u64>,
) -> Result<Result<(), StatusCode>, Refused> {
    session.logout().await?;
    Ok(node.note(id))
}

/// A store that lacks a rule, to see that a run notices.
struct Weak {
    store: RedisStore,
    weakness: Weakness,
    /// What this node alone has seen.
    seen: Arc<Mutex<HashSet<[u8; 16]>>>,
}

impl Weak {
    fn new(store: RedisStore, weakness: Weakness) -> Self {
        Self {
            store,
            weakness,
            seen: Arc::default(),
        }
    }
}

impl Store for Weak {
    fn memory(&self) -> Memory {
        self.store.memory()
    }

    fn written(&self) -> u64 {
        self.store.written()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn on_ended(&self, tell: Tell) {
        self.store.on_ended(tell);
    }

    fn check_and_insert(&self, used: UsedProof) -> StoreFuture<'_, Verdict> {
        if self.weakness == Weakness::Ends {
            let used = UsedProof {
                session: self.nobody(&used.session),
                ..used
            };
            return self.store.check_and_insert(used);
        }
        Box::pin(async move {
            if self.store.is_revoked(used.session).await? {
                return Ok(Verdict::Revoked);
            }
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(if seen.insert(used.proof) {
                Verdict::Fresh
            } else {
                Verdict::Replayed
            })
        })
    }

    fn is_revoked(&self, session: SessionRef) -> StoreFuture<'_, bool> {
        self.store.is_revoked(session)
    }

    fn revoke(&self, ended: Ended) -> StoreFuture<'_, Ending> {
        self.store.revoke(ended)
    }

    fn replace(&self, replacement: Replacement) -> StoreFuture<'_, Ending> {
        self.store.replace(replacement)
    }

    fn begin_anew(&self, next: Memory) -> StoreFuture<'_, ()> {
        self.store.begin_anew(next)
    }
}

impl Weak {
    /// A session that nobody ends, in the place of this one.
    fn nobody(&self, session: &SessionRef) -> SessionRef {
        let mut nobody = session.clone();
        for byte in &mut nobody.session.0 {
            *byte ^= 0xff;
        }
        nobody.memory = self.store.memory().revocations;
        nobody
    }
}
