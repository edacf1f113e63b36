//! [`run`]: a test on one thread, in virtual time, with chance from one seed.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Handle};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::{FaultyNetwork, LeakCheck, VirtualClock};
use crate::clock::SharedClock;
use crate::runtime::{ActorSystem, ActorSystemBuilder, DeadLetter, lock};
use crate::{Did, Keypair};

/// The network's name in every world.
const NETWORK: &str = "testing";
/// How long what is ending may take (in virtual time): longer than every timeout of a link.
const SETTLING: Duration = Duration::from_secs(120);
/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(10);
/// How long the actors of a system may take to end, likewise.
const STOPPING: Duration = Duration::from_secs(3600);

/// Runs `test` in a world of its own and gives its output.
///
/// The clock is paused and jumps to the next timer whenever nobody has anything to do, so that waiting costs
/// nothing. All systems of the world run on the calling thread, one task at a time, and so does the test: the
/// same seed gives the same run as long as the test draws chance from the world only and waits for nothing
/// outside of it (no other thread, no socket, no file).
///
/// # Panics
/// If the test panics; and after it if it left something behind: a system that was not
/// [stopped](World::stop), an open pipe, a task, a dead letter that it neither
/// [expected](World::expect_dead_letters) nor [read](World::dead_letters).
pub fn run<F, T>(seed: u64, test: impl FnOnce(World) -> F) -> T
where
    F: Future<Output = T>,
{
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output needs nothing of the system");
    LocalSet::new().block_on(&runtime, async move {
        let world = World::new(seed);
        let output = test(world.clone()).await;
        world.finish().await;
        output
    })
}

struct Inner {
    seed: u64,
    clock: SharedClock,
    start: Instant,
    network: FaultyNetwork,
    check: Mutex<LeakCheck>,
    /// In the order of their start.
    systems: Mutex<Vec<ActorSystem>>,
    log: Mutex<Vec<String>>,
}

/// What a test has in virtual time: systems, the network between them, a clock, a log. Cheap to clone.
#[derive(Clone)]
pub struct World(Arc<Inner>);

impl World {
    fn new(seed: u64) -> Self {
        let network = FaultyNetwork::new(seed);
        let mut check = LeakCheck::new();
        check.watch_network(&network);
        check.watch_tasks(&Handle::current());
        Self(Arc::new(Inner {
            seed,
            clock: VirtualClock::shared(seed),
            start: Instant::now(),
            network,
            check: Mutex::new(check),
            systems: Mutex::default(),
            log: Mutex::default(),
        }))
    }

    /// The seed of everything random here.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// The virtual clock.
    pub fn clock(&self) -> SharedClock {
        self.0.clock.clone()
    }

    /// Virtual time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.0.start.elapsed()
    }

    /// The network between the world's systems.
    pub fn network(&self) -> &FaultyNetwork {
        &self.0.network
    }

    /// The key of whoever is called `name`; the same in every world.
    pub fn keypair(&self, name: &str) -> Keypair {
        Keypair::from_secret(&Sha256::digest(name.as_bytes()).into())
    }

    /// Its DID.
    pub fn did(&self, name: &str) -> Did {
        self.keypair(name).did()
    }

    /// A system called `name` that is about to start, on the world's network and with its clock, for tests that
    /// set more (a policy, blobs). Hand it to [`Self::start`].
    pub fn builder(&self, name: &str) -> ActorSystemBuilder {
        let me = self.did(name);
        ActorSystem::builder(me, NETWORK).clock(self.clock()).transport(self.0.network.transport(me))
    }

    /// Starts a system on this thread and watches it.
    ///
    /// # Panics
    /// If it cannot be started: its transport is in use by another system.
    #[track_caller]
    pub fn start(&self, name: &str, builder: ActorSystemBuilder) -> ActorSystem {
        let system = match builder.start_on_current() {
            Ok(system) => system,
            Err(error) => panic!("system {name} does not start: {error}"),
        };
        lock(&self.0.check).watch(name, &system);
        lock(&self.0.systems).push(system.clone());
        system
    }

    /// A system called `name`, connected to all others of this world.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[track_caller]
    pub fn system(&self, name: &str) -> ActorSystem {
        self.start(name, self.builder(name))
    }

    /// Stops all systems, the youngest first.
    ///
    /// # Panics
    /// If an actor does not end within an hour of virtual time.
    pub async fn stop(&self) {
        let systems = std::mem::take(&mut *lock(&self.0.systems));
        for system in systems.into_iter().rev() {
            if let Err(error) = system.stop(STOPPING).await {
                panic!("system {} does not stop: {error}", system.me().short());
            }
        }
    }

    /// The test expects `count` more dead letters, and will not read them.
    pub fn expect_dead_letters(&self, count: usize) {
        lock(&self.0.check).expect_dead_letters(count);
    }

    /// The dead letters since the last call, of all systems: they are read, and no leak.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        lock(&self.0.check).take_dead_letters()
    }

    /// Writes a line, with the virtual time, to the log of this run.
    pub fn log(&self, line: impl fmt::Display) {
        let line = format!("{:?} {line}", self.elapsed());
        lock(&self.0.log).push(line);
    }

    /// The log so far: what two runs of one seed have in common.
    pub fn history(&self) -> Vec<String> {
        lock(&self.0.log).clone()
    }

    /// Lets what is ending end, and sees that nothing is left. [`run`] does it after the test.
    ///
    /// # Panics
    /// With a list of what is left.
    pub async fn finish(&self) {
        // Handles that the world holds are not what keeps a system alive.
        lock(&self.0.systems).clear();
        let deadline = Instant::now() + SETTLING;
        while !lock(&self.0.check).leaks().is_empty() && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        lock(&self.0.check).verify();
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.seed()).field("elapsed", &self.elapsed()).finish()
    }
}
