//! What has happened, for pages to follow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bulla_server::{Rule, SecurityEvent};
use futures_util::Stream;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// As many are kept for pages that open later, and wait for one that is slow.
const KEPT: usize = 200;

/// Something that has happened, numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Item {
    pub(super) number: u64,
    #[serde(flatten)]
    pub(super) what: What,
}

/// What stands in the feed. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct What {
    pub(super) time: u64,
    pub(super) kind: &'static str,
    pub(super) code: Option<&'static str>,
    pub(super) detail: Option<String>,
    pub(super) session: Option<String>,
    pub(super) device: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) network: Option<String>,
    pub(super) path: Option<String>,
    /// Which login of an operator has done it.
    pub(super) by: Option<String>,
}

impl From<&SecurityEvent> for What {
    fn from(event: &SecurityEvent) -> Self {
        let name = |name: Option<bulla_server::Pseudonym>| name.map(|name| name.to_string());
        let error = event.kind.error();
        Self {
            time: event.time,
            kind: event.kind.name(),
            code: error
                .map(|error| error.code.as_str())
                .or(event.kind.rule().map(Rule::name))
                .or(event.kind.noticed()),
            detail: error.map(|error| error.detail.to_owned()),
            session: name(event.session),
            device: name(event.device),
            subject: name(event.subject),
            network: name(event.network),
            path: event.path.clone(),
            by: None,
        }
    }
}

/// The latest of all that has happened.
pub(super) struct Feed {
    kept: Mutex<Kept>,
    news: broadcast::Sender<Arc<Item>>,
}

#[derive(Default)]
struct Kept {
    last: u64,
    items: VecDeque<Arc<Item>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            news: broadcast::Sender::new(KEPT),
        }
    }
}

impl Feed {
    pub(super) fn push(&self, what: What) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last += 1;
        let item = Arc::new(Item {
            number: kept.last,
            what,
        });
        if kept.items.len() >= KEPT {
            kept.items.pop_front();
        }
        kept.items.push_back(Arc::clone(&item));
        // Under the lock, so that they come in their order. Nobody may be listening.
        let _ = self.news.send(item);
    }

    /// Those after this number that are kept, and from then on each as it comes. Who is slow misses the oldest; the numbers
    /// tell.
    pub(super) fn after(&self, number: u64) -> impl Stream<Item = Arc<Item>> + Send + use<> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let news = self.news.subscribe();
        // A number from before a start says nothing of these.
        let number = if number > kept.last { 0 } else { number };
        let mut old = kept.items.clone();
        drop(kept);
        old.retain(|item| item.number > number);
        stream::unfold((old, news), |(mut old, mut news)| async move {
            if let Some(item) = old.pop_front() {
                return Some((item, (old, news)));
            }
            loop {
                match news.recv().await {
                    Ok(item) => return Some((item, (old, news))),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    fn push(feed: &Feed, count: usize) {
        for _ in 0..count {
            feed.push(What::default());
        }
    }

    async fn numbers(stream: impl Stream<Item = Arc<Item>>, count: usize) -> Vec<u64> {
        let items: Vec<_> = stream.take(count).collect().await;
        items.iter().map(|item| item.number).collect()
    }

    #[tokio::test]
    async fn what_was_is_told_before_what_comes() {
        let feed = Feed::default();
        push(&feed, 2);
        let (all, rest, restarted) = (feed.after(0), feed.after(2), feed.after(9));
        push(&feed, 1);
        assert_eq!(numbers(all, 3).await, [1, 2, 3]);
        assert_eq!(numbers(rest, 1).await, [3]);
        assert_eq!(numbers(restarted, 3).await, [1, 2, 3]);
    }

    #[tokio::test]
    async fn who_is_slow_misses_the_oldest() {
        let feed = Feed::default();
        let slow = feed.after(0);
        push(&feed, KEPT * 3);
        let first = numbers(slow, 1).await[0];
        // A channel may keep a few more than it was asked to.
        assert!(
            (KEPT as u64..=2 * KEPT as u64 + 1).contains(&first),
            "{first}"
        );
        assert_eq!(numbers(feed.after(0), 1).await, [2 * KEPT as u64 + 1]);
    }
}
