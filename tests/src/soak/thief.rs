//! Whoever has recorded what clients have sent, and sends it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bulla_protocol::error::Problem;
use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::World;
use super::chance::Chance;
use super::ledger::Wrong;
use super::wire::send_again;

/// So many times in a second, each thief.
const EVERY: Duration = Duration::from_millis(20);

/// The same request to this node itself, with the same `Host`.
pub(super) fn for_node(request: &Request<Bytes>, node: SocketAddr) -> Request<Bytes> {
    let mut sent = request.clone();
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    if let (Ok(uri), Some(host)) = (
        format!("http://{node}{path}").parse(),
        request.uri().authority(),
    ) && let Ok(host) = host.as_str().parse()
    {
        *sent.uri_mut() = uri;
        sent.headers_mut().insert("host", host);
    }
    sent
}

/// As it goes over the wire.
pub(super) fn written(request: &Request<Bytes>) -> Bytes {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let host = request.uri().authority().map_or("", |host| host.as_str());
    let mut head = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\n", request.method());
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        for part in [name.as_str(), ": ", &value, "\r\n"] {
            head.push_str(part);
        }
    }
    let end = format!("content-length: {}\r\n\r\n", request.body().len());
    [head.as_bytes(), end.as_bytes(), request.body()]
        .concat()
        .into()
}

/// Sends what was recorded again, until the run is over: what has just passed, or anything that ever did.
pub(super) async fn steal(world: Arc<World>, number: u64) {
    let mut chance = Chance::new(world.seed, 0x7417 + (number << 32));
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !world.is_over() {
        ticks.tick().await;
        let request = match chance.below(10) {
            0..5 => world.front.recorder.any(true, &mut chance),
            5..9 => world.front.recorder.any(false, &mut chance),
            _ => world.any_late(&mut chance),
        };
        let up = world.front.up();
        if let (Some(request), Some(node)) = (request, up.get(chance.index(up.len()))) {
            again(&world, *node, &request).await;
        }
    }
}

/// Sends all that is kept to every node once more.
pub(super) async fn steal_all(world: &World) {
    for node in world.front.up() {
        for request in world
            .front
            .recorder
            .all()
            .into_iter()
            .chain(world.all_late())
        {
            again(world, node, &request).await;
        }
    }
}

/// Sends one again. Whether it was carried out again, the journals say; what was answered in the open can be seen.
async fn again(world: &World, node: SocketAddr, request: &[u8]) {
    world.measure.count(|counts| counts.replays += 1);
    let answer = send_again(node, request).await;
    let told = match &answer {
        Ok(answer) => told(answer),
        Err(_) => "no answer",
    };
    if told == UNKNOWN {
        let answer = answer.unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
        world.wrong(
            Wrong::Answer,
            &format!("a replay was answered with {answer:?}"),
        );
    }
    // What was recorded was answered so once.
    if told == PLAIN && !may_be_repeated(request) {
        let line = request.split(|byte| *byte == b'\r').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default());
        world.wrong(Wrong::AcceptedReplay, &format!("{line} was answered again"));
    }
    world
        .measure
        .count(|counts| *counts.replays_answered.entry(told).or_default() += 1);
}

const PLAIN: &str = "200 in the open";
const UNKNOWN: &str = "neither a documented refusal nor an answer";

/// What can be seen of an answer from outside.
fn told(answer: &[u8]) -> &'static str {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return "no answer";
    };
    let (head, body) = answer.split_at(head + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if head.starts_with("http/1.1 200") {
        return if head.contains("message/bhttp") {
            "sealed, whatever it is"
        } else {
            PLAIN
        };
    }
    if head.starts_with("http/1.1 204") {
        return PLAIN;
    }
    let at = body.iter().position(|byte| *byte == b'{');
    let code = at.and_then(|at| {
        let end = body.iter().rposition(|byte| *byte == b'}')?;
        Problem::parse(body.get(at..=end)?)
    });
    code.map_or(UNKNOWN, |code| code.as_str())
}

/// Whether it is an opening that uses up no ticket: it makes a session that only its client can use.
fn may_be_repeated(request: &[u8]) -> bool {
    const OPENING: &[u8] = b"POST /.well-known/bulla/session ";
    let body = request.windows(4).position(|four| four == b"\r\n\r\n");
    let open = body.and_then(|end| serde_json::from_slice::<Value>(&request[end + 4..]).ok());
    request.starts_with(OPENING) && open.is_some_and(|open| open.get("ticket").is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_off_the_answer() {
        let refused = "HTTP/1.1 401 Unauthorized\r\n\r\n{\"type\":\"about:blank\",\"title\":\"a\",\"status\":401,\"detail\":\"b\",\"code\":\"replayed\"}";
        for (answer, expected) in [
            (refused, "replayed"),
            ("HTTP/1.1 200 OK\r\n\r\n", PLAIN),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: message/bhttp\r\n\r\n",
                "sealed, whatever it is",
            ),
            ("HTTP/1.1 404 Not Found\r\n\r\n", UNKNOWN),
            ("HTTP/1.1 404", "no answer"),
        ] {
            assert_eq!(told(answer.as_bytes()), expected, "{answer}");
        }
    }

    #[test]
    fn only_openings_without_a_ticket_may_be_repeated() {
        let opening =
            |body| format!("POST /.well-known/bulla/session HTTP/1.1\r\nhost: a\r\n\r\n{body}");
        assert!(may_be_repeated(opening("{}").as_bytes()));
        assert!(!may_be_repeated(opening("{\"ticket\":\"a\"}").as_bytes()));
        assert!(!may_be_repeated(opening("").as_bytes()));
        assert!(!may_be_repeated(b"POST /a HTTP/1.1\r\n\r\n{}"));
    }
}
