//! The memory store, shared, and with a hook before each of its steps.

use std::sync::Arc;

use bulla_server::store::{
    Ended, Ending, Replacement, SessionRef, StoreFuture, UsedProof, Verdict,
};
use bulla_server::{MemoryStore, Store};

/// A step of the verifier's at its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    CheckAndInsert,
    IsRevoked,
    Revoke,
    Replace,
}

type Hook = dyn Fn(Step) -> StoreFuture<'static, ()> + Send + Sync;

/// Does what the memory store does, once the hook has let it.
#[derive(Clone)]
pub(crate) struct Hooked {
    memory: Arc<MemoryStore>,
    before: Arc<Hook>,
}

impl Hooked {
    pub(crate) fn new(
        before: impl Fn(Step) -> StoreFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            memory: Arc::new(MemoryStore::new().unwrap()),
            before: Arc::new(before),
        }
    }

    fn after_hook<'a, T>(
        &'a self,
        step: Step,
        work: impl FnOnce(&'a MemoryStore) -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            (self.before)(step).await?;
            work(&self.memory).await
        })
    }
}

impl Store for Hooked {
    fn domain(&self) -> [u8; 16] {
        self.memory.domain()
    }

    fn outlives_process(&self) -> bool {
        self.memory.outlives_process()
    }

    fn written(&self) -> u64 {
        self.memory.written()
    }

    fn check_and_insert(&self, used: UsedProof) -> StoreFuture<'_, Verdict> {
        self.after_hook(Step::CheckAndInsert, |memory| memory.check_and_insert(used))
    }

    fn is_revoked(&self, session: SessionRef) -> StoreFuture<'_, bool> {
        self.after_hook(Step::IsRevoked, |memory| memory.is_revoked(session))
    }

    fn revoke(&self, ended: Ended) -> StoreFuture<'_, Ending> {
        self.after_hook(Step::Revoke, |memory| memory.revoke(ended))
    }

    fn replace(&self, replacement: Replacement) -> StoreFuture<'_, Ending> {
        self.after_hook(Step::Replace, |memory| memory.replace(replacement))
    }
}
