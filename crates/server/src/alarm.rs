//! Wakes up who waits for a time, by the clock that was handed in.
//!
//! Clocks are moved: by tests, by the network, while a machine sleeps. So nobody sleeps until a time: a
//! thread looks at the clock once a second, for as long as anybody waits. It needs no async runtime.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::bulla::Bulla;

/// Everybody who waits, by the second since 1970 and a number of his own.
#[derive(Default)]
pub(crate) struct Alarms(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    wakers: BTreeMap<(u32, u64), Waker>,
    last: u64,
    /// Whether the thread runs.
    is_watched: bool,
}

/// Resolves at its time.
pub(crate) struct Alarm {
    bulla: Bulla,
    at: u32,
    /// Its number, and who was to be woken when it was last polled.
    set: Option<(u64, Waker)>,
}

impl Alarm {
    /// `at` is in seconds since 1970.
    pub(crate) fn new(bulla: &Bulla, at: u32) -> Self {
        Self {
            bulla: bulla.clone(),
            at,
            set: None,
        }
    }

    fn register(&mut self, waker: &Waker) {
        let mut waiting = self.bulla.0.alarms.lock();
        let number = if let Some((number, _)) = &self.set {
            *number
        } else {
            waiting.last += 1;
            waiting.last
        };
        waiting.wakers.insert((self.at, number), waker.clone());
        if !waiting.is_watched {
            // Without a thread nobody is woken: a stream ends when it next has data, and a slow body is cut off when
            // somebody next looks, if anybody does.
            waiting.is_watched = watch(&self.bulla);
        }
        // The old waker may be a task's last: whatever goes with it must find no lock.
        drop(waiting);
        self.set = Some((number, waker.clone()));
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.bulla.now() >= self.at {
            return Poll::Ready(());
        }
        let is_set = self.set.as_ref();
        if !is_set.is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            self.register(cx.waker());
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some((number, _)) = self.set {
            self.bulla.0.alarms.lock().wakers.remove(&(self.at, number));
        }
    }
}

impl Alarms {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing is left half done by whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those whose time has come, again and again until they go. `None` if nobody waits any more, and the
    /// thread may go.
    fn due(&self, now: u32) -> Option<Vec<Waker>> {
        let mut waiting = self.lock();
        waiting.is_watched = !waiting.wakers.is_empty();
        let due = waiting.wakers.range(..=(now, u64::MAX));
        waiting
            .is_watched
            .then(|| due.map(|(_, waker)| waker.clone()).collect())
    }
}

/// Looks at the clock until nobody waits. `false` if there can be no thread.
fn watch(bulla: &Bulla) -> bool {
    let inner = Arc::downgrade(&bulla.0);
    let watch = move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            let Some(bulla) = inner.upgrade().map(Bulla) else {
                return;
            };
            let Some(due) = bulla.0.alarms.due(bulla.now()) else {
                return;
            };
            due.into_iter().for_each(Waker::wake);
        }
    };
    let thread = thread::Builder::new().name("bulla-alarm".into());
    thread.spawn(watch).is_ok()
}
