//! Keys that no attribute knows.

use dms_actors::{Actor, Message, WireMessage, handlers};

#[derive(Message)]
#[message(answer = u64)]
struct Ping;

#[derive(WireMessage)]
#[wire(name = "example.greet")]
struct Greet;

#[derive(Actor)]
#[actor(capacity = 64)]
struct Pinger;

#[derive(Actor)]
struct Ponger;

#[handlers]
impl Ponger {
    #[handler(far)]
    fn ping(&mut self, _: Ping) {}
}

fn main() {}
