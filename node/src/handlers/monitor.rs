//! Samples of the machine: taken off the actor's turn, kept by [`crate::monitor`], and what follows for bids.

use std::collections::BTreeMap;

use dms_actors::{Answer, Context, Handler, Message};
use dms_messages::{AllocationState, Millis, Resources};

use crate::capability::headroom::Room;
use crate::monitor::{
    Attach, GetMeasurements, GetSamples, Measurements, MeterError, MeteredAllocation, NetworkRates,
    SamplesView,
};
use crate::node::Node;

impl Node {
    /// Begins to measure the machine, if it is to be measured.
    pub(crate) fn start_monitoring(&mut self, ctx: &mut Context<'_, Self>) {
        if let Some(monitoring) = &self.parts.monitoring {
            ctx.every(monitoring.period, Self::take_sample);
            self.take_sample(ctx);
        }
    }

    /// Has a sample taken, unless the one before is still on its way: a meter that hangs holds one thread and no more.
    fn take_sample(&mut self, ctx: &mut Context<'_, Self>) {
        let Some(monitoring) = &self.parts.monitoring else { return };
        if !self.monitor.begin(self.parts.clock.monotonic()) {
            return;
        }
        let meter = monitoring.meter.clone();
        let sampled = self.parts.workers.run(move || meter.sample());
        ctx.pipe(sampled, |node, sampled, _| {
            let sampled = sampled.unwrap_or_else(|error| Err(MeterError(error.to_string())));
            let now = (node.now(), node.parts.clock.monotonic());
            if let Some(monitoring) = &node.parts.monitoring {
                node.monitor.end(sampled, monitoring, now);
            }
        });
    }

    /// What the machine's owner leaves for all that is promised.
    pub(crate) fn room(&self) -> Room {
        self.monitor.room(self.parts.monitoring.as_ref(), self.parts.clock.monotonic())
    }

    /// What may be promised now: what the books have free, as far as the owner leaves it.
    pub(crate) fn promisable(&self) -> Resources {
        self.room().available(self.books.accounts())
    }

    fn samples(&self, limit: usize) -> SamplesView {
        let (monitoring, now) = (self.parts.monitoring.as_ref(), self.parts.clock.monotonic());
        // Two make a rate, however few are asked for.
        let mut samples = self.monitor.newest(limit.max(2));
        let rates = samples.first_chunk().and_then(|[newer, older]| NetworkRates::between(newer, older));
        samples.truncate(limit);
        let metered = self.books.live_allocations().map(|row| MeteredAllocation {
            id: row.id,
            requester: row.requester,
            attempt: row.attempt,
            granted: row.resources.clone(),
            usage: self.monitor.usage(row.id, now),
        });
        SamplesView {
            period: monitoring.map(|it| Millis::from(it.period)),
            is_stale: self.monitor.is_blind(monitoring, now),
            is_owner_first: monitoring.is_some_and(|it| it.is_owner_first),
            room: self.room().into(),
            offered: self.promisable(),
            rates,
            allocations: metered.collect(),
            samples,
        }
    }
}

/// The state without its particulars.
fn state_name(state: &AllocationState) -> &'static str {
    match state {
        AllocationState::Accepted => "accepted",
        AllocationState::Preparing => "preparing",
        AllocationState::Running => "running",
        AllocationState::Succeeded => "succeeded",
        AllocationState::Failed { .. } => "failed",
        AllocationState::Stopped { .. } => "stopped",
    }
}

impl Handler<Attach> for Node {
    fn handle(&mut self, attach: Attach, _: &mut Context<'_, Self>) -> Answer<()> {
        // One whose actor is gone again would be kept for ever.
        if self.allocations.contains_key(&attach.allocation) {
            let now = self.parts.clock.monotonic();
            self.monitor.attach(attach.allocation, attach.gauge, now);
        }
        ().into()
    }
}

impl Handler<GetSamples> for Node {
    fn handle(
        &mut self,
        GetSamples { limit }: GetSamples,
        _: &mut Context<'_, Self>,
    ) -> Answer<<GetSamples as Message>::Reply> {
        self.samples(limit).into()
    }
}

impl Handler<GetMeasurements> for Node {
    fn handle(
        &mut self,
        _: GetMeasurements,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<GetMeasurements as Message>::Reply> {
        let counted = |names: &mut dyn Iterator<Item = String>| {
            let mut counts = BTreeMap::<String, u64>::new();
            names.for_each(|name| *counts.entry(name).or_default() += 1);
            counts
        };
        let (commits, waiting_steps) = self.commit_stats();
        Measurements {
            status: self.node_status(ctx),
            capability: self.capability_view(),
            samples: self.samples(1),
            jobs: counted(&mut self.books.jobs().values().map(|row| row.phase.to_string())),
            allocations: counted(
                &mut self.books.allocations().values().map(|row| state_name(&row.state).to_owned()),
            ),
            tally: self.monitor.tally.clone(),
            counters: self.parts.network.system.counters(),
            commits,
            waiting_words: *self.parts.network.pending.borrow(),
            waiting_steps,
        }
        .into()
    }
}
