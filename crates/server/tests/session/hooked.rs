//! The memory store, shared, and with a hook before each of its steps.

use std::sync::{Arc, Mutex};

use bulla_server::store::{
    Ended, Ending, Memory, Replacement, SessionRef, StoreFuture, UsedProof, Verdict,
};
use bulla_server::{MemoryStore, Store};

/// A step of the verifier's at its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    CheckAndInsert,
    IsRevoked,
    Revoke,
    Replace,
    BeginAnew,
}

type Hook = dyn Fn(Step) -> StoreFuture<'static, ()> + Send + Sync;

/// Does what a memory store does, once the hook has let it.
#[derive(Clone)]
pub(crate) struct Hooked {
    store: Arc<Mutex<Arc<MemoryStore>>>,
    before: Arc<Hook>,
}

impl Hooked {
    pub(crate) fn new(
        before: impl Fn(Step) -> StoreFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            store: Arc::new(Mutex::new(Arc::new(MemoryStore::new().unwrap()))),
            before: Arc::new(before),
        }
    }

    /// Puts this one in the place of the one that is there.
    pub(crate) fn put(&self, store: MemoryStore) {
        *self.store.lock().unwrap() = Arc::new(store);
    }

    fn there(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.store.lock().unwrap())
    }

    fn after_hook<T>(
        &self,
        step: Step,
        work: impl FnOnce(&MemoryStore) -> StoreFuture<'_, T> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        Box::pin(async move {
            (self.before)(step).await?;
            work(&self.there()).await
        })
    }
}

impl Store for Hooked {
    fn memory(&self) -> Memory {
        self.there().memory()
    }

    fn written(&self) -> u64 {
        self.there().written()
    }

    fn check_and_insert(&self, used: UsedProof) -> StoreFuture<'_, Verdict> {
        self.after_hook(Step::CheckAndInsert, |store| store.check_and_insert(used))
    }

    fn is_revoked(&self, session: SessionRef) -> StoreFuture<'_, bool> {
        self.after_hook(Step::IsRevoked, |store| store.is_revoked(session))
    }

    fn revoke(&self, ended: Ended) -> StoreFuture<'_, Ending> {
        self.after_hook(Step::Revoke, |store| store.revoke(ended))
    }

    fn replace(&self, replacement: Replacement) -> StoreFuture<'_, Ending> {
        self.after_hook(Step::Replace, |store| store.replace(replacement))
    }

    fn begin_anew(&self, next: Memory) -> StoreFuture<'_, ()> {
        self.after_hook(Step::BeginAnew, move |store| store.begin_anew(next))
    }
}
