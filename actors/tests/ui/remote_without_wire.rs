//! A message that does not travel, in a handler for messages that do.

use dms_actors::{Actor, Context, Message, handlers};

#[derive(Message)]
#[message(reply = u64)]
struct Ping;

#[derive(Actor)]
struct Pinger;

#[handlers]
impl Pinger {
    #[handler(remote)]
    fn ping(&mut self, _: Ping) -> u64 {
        1
    }
}

fn main() {
    let _ = |_: &mut Context<'_, Pinger>| {};
}
