//! `BenchmarkCapability`: the node measures the machine that it runs on.
//!
//! Measuring takes threads of its own for many seconds; meanwhile the Node does what it always does, so that programs
//! and bids only share the machine with it. One measurement at a time: two would measure each other.

use std::sync::Arc;

use dms_actors::{Answer, Context, Handler, Message};
use dms_messages::Benchmark;
use dms_storage::Event;

use crate::benchmark::{self, Measuring, StopFlag};
use crate::commands::{BenchmarkCapability, Benchmarked, CommandError};
use crate::errors::whole;
use crate::node::Node;

type Reply = <BenchmarkCapability as Message>::Reply;

impl Handler<BenchmarkCapability> for Node {
    fn handle(&mut self, ask: BenchmarkCapability, ctx: &mut Context<'_, Self>) -> Answer<Reply> {
        // Check.
        if let Err(error) = self.check_measurable(ask) {
            return Err(error).into();
        }
        // Measure: it ends early if this node stops, or its actor does.
        let stop = StopFlag::default();
        self.measuring = Some(Measuring(stop.clone()));
        let machine = Arc::clone(&self.parts.machine);
        let measuring = self.parts.workers.run(move || benchmark::measure(&*machine, &stop, |_, _| {}));
        let running_count = self.books.live_allocations().count();
        // Record and report.
        let (responder, answer) = Answer::later();
        ctx.pipe(measuring, move |node, measured, ctx| {
            node.measuring = None;
            let failed = |reason: String| CommandError::NotMeasured(reason);
            match measured.map(|measured| measured.map_err(|error| failed(whole(&error)))) {
                Ok(Ok(after)) => {
                    let reply = move |reply| responder.reply(reply);
                    node.finish_benchmark(ask, after, running_count, ctx, reply);
                }
                Ok(Err(error)) => responder.reply(Err(error)),
                Err(error) => responder.reply(Err(failed(error.to_string()))),
            }
        });
        answer
    }
}

impl Node {
    fn check_measurable(&self, ask: BenchmarkCapability) -> Result<(), CommandError> {
        self.check_serving()?;
        if self.measuring.is_some() {
            return Err(CommandError::Measuring);
        }
        // Nobody waits for seconds to be told what is known now.
        match ask.is_registered && self.books.registered().is_none() {
            true => Err(CommandError::NothingOffered),
            false => Ok(()),
        }
    }

    /// Registers what was measured with what is registered now, if that is wanted, and replies.
    fn finish_benchmark(
        &mut self,
        ask: BenchmarkCapability,
        after: Benchmark,
        running_count: usize,
        ctx: &mut Context<'_, Self>,
        reply: impl FnOnce(Reply) + 'static,
    ) {
        let registered = self.books.registered().cloned();
        let before = registered.as_ref().and_then(|registered| registered.benchmark);
        let done = Benchmarked { before, after, is_registered: ask.is_registered, running_count };
        if !ask.is_registered {
            return reply(Ok(done));
        }
        // Much may have happened while it was measured.
        let Some(mut capability) = registered else { return reply(Err(CommandError::NothingOffered)) };
        if let Err(error) = self.check_serving() {
            return reply(Err(error));
        }
        benchmark::describe(&mut capability, after);
        self.record(ctx, vec![Event::CapabilityRegistered { capability }], move |node, outcome, ctx| {
            if outcome.is_ok() {
                tracing::info!(?after, "the benchmark is registered");
                node.advertise(ctx);
            }
            reply(outcome.map(|()| done).map_err(CommandError::from));
        });
    }
}
