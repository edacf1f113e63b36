//! Replies that only one side speaks of.

use dms_actors::{Actor, Message, handlers};

#[derive(Message)]
#[message(reply = u64)]
struct Ping;

#[derive(Message)]
struct Count;

#[derive(Actor)]
struct Pinger;

#[handlers]
impl Pinger {
    #[handler]
    fn ping(&mut self, _: Ping) {}

    #[handler]
    fn count(&mut self, _: Count) -> u64 {
        1
    }
}

fn main() {}
