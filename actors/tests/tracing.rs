//! Traces: one context from the asker through every actor that works for it, and the spans of messages.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use dms_actors::{Actor, ActorRef, Answer, Context, Handler, Message, Supervision, TraceContext};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Replies the contexts of all who handled it, the last first.
struct Where;
impl Message for Where {
    type Reply = Vec<Option<TraceContext>>;
}

/// Asks the next in a pipe, and notes what a timer sees.
struct Step {
    next: Option<ActorRef<Step>>,
    seen: Seen,
}

impl Actor for Step {}

impl Handler<Where> for Step {
    fn handle(&mut self, _: Where, ctx: &mut Context<'_, Self>) -> Answer<Vec<Option<TraceContext>>> {
        let here = ctx.trace();
        assert_eq!(TraceContext::current(), here);
        ctx.after(Duration::ZERO, move |step: &mut Self, ctx| {
            assert_eq!((ctx.trace(), TraceContext::current()), (here, here));
            step.seen.push("timer");
        });
        let Some(next) = self.next.clone() else {
            return vec![here].into();
        };
        let (responder, answer) = Answer::later();
        let work = async move {
            assert_eq!(TraceContext::current(), here);
            tokio::task::yield_now().await;
            assert_eq!(TraceContext::current(), here);
            next.ask(Where).await.unwrap()
        };
        ctx.pipe(work, move |_, mut all, ctx| {
            assert_eq!((ctx.trace(), TraceContext::current()), (here, here));
            all.push(here);
            responder.reply(all);
        });
        answer
    }
}

/// Says what is current outside of any message.
struct Outside;
impl Message for Outside {
    type Reply = bool;
}

impl Handler<Outside> for Step {
    fn handle(&mut self, _: Outside, ctx: &mut Context<'_, Self>) -> Answer<bool> {
        (ctx.trace().is_none() && TraceContext::current().is_none()).into()
    }
}

fn trace() -> TraceContext {
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap()
}

/// Collects the fields of the spans of messages.
#[derive(Clone, Default)]
struct Spans {
    made: Arc<Mutex<Vec<BTreeMap<&'static str, String>>>>,
    ids: Arc<AtomicU64>,
}

struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "dms_actors::message" && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields(BTreeMap::new());
        attributes.record(&mut fields);
        self.made.lock().unwrap().push(fields.0);
        Id::from_u64(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

// One test: the subscriber is the process's.
#[tokio::test]
async fn a_trace_goes_from_the_asker_through_two_actors_and_back() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let steps = (seen.clone(), seen.clone());
    let last = system.spawn(move || Step { next: None, seen: steps.0.clone() }, Supervision::never());
    let next = last.clone();
    let factory = move || Step { next: Some(next.clone()), seen: steps.1.clone() };
    let first = system.spawn(factory, Supervision::never());

    // Nobody records: what comes is passed on as it is, and nothing is made up.
    assert_eq!(first.ask(Where).await.unwrap(), [None, None]);
    let (asks, outside) = (first.clone(), last.clone());
    let seen_there = trace().scope(async move {
        let all = asks.ask(Where).await.unwrap();
        let again = asks.recipient().ask(Where).timeout(PATIENCE).await.unwrap();
        assert_eq!(all, again);
        all
    });
    assert_eq!(seen_there.await, [Some(trace()), Some(trace())]);
    assert_eq!(TraceContext::current(), None);
    // Made inside the scope, sent outside of it.
    assert!(outside.ask(Outside).await.unwrap());
    until("all timers", || seen.count("timer") == 6).await;

    // Somebody records: each handling is a span below its sender's.
    let spans = Spans::default();
    tracing::subscriber::set_global_default(spans.clone()).unwrap();
    let all = trace().scope(first.ask(Where)).await.unwrap();
    let [Some(second), Some(first_span)] = all[..] else { panic!("{all:?}") };
    assert_eq!((first_span.trace_id, second.trace_id), (trace().trace_id, trace().trace_id));
    assert!(first_span.span_id != trace().span_id && second.span_id != first_span.span_id);
    let made = std::mem::take(&mut *spans.made.lock().unwrap());
    let text = |context: TraceContext| context.to_string()[36..52].to_owned();
    assert_eq!(made.len(), 2, "{made:?}");
    for (span, own, parent) in [(&made[0], first_span, trace()), (&made[1], second, first_span)] {
        assert_eq!(span["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((&span["span_id"], &span["parent_span_id"]), (&text(own), &text(parent)));
        assert_eq!(span["actor"], std::any::type_name::<Step>());
        assert_eq!(span["message"], std::any::type_name::<Where>());
        assert!(!span.contains_key("sender"), "it came from inside");
    }
    // A message without a trace begins one.
    let all = first.ask(Where).await.unwrap();
    let [Some(second), Some(first_span)] = all[..] else { panic!("{all:?}") };
    assert_eq!(first_span.trace_id, second.trace_id);
    assert_ne!(first_span.trace_id, trace().trace_id);
    assert!(!spans.made.lock().unwrap()[0].contains_key("parent_span_id"));
    stop(&[&system]).await;
}

/// Sends a word over a link when it hears of the first dead letter.
struct Sends {
    far: dms_actors::Recipient<Note>,
    has_sent: AtomicBool,
}

struct IsDeadLetter(bool);

impl Visit for IsDeadLetter {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 |= field.name() == "message" && format!("{value:?}") == "dead letter";
    }
}

impl Subscriber for Sends {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut is = IsDeadLetter(false);
        event.record(&mut is);
        if is.0 && !self.has_sent.swap(true, Ordering::SeqCst) {
            self.far.try_tell(Note(2)).unwrap();
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn who_hears_of_a_dead_letter_may_send_over_its_link() {
    let (done, is_done) = std::sync::mpsc::sync_channel(1);
    // On a thread of its own: one that stands still could not say so.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let network = dms_actors::transport::memory::MemoryNetwork::default();
            let (a, b) = (member(&network, 1), member(&network, 2));
            let mut dead = a.dead_letters();
            let far = a.resolve::<Note>(&address(2, "/nobody"));
            let sends = Sends { far: far.clone(), has_sent: AtomicBool::new(false) };
            let _guard = tracing::subscriber::set_default(sends);
            far.tell(Note(1)).await.unwrap();
            soon("the first", dead.recv()).await.unwrap();
            soon("the one sent because of it", dead.recv()).await.unwrap();
            stop(&[&a, &b]).await;
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(PATIENCE).unwrap();
}
