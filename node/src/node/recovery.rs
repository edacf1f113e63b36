//! Read-only, and back: what the Node does when its disk fails, and when it works again.
//!
//! ```text
//!             a commit fails
//!   Serving ────────────────► ReadOnly ──► every few seconds: reopen the engine, open the books
//!      ▲                         │                               │ works
//!      │                         │ damage                        ▼
//!      │                         ▼                      the children end, then the books are
//!      └──────────┐     ReadOnly for good               taken up as after a restart
//!                 └──────────────────────────────────────────────┘
//! ```
//!
//! What could not be written was never said, so going on from what the disk has breaks no promise. Damage is another
//! matter: what is on the disk is not what was written, and whoever restores it decides.

use std::error::Error;

use dms_actors::Context;
use dms_messages::StopCause;
use dms_storage::{Books, CommitError, EngineError, Store, StoreError};

use super::{Node, NodeMode, Turns, whole};
use crate::allocation::Stop;

/// Books that were opened again, while the children of the life before end.
pub(super) type Opened = (Store, Books);

/// True if the disk may work again by itself, or by what its owner does about it.
fn may_pass(error: &EngineError) -> bool {
    // A database that was there while this node ran may come back, with the disk that it lies on.
    error.may_pass() || matches!(error, EngineError::Missing { .. })
}

/// True if books that could not be opened for this reason are to be opened again.
pub(super) fn may_open_later(error: &StoreError) -> bool {
    matches!(error, StoreError::Engine(error) if may_pass(error))
}

/// True if books that could not be written for this reason are to be opened again.
pub(super) fn may_write_later(error: &CommitError) -> bool {
    matches!(error, CommitError::Failed(error) | CommitError::Poisoned(error) if may_pass(error))
}

impl Node {
    /// A write failed: later ones would too. What memory has beyond the disk is dropped.
    pub(super) fn turn_read_only(
        &mut self,
        error: &(dyn Error + 'static),
        is_retried: bool,
        ctx: &mut Context<'_, Self>,
    ) {
        if matches!(self.mode, NodeMode::ReadOnly { .. }) {
            return;
        }
        tracing::error!(error, is_retried, "the books cannot be written: the node is read-only from now on");
        // Whoever reads it must learn what to do about it: a full disk is not a broken one.
        self.mode = NodeMode::ReadOnly { reason: whole(error), since: self.now(), is_retried };
        self.life += 1;
        self.event_count = self.event_count();
        // Its committer has given up, or is done with what was queued: then it goes as well.
        match self.store.take().map(Store::reload) {
            Some(Ok(books)) => self.books = books,
            _ => self.is_beyond_disk = true,
        }
        self.mode_changed();
        // Nothing that ends from now on can be recorded, not even when the disk works again: its result would be
        // lost. So what runs is stopped now, and said to be; its requester places it elsewhere.
        for actor in self.allocations.values() {
            let _ = actor.try_tell(Stop(StopCause::NodeStopping));
        }
        self.retry_later(ctx);
        // What it waited for may be what can never be recorded now.
        self.finish_drain();
    }

    /// Opens the books again in a while, if that may help.
    pub(super) fn retry_later(&mut self, ctx: &mut Context<'_, Self>) {
        if matches!(self.mode, NodeMode::ReadOnly { is_retried: true, .. }) {
            ctx.after(self.parts.times.disk_retry, |node, ctx| node.reopen(ctx));
        }
    }

    /// Opens the books again, as a restart would; off this actor's thread, because it reads the disk.
    fn reopen(&mut self, ctx: &mut Context<'_, Self>) {
        if self.is_draining {
            return;
        }
        let engine = self.parts.engine.clone();
        let opener = self.parts.opener.clone();
        let opening = self.parts.workers.run(move || {
            engine.reopen()?;
            opener.open(&engine)
        });
        ctx.pipe(opening, |node, opened, ctx| match opened {
            Ok(Ok(opened)) => {
                // They had since the failure to end by themselves; a restart would not ask either.
                node.jobs.values().for_each(|actor| actor.stop());
                node.allocations.values().for_each(|actor| actor.stop());
                node.opened = Some(opened);
                node.finish_recovery(ctx);
            }
            Ok(Err(error)) => node.still_read_only(&error, may_open_later(&error), ctx),
            Err(error) => node.still_read_only(&error, false, ctx),
        });
    }

    fn still_read_only(
        &mut self,
        error: &(dyn Error + 'static),
        is_retried_now: bool,
        ctx: &mut Context<'_, Self>,
    ) {
        tracing::debug!(error, "the books cannot be opened yet");
        if !is_retried_now {
            tracing::error!(error, "the books cannot be opened: the node stays read-only");
        }
        if let NodeMode::ReadOnly { reason, is_retried, .. } = &mut self.mode {
            *reason = whole(error);
            *is_retried = is_retried_now;
        }
        self.retry_later(ctx);
    }

    /// Takes the books up once everything of the life before is over: nothing runs twice, and nothing that was
    /// decided by other books is said.
    pub(super) fn finish_recovery(&mut self, ctx: &mut Context<'_, Self>) {
        let is_over =
            self.jobs.is_empty() && self.allocations.is_empty() && self.later.is_empty() && !self.is_waiting;
        if !is_over || self.is_draining {
            return;
        }
        let Some((store, books)) = self.opened.take() else { return };
        tracing::info!("the books can be written again: the node goes on");
        self.life += 1;
        self.store = Some(store);
        self.books = books;
        self.mode = NodeMode::Serving;
        self.turns = Turns::default();
        self.waiting_turns.clear();
        self.accepting.clear();
        self.is_beyond_disk = false;
        self.lease_timer = None;
        self.take_up(ctx);
        self.mode_changed();
        // The owner was told that the withdrawal is under way: it goes on.
        match self.withdrawal {
            None => self.advertise(ctx),
            Some(_) => self.finish_withdrawal(ctx),
        }
        self.reconcile(ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::Arc;

    #[test]
    fn a_disk_that_may_work_again_is_tried_again_and_damage_is_not() {
        let reason = || "x".to_owned();
        let path = PathBuf::new;
        let table = [
            (EngineError::NoSpace { reason: reason() }, true),
            (EngineError::Io { reason: reason() }, true),
            (EngineError::ReadOnlyDirectory { path: path() }, true),
            (EngineError::AlreadyOpen { path: path() }, true),
            (EngineError::Missing { path: path() }, true),
            (EngineError::Damaged { reason: reason() }, false),
            (EngineError::NewerSchema { found: 9, known: 1 }, false),
            (EngineError::Panicked { reason: reason() }, false),
            (EngineError::Unsupported { operation: "reopening" }, false),
        ];
        for (error, is_retried) in table {
            assert_eq!(may_pass(&error), is_retried, "{error}");
            assert_eq!(may_open_later(&StoreError::Engine(error.clone())), is_retried, "{error}");
            assert_eq!(may_write_later(&CommitError::Failed(Arc::new(error.clone()))), is_retried, "{error}");
            assert_eq!(may_write_later(&CommitError::Poisoned(Arc::new(error))), is_retried);
        }
        assert!(!may_open_later(&StoreError::RowDiffers { family: "jobs" }));
        assert!(!may_write_later(&CommitError::Lost));
    }
}
