//! What the API, the CLI and tests ask: see [`crate::commands`].

use std::time::Duration;

use dms_actors::{Answer, Context, Handler, Message};
use dms_messages::{Job, JobId};
use dms_storage::Event;
use dms_storage::books::ContractRow;
use dms_storage::sabotage::{self, Bug};

use super::archive;
use crate::capability::ledger;
use crate::commands::{
    CancelJob, CapabilityView, CommandError, Drain, ExplainJob, FindJob, GetCapability, GetStatus, ListJobs,
    NodeMode, NodeStatus, Onboard, OutputPiece, PeerStatus, ReadOutput, ShowJob, SubmitJob,
};
use crate::job::Happened;
use crate::listings;
use crate::node::{Node, NotRecorded};
use crate::orchestrator::explain::Surroundings;
use crate::orchestrator::job_state::Input;
use crate::orchestrator::{discovery, explain};

impl From<NotRecorded> for CommandError {
    fn from(error: NotRecorded) -> Self {
        match error {
            NotRecorded::ReadOnly(reason) => Self::ReadOnly(reason),
            NotRecorded::Overloaded(_) => Self::Busy,
        }
    }
}

impl Node {
    pub(crate) fn check_serving(&self) -> Result<(), CommandError> {
        match &self.mode {
            NodeMode::Serving => Ok(()),
            NodeMode::Draining => Err(CommandError::Draining),
            NodeMode::ReadOnly { reason, .. } => Err(CommandError::ReadOnly(reason.clone())),
        }
    }

    pub(crate) fn check_submission(&self, job: &Job) -> Result<(), CommandError> {
        self.check_serving()?;
        job.check().map_err(CommandError::InvalidJob)?;
        let limit = self.parts.max_jobs;
        if self.jobs.len() >= limit {
            return Err(CommandError::TooManyJobs { limit });
        }
        // The books would refuse it, which is taken for a bug. Ids are chance: one that is over by now is no concern.
        match self.books.jobs().contains_key(&job.id) {
            true => Err(CommandError::JobKnown(job.id)),
            false => Ok(()),
        }
    }

    fn check_cancel(&self, job: JobId) -> Result<(), CommandError> {
        let row = self.books.jobs().get(&job).ok_or(CommandError::UnknownJob(job))?;
        if row.phase.is_terminal() { Err(CommandError::JobEnded(job)) } else { Ok(()) }
    }
}

impl Handler<SubmitJob> for Node {
    fn handle(
        &mut self,
        submit: SubmitJob,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<SubmitJob as Message>::Reply> {
        if let Err(error) = self.check_submission(&submit.job) {
            return Err(error).into();
        }
        let (responder, answer) = Answer::later();
        let id = submit.job.id;
        if sabotage::has(Bug::AnswersBeforeDisk) {
            self.record(ctx, vec![Event::JobSubmitted { job: submit.job }], |_, _, _| {});
            self.spawn_job(ctx, id);
            return Ok(id).into();
        }
        self.record(ctx, vec![Event::JobSubmitted { job: submit.job }], move |node, outcome, ctx| {
            if outcome.is_err() {
                node.abandon_job(id, ctx);
            }
            responder.reply(outcome.map(|()| id).map_err(CommandError::from));
        });
        // It thinks while the disk works: its words wait behind the submission, as all words do. One that
        // was turned away is not in the books, and is not followed; one that the disk did not take is
        // followed no longer.
        self.spawn_job(ctx, id);
        answer
    }
}

impl Handler<CancelJob> for Node {
    fn handle(
        &mut self,
        cancel: CancelJob,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<CancelJob as Message>::Reply> {
        match self.check_cancel(cancel.job) {
            Ok(()) => {}
            Err(CommandError::UnknownJob(id)) => {
                let ended = move |archive: &_| archive::job(archive, id).and(Err(CommandError::JobEnded(id)));
                return self.answer_from_archive(ctx, ended);
            }
            Err(error) => return Err(error).into(),
        }
        let (responder, answer) = Answer::later();
        self.record(ctx, vec![Event::JobCancelWanted { job: cancel.job }], move |node, outcome, _| {
            if outcome.is_ok()
                && let Some(actor) = node.route_to_job(cancel.job)
                && actor.try_tell(Happened(Input::Cancel)).is_err()
            {
                return responder.reply(Err(CommandError::Busy));
            }
            responder.reply(outcome.map_err(CommandError::from));
        });
        answer
    }
}

impl Handler<ListJobs> for Node {
    fn handle(
        &mut self,
        list: ListJobs,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<ListJobs as Message>::Reply> {
        match listings::jobs_part(&self.books, list.limit) {
            Ok(part) => self.answer_from_archive(ctx, move |archive| part.jobs(archive)),
            Err(error) => Err(error).into(),
        }
    }
}

impl Handler<ShowJob> for Node {
    fn handle(&mut self, show: ShowJob, ctx: &mut Context<'_, Self>) -> Answer<<ShowJob as Message>::Reply> {
        match self.books.jobs().get(&show.job) {
            Some(row) => Ok(row.clone()).into(),
            None => self.answer_from_archive(ctx, move |archive| archive::job(archive, show.job)),
        }
    }
}

impl Handler<FindJob> for Node {
    fn handle(&mut self, find: FindJob, ctx: &mut Context<'_, Self>) -> Answer<<FindJob as Message>::Reply> {
        match listings::job(&self.books, &find.id) {
            Err(CommandError::UnknownId { .. }) => {
                self.answer_from_archive(ctx, move |archive| listings::past::job(archive, &find.id))
            }
            known => known.cloned().into(),
        }
    }
}

impl Handler<ReadOutput> for Node {
    fn handle(
        &mut self,
        read: ReadOutput,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<ReadOutput as Message>::Reply> {
        let job = read.job;
        let offset = read.offset;
        let Some(row) = self.books.jobs().get(&job) else {
            return self.answer_from_archive(ctx, move |archive| {
                let attempt = archive::job(archive, job)?.current_attempt().map(|attempt| attempt.id);
                Ok(OutputPiece { attempt, offset, bytes: Vec::new() })
            });
        };
        let attempt = row.current_attempt().map(|attempt| attempt.id);
        let Some(actor) = self.route_to_job(job).cloned() else {
            // Over: the whole output is in the result.
            return Ok(OutputPiece { attempt, offset, bytes: Vec::new() }).into();
        };
        let (responder, answer) = Answer::later();
        let asked = async move { actor.ask(read).timeout(Duration::from_secs(5)).await };
        ctx.pipe(asked, move |_, piece, _| {
            responder.reply(piece.unwrap_or(Ok(OutputPiece { attempt, offset, bytes: Vec::new() })));
        });
        answer
    }
}

impl Handler<ExplainJob> for Node {
    fn handle(
        &mut self,
        ask: ExplainJob,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<ExplainJob as Message>::Reply> {
        if let Some(row) = self.books.jobs().get(&ask.job) {
            let contracts = row.attempts.iter().map(|attempt| attempt.contract);
            let contracts = contracts.filter_map(|cid| self.books.contracts().get(&cid));
            return Ok(explain::explain(row, &self.surroundings(contracts))).into();
        }
        let (responder, answer) = Answer::later();
        let read = move |archive: &_| archive::job_with_contracts(archive, ask.job);
        self.with_archive(ctx, read, move |node, found, _| {
            let explained =
                found.map(|(row, contracts)| explain::explain(&row, &node.surroundings(contracts.iter())));
            responder.reply(explained);
        });
        answer
    }
}

impl Node {
    /// What an explanation says beside what the job's row has; these are the contracts of its attempts.
    fn surroundings<'a>(&self, contracts: impl Iterator<Item = &'a ContractRow>) -> Surroundings {
        let now = self.now();
        let taken = contracts.map(|row| {
            let terms = row.contract.value();
            (terms.bid, terms.attempt.number)
        });
        let unwilling = self.adverts.current(now).filter(|(did, _)| self.may_provide(*did));
        let unwilling = unwilling.filter_map(|(did, note)| {
            let status = self.statuses.get(did, now).map(|status| status.signed.value());
            Some((did, discovery::why_not_askable(note.signed.value(), status)?))
        });
        Surroundings {
            taken: taken.collect(),
            strangers: self.adverts.keys().filter(|did| !self.may_provide(**did)).copied().collect(),
            unwilling: unwilling.collect(),
        }
    }
}

impl Handler<GetStatus> for Node {
    fn handle(&mut self, _: GetStatus, ctx: &mut Context<'_, Self>) -> Answer<NodeStatus> {
        self.node_status(ctx).into()
    }
}

impl Node {
    /// How the node stands, as far as it knows itself.
    pub(super) fn node_status(&self, ctx: &Context<'_, Self>) -> NodeStatus {
        let now = self.now();
        let peers = self.peers.iter().map(|did| PeerStatus {
            did: *did,
            is_provider: self
                .adverts
                .get(*did, now)
                .is_some_and(|note| discovery::is_offering(note.signed.value())),
            is_trusted: self.knows(*did),
        });
        let id = self
            .id()
            .or_else(|| crate::node::new_card(&self.parts.signer).map(|card| crate::node::node_id(&card)));
        NodeStatus {
            id: id.expect("a card of our own key can be signed"),
            mode: self.mode.clone(),
            is_onboarded: self.books.registered().is_some(),
            is_offboarding: self.withdrawal.is_some(),
            peers: peers.collect(),
            is_private: self.parts.gate.pre_shared_key().is_some(),
            mesh_size: self.estimated_mesh(),
            unreached_bootstraps: self.network.unreached_bootstraps(),
            addresses: self.network.addresses(),
            active_job_count: self.books.jobs().values().filter(|row| !row.phase.is_terminal()).count(),
            job_count: self.books.jobs().len(),
            active_allocation_count: self.books.live_allocations().count(),
            lock_count: self.books.locks().len(),
            event_count: self.event_count(),
            difference_count: self.difference_count,
            waiting_messages: ctx.me().depth(),
            task_count: 0,
            api_listen: None,
            started: self.started,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl Handler<GetCapability> for Node {
    fn handle(&mut self, _: GetCapability, ctx: &mut Context<'_, Self>) -> Answer<CapabilityView> {
        let (responder, answer) = Answer::later();
        let view = self.capability_view();
        // Memory may be ahead of the disk: what it says now is told when all of it is written.
        self.record(ctx, Vec::new(), move |node, _, _| {
            let was_lost = matches!(node.mode, NodeMode::ReadOnly { .. });
            responder.reply(if was_lost { node.capability_view() } else { view });
        });
        answer
    }
}

impl Node {
    pub(super) fn capability_view(&self) -> CapabilityView {
        CapabilityView {
            registered: self.books.registered().cloned(),
            offered: self.promisable(),
            available: self.books.available().clone(),
            locked: self.books.locked(),
            allocated: self.books.allocated(),
            locks: self.books.locks().values().cloned().collect(),
            allocations: self.books.live_allocations().cloned().collect(),
            is_offboarding: self.withdrawal.is_some(),
        }
    }
}

impl Handler<Onboard> for Node {
    fn handle(
        &mut self,
        onboard: Onboard,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<Onboard as Message>::Reply> {
        if let Err(error) = self.check_serving() {
            return Err(error).into();
        }
        if let Err(error) = ledger::register(&self.books, &onboard.capability) {
            return Err(CommandError::InvalidCapability(error.to_string())).into();
        }
        let (responder, answer) = Answer::later();
        let event = Event::CapabilityRegistered { capability: onboard.capability };
        // Called off before the record, which would finish it.
        let withdrawal = self.withdrawal.take();
        self.record(ctx, vec![event], move |node, outcome, ctx| {
            match outcome {
                Ok(()) => {
                    node.advertise(ctx);
                    node.say_how_it_stands();
                }
                Err(_) => node.withdrawal = withdrawal,
            }
            responder.reply(outcome.map_err(CommandError::from));
        });
        answer
    }
}

impl Handler<Drain> for Node {
    fn handle(&mut self, _: Drain, _: &mut Context<'_, Self>) -> Answer<()> {
        let (responder, answer) = Answer::later();
        self.begin_drain(responder);
        answer
    }
}
