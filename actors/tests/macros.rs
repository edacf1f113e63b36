//! The macros at work: what they accept does what it says, and what they refuse is refused with the text
//! on file beside each case in `ui/`.
//!
//! `TRYBUILD=overwrite cargo test -p dms-actors --test macros refuse` writes those texts anew; read them
//! before they are kept: they are what a user sees.

mod common;

use std::marker::PhantomData;

use common::{PATIENCE, address, member, soon, stop};
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{Actor, ActorSystem, Answer, Context, Kind, Message, Overflow, WireMessage, handlers};
use serde::{Deserialize, Serialize};

/// All of them fail, so that nothing is built, only checked: a case that passes would build every dependency.
/// rustc's texts name what else of the crate they know, so they are held to with the features of the workspace.
#[cfg(feature = "actix-bridge")]
#[test]
fn what_is_refused_is_refused_with_the_text_on_file() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

#[derive(Message)]
#[message(reply = usize)]
struct Put<T>(T);

#[derive(Message)]
struct Clear;

#[derive(Message)]
#[message(reply = Option<T>)]
struct Last<T>(PhantomData<T>);

#[derive(Message)]
#[message(reply = usize)]
struct Count;

#[derive(Actor)]
#[actor(mailbox = 2 * 8, overflow = Reject)]
struct Store<T: Clone> {
    all: Vec<T>,
}

/// Every form of method, in a block with parameters and conditions.
#[handlers]
impl<T> Store<T>
where
    T: Clone + Send + 'static,
{
    const FIRST: usize = 8;

    fn new() -> Self {
        Self { all: Vec::with_capacity(Self::FIRST) }
    }

    #[handler]
    fn put(&mut self, Put(value): Put<T>) -> usize {
        self.all.push(value);
        self.all.len()
    }

    #[expect(clippy::needless_arbitrary_self_type, reason = "a receiver may be written out")]
    #[handler]
    fn clear(self: &mut Self, _: Clear) {
        self.all.clear();
    }

    #[handler]
    fn last(&mut self, _: Last<T>, ctx: &mut Context<'_, Self>) -> Answer<Option<T>> {
        let (responder, answer) = Answer::later();
        ctx.pipe(async {}, |store, (), _| responder.reply(store.all.last().cloned()));
        answer
    }

    #[handler]
    fn count(&self, _: Count, ctx: &mut Context<'_, Self>) -> usize {
        if self.all.is_empty() {
            ctx.stop();
        }
        self.all.len()
    }

    #[cfg(any())]
    #[handler(remote)]
    fn absent(&mut self, _: NoSuchType) {}
}

#[tokio::test]
async fn a_marked_method_handles_its_message() {
    let system = ActorSystem::local().unwrap();
    let store = system.start(Store::<&'static str>::new);
    assert_eq!((Store::<String>::MAILBOX, Store::<String>::OVERFLOW), (16, Overflow::Reject));
    store.tell(Put("a")).await.unwrap();
    assert_eq!(store.ask(Put("b")).timeout(PATIENCE).await.unwrap(), 2);
    assert_eq!(store.ask(Last(PhantomData)).timeout(PATIENCE).await.unwrap(), Some("b"));
    store.ask(Clear).timeout(PATIENCE).await.unwrap();
    assert_eq!(store.ask(Count).timeout(PATIENCE).await.unwrap(), 0);
    soon("it stops itself", store.closed()).await;
    stop(&[&system]).await;
    // A handler stays a method, and needs no system.
    assert_eq!(Store::new().put(Put(1)), 1);
}

#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = "test.greet", version = 65535, reply = String)]
struct Greet {
    name: String,
}

#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = "test.part")]
enum Part {
    Softly,
}

#[derive(Message)]
#[message(reply = u64)]
struct Reset;

#[derive(Actor)]
struct Greeter {
    greeted: u64,
}

#[handlers]
impl Greeter {
    #[handler(remote)]
    fn greet(&mut self, greet: Greet, ctx: &mut Context<'_, Self>) -> String {
        self.greeted += 1;
        format!("hello {} of {}", greet.name, ctx.sender().short())
    }

    #[handler(remote)]
    fn part(&mut self, _: Part) {
        self.greeted += 100;
    }

    #[handler]
    fn reset(&mut self, _: Reset) -> u64 {
        std::mem::take(&mut self.greeted)
    }
}

#[tokio::test]
async fn an_exposed_actor_takes_all_its_remote_messages_at_its_path() {
    assert_eq!(Kind::of::<Greet>(), Kind { name: "test.greet".to_owned(), version: 65535 });
    assert_eq!(Kind::of::<Part>(), Kind { name: "test.part".to_owned(), version: 1 });
    let network = MemoryNetwork::default();
    let (near, far) = (member(&network, 1), member(&network, 2));
    let greeter = far.start(|| Greeter { greeted: 0 });
    far.expose("/greeter", &greeter).unwrap();
    assert_eq!(far.address("greeter").unwrap(), address(2, "/greeter"));
    assert!(far.address("/Greeter").is_err());

    let greet = Greet { name: "you".to_owned() };
    let greeted = near.resolve(&address(2, "/greeter")).ask(greet).timeout(PATIENCE).await.unwrap();
    assert_eq!(greeted, format!("hello you of {}", near.me().short()));
    near.resolve(&address(2, "/greeter")).ask(Part::Softly).timeout(PATIENCE).await.unwrap();
    assert_eq!(greeter.ask(Reset).timeout(PATIENCE).await.unwrap(), 101);
    stop(&[&near, &far]).await;
}

struct Ping(u64);
struct Later;

#[derive(Actor)]
struct Pinger;

#[handlers]
impl Pinger {
    #[handler(message)]
    fn ping(&mut self, ping: Ping) -> u64 {
        ping.0 + 1
    }

    #[handler(message)]
    fn later(&mut self, _: Later) -> Answer<String> {
        let (responder, answer) = Answer::later();
        responder.reply("now".to_owned());
        answer
    }

    const TWICE: usize = 2;

    /// `Self` is the actor, also where the message is declared.
    #[handler(message)]
    fn copies(&mut self, _: Copies<Self>) -> [Option<Self>; Self::TWICE] {
        [Some(Self), None]
    }
}

struct Copies<A>(PhantomData<A>);

#[tokio::test]
async fn a_handler_that_declares_its_message_may_speak_of_itself() {
    let system = ActorSystem::local().unwrap();
    let pinger = system.start(|| Pinger);
    let [first, second] = pinger.ask(Copies(PhantomData)).timeout(PATIENCE).await.unwrap();
    assert!(first.is_some() && second.is_none());
    stop(&[&system]).await;
}

/// What `#[dms_actors::main]` makes of a program.
mod program {
    use super::{ActorSystem, Later, PATIENCE, Ping, Pinger};

    #[dms_actors::main]
    pub(super) async fn main(system: ActorSystem) -> Result<(u64, String, ActorSystem), String> {
        let pinger = system.start(|| Pinger);
        let pong = pinger.ask(Ping(41)).timeout(PATIENCE).await.map_err(|error| error.to_string())?;
        let later = pinger.ask(Later).timeout(PATIENCE).await.map_err(|error| error.to_string())?;
        Ok((pong, later, system))
    }
}

#[test]
fn a_program_is_lent_a_system_that_stops_with_it() {
    let (pong, later, system) = program::main().unwrap();
    assert_eq!((pong, later.as_str()), (42, "now"));
    assert!(!system.start(|| Pinger).is_alive());
}
