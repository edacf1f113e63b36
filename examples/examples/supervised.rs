//! A worker that panics, is built anew, and is given up when it panics too often:
//! `cargo run --example supervised`. (What the panics themselves print goes to standard error.)

use std::time::Duration;

use dms_actors::{Actor, ActorSystem, Context, ExitReason, Supervision, handlers};

/// A job; number 13 cannot be done.
struct Job(u32);

/// Does jobs and counts them. The count is lost with the state; the queue and every reference stay.
#[derive(Actor)]
struct Worker {
    done: u32,
}

#[handlers]
impl Worker {
    #[handler(message)]
    fn work(&mut self, Job(number): Job) -> u32 {
        assert!(number != 13, "job 13 cannot be done");
        self.done += 1;
        self.done
    }
}

/// Has a worker, passes jobs on, and ends when the worker has ended.
struct Foreman {
    worker: Option<dms_actors::ActorRef<Worker>>,
}

impl Actor for Foreman {
    fn started(&mut self, ctx: &mut Context<'_, Self>) {
        // The budget: two new workers within a minute, with a short pause before each.
        let supervision = Supervision {
            max_restarts: 2,
            within: Duration::from_secs(60),
            backoff_min: Duration::from_millis(10),
            ..Supervision::transient()
        };
        let factory = || {
            println!("a worker is built");
            Worker { done: 0 }
        };
        let worker = ctx.spawn_child(factory, supervision);
        ctx.watch(&worker, |_, reason, ctx| {
            println!("the worker is given up: {reason}");
            ctx.fail("no worker");
        });
        self.worker = Some(worker);
    }
}

/// Asks for the worker.
struct WhoWorks;

#[handlers]
impl Foreman {
    #[handler(message)]
    fn who_works(&mut self, _: WhoWorks) -> Option<dms_actors::ActorRef<Worker>> {
        self.worker.clone()
    }
}

#[dms_actors::main]
async fn main(system: ActorSystem) -> anyhow::Result<()> {
    let mut dead_letters = system.dead_letters();
    let foreman = system.spawn(|| Foreman { worker: None }, Supervision::never());
    let worker = foreman.ask(WhoWorks).await?.expect("a foreman that has started has a worker");

    for number in [1, 2, 13, 3, 13, 4, 13] {
        match worker.ask(Job(number)).await {
            Ok(done) => println!("job {number} is done, the {done}. of this worker"),
            Err(error) => println!("job {number}: {error}; {}", dead_letters.recv().await?.reason),
        }
    }

    // The third failure was one too many. The foreman, who has no worker any more, fails too.
    let reason = foreman.closed().await;
    assert_eq!(reason, ExitReason::Failed("no worker".to_owned()));
    println!("the foreman has {reason}");
    Ok(())
}
