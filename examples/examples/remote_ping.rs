//! Two processes, one asks the other over libp2p.
//!
//! ```text
//! $ cargo run --example remote_ping
//! /ip4/127.0.0.1/tcp/40123/p2p/12D3KooW…
//! $ cargo run --example remote_ping /ip4/127.0.0.1/tcp/40123/p2p/12D3KooW…
//! the answer is 42
//! ```

use std::time::Duration;

use dms_actors::{Actor, ActorSystem, Address, Answer, Context, Handler, Keypair, Supervision};
use dms_p2p::{P2p, P2pConfig, did_of};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Ping(u64);
dms_actors::wire_message!(Ping, "example.ping", 1, reply = u64);

struct Pinger;
impl Actor for Pinger {}
impl Handler<Ping> for Pinger {
    fn handle(&mut self, ping: Ping, _: &mut Context<'_, Self>) -> Answer<u64> {
        (ping.0 + 1).into()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (key, other) = (Keypair::generate()?, std::env::args().nth(1));
    let p2p = P2p::start(&key, P2pConfig::local("example").with_bootstrap(other.clone())).await?;
    let system = ActorSystem::builder(key.did(), "example").transport(p2p.transport()).start()?;
    if let Some(other) = other {
        let pinger = system.resolve::<Ping>(&Address::new(did_of(&other)?, "/pinger")?);
        println!("the answer is {}", pinger.ask(Ping(41)).await?);
    } else {
        let pinger = system.spawn(|| Pinger, Supervision::transient());
        system.register("/pinger", &pinger)?.accepts::<Ping>();
        println!("{}", p2p.listen_addresses()[0]);
        tokio::signal::ctrl_c().await?;
    }
    system.stop(Duration::from_secs(1)).await?;
    p2p.shutdown().await;
    Ok(())
}
