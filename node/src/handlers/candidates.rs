//! Who can be asked for bids: those known by their adverts, and, when they are too few, those that the
//! directory lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dms_actors::{Context, Responder};
use dms_messages::{CapabilityClass, Did, JobId};

use crate::handlers::preferences::{own_price, rejected_because};
use crate::job::FindCandidates;
use crate::node::Node;
use crate::orchestrator::auction::Judge;
use crate::orchestrator::comparator::{Candidate as Judged, Request};
use crate::orchestrator::discovery::{self, LookUps};
use crate::orchestrator::job_state::{Candidate, Candidates};
use crate::orchestrator::matching;
use crate::orchestrator::pricing::price_per_hour;

/// Most candidates a job learns of at a time: five rounds of them.
const MAX_CANDIDATES: usize = 80;
/// How long a job that knows nobody waits for a look-up: as long as an auction.
const PATIENCE: Duration = Duration::from_secs(2);

/// Look-ups of classes.
#[derive(Debug, Default)]
pub(crate) struct ClassLookUps {
    done: LookUps<CapabilityClass>,
    /// Those under way, and the jobs that wait for them; bounded by the number of jobs.
    under_way: BTreeMap<CapabilityClass, Vec<(JobId, Responder<Candidates>)>>,
}

impl Node {
    /// Answers who can be asked; a job that knows nobody is answered when the directory has been asked.
    pub(crate) fn find_candidates(
        &mut self,
        find: FindCandidates,
        responder: Responder<Candidates>,
        ctx: &mut Context<'_, Self>,
    ) {
        let candidates = self.candidates(find.job);
        let me = self.me();
        let others = candidates.known.iter().filter(|candidate| candidate.did != me).count();
        if discovery::is_enough(others, find.wanted) {
            return responder.reply(candidates);
        }
        self.look_up(&find.class, ctx);
        match self.class_look_ups.under_way.get_mut(&find.class) {
            // Whoever knows somebody asks them meanwhile.
            Some(waiting) if candidates.known.is_empty() => waiting.push((find.job, responder)),
            _ => responder.reply(candidates),
        }
    }

    /// Who can be asked now: the cheapest offers first, then those with the most memory free; or by the owner's
    /// preferences. Hints; the bids decide.
    fn candidates(&mut self, job: JobId) -> Candidates {
        let now = self.now();
        let preferences = self.preferences();
        let history = Arc::clone(&self.preferences.history);
        let mut known: Vec<_> = self
            .adverts
            .current(now)
            .filter(|(did, note)| {
                let status = self.statuses.get(*did, now).map(|status| status.signed.value());
                self.may_provide(*did) && discovery::is_askable(note.signed.value(), status)
            })
            .map(|(did, note)| (did, note.signed.value()))
            .collect();
        known.sort_by_key(|(did, advert)| {
            (advert.prices.core_hour, std::cmp::Reverse(advert.available.memory), *did)
        });
        let row = self.books.jobs().get(&job).filter(|_| preferences.has_requester_rules);
        let mut rejected = Vec::new();
        let mut takes_me = true;
        if let Some(job) = row.map(|row| &row.job) {
            let requirement = &job.pods[0].requirement;
            let request = Request { requirement, run_time: job.pods[0].run_time(), max_price: job.max_price };
            let chain = &preferences.requester;
            let mut judged = Vec::with_capacity(known.len());
            for (did, advert) in known {
                let price = price_per_hour(&advert.prices, requirement);
                let candidate = Judged::of_advert(did, advert, price, history.provider(did, now));
                match chain.judge_advert(&request, &candidate) {
                    Ok(scores) => judged.push((did, advert, scores)),
                    Err(refusal) if rejected.len() < MAX_CANDIDATES => {
                        rejected.push(rejected_because(did, &refusal));
                    }
                    Err(_) => {}
                }
            }
            // Of equals those whom their adverts make most promising, as without preferences.
            judged.sort_by(|(_, _, a), (_, _, b)| a.compare(b));
            known = judged.into_iter().map(|(did, advert, _)| (did, advert)).collect();
            if let Some(capability) = self.books.registered() {
                let (price, load) =
                    (own_price(&self.books, &preferences, requirement), matching::load(&self.books));
                let (me, free) = (self.me(), self.books.available());
                let reputation = history.provider(me, now);
                let mine = Judged::of_capability(me, capability, free, price, load, reputation);
                let refusal = chain.judge_advert(&request, &mine).err();
                takes_me = refusal.is_none();
                rejected.extend(refusal.map(|refusal| rejected_because(me, &refusal)));
            }
        }
        // What is gossiped is heard by everybody: also by those whom the owner's rules keep from being asked. Where they
        // say who, or leave nobody of those that are known, nobody is asked in that way.
        let can_gossip = !preferences.names_providers && (rejected.is_empty() || !known.is_empty());
        let known =
            known.into_iter().map(|(did, advert)| Candidate { did, addresses: advert.addresses.clone() });
        let me = self.books.registered().filter(|_| takes_me);
        let me = me.map(|_| Candidate { did: self.me(), addresses: Vec::new() });
        Candidates {
            // This node last, and never cut off.
            known: known.take(MAX_CANDIDATES).chain(me).collect(),
            can_gossip: can_gossip && !self.peers.is_empty(),
            own_addresses: self.network.own_addresses(),
            resting: self.turns.resting(),
            credentials: self.parts.gate.own(),
            rejected,
            judge: Judge { comparator: Arc::clone(&preferences.requester), history, at: now },
        }
    }

    /// Looks up who provides a class, unless that was done a moment ago. What is found is noted as if it had
    /// been gossiped.
    fn look_up(&mut self, class: &CapabilityClass, ctx: &mut Context<'_, Self>) {
        let look_ups = &mut self.class_look_ups;
        if look_ups.under_way.contains_key(class)
            || !look_ups.done.begin(class.clone(), self.parts.clock.monotonic())
        {
            return;
        }
        look_ups.under_way.insert(class.clone(), Vec::new());
        let now = self.now();
        let mut known: BTreeSet<Did> = self.adverts.current(now).map(|(did, _)| did).collect();
        known.insert(self.me());
        let (named, [chance, ..]) = (self.parts.gate.named(), self.parts.clock.random());
        let finder = self.network.finder().clone();
        let sought = class.clone();
        // On the network's runtime: what is found is verified there, not on the actors' thread.
        let gate = self.parts.gate.clone();
        let search = async move {
            let adverts = finder.find_class(sought, named, known, chance).await;
            adverts.iter().for_each(|advert| gate.show(advert.issuer(), &advert.value().credentials));
            adverts
        };
        let search = self.network.runtime().spawn(search);
        let found = class.clone();
        ctx.pipe(search, move |node, adverts, _| {
            let adverts = adverts.unwrap_or_default();
            tracing::debug!(class = %found, count = adverts.len(), "looked up providers");
            adverts.iter().for_each(|advert| node.note_advert(advert));
            let waiting = node.class_look_ups.under_way.remove(&found);
            node.answer_waiting(waiting.unwrap_or_default());
        });
        let late = class.clone();
        ctx.after(PATIENCE, move |node, _| {
            let waiting = node.class_look_ups.under_way.get_mut(&late).map(std::mem::take);
            node.answer_waiting(waiting.unwrap_or_default());
        });
    }

    fn answer_waiting(&mut self, waiting: Vec<(JobId, Responder<Candidates>)>) {
        waiting.into_iter().for_each(|(job, responder)| responder.reply(self.candidates(job)));
    }
}
