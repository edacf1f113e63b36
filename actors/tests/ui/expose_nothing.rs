//! An actor without handlers for messages of others cannot be exposed to them.

use dms_actors::{Actor, ActorSystem, Message, handlers};

#[derive(Message)]
struct Ping;

#[derive(Actor)]
struct Pinger;

#[handlers]
impl Pinger {
    #[handler]
    fn ping(&mut self, _: Ping) {}
}

#[dms_actors::main]
async fn main(system: ActorSystem) {
    let pinger = system.start(|| Pinger);
    let _ = system.expose("/pinger", &pinger);
}
