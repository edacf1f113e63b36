//! Who can be asked for bids: those known by their adverts, and, when they are too few, those that the
//! directory lists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_actors::{Context, Responder};
use dms_messages::{CapabilityClass, Did};

use crate::job::FindCandidates;
use crate::node::Node;
use crate::orchestrator::discovery::{self, LookUps};
use crate::orchestrator::job_state::{Candidate, Candidates};

/// Most candidates a job learns of at a time: five rounds of them.
const MAX_CANDIDATES: usize = 80;
/// How long a job that knows nobody waits for a look-up: as long as an auction.
const PATIENCE: Duration = Duration::from_secs(2);

/// Look-ups of classes.
#[derive(Debug, Default)]
pub(crate) struct ClassLookUps {
    done: LookUps<CapabilityClass>,
    /// Those under way, and the jobs that wait for them; bounded by the number of jobs.
    under_way: BTreeMap<CapabilityClass, Vec<Responder<Candidates>>>,
}

impl Node {
    /// Answers who can be asked; a job that knows nobody is answered when the directory has been asked.
    pub(crate) fn find_candidates(
        &mut self,
        find: FindCandidates,
        responder: Responder<Candidates>,
        ctx: &mut Context<'_, Self>,
    ) {
        let candidates = self.candidates();
        let me = self.me();
        let others = candidates.known.iter().filter(|candidate| candidate.did != me).count();
        if discovery::is_enough(others, find.wanted) {
            return responder.reply(candidates);
        }
        self.look_up(&find.class, ctx);
        match self.class_look_ups.under_way.get_mut(&find.class) {
            // Whoever knows somebody asks them meanwhile.
            Some(waiting) if candidates.known.is_empty() => waiting.push(responder),
            _ => responder.reply(candidates),
        }
    }

    /// Who can be asked now: the cheapest offers first, then those with the most memory free. Hints; the bids
    /// decide.
    fn candidates(&self) -> Candidates {
        let now = self.now();
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
        let known =
            known.into_iter().map(|(did, advert)| Candidate { did, addresses: advert.addresses.clone() });
        let me = self.books.registered().map(|_| Candidate { did: self.me(), addresses: Vec::new() });
        Candidates {
            // This node last, and never cut off.
            known: known.take(MAX_CANDIDATES).chain(me).collect(),
            can_gossip: !self.peers.is_empty(),
            own_addresses: self.network.own_addresses(),
            resting: self.turns.resting(),
            credentials: self.parts.gate.own(),
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

    fn answer_waiting(&self, waiting: Vec<Responder<Candidates>>) {
        waiting.into_iter().for_each(|responder| responder.reply(self.candidates()));
    }
}
