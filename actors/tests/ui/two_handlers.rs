//! One message has one handler in an actor, within a block and across blocks.

use dms_actors::{Actor, Message, handlers};

#[derive(Message)]
struct Ping;

#[derive(Message)]
struct Pong;

#[derive(Actor)]
struct Pinger;

#[handlers]
impl Pinger {
    #[handler]
    fn ping(&mut self, _: Ping) {}

    #[handler]
    fn ping_again(&mut self, _: Ping) {}
}

#[derive(Actor)]
struct Ponger;

#[handlers]
impl Ponger {
    #[handler]
    fn pong(&mut self, _: Pong) {}
}

#[handlers]
impl Ponger {
    #[handler]
    fn pong_again(&mut self, _: Pong) {}
}

fn main() {}
