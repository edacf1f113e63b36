//! Streams into actors: one item at a time, between messages, never beyond the actor's life.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use common::*;
use dms_actors::{ActorRef, Context, ExitReason, StreamHandle, Supervision};
use futures::Stream;
use tokio::sync::mpsc;

/// Numbers without end, always ready; counts what was taken, and that it was dropped.
struct Flood {
    taken: Arc<AtomicU64>,
    dropped: Arc<AtomicUsize>,
}

impl Stream for Flood {
    type Item = u64;

    fn poll_next(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<u64>> {
        Poll::Ready(Some(self.taken.fetch_add(1, Ordering::SeqCst)))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn flood() -> (Flood, Arc<AtomicU64>, Arc<AtomicUsize>) {
    let (taken, dropped) = (Arc::default(), Arc::default());
    (Flood { taken: Arc::clone(&taken), dropped: Arc::clone(&dropped) }, taken, dropped)
}

/// A channel as a stream.
struct Channel(mpsc::Receiver<u64>);

impl Stream for Channel {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<u64>> {
        self.0.poll_recv(cx)
    }
}

/// Lets the probe take in the stream: it sees each item, and the end.
async fn attach(actor: &ActorRef<Probe>, stream: impl Stream<Item = u64> + Send + 'static) -> StreamHandle {
    let (handle_tx, handle) = tokio::sync::oneshot::channel();
    let attach = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        let handle = ctx.stream(
            stream,
            |probe, item, _| probe.seen.push(format!("item {item}")),
            |probe, _| probe.seen.push("ended"),
        );
        let _ = handle_tx.send(handle);
    };
    actor.tell(Do::new(attach)).await.unwrap();
    soon("attached", handle).await.unwrap()
}

#[tokio::test]
async fn items_come_in_order_and_then_the_end_once() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    attach(&actor, futures::stream::iter(0..100)).await;
    seen.wait("ended").await;
    let items: Vec<_> = seen.all().into_iter().filter(|text| text.starts_with("item")).collect();
    assert_eq!(items, (0..100).map(|item| format!("item {item}")).collect::<Vec<_>>());
    actor.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    assert_eq!(seen.count("ended"), 1);
    stop(&[&system]).await;
}

#[tokio::test]
async fn the_next_item_is_taken_only_when_the_last_was_handled() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let (go, may_go) = std::sync::mpsc::sync_channel::<()>(1);
    let (flood, taken, dropped) = flood();
    let slow = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        // Each item is handled for as long as the test says.
        let handle = move |probe: &mut Probe, item: u64, _: &mut Context<'_, Probe>| {
            probe.seen.push(format!("item {item}"));
            let _ = may_go.recv();
        };
        ctx.stream(flood, handle, |_, _| {});
    };
    actor.tell(Do::new(slow)).await.unwrap();
    for item in 0..10 {
        seen.wait(&format!("item {item}")).await;
        assert_eq!(taken.load(Ordering::SeqCst), item + 1, "none is taken ahead");
        go.send(()).unwrap();
    }
    actor.stop();
    drop(go);
    soon("it ends", actor.closed()).await;
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_stream_that_is_always_ready_starves_neither_messages_nor_timers_nor_neighbours() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let (flood, taken, _) = flood();
    let ticks = Arc::new(AtomicUsize::new(0));
    let ticked = ticks.clone();
    let attach = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        ctx.stream(flood, |_, _, _| {}, |_, _| {});
        ctx.every(Duration::from_millis(1), move |_, _| {
            ticked.fetch_add(1, Ordering::Relaxed);
        });
    };
    actor.tell(Do::new(attach)).await.unwrap();
    for note in 0..100 {
        soon("a message's turn", actor.ask(Note(note)).timeout(PATIENCE)).await.unwrap();
    }
    until("the timer ticks", || ticks.load(Ordering::Relaxed) >= 5).await;
    let other = probe(&system, &seen, Supervision::never());
    soon("a neighbour's turn", other.ask(Note(1)).timeout(PATIENCE)).await.unwrap();
    // And messages do not starve it.
    let before = taken.load(Ordering::SeqCst);
    let flooding = actor.clone();
    let messages = tokio::spawn(async move {
        loop {
            if flooding.tell(Note(1)).await.is_err() {
                return;
            }
        }
    });
    until("the stream's turn", || taken.load(Ordering::SeqCst) > before + 1000).await;
    actor.stop();
    assert_eq!(soon("it stops", actor.closed()).await, ExitReason::Stopped);
    soon("the flood ends", messages).await.unwrap();
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_stream_goes_with_its_state() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let quick = Supervision { backoff_min: Duration::from_millis(1), ..Supervision::transient() };
    let actor = probe(&system, &seen, quick);
    let (items_tx, items) = mpsc::channel(16);
    attach(&actor, Channel(items)).await;
    items_tx.send(1).await.unwrap();
    seen.wait("item 1").await;
    actor.tell(Panic).await.unwrap();
    until("restarted", || seen.count("probe started") == 2).await;
    // The stream is gone, not only deaf.
    soon("dropped", items_tx.closed()).await;
    actor.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    assert_eq!(seen.count("ended"), 0);
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_cancelled_stream_is_dropped_and_heard_of_no_more() {
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let actor = probe(&system, &seen, Supervision::never());
    let (items_tx, items) = mpsc::channel(16);
    let handle = attach(&actor, Channel(items)).await;
    items_tx.send(1).await.unwrap();
    seen.wait("item 1").await;
    handle.cancel();
    soon("dropped", items_tx.closed()).await;

    // From inside, with the next item ready and already taken.
    let cancel = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        let handle = ctx.stream(
            futures::stream::iter(100..200),
            |probe, item, _| probe.seen.push(format!("item {item}")),
            |probe, _| probe.seen.push("ended"),
        );
        handle.clone().cancel();
        drop(handle);
    };
    actor.tell(Do::new(cancel)).await.unwrap();
    actor.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    actor.ask(Note(2)).timeout(PATIENCE).await.unwrap();
    assert_eq!((seen.count("item 100"), seen.count("ended")), (0, 0));
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_panic_of_the_stream_or_in_its_handler_is_the_actors() {
    let system = builder(1).start().unwrap();
    for in_stream in [true, false] {
        let actor = probe(&system, &Seen::default(), Supervision::never());
        let attach = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
            let items = futures::stream::poll_fn(move |_| {
                assert!(!in_stream, "in the stream");
                Poll::Ready(Some(1))
            });
            ctx.stream(items, |_, _: u64, _| panic!("in the handler"), |_, _| {});
        };
        actor.tell(Do::new(attach)).await.unwrap();
        let text = if in_stream { "in the stream" } else { "in the handler" };
        assert_eq!(soon("it ends", actor.closed()).await, ExitReason::Panicked(text.into()));
    }
    stop(&[&system]).await;
}
