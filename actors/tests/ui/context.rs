//! What follows the message is the actor's own context.

use dms_actors::{Actor, Context, Message, handlers};

#[derive(Message)]
#[message(reply = u64)]
struct Ping;

#[derive(Actor)]
struct Pinger;

#[handlers]
impl Pinger {
    #[handler]
    fn ping(&mut self, _: Ping, _ctx: &mut Vec<u8>) -> u64 {
        1
    }
}

fn main() {
    let _ = |_: &mut Context<'_, Pinger>| {};
}
