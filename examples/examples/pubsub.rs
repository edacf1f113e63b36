//! One message to all who have subscribed, here and on another system: `cargo run --example pubsub`.

use std::time::Duration;

use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{Actor, ActorSystem, Keypair, Slow, Topic, WireMessage, handlers};
use serde::{Deserialize, Serialize};

/// What is published. It is cloned for each subscriber and has no reply.
#[derive(Clone, Serialize, Deserialize, WireMessage)]
#[wire(kind = "example.price")]
struct Price {
    item: String,
    cents: u64,
}

/// Asks a screen how many prices it has shown.
struct HowMany;

#[derive(Actor)]
struct Screen {
    place: &'static str,
    shown: u64,
}

#[handlers]
impl Screen {
    #[handler(remote)]
    fn show(&mut self, price: Price) {
        self.shown += 1;
        println!("{}: {} costs {} cents", self.place, price.item, price.cents);
    }

    #[handler(message)]
    fn how_many(&mut self, _: HowMany) -> u64 {
        self.shown
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The in-memory transport stands in for libp2p, as in `ping`.
    let network = MemoryNetwork::default();
    let (shop, mall) = (Keypair::generate()?.did(), Keypair::generate()?.did());
    let shop = ActorSystem::builder(shop, "example").transport(network.transport(shop)).start()?;
    let mall = ActorSystem::builder(mall, "example").transport(network.transport(mall)).start()?;

    let window = shop.start(|| Screen { place: "in the window", shown: 0 });
    let hall = mall.start(|| Screen { place: "in the hall", shown: 0 });
    mall.expose("/hall", &hall)?;

    // A topic has no actor and no thread: publishing is sending to each subscriber, and each has said
    // what becomes of a message when it is too slow.
    let prices = Topic::new(&shop);
    let near = prices.subscribe(window.recipient(), Slow::Drop)?;
    prices.subscribe(shop.resolve(&mall.address("/hall")?), Slow::Wait)?;

    for (item, cents) in [("bread", 310), ("cheese", 540)] {
        let published = prices.publish(Price { item: item.to_owned(), cents }).await;
        println!("{} screens have the price of {item}", published.taken);
    }
    near.cancel();
    prices.publish(Price { item: "salt".to_owned(), cents: 80 }).await;

    // What is queued for the other system has arrived when it was flushed, and is shown before an ask
    // that comes after it is answered.
    shop.flush(Duration::from_secs(5)).await;
    println!("in the window {}, in the hall {}", window.ask(HowMany).await?, hall.ask(HowMany).await?);

    shop.stop(Duration::from_secs(1)).await?;
    mall.stop(Duration::from_secs(1)).await?;
    Ok(())
}
