//! Two actor systems in one process, one asks the other over a link: `cargo run --example ping`.
//!
//! The in-memory transport stands in for libp2p; nothing else changes when the systems are on two machines.

use std::time::Duration;

use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{Actor, ActorSystem, Context, Keypair, WireMessage, handlers};
use serde::{Deserialize, Serialize};

/// A message that travels: its name and version are its author's choice and never change by themselves.
#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = "example.ping", reply = u64)]
struct Ping {
    count: u64,
}

#[derive(Actor)]
struct Pinger;

#[handlers]
impl Pinger {
    #[handler(remote)]
    fn ping(&mut self, ping: Ping, ctx: &mut Context<'_, Self>) -> u64 {
        println!("{} pings {}", ctx.sender().short(), ping.count);
        ping.count + 1
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let network = MemoryNetwork::default();
    let (alice, bob) = (Keypair::generate()?.did(), Keypair::generate()?.did());
    let near = ActorSystem::builder(alice, "example").transport(network.transport(alice)).start()?;
    let far = ActorSystem::builder(bob, "example").transport(network.transport(bob)).start()?;

    // What bob's pinger handles under `remote` can be sent to it by path, from anywhere.
    far.expose("/pinger", &far.start(|| Pinger))?;

    let pinger = near.resolve(&far.address("/pinger")?);
    println!("the answer is {}", pinger.ask(Ping { count: 41 }).await?);

    near.stop(Duration::from_secs(1)).await?;
    far.stop(Duration::from_secs(1)).await?;
    Ok(())
}
