//! Work spread over four workers on two threads, and work that stays with one of them:
//! `cargo run --example pool`.

use std::future::IntoFuture;
use std::ops::Range;

use dms_actors::{Actor, ActorSystem, PoolBuilder, Routing, handlers};

/// Is answered with how many primes there are in the range.
struct CountPrimes(Range<u64>);

/// Somebody has come; is answered with how often that was, and with who counts it.
struct Visit(&'static str);

#[derive(Actor)]
struct Worker {
    number: usize,
    guests: Vec<&'static str>,
}

#[handlers]
impl Worker {
    #[handler(message)]
    fn count_primes(&mut self, CountPrimes(range): CountPrimes) -> usize {
        range.filter(|n| *n > 1 && (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count()
    }

    #[handler(message)]
    fn visit(&mut self, Visit(name): Visit) -> (usize, usize) {
        self.guests.push(name);
        (self.guests.iter().filter(|guest| **guest == name).count(), self.number)
    }
}

#[dms_actors::main]
async fn main(system: ActorSystem) -> anyhow::Result<()> {
    let threads = [system.arbiter("first")?, system.arbiter("second")?];
    let pool = PoolBuilder::new(4)
        .routing(Routing::LeastBusy)
        .spread(threads)
        .spawn(&system, |number| Worker { number, guests: Vec::new() });

    // Whoever has the least to do takes the next part.
    let parts = (0..20).map(|part| CountPrimes(part * 1000..(part + 1) * 1000));
    let asks: Vec<_> = parts.map(|part| tokio::spawn(pool.ask(part).into_future())).collect();
    let mut primes = 0;
    for ask in asks {
        primes += ask.await??;
    }
    println!("there are {primes} primes below 20000");

    // What belongs together goes to one worker, which can keep what it knows.
    for name in ["ada", "ben", "ada", "ada"] {
        let (times, worker) = pool.worker_for(name).ask(Visit(name)).await?;
        println!("{name}, for the {times}. time, at worker {worker}");
    }
    Ok(())
}
