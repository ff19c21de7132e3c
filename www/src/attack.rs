//! The thief's console: five attacks, each on both banks, and what came of them.
//!
//! An attack has three acts. The page arms it, the victim does something in the page, the thief
//! strikes. What is reported is what was sent and what came back; who gained what is read off the
//! banks' books.
//!
//! Beside these he makes rules fire: by what is refused each time, and done too often.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bulla_server::{Bulla, Rule, SessionId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bank::Bank;
use crate::clock::MovableClock;
use crate::counter::sorry;
use crate::feed::Feed;
use crate::message::Message;
use crate::rules;
use crate::tap::{Catch, Side, Tap, visitor};
use crate::thief::{Failed, Spoils, Thief};

/// What the thief takes with a copied token, in cents.
const STOLEN: u64 = 300_00;

/// How long he keeps a request: longer than a nonce is taken, much shorter than a session lasts. In
/// seconds.
const LATER: u64 = 5 * 60;

/// What the thief tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Attack {
    /// The session's token, used from another client.
    Token,
    /// A recorded request, sent again.
    Replay,
    /// A request that is changed on the way.
    Change,
    /// A request that is held back, and sent much later.
    Keep,
    /// A reply that is handed out for another one.
    Swap,
    /// A request that is as good as any, and comes from another network: so it is where the whole browser was
    /// copied. It is for a rule to see, and there is nothing to strike with.
    Elsewhere,
}

/// What the console works with.
#[derive(Clone)]
pub(crate) struct Console {
    pub(crate) thief: Thief,
    pub(crate) tap: Tap,
    pub(crate) feed: Feed,
    pub(crate) bulla: Bulla,
    pub(crate) clock: MovableClock,
    pub(crate) protected: Bank,
    pub(crate) twin: Bank,
}

/// What came of an attack.
#[derive(Serialize)]
struct Report {
    /// The thief's own device key.
    device: String,
    /// How far the server's clock was moved, in seconds.
    later: u64,
    protected: Attempt,
    twin: Attempt,
}

/// One attack on one bank.
#[derive(Default, Serialize)]
struct Attempt {
    /// What the thief sent, if he sent anything.
    sent: Option<Message>,
    /// What came back to him.
    answer: Option<Message>,
    /// The refusal's code, and its sentence.
    code: Option<String>,
    detail: Option<String>,
    /// Who told the code: the answer, or, where even the refusal came sealed, the server's own report.
    told_by: Option<&'static str>,
    /// A reply was handed out for another one.
    swapped: bool,
    /// What the thief has gained, in cents.
    gained: u64,
}

#[derive(Deserialize)]
struct Arm {
    attack: Attack,
}

#[derive(Deserialize)]
struct Strike {
    attack: Attack,
    spoils: Spoils,
}

#[derive(Deserialize)]
struct Provoke {
    rule: String,
    spoils: Spoils,
}

/// The console, below `/thief`.
pub(crate) fn routes(console: Console) -> Router {
    Router::new()
        .route("/thief/arm", post(arm))
        .route("/thief/strike", post(strike))
        .route("/thief/provoke", post(provoke))
        .with_state(console)
}

async fn arm(
    State(console): State<Console>,
    headers: HeaderMap,
    Json(Arm { attack }): Json<Arm>,
) -> Result<StatusCode, Failed> {
    let visitor = visitor(&headers).ok_or(Failed::Loot)?;
    console.tap.watch(&visitor, attack, console.balances());
    Ok(StatusCode::NO_CONTENT)
}

async fn strike(
    State(console): State<Console>,
    headers: HeaderMap,
    Json(Strike { attack, spoils }): Json<Strike>,
) -> Result<Json<Report>, Failed> {
    let visitor = visitor(&headers).ok_or(Failed::Loot)?;
    let watch = console.tap.take(&visitor).ok_or(Failed::NothingCaught)?;
    if watch.attack != attack {
        return Err(Failed::NothingCaught);
    }
    let before = match attack {
        // The victim's own payment to him is no gain of this attack.
        Attack::Replay => console.balances(),
        _ => watch.balances,
    };
    let later = if attack == Attack::Keep { LATER } else { 0 };
    console.clock.advance(later);

    let (for_protected, for_twin) = match attack {
        Attack::Token => (
            Some(console.thief.pose_as(&spoils, STOLEN).await?),
            Some(Thief::use_token(&spoils, STOLEN)?),
        ),
        Attack::Replay | Attack::Keep => {
            (watch.protected.request.clone(), watch.twin.request.clone())
        }
        Attack::Change | Attack::Swap | Attack::Elsewhere => (None, None),
    };
    let attempt = |side, request, catch| console.attempt(side, request, catch, &spoils);
    let mut protected = attempt(Side::Protected, for_protected, watch.protected).await?;
    let mut twin = attempt(Side::Twin, for_twin, watch.twin).await?;
    let after = console.balances();
    for ((attempt, before), after) in [&mut protected, &mut twin]
        .into_iter()
        .zip(before)
        .zip(after)
    {
        attempt.gained = after.saturating_sub(before);
    }
    Ok(Json(Report {
        device: console.thief.device().to_string(),
        later,
        protected,
        twin,
    }))
}

/// Does what a rule is about as often as it takes, and tells whether it has fired.
async fn provoke(
    State(console): State<Console>,
    Json(Provoke { rule, spoils }): Json<Provoke>,
) -> Result<Json<Value>, Failed> {
    let rule = Rule::ALL.into_iter().find(|known| known.name() == rule);
    let rule = rule.ok_or(Failed::Loot)?;
    let session = console.pseudonym(&spoils).ok_or(Failed::Loot)?;
    let newest = console.feed.newest();
    for _ in 0..rules::count(rule) {
        let request = match rule {
            Rule::MissingProof => Thief::show_ticket(&spoils)?,
            Rule::ForeignTicket => console.thief.take_over(&spoils)?,
            Rule::Refusals => console.thief.pose_as(&spoils, STOLEN).await?,
            _ => return Err(Failed::NothingCaught),
        };
        console.thief.send(request).await?;
    }
    let has_fired = console.feed.has_fired_after(newest, &session, rule);
    Ok(Json(json!({ "fired": has_fired })))
}

impl Console {
    /// What the victim's session is called in reports.
    fn pseudonym(&self, spoils: &Spoils) -> Option<String> {
        let session: SessionId = spoils.session.parse().ok()?;
        Some(self.bulla.pseudonyms().session(session).to_string())
    }

    /// Sends a request, unless the one on the way has done the work already, and looks at the answer.
    async fn attempt(
        &self,
        side: Side,
        request: Option<http::Request<Bytes>>,
        catch: Catch,
        spoils: &Spoils,
    ) -> Result<Attempt, Failed> {
        let newest = self.feed.newest();
        let (request, reply) = match (request, catch.changed) {
            (Some(request), _) => (request.clone(), self.thief.send(request).await?),
            (None, Some(done)) => done,
            (None, None) if catch.swapped => {
                return Ok(Attempt {
                    swapped: true,
                    ..Attempt::default()
                });
            }
            (None, None) => return Err(Failed::NothingCaught),
        };
        let mut attempt = Attempt {
            sent: Some(Message::request(&request)),
            answer: Some(Message::answer(&reply)),
            ..Attempt::default()
        };
        let told = |name: &str| {
            let problem: Value = serde_json::from_slice(reply.body()).ok()?;
            Some(problem.get(name)?.as_str()?.to_owned())
        };
        if let Some(code) = told("code") {
            attempt.code = Some(code);
            attempt.detail = told("detail");
            attempt.told_by = Some("answer");
        } else if side == Side::Protected
            && let Some(name) = self.pseudonym(spoils)
            && let Some(refusal) = self.feed.refusal_after(newest, &name)
        {
            attempt.code = refusal.code.map(str::to_owned);
            attempt.detail = refusal.detail.map(str::to_owned);
            attempt.told_by = Some("server");
        }
        Ok(attempt)
    }

    /// What the thief has at both banks, in cents.
    fn balances(&self) -> [u64; 2] {
        [self.protected.thiefs_balance(), self.twin.thiefs_balance()]
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        sorry(StatusCode::CONFLICT, &self.to_string())
    }
}
