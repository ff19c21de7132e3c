//! Honest clients. Each knows what every answer must be.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulla_client::{Client, Code, Error, Mode, Prepared, ProofKind, ProofNonce, Session};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::sleep;

use super::World;
use super::chance::{Chance, content};
use super::ledger::Wrong;
use super::node::PIECE;

/// How long an application waits before it asks again, after it was refused.
const PAUSE: Duration = Duration::from_millis(25);
/// As often as a client sends a write again to which there was no answer.
const ATTEMPTS: usize = 3;

/// Why a step did not end well.
enum Miss {
    Failed(Error),
    Wrong(String),
}

type Step<T = ()> = Result<T, Miss>;

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What none of ours gives.
fn broken(error: impl fmt::Display) -> Miss {
    Miss::Wrong(error.to_string())
}

struct Actor {
    world: Arc<World>,
    chance: Chance,
    client: Client,
    /// It only signs what it fetches.
    is_signed: bool,
    name: String,
    session: Option<Session>,
    /// Who has logged in to it.
    user: Option<String>,
}

/// A client that asks one thing after another until the run is over.
pub(super) async fn act(world: Arc<World>, number: u64, http: reqwest::Client) {
    let is_signed = number % 4 == 3;
    let client = Client::builder(world.front.origin())
        .identity(world.identity)
        .seal(!is_signed)
        .http(http)
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return world.wrong(Wrong::Answer, &error.to_string()),
    };
    let mut actor = Actor {
        chance: Chance::new(world.seed, number + 1),
        client,
        is_signed,
        name: format!("user-{number}"),
        session: None,
        user: None,
        world,
    };
    while !actor.world.is_over() {
        actor.step().await;
    }
}

impl Actor {
    async fn step(&mut self) {
        let (began, start) = (self.world.timeline.now(), Instant::now());
        let chosen = self.chance.below(1000);
        let what = match chosen {
            0..420 => "reads",
            420..660 => "writes",
            660..770 => "writes proved by hand",
            770..790 => "writes to two nodes at once",
            790..860 => "streams",
            860..900 => "uploads",
            900..975 => "questions who it is",
            975..990 => "logins",
            990..997 => "logouts",
            _ => "ends",
        };
        let done = match chosen {
            0..420 => self.read().await,
            420..660 => self.write().await,
            660..770 => self.write_by_hand().await,
            770..790 => self.race().await,
            790..860 => self.stream().await,
            860..900 => self.upload().await,
            900..975 => self.who().await,
            975..990 => self.log_in().await,
            990..997 => self.leave(false).await,
            _ => self.leave(true).await,
        };
        match done {
            Ok(()) => self.world.measure.good(what, start.elapsed()),
            Err(Miss::Failed(error)) => {
                self.world.measure.refused(error.code);
                if !self.world.timeline.explains(error.code, began) {
                    self.wrong(&format!("{what}: {error}, after {:?}", start.elapsed()));
                }
                sleep(PAUSE).await;
            }
            Err(Miss::Wrong(said)) => self.wrong(&format!("{what}: {said}")),
        }
    }

    fn wrong(&self, what: &str) {
        self.world.wrong(Wrong::Answer, what);
    }

    async fn session(&mut self) -> Step<Session> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        self.user = None;
        let session = self.client.open().await?;
        self.session = Some(session.clone());
        Ok(session)
    }

    /// How much is read or written: mostly little.
    fn len(&mut self) -> usize {
        let end = if self.chance.one_in(32) {
            150_000
        } else {
            1500
        };
        self.chance.index(end)
    }

    async fn read(&mut self) -> Step {
        let (id, len) = (self.world.ledger.issue(), self.len());
        let request = Request::get(format!("/read/{id}/{len}")).body(Bytes::new());
        let session = self.session().await?;
        let reply = session.fetch(request.map_err(broken)?).await?;
        self.expect(id, &whole(reply).await?, &content(id, len))
    }

    async fn write(&mut self) -> Step {
        let id = self.world.ledger.issue();
        let session = self.session().await?;
        let reply = session.fetch(self.order(id)?).await?;
        self.expect(id, &whole(reply).await?, &content(!id, 32))
    }

    fn order(&mut self, id: u64) -> Step<Request<Bytes>> {
        let body = content(id, self.len());
        let request = Request::post(format!("/write/{id}")).body(body.into());
        request.map_err(broken)
    }

    fn expect(&self, id: u64, reply: &Response<Bytes>, content: &[u8]) -> Step {
        if reply.status() != StatusCode::OK {
            return Err(Miss::Wrong(format!("request {id}: {}", reply.status())));
        }
        if *reply.body() != content {
            let (is, wanted) = (reply.body().len(), content.len());
            return Err(Miss::Wrong(format!(
                "request {id}: {is} bytes that are not the {wanted} expected"
            )));
        }
        self.world.ledger.answered(id);
        Ok(())
    }

    /// What is sent again is the same, byte by byte, unless it was refused for its nonce.
    async fn write_by_hand(&mut self) -> Step {
        let id = self.world.ledger.issue();
        let session = self.session().await?;
        let order = self.order(id)?;
        let mut prepared = self.prepare(&session, order.clone(), None)?;
        let mut was_lost = false;
        for _ in 0..ATTEMPTS {
            match send(&self.client, &prepared).await {
                Ok(reply) => return self.expect(id, &reply, &content(!id, 32)),
                Err(error) if error.code == Code::NonceStale => {
                    // A thief may bring it to a node to which it is not stale.
                    was_lost = true;
                    // The next nonce comes with any other answer.
                    self.who().await?;
                    prepared = self.prepare(&session, order.clone(), Some(prepared.nonce))?;
                }
                Err(error) if matches!(error.code, Code::Network | Code::ReplyTruncated) => {
                    was_lost = true;
                    self.world.measure.count(|counts| counts.resent += 1);
                    sleep(PAUSE).await;
                }
                // It was carried out, or given up on the way after that.
                Err(error) if error.code == Code::Replayed && was_lost => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The same write to two nodes at once: one takes it, and the other has seen it.
    async fn race(&mut self) -> Step {
        let up = self.world.front.up();
        if up.len() < 2 {
            return Ok(());
        }
        let id = self.world.ledger.issue();
        let session = self.session().await?;
        let order = self.order(id)?;
        let prepared = self.prepare(&session, order, None)?;
        let first = self.chance.index(up.len());
        let [here, there] = [up[first], up[(first + 1) % up.len()]];
        let (one, other) = tokio::join!(
            send_to(&self.client, &prepared, here),
            send_to(&self.client, &prepared, there)
        );
        self.world.measure.count(|counts| counts.races += 1);
        match (one, other) {
            (Ok(_), Ok(_)) => {
                let what = format!("request {id} was taken by two nodes at once");
                self.world.wrong(Wrong::AcceptedReplay, &what);
                Ok(())
            }
            (Ok(reply), Err(error)) | (Err(error), Ok(reply)) => {
                self.expect(id, &reply, &content(!id, 32))?;
                match error.code {
                    // By the clock of that node it may be.
                    Code::Replayed | Code::NonceStale => Ok(()),
                    _ => Err(error.into()),
                }
            }
            // Both were too late, or one answer was lost.
            (Err(one), Err(other)) => match (one.code, other.code) {
                (Code::NonceStale, _) | (_, Code::NonceStale) => self.who().await,
                (Code::Replayed, _) => Err(other.into()),
                _ => Err(one.into()),
            },
        }
    }

    async fn stream(&mut self) -> Step {
        let (id, count) = (self.world.ledger.issue(), self.chance.below(20) + 1);
        let request = Request::get(format!("/stream/{id}/{count}")).body(Bytes::new());
        let session = self.session().await?;
        let reply = session.fetch(request.map_err(broken)?).await?;
        let pieces = (0..count).map(|number| content(id ^ (number << 40), PIECE));
        let expected: Vec<u8> = pieces.flatten().collect();
        self.expect(id, &whole(reply).await?, &expected)
    }

    async fn upload(&mut self) -> Step {
        if self.is_signed {
            return self.read().await;
        }
        let (id, len) = (self.world.ledger.issue(), self.chance.index(200_000));
        let body = Bytes::from(content(id, len));
        let make = move || Full::new(body.clone());
        let request = Request::post(format!("/upload/{id}/{len}")).body(make);
        let session = self.session().await?;
        let reply = session.upload(request.map_err(broken)?).await?;
        self.expect(id, &whole(reply).await?, &content(!id, 32))
    }

    /// The server's word on who is logged in, against what the client has been told.
    async fn who(&mut self) -> Step {
        let id = self.world.ledger.issue();
        let request = Request::get(format!("/me/{id}")).body(Bytes::new());
        let session = self.session().await?;
        let reply = session.fetch(request.map_err(broken)?).await?;
        let expected = if session.is_authenticated() {
            self.user.clone().unwrap_or_default()
        } else {
            self.user = None;
            String::new()
        };
        self.expect(id, &whole(reply).await?, expected.as_bytes())
    }

    async fn log_in(&mut self) -> Step {
        let id = self.world.ledger.issue();
        let user = format!("{}-{}", self.name, self.chance.below(3));
        let request = Request::post(format!("/login/{id}")).body(user.clone());
        let session = self.session().await?;
        // Whoever does not hear of it cannot say who it is: another session tells.
        let logged_in = session.fetch(request.map_err(broken)?).await;
        let reply = match logged_in {
            Ok(reply) => whole(reply).await,
            Err(error) => Err(error.into()),
        };
        match reply {
            Ok(reply) => {
                self.user = Some(user);
                self.expect(id, &reply, b"")?;
                if !session.is_authenticated() {
                    return Err(Miss::Wrong(format!("request {id}: nobody is logged in")));
                }
                self.who().await
            }
            Err(miss) => {
                self.session = None;
                Err(miss)
            }
        }
    }

    /// Logs out, or ends the session, and sends what was proved before: nothing of it may be taken.
    async fn leave(&mut self, is_end: bool) -> Step {
        let session = self.session().await?;
        // Its nonce may be from long ago.
        self.who().await?;
        let late: Vec<_> = (0..3)
            .map(|_| {
                let id = self.world.ledger.issue();
                let order = self.order(id)?;
                Ok((id, self.prepare(&session, order, None)?))
            })
            .collect::<Step<_>>()?;
        self.session = None;
        if is_end {
            session.end().await?;
        } else {
            let id = self.world.ledger.issue();
            let request = Request::post(format!("/logout/{id}")).body(Bytes::new());
            let reply = session.fetch(request.map_err(broken)?).await?;
            self.expect(id, &whole(reply).await?, b"")?;
        }
        for (id, prepared) in late {
            self.world.ledger.forbid(id);
            for node in self.world.front.up() {
                self.world.measure.count(|counts| counts.after_end += 1);
                if send_to(&self.client, &prepared, node).await.is_ok() {
                    let what = format!("request {id} was answered after its session's end");
                    self.world.wrong(Wrong::AfterEnd, &what);
                }
            }
            // For whoever tries again later.
            self.world.keep_late(&prepared.request);
        }
        Ok(())
    }

    fn prepare(
        &self,
        session: &Session,
        request: Request<Bytes>,
        before: Option<ProofNonce>,
    ) -> Step<Prepared> {
        let mut nonce = session.fresh_nonce()?;
        if let Some(before) = before {
            nonce.random = before.random;
        }
        let mode = if self.is_signed {
            Mode::Signed
        } else {
            Mode::Sealed
        };
        Ok(session.prepare(request, mode, ProofKind::Device, nonce)?)
    }
}

async fn whole(reply: Response<bulla_client::Body>) -> Step<Response<Bytes>> {
    let (parts, body) = reply.into_parts();
    Ok(Response::from_parts(parts, body.bytes().await?))
}

async fn send(client: &Client, prepared: &Prepared) -> Result<Response<Bytes>, Error> {
    let reply = client.send_unverified(prepared.request.clone()).await?;
    prepared.open_reply(reply).await
}

/// Sends it to this node, past whatever stands before it.
async fn send_to(
    client: &Client,
    prepared: &Prepared,
    node: std::net::SocketAddr,
) -> Result<Response<Bytes>, Error> {
    let request = super::thief::for_node(&prepared.request, node);
    let reply = client.send_unverified(request).await?;
    prepared.open_reply(reply).await
}
