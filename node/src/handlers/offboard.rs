//! `dms offboard`: the machine's owner offers nothing any more.
//!
//! ```text
//!   at once:  refuse while anything runs ─► locks taken back ─► withdrawn
//!   wait:     no new bids ─► locks run out or are taken, allocations end ─► withdrawn
//!   force:    no new bids ─► locks taken back, allocations stopped ─► withdrawn
//! ```
//!
//! The intention lives in memory: a node that is killed meanwhile is still onboarded when it starts again; one
//! that stops in order ends what runs, and so withdraws. Onboarding again calls it off.

use std::time::Duration;

use dms_actors::{Answer, Context, Handler, Message};
use dms_messages::StopCause;
use dms_storage::{Event, LockEnd};

use crate::commands::{CommandError, NodeMode, Offboard, OffboardMode, Offboarded, RunningAllocation};
use crate::node::{Node, NotRecorded};

/// How soon a withdrawal that found no room in the committer's queue, or an allocation that did not hear that
/// it is to stop, is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Most allocations that a refusal names.
const MAX_NAMED: usize = 16;

impl Handler<Offboard> for Node {
    fn handle(
        &mut self,
        Offboard { mode }: Offboard,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<Offboard as Message>::Reply> {
        // Check.
        if let Err(error) = self.check_offboard(mode) {
            return Err(error).into();
        }
        let is_idle = self.books.live_allocations().next().is_none();
        if mode != OffboardMode::Wait || (is_idle && self.books.locks().is_empty()) {
            let locks: Vec<_> = self.books.locks().keys().copied().collect();
            let held = locks.clone();
            let mut events: Vec<Event> =
                locks.into_iter().map(|bid| Event::LockEnded { bid, end: LockEnd::Withdrawn }).collect();
            if is_idle {
                events.push(Event::CapabilityWithdrawn);
                return self.withdraw(events, ctx);
            }
            // What cannot be recorded now is tried again, one by one.
            self.record(ctx, events, move |node, outcome, ctx| {
                if let Err(NotRecorded::Overloaded(_)) = outcome {
                    held.into_iter().for_each(|bid| node.end_lock(bid, LockEnd::Withdrawn, ctx));
                }
            });
        }
        let before = self.withdrawal;
        // A wait that became impatient stays so.
        if before.is_none() || (mode == OffboardMode::Force && before != Some(mode)) {
            tracing::info!(?mode, "offboarding: no new bids");
            self.withdrawal = Some(mode);
            self.stop_if_forced(ctx);
        }
        if before.is_none() {
            self.advertise_nothing(ctx);
        }
        // What was recorded above may have been the last thing that was waited for.
        let (responder, answer) = Answer::later();
        let progress = self.offboard_progress();
        self.record(ctx, Vec::new(), move |node, _, _| {
            responder.reply(node.check_not_lost().map(|()| progress))
        });
        answer
    }
}

impl Node {
    /// What waited for its turn behind a record finds the node read-only if that did not reach the disk.
    fn check_not_lost(&self) -> Result<(), CommandError> {
        match &self.mode {
            NodeMode::ReadOnly { reason, .. } => Err(CommandError::ReadOnly(reason.clone())),
            NodeMode::Serving | NodeMode::Draining => Ok(()),
        }
    }

    fn check_offboard(&self, mode: OffboardMode) -> Result<(), CommandError> {
        self.check_serving()?;
        if self.books.registered().is_none() {
            return Err(CommandError::NotOnboarded);
        }
        if mode != OffboardMode::AtOnce {
            return Ok(());
        }
        let running: Vec<RunningAllocation> = self
            .books
            .live_allocations()
            .map(|row| RunningAllocation { id: row.id, job: row.attempt.job, requester: row.requester })
            .collect();
        match running.len() {
            0 => Ok(()),
            count => {
                let named = running.into_iter().take(MAX_NAMED).collect();
                Err(CommandError::AllocationsRunning { count, named })
            }
        }
    }

    fn offboard_progress(&self) -> Offboarded {
        Offboarded {
            is_withdrawn: self.books.registered().is_none(),
            running_count: self.books.live_allocations().count(),
            lock_count: self.books.locks().len(),
        }
    }

    /// Records the withdrawal and answers when it is on disk.
    fn withdraw(
        &mut self,
        events: Vec<Event>,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<Result<Offboarded, CommandError>> {
        let (responder, answer) = Answer::later();
        // Taken first: recording finishes what waits.
        let before = self.withdrawal.take();
        self.record(ctx, events, move |node, outcome, ctx| {
            match &outcome {
                Ok(()) => {
                    tracing::info!("offboarded: the capability is withdrawn");
                    node.advertise_nothing(ctx);
                }
                // What was wanted before is wanted still.
                Err(NotRecorded::Overloaded(_)) => {
                    node.withdrawal = before;
                    ctx.after(RETRY_PAUSE, |node, ctx| node.finish_withdrawal(ctx));
                }
                Err(NotRecorded::ReadOnly(_)) => node.withdrawal = before,
            }
            let withdrawn = Offboarded { is_withdrawn: true, running_count: 0, lock_count: 0 };
            responder.reply(outcome.map(|()| withdrawn).map_err(CommandError::from));
        });
        answer
    }

    /// Withdraws the capability once nothing is promised any more; called after every record.
    pub(crate) fn finish_withdrawal(&mut self, ctx: &mut Context<'_, Self>) {
        let is_due = self.withdrawal.is_some()
            && self.books.locks().is_empty()
            && self.books.live_allocations().next().is_none();
        if !is_due {
            return;
        }
        // Taken first: recording calls this again.
        let mode = self.withdrawal.take();
        self.record(ctx, vec![Event::CapabilityWithdrawn], move |node, outcome, ctx| match outcome {
            Ok(()) => {
                tracing::info!("offboarded: the capability is withdrawn");
                node.advertise_nothing(ctx);
            }
            Err(NotRecorded::Overloaded(_)) => {
                node.withdrawal = mode;
                ctx.after(RETRY_PAUSE, |node, ctx| node.finish_withdrawal(ctx));
            }
            // Wanted still, once the disk works again.
            Err(NotRecorded::ReadOnly(_)) => node.withdrawal = mode,
        });
    }

    /// Stops what runs, again and again until all of it has heard.
    fn stop_if_forced(&mut self, ctx: &mut Context<'_, Self>) {
        if self.withdrawal != Some(OffboardMode::Force) {
            return;
        }
        let running: Vec<_> = self.books.live_allocations().map(|row| (row.requester, row.attempt)).collect();
        for (requester, attempt) in running {
            self.stop_allocations(requester, attempt, StopCause::Offboarding);
        }
        ctx.after(RETRY_PAUSE, |node, ctx| node.stop_if_forced(ctx));
    }
}
