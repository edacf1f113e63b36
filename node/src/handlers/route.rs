//! Brings messages to allocations, here and elsewhere, and says how an allocation stands: see
//! [`crate::allocation::route`].

use std::sync::Arc;
use std::time::Duration;

use dms_actors::{ActorRef, Answer, Context, Did, Handler, Message};
use dms_messages::{
    AllocationCheck, AllocationId, AllocationMessage, AllocationRefusal, AllocationReport, AllocationState,
    AllocationUsage,
};
use dms_storage::books::{AllocationRow, AttemptRow, AttemptState};
use tokio::sync::OwnedSemaphorePermit;

use crate::allocation::route::{
    AllocationTarget, CheckAllocationStatus, CheckedAllocation, DELIVERY_TIMEOUT, RouteError,
    RouteToAllocation, check_allocation, route_to_allocation,
};
use crate::allocation::{AllocationActor, GetUsage, may_address, path_of};
use crate::commands::{CommandError, NodeMode};
use crate::listings::contracts::{self, AllocationView};
use crate::listings::{Role, past};
use crate::node::Node;

/// Questions to allocations that may be without an answer at once: each holds a message, 64 KiB at most. More are busy
/// at once; whoever waits for replies of many programs asks their addresses itself.
pub(crate) const MAX_ROUTED: usize = 256;
/// How long a live allocation's actor may take to say what it uses, which only looks at numbers: if it is stuck, the
/// rest is said without them.
const USAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where an allocation is, and what the books here have of it.
struct Whereabouts {
    provider: Did,
    allocation: AllocationId,
    /// Nothing about an address that was given.
    view: Option<AllocationView>,
}

impl Node {
    /// Makes a live allocation's actor what is found at its address, for as long as it lives.
    pub(crate) fn publish_allocation(&mut self, row: &AllocationRow, actor: &ActorRef<AllocationActor>) {
        self.parts.gate.add_allocation(row.id, row.requester);
        match self.parts.network.system.register(&path_of(row.id), actor) {
            Ok(registration) => drop(registration.accepts::<AllocationMessage>()),
            Err(error) => tracing::warn!(allocation = %row.id, %error, "it cannot be addressed"),
        }
    }

    /// Forgets whose it was; its address goes with its actor.
    pub(crate) fn withdraw_allocation(&mut self, allocation: AllocationId) {
        self.parts.gate.remove_allocation(allocation);
    }

    /// Where the allocation is that is meant, as far as memory knows.
    fn whereabouts(&self, target: &AllocationTarget) -> Result<Whereabouts, CommandError> {
        let me = self.me();
        match target {
            AllocationTarget::At { provider, allocation } => {
                let view = contracts::allocation(&self.books, me, &allocation.to_string()).ok();
                Ok(Whereabouts { provider: *provider, allocation: *allocation, view })
            }
            AllocationTarget::Known(text) => {
                let view = contracts::allocation(&self.books, me, text)?;
                Ok(Whereabouts { provider: view.provider, allocation: view.id, view: Some(view) })
            }
        }
    }

    /// Whom a message is brought to; none if the books here have it that its program has ended. A whole id is found
    /// without making a view of all that is known.
    fn way_to(&self, target: &AllocationTarget) -> Result<(AllocationId, Option<Did>), CommandError> {
        let text = match target {
            AllocationTarget::At { provider, allocation } => return Ok((*allocation, Some(*provider))),
            AllocationTarget::Known(text) => text,
        };
        if let Ok(id) = text.parse() {
            if let Some(row) = self.books.allocations().get(&id) {
                return Ok((id, (!row.state.is_terminal()).then(|| self.me())));
            }
            if let Some(attempt) = self.attempt_of(id) {
                return Ok((id, (!has_ended(&attempt.state)).then_some(attempt.provider)));
            }
        }
        let view = contracts::allocation(&self.books, self.me(), text)?;
        Ok((view.id, (!has_ended(&view.state)).then_some(view.provider)))
    }

    /// The attempt of ours of which this is an allocation.
    fn attempt_of(&self, id: AllocationId) -> Option<&AttemptRow> {
        let mut attempts = self.books.jobs().values().flat_map(|job| &job.attempts);
        attempts.find(|attempt| {
            let terms = self.books.contracts().get(&attempt.contract).map(|row| row.contract.value());
            contracts::task_ids(attempt, terms).any(|(_, task)| task == id)
        })
    }

    /// Lets the transport know where a provider of ours said that it can be dialled, unless there is a link to it.
    fn remember_the_way(&self, provider: Did, allocation: AllocationId) {
        if self.peers.contains(&provider) {
            return;
        }
        if let Some(attempt) = self.attempt_of(allocation) {
            self.parts.network.transport.add_addresses(attempt.provider, attempt.addresses.clone());
        }
    }

    /// Takes one of the places of questions that wait, which is free again when it is dropped.
    fn begin_route(&self) -> Result<OwnedSemaphorePermit, CommandError> {
        Arc::clone(&self.routed).try_acquire_owned().map_err(|_| CommandError::Busy)
    }

    /// How an allocation of this node's stands, for `who`; when everything that was recorded before is on disk.
    fn report(
        &mut self,
        allocation: AllocationId,
        who: Did,
        ctx: &mut Context<'_, Self>,
        then: impl FnOnce(&mut Self, Result<AllocationReport, AllocationRefusal>) + 'static,
    ) {
        let me = self.me();
        let row = match self.books.allocations().get(&allocation) {
            None => return then(self, Err(AllocationRefusal::UnknownAllocation)),
            Some(row) => row,
        };
        if !may_address(&self.parts.gate, me, row.requester, allocation, who) {
            return then(self, Err(AllocationRefusal::NotYours));
        }
        if matches!(self.mode, NodeMode::ReadOnly { .. }) && !self.is_over_on_disk(&row.state) {
            return then(self, Err(AllocationRefusal::ReadOnly));
        }
        let live = self.allocations.get(&allocation).filter(|_| !row.state.is_terminal()).cloned();
        let report = report_of(row);
        let usage = async move {
            match live {
                Some(actor) => actor.ask(GetUsage).timeout(USAGE_TIMEOUT).await.ok(),
                None => None,
            }
        };
        ctx.pipe(usage, move |node, usage: Option<AllocationUsage>, ctx| {
            let report = AllocationReport { usage, ..report };
            node.record(ctx, Vec::new(), move |node, outcome, _| {
                then(node, outcome.map(|()| report).map_err(|_| AllocationRefusal::ReadOnly));
            });
        });
    }
}

/// What the books have of an allocation here.
fn report_of(row: &AllocationRow) -> AllocationReport {
    AllocationReport {
        allocation: row.id,
        attempt: row.attempt,
        state: row.state.clone(),
        since: row.moved,
        usage: None,
        result: row.result.clone(),
    }
}

/// How an allocation has ended, if the books here know it: there is nothing more to ask then.
fn ended(view: &AllocationView) -> Option<CheckedAllocation> {
    let AttemptState::Observed { state } = &view.state else { return None };
    state.is_terminal().then(|| checked(view, state.clone()))
}

/// True if an attempt's program has ended for certain: one that was lost may still run.
fn has_ended(state: &AttemptState) -> bool {
    matches!(state, AttemptState::Observed { state } if state.is_terminal())
}

fn checked(view: &AllocationView, state: AllocationState) -> CheckedAllocation {
    let report = AllocationReport {
        allocation: view.id,
        attempt: view.attempt,
        state,
        since: view.moved,
        usage: None,
        result: view.result.clone(),
    };
    CheckedAllocation { provider: view.provider, role: Some(view.role), is_asked: false, report }
}

impl Handler<RouteToAllocation> for Node {
    fn handle(
        &mut self,
        route: RouteToAllocation,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<RouteToAllocation as Message>::Reply> {
        let (allocation, provider) = match self.way_to(&route.to) {
            Ok((allocation, Some(provider))) => (allocation, provider),
            Ok((allocation, None)) => {
                return Err(RouteError::Refused { allocation, refusal: AllocationRefusal::Ended }).into();
            }
            Err(CommandError::UnknownId { .. }) => return self.answer_of_the_past(&route.to, ctx),
            Err(error) => return Err(error.into()).into(),
        };
        let place = match self.begin_route() {
            Ok(place) => place,
            Err(error) => return Err(error.into()).into(),
        };
        self.remember_the_way(provider, allocation);
        let system = self.parts.network.system.clone();
        let RouteToAllocation { message, patience, .. } = route;
        // The node has no further part in it: whoever asked is answered by the provider.
        Answer::begun(async move {
            let _place = place;
            route_to_allocation(&system, provider, allocation, message, patience).await
        })
    }
}

impl Node {
    /// What is archived has ended, and nobody speaks to it any more.
    fn answer_of_the_past(
        &mut self,
        target: &AllocationTarget,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<RouteToAllocation as Message>::Reply> {
        let (responder, answer) = Answer::later();
        self.with_past(target, ctx, move |_, found| {
            responder.reply(Err(match found {
                Ok(view) => RouteError::Refused { allocation: view.id, refusal: AllocationRefusal::Ended },
                Err(error) => error.into(),
            }));
        });
        answer
    }

    /// Goes on with what the archive has of an allocation.
    fn with_past(
        &mut self,
        target: &AllocationTarget,
        ctx: &mut Context<'_, Self>,
        then: impl FnOnce(&mut Self, Result<AllocationView, CommandError>) + 'static,
    ) {
        let me = self.me();
        let text = match target {
            AllocationTarget::Known(text) => text.clone(),
            AllocationTarget::At { allocation, .. } => allocation.to_string(),
        };
        self.with_archive(
            ctx,
            move |archive| past::allocation(archive, me, &text),
            |node, found, _| {
                then(node, found);
            },
        );
    }

    /// Asks the provider, which answers whoever asked us.
    fn check_elsewhere(&self, at: Whereabouts) -> Answer<<CheckAllocationStatus as Message>::Reply> {
        let place = match self.begin_route() {
            Ok(place) => place,
            Err(error) => return Err(error.into()).into(),
        };
        let Whereabouts { provider, allocation, view } = at;
        self.remember_the_way(provider, allocation);
        let system = self.parts.network.system.clone();
        let role = view.map(|view| view.role);
        Answer::begun(async move {
            let _place = place;
            let report = check_allocation(&system, provider, allocation, DELIVERY_TIMEOUT).await?;
            Ok(CheckedAllocation { provider, role, is_asked: true, report })
        })
    }
}

impl Handler<CheckAllocationStatus> for Node {
    fn handle(
        &mut self,
        check: CheckAllocationStatus,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<CheckAllocationStatus as Message>::Reply> {
        let me = self.me();
        let place = match self.whereabouts(&check.of) {
            Ok(place) => place,
            Err(CommandError::UnknownId { .. }) => {
                let (responder, answer) = Answer::later();
                self.with_past(&check.of, ctx, move |_, found| {
                    let known = found.map_err(RouteError::from).and_then(|view| {
                        ended(&view).ok_or(RouteError::Refused {
                            allocation: view.id,
                            refusal: AllocationRefusal::UnknownAllocation,
                        })
                    });
                    responder.reply(known);
                });
                return answer;
            }
            Err(error) => return Err(error.into()).into(),
        };
        if place.provider != me {
            return match place.view.as_ref().and_then(ended) {
                Some(ended) => Ok(ended).into(),
                None => self.check_elsewhere(place),
            };
        }
        let (responder, answer) = Answer::later();
        let role = place.view.map_or(Role::Provider, |view| view.role);
        let allocation = place.allocation;
        self.report(allocation, me, ctx, move |_, outcome| {
            let known =
                |report| CheckedAllocation { provider: me, role: Some(role), is_asked: false, report };
            let refused = |refusal| RouteError::Refused { allocation, refusal };
            responder.reply(outcome.map(known).map_err(refused));
        });
        answer
    }
}

impl Handler<AllocationCheck> for Node {
    fn handle(
        &mut self,
        check: AllocationCheck,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<AllocationCheck as Message>::Reply> {
        let (responder, answer) = Answer::later();
        self.report(check.allocation, ctx.sender(), ctx, |_, outcome| responder.reply(outcome));
        answer
    }
}
