//! `#[handlers]` on what is no inherent impl block, and on one without handlers.

use dms_actors::{Actor, Answer, Context, Handler, Message, handlers};

#[derive(Message)]
struct Ping;

struct Pinger;

#[handlers]
impl Actor for Pinger {}

impl Handler<Ping> for Pinger {
    fn handle(&mut self, _: Ping, _: &mut Context<'_, Self>) -> Answer<()> {
        ().into()
    }
}

#[handlers]
struct Ponger;

#[handlers]
impl Ponger {
    fn helper(&mut self, _: Ping) {}
}

#[handlers(remote)]
impl Ponger {
    #[handler]
    fn ping(&mut self, _: Ping) {}
}

#[dms_actors::main]
async fn no_system() {}

#[dms_actors::main]
fn no_async(_: dms_actors::ActorSystem) {}

fn main() {}
