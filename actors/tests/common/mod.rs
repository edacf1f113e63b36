//! What the scenarios share: systems on one memory network, a probe that records what it is told, and
//! waiting for a state with a deadline.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

pub mod wire;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{
    Actor, ActorRef, ActorSystem, ActorSystemBuilder, Address, Answer, Context, Did, Handler, Keypair,
    Message, Responder, Supervision,
};
use serde::{Deserialize, Serialize};

/// Longer than anything here takes, shorter than a patience.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn did(n: u8) -> Did {
    Keypair::from_secret(&[n; 32]).did()
}

pub fn builder(n: u8) -> ActorSystemBuilder {
    ActorSystem::builder(did(n), "test")
}

/// A system on the network, with the DID of number `n`.
pub fn member(network: &MemoryNetwork, n: u8) -> ActorSystem {
    builder(n).transport(network.transport(did(n))).start().unwrap()
}

pub fn address(n: u8, path: &str) -> Address {
    Address::new(did(n), path).unwrap()
}

pub async fn stop(systems: &[&ActorSystem]) {
    for system in systems {
        system.stop(PATIENCE).await.unwrap();
    }
}

/// Waits until `state` holds.
pub async fn until(what: &str, mut state: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !state() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits for `future`, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("never: {what}"),
    }
}

/// A number to be noted; replies how many were noted before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note(pub u64);
dms_actors::wire_message!(Note, "test.note", 1, reply = u64);

/// Panics in its handler.
#[derive(Debug, Serialize, Deserialize)]
pub struct Panic;
dms_actors::wire_message!(Panic, "test.panic", 1);

/// Is answered when the probe is told [`Note`] next.
#[derive(Debug, Serialize, Deserialize)]
pub struct Await;
dms_actors::wire_message!(Await, "test.await", 1, reply = u64);

/// Something of this many bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bulk(#[serde(with = "serde_bytes")] pub Vec<u8>);
dms_actors::wire_message!(Bulk, "test.bulk", 1);

/// A kind that nobody handles.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unheard;
dms_actors::wire_message!(Unheard, "test.unheard", 1);

/// What a [`Do`] runs.
type Run<A> = Box<dyn FnOnce(&mut A, &mut Context<'_, A>) + Send>;

/// Runs a closure inside the actor.
pub struct Do<A: Actor>(pub Run<A>);

impl<A: Actor> Do<A> {
    pub fn new(run: impl FnOnce(&mut A, &mut Context<'_, A>) + Send + 'static) -> Self {
        Self(Box::new(run))
    }
}

impl<A: Actor> Message for Do<A> {
    type Reply = ();
}

/// What a probe has seen, shared with the test.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub fn push(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|seen| *seen == text).count()
    }

    pub async fn wait(&self, text: &str) {
        until(&format!("{text} in {self:?}"), || self.count(text) > 0).await;
    }
}

/// Notes numbers and its own life.
pub struct Probe {
    pub name: &'static str,
    pub notes: Vec<u64>,
    pub seen: Seen,
    pub awaiting: Vec<Responder<u64>>,
}

impl Probe {
    pub fn new(seen: &Seen) -> Self {
        Self::named("probe", seen)
    }

    pub fn named(name: &'static str, seen: &Seen) -> Self {
        Self { name, notes: Vec::new(), seen: seen.clone(), awaiting: Vec::new() }
    }
}

impl Actor for Probe {
    const MAILBOX: usize = 16;

    fn started(&mut self, _: &mut Context<'_, Self>) {
        self.seen.push(format!("{} started", self.name));
    }

    fn stopped(&mut self, reason: &dms_actors::ExitReason) {
        self.seen.push(format!("{} {reason}", self.name));
    }
}

impl Handler<Note> for Probe {
    fn handle(&mut self, note: Note, ctx: &mut Context<'_, Self>) -> Answer<u64> {
        let before = self.notes.len() as u64;
        self.notes.push(note.0);
        self.seen.push(format!("note {} from {}", note.0, ctx.sender().short()));
        for responder in self.awaiting.drain(..) {
            responder.reply(note.0);
        }
        before.into()
    }
}

impl Handler<Panic> for Probe {
    fn handle(&mut self, _: Panic, _: &mut Context<'_, Self>) -> Answer<()> {
        panic!("on purpose");
    }
}

impl Handler<Await> for Probe {
    fn handle(&mut self, _: Await, _: &mut Context<'_, Self>) -> Answer<u64> {
        let (responder, answer) = Answer::later();
        self.awaiting.push(responder);
        self.seen.push(format!("awaiting {}", self.awaiting.len()));
        answer
    }
}

impl Handler<Bulk> for Probe {
    fn handle(&mut self, bulk: Bulk, _: &mut Context<'_, Self>) -> Answer<()> {
        self.seen.push(format!("bulk {}", bulk.0.len()));
        ().into()
    }
}

impl Handler<Do<Self>> for Probe {
    fn handle(&mut self, what: Do<Self>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        what.0(self, ctx);
        ().into()
    }
}

pub fn probe(system: &ActorSystem, seen: &Seen, supervision: Supervision) -> ActorRef<Probe> {
    let seen = seen.clone();
    system.spawn(move || Probe::new(&seen), supervision)
}

/// A probe at `/probe` that accepts every kind but [`Unheard`].
pub fn registered_probe(system: &ActorSystem, seen: &Seen) -> ActorRef<Probe> {
    let actor = probe(system, seen, Supervision::transient());
    let _ = system
        .register("/probe", &actor)
        .unwrap()
        .accepts::<Note>()
        .accepts::<Panic>()
        .accepts::<Await>()
        .accepts::<Bulk>();
    actor
}

/// Holds the probe's user lane until the returned sender is dropped or used.
pub async fn hold(actor: &ActorRef<Probe>) -> tokio::sync::oneshot::Sender<()> {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let held = Do::new(move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        ctx.exclusive(released, |_, _, _| {});
    });
    actor.ask(held).timeout(PATIENCE).await.unwrap();
    release
}
