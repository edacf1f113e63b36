//! Two actor systems in one process, one asks the other over a link: `cargo run --example ping`.
//!
//! The in-memory transport stands in for libp2p; nothing else changes when the systems are on two machines.

use std::time::Duration;

use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{Actor, ActorSystem, Address, Answer, Context, Handler, Keypair, Supervision};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Ping {
    count: u64,
}
dms_actors::wire_message!(Ping, "example.ping", 1, reply = u64);

struct Pinger;
impl Actor for Pinger {}
impl Handler<Ping> for Pinger {
    fn handle(&mut self, ping: Ping, ctx: &mut Context<'_, Self>) -> Answer<u64> {
        println!("{} pings {}", ctx.sender().short(), ping.count);
        (ping.count + 1).into()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let network = MemoryNetwork::default();
    let (alice, bob) = (Keypair::generate()?.did(), Keypair::generate()?.did());
    let near = ActorSystem::builder(alice, "example").transport(network.transport(alice)).start()?;
    let far = ActorSystem::builder(bob, "example").transport(network.transport(bob)).start()?;

    let pinger = far.spawn(|| Pinger, Supervision::transient());
    far.register("/pinger", &pinger)?.accepts::<Ping>();

    let recipient = near.resolve::<Ping>(&Address::new(bob, "/pinger")?);
    let answer = recipient.ask(Ping { count: 41 }, Duration::from_secs(1)).await?;
    println!("the answer is {answer}");

    near.stop(Duration::from_secs(1)).await?;
    far.stop(Duration::from_secs(1)).await?;
    Ok(())
}
