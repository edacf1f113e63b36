//! An actix actor that an application has already, asked from another system: `cargo run --example actix_bridge`.
//!
//! The actor is not changed, and it runs on its own arbiter. The in-memory transport stands in for libp2p.

use std::time::Duration;

use dms_actors::bridge::{self, actix};
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{ActorSystem, Address, Keypair};
use serde::{Deserialize, Serialize};

/// What the application has.
struct Stock {
    apples: u64,
}

impl actix::Actor for Stock {
    type Context = actix::Context<Self>;
}

impl actix::Handler<Take> for Stock {
    type Result = Option<u64>;

    fn handle(&mut self, take: Take, _: &mut Self::Context) -> Option<u64> {
        self.apples = self.apples.checked_sub(take.apples)?;
        Some(self.apples)
    }
}

/// A message of both worlds: actix hands it to the actor, and it can travel. Replies how many are left, or
/// nothing if there are too few.
#[derive(Serialize, Deserialize)]
struct Take {
    apples: u64,
}
dms_actors::wire_message!(Take, "example.take", 1, reply = Option<u64>);
impl actix::Message for Take {
    type Result = Option<u64>;
}

fn main() -> anyhow::Result<()> {
    actix::System::new().block_on(async {
        let stock = actix::Actor::start(Stock { apples: 10 });

        let network = MemoryNetwork::default();
        let (shop, customer) = (Keypair::generate()?.did(), Keypair::generate()?.did());
        let here = ActorSystem::builder(shop, "example").transport(network.transport(shop)).start()?;
        let there =
            ActorSystem::builder(customer, "example").transport(network.transport(customer)).start()?;

        // All that it takes:
        bridge::expose(&here, "/stock", stock)?.accepts::<Take>();

        let stock = there.resolve::<Take>(&Address::new(shop, "/stock")?);
        for apples in [3, 5, 4] {
            match stock.ask(Take { apples }).await? {
                Some(left) => println!("took {apples}, {left} are left"),
                None => println!("there are not {apples} any more"),
            }
        }

        there.stop(Duration::from_secs(1)).await?;
        here.stop(Duration::from_secs(1)).await?;
        Ok(())
    })
}
