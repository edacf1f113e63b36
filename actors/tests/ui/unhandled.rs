//! A message that the actor has no handler for.

use dms_actors::{Actor, ActorSystem, Message};

#[derive(Message)]
struct Ping;

#[derive(Actor)]
struct Pinger;

#[dms_actors::main]
async fn main(system: ActorSystem) {
    let pinger = system.start(|| Pinger);
    let _ = pinger.try_tell(Ping);
}
