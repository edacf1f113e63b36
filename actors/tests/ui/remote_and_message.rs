//! A message that travels is not declared by its handler: it has a kind.

use dms_actors::{Actor, Context, Message, handlers};

#[derive(Message)]
#[message(reply = u64)]
struct Ping;

#[derive(Actor)]
struct Pinger;

struct Local;

#[handlers]
impl Pinger {
    #[handler(remote, message)]
    fn local(&mut self, _: Local) -> u64 {
        1
    }
}

fn main() {
    let _ = |_: &mut Context<'_, Pinger>, _: Ping| {};
}
