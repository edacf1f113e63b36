//! The remote program of the READMEs, word for word; `tests/readme.rs` sees to that, and runs it.

use dms_actors::{Actor, WireMessage, handlers};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = "example.ping", reply = u64)]
struct Ping(u64);

#[derive(Actor)]
struct Pinger;

#[handlers]
impl Pinger {
    #[handler(remote)]
    fn ping(&mut self, ping: Ping) -> u64 {
        ping.0 + 1
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (p2p, system) = dms_p2p::join("example", std::env::args().nth(1)).await?;
    system.expose("/pinger", &system.start(|| Pinger))?;
    println!("{} {}", p2p.listen_addresses()[0], system.address("/pinger")?);
    if let Some(pinger) = std::env::args().nth(2) {
        println!("{:?}", system.resolve(&pinger.parse()?).ask(Ping(41)).await); // Ok(42)
    }
    Ok(tokio::signal::ctrl_c().await?)
}
