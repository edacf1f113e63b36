//! Whose turn it is to ask for bids: a crowd of jobs asks a few at a time, as many as find capacity.

use dms_actors::{Answer, Context, Handler, Responder};
use dms_messages::JobId;

use crate::job::{FindCandidates, Happened, RoundOver};
use crate::node::Node;
use crate::orchestrator::job_state::{Candidates, Input};

/// A job that waits for its turn: what it asks, and whom to answer.
pub(crate) type WaitingTurn = (FindCandidates, Responder<Candidates>);

impl Handler<FindCandidates> for Node {
    fn handle(&mut self, find: FindCandidates, ctx: &mut Context<'_, Self>) -> Answer<Candidates> {
        let (responder, answer) = Answer::later();
        if !self.jobs.contains_key(&find.job) {
            // Nobody follows it (any more): a turn would never be given back.
            self.find_candidates(find, responder, ctx);
        } else if self.turns.ask(find.job) {
            self.find_candidates(find, responder, ctx);
        } else {
            self.waiting_turns.insert(find.job, (find, responder));
        }
        answer
    }
}

impl Handler<RoundOver> for Node {
    fn handle(&mut self, RoundOver { job, end }: RoundOver, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let next = self.turns.close(job, end);
        self.give_turns(next, ctx);
        // What the others had locked is free again.
        if end.has_winner {
            self.wake_one();
        }
        ().into()
    }
}

impl Node {
    /// A job is followed no more: its turn passes on, and what it held may serve another.
    pub(crate) fn end_turn(&mut self, job: JobId, ctx: &mut Context<'_, Self>) {
        self.waiting_turns.remove(&job);
        let next = self.turns.forget(job);
        self.give_turns(next, ctx);
        self.wake_one();
    }

    fn give_turns(&mut self, jobs: Vec<JobId>, ctx: &mut Context<'_, Self>) {
        for job in jobs {
            if let Some((find, responder)) = self.waiting_turns.remove(&job) {
                self.find_candidates(find, responder, ctx);
            }
        }
    }

    fn wake_one(&mut self) {
        if let Some(job) = self.turns.wake()
            && let Some(actor) = self.route_to_job(job)
        {
            // One too busy to hear it asks when its pause is over.
            let _ = actor.try_tell(Happened(Input::AskNow));
        }
    }
}
