//! Faults, one after another, each with a quiet time behind it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::Instant;

use super::chance::Chance;
use super::cluster::Cluster;
use super::timeline::Kind;
use super::wire::Line;
use super::{Outcome, Pids, Settings, World};

/// The node that is never killed: of this one it can be said whether its memory grows.
pub(super) const KEPT: usize = 0;

/// Carries faults out until the run is over. What is left undone by one that fails goes with the cluster.
pub(super) async fn run(
    world: &World,
    cluster: &mut Cluster,
    pids: &watch::Sender<Pids>,
    settings: &Settings,
) -> Outcome {
    let Settings { fault, quiet, .. } = *settings;
    let mut chance = Chance::new(world.seed, 0xfa17);
    let end = Instant::now() + settings.length;
    let mut left = settings.faults.unwrap_or(usize::MAX);
    let mut bag = Vec::new();
    world.rest(quiet).await;
    while left > 0 && Instant::now() + fault * 3 / 2 + quiet <= end && !world.is_over() {
        if bag.is_empty() {
            bag.clone_from(&settings.kinds);
            bag.retain(|kind| cluster.packets.is_ok() || !kind.is_of_packets());
            chance.shuffle(&mut bag);
        }
        let Some(kind) = bag.pop() else { break };
        let length = fault / 2 + fault * u32::try_from(chance.below(100))? / 100;
        one(world, cluster, kind, length, &mut chance).await?;
        pids.send_replace((cluster.pids(), cluster.redis.pid()));
        world.rest(quiet).await;
        left -= 1;
    }
    if left > 0 {
        world
            .rest(end.saturating_duration_since(Instant::now()))
            .await;
    }
    Ok(())
}

async fn one(
    world: &World,
    cluster: &mut Cluster,
    kind: Kind,
    length: Duration,
    chance: &mut Chance,
) -> Outcome {
    let deed = Deed::new(kind, cluster.nodes.len(), chance);
    if kind == Kind::RedisRestart {
        block_in_place(|| cluster.redis.ask(&["SAVE"]))?;
        // What happens until it is killed it will not know.
        world.rest(length / 2).await;
    }
    let number = world.timeline.begin(kind, deed.detail());
    block_in_place(|| deed.begin(cluster))?;
    world.rest(length).await;
    block_in_place(|| deed.end(cluster))?;
    world.timeline.end(number, deed.lasts());
    Ok(())
}

/// A fault, with all that is left to chance.
struct Deed {
    kind: Kind,
    /// Whose fault it is, where it is that of a node.
    node: usize,
    /// How much of it: what that is depends on the kind.
    amount: u32,
}

impl Deed {
    /// By how many seconds clocks are wrong.
    const JUMPS: [i64; 6] = [-7200, -100, -20, 20, 100, 7200];

    fn new(kind: Kind, nodes: usize, chance: &mut Chance) -> Self {
        let node = match kind {
            Kind::NodeKilled => KEPT + 1 + chance.index(nodes.saturating_sub(1)),
            _ => chance.index(nodes),
        };
        let (least, end) = match kind {
            Kind::ClockJump => (0, Self::JUMPS.len() as u64),
            Kind::LinkSlow => (20, 320),
            Kind::ClientsSlow => (10, 160),
            Kind::ClientsCut => (10, 40),
            Kind::PacketLoss => (2, 17),
            _ => (0, 1),
        };
        let amount = least + chance.below(end - least);
        Self {
            kind,
            node,
            amount: u32::try_from(amount).unwrap_or_default(),
        }
    }

    fn detail(&self) -> String {
        let Self { node, amount, .. } = self;
        match self.kind {
            Kind::NodeKilled | Kind::NodeFrozen | Kind::LinkDown | Kind::PacketDelay => {
                format!("node {node}")
            }
            Kind::ClockJump => format!("node {node}, by {} s", self.jump()),
            Kind::LinkSlow => format!("node {node}, {amount} ms later"),
            Kind::ClientsSlow => format!("{amount} ms later"),
            Kind::ClientsCut => format!("one of {amount}"),
            Kind::PacketLoss => format!("node {node}, {amount} of 100"),
            _ => String::new(),
        }
    }

    fn jump(&self) -> i64 {
        let jump = usize::try_from(self.amount)
            .ok()
            .and_then(|at| Self::JUMPS.get(at));
        jump.copied().unwrap_or_default()
    }

    /// A clock that was ahead by a minute or less stands still until time has caught up with it.
    fn lasts(&self) -> Duration {
        match (self.kind, self.jump()) {
            (Kind::ClockJump, jump @ 1..=60) => Duration::from_secs(jump.unsigned_abs()),
            _ => Duration::ZERO,
        }
    }

    /// How a line is, where this is about one.
    fn line(&self) -> Line {
        let delay = Duration::from_millis(self.amount.into());
        match self.kind {
            Kind::LinkDown => Line {
                is_down: true,
                ..Line::default()
            },
            Kind::ClientsCut => Line {
                cuts: self.amount.into(),
                ..Line::default()
            },
            _ => Line {
                delay,
                ..Line::default()
            },
        }
    }

    fn begin(&self, cluster: &mut Cluster) -> Outcome {
        let node = &mut cluster.nodes[self.node];
        match self.kind {
            Kind::RedisRestart | Kind::RedisLost => cluster.redis.kill()?,
            Kind::RedisFrozen => cluster.redis.freeze()?,
            Kind::RedisFull => limit(cluster, "1")?,
            Kind::NodeKilled => cluster.kill(self.node),
            Kind::NodeFrozen => node.freeze(true)?,
            Kind::ClockJump => node.set_ahead(self.jump())?,
            Kind::LinkDown | Kind::LinkSlow => drop(node.back.line.send_replace(self.line())),
            Kind::ClientsSlow | Kind::ClientsCut => {
                cluster.front.line.send_replace(self.line());
            }
            Kind::PacketLoss | Kind::PacketDelay => {
                if let (Ok(packets), Some(namespace)) = (&cluster.packets, &node.namespace) {
                    match self.kind {
                        Kind::PacketLoss => namespace.lose(*packets, self.amount)?,
                        _ => namespace.hold(*packets)?,
                    }
                }
            }
            // It comes by itself.
            Kind::RingRotated => {}
        }
        Ok(())
    }

    fn end(&self, cluster: &mut Cluster) -> Outcome {
        let node = &mut cluster.nodes[self.node];
        match self.kind {
            Kind::RedisRestart => cluster.redis.start_again()?,
            Kind::RedisLost => cluster.redis.start_again_empty()?,
            Kind::RedisFrozen => cluster.redis.thaw()?,
            Kind::RedisFull => limit(cluster, "0")?,
            Kind::NodeKilled => cluster.begin(self.node)?,
            Kind::NodeFrozen => node.freeze(false)?,
            Kind::ClockJump => node.set_ahead(0)?,
            Kind::LinkDown | Kind::LinkSlow => drop(node.back.line.send_replace(Line::default())),
            Kind::ClientsSlow | Kind::ClientsCut => {
                cluster.front.line.send_replace(Line::default());
            }
            Kind::PacketLoss | Kind::PacketDelay => {
                if let Some(namespace) = &node.namespace {
                    namespace.heal();
                }
            }
            Kind::RingRotated => {}
        }
        Ok(())
    }
}

/// How much memory Redis may have, in bytes; 0 for as much as it likes.
fn limit(cluster: &Cluster, most: &str) -> Outcome {
    cluster.redis.ask(&["CONFIG", "SET", "maxmemory", most])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_whose_memory_is_judged_is_never_killed() {
        let mut chance = Chance::new(1, 1);
        let killed = (0..100).map(|_| Deed::new(Kind::NodeKilled, 3, &mut chance).node);
        let mut killed: Vec<_> = killed.collect();
        killed.sort_unstable();
        killed.dedup();
        assert_eq!(killed, [1, 2]);
    }
}
