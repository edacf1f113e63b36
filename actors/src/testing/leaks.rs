//! What a test left behind: actors, pipes, tasks, and words that nobody saw die.

use std::fmt;

use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;

use super::FaultyNetwork;
use crate::runtime::{ActorSystem, DeadLetter, Observer};

/// Something that a test should have ended or looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Leak {
    /// A system was not stopped.
    #[error("system {system} still runs, with {} actors: {}", .actors.len(), list(.actors))]
    SystemRuns {
        /// The name that the test gave it.
        system: String,
        /// Its actors without a parent, by type and number.
        actors: Vec<String>,
    },
    /// Pipes of a network are open.
    #[error("{0} pipes are open")]
    PipesOpen(usize),
    /// Tasks of the runtime have not ended.
    #[error("{0} tasks have not ended")]
    TasksUnfinished(usize),
    /// Words died, and the test neither expected them to nor looked.
    #[error("{} dead letters where {expected} were expected: {}", .letters.len(), list(.letters))]
    DeadLetters {
        /// How many it expected.
        expected: usize,
        /// What died, as far as it was kept.
        letters: Vec<String>,
    },
    /// Fewer words died than were expected to.
    #[error("{seen} dead letters where {expected} were expected")]
    DeadLettersMissing {
        /// How many were expected.
        expected: usize,
        /// How many there were.
        seen: usize,
    },
}

/// As much of a list as a failed test needs.
fn list(entries: &[String]) -> String {
    const MOST: usize = 20;
    let mut text = entries.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if entries.len() > MOST {
        text.push_str(", …");
    }
    text
}

struct Watched {
    name: String,
    system: Observer,
    letters: broadcast::Receiver<DeadLetter>,
}

/// Panics when it is dropped if something of what it watches is left, with a list; not while the test panics
/// already. It keeps nothing alive.
///
/// ```
/// # use dms_actors::{ActorSystem, Keypair};
/// # use dms_actors::testing::LeakCheck;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let system = ActorSystem::builder(Keypair::generate()?.did(), "test").start()?;
/// let mut check = LeakCheck::new();
/// check.watch("mine", &system);
/// // …the test…
/// system.stop(std::time::Duration::from_secs(1)).await?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Default)]
pub struct LeakCheck {
    systems: Vec<Watched>,
    networks: Vec<FaultyNetwork>,
    runtime: Option<(Handle, usize)>,
    expected_letters: usize,
    unread: Vec<DeadLetter>,
    is_done: bool,
}

impl LeakCheck {
    /// One that watches nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a system: it has to be stopped (or dropped with all its actors) at the end, and its dead letters
    /// count from now on.
    pub fn watch(&mut self, name: impl Into<String>, system: &ActorSystem) {
        self.systems.push(Watched {
            name: name.into(),
            system: system.observe(),
            letters: system.dead_letters(),
        });
    }

    /// Watches a network: its pipes have to be closed at the end.
    pub fn watch_network(&mut self, network: &FaultyNetwork) {
        self.networks.push(network.clone());
    }

    /// Watches the tasks of a runtime: no more may be left at the end than there are now. Only of use if the
    /// runtime is the test's own.
    pub fn watch_tasks(&mut self, runtime: &Handle) {
        self.runtime = Some((runtime.clone(), runtime.metrics().num_alive_tasks()));
    }

    /// The test expects `count` more dead letters and will not look at them.
    pub fn expect_dead_letters(&mut self, count: usize) {
        self.expected_letters += count;
    }

    /// Takes the dead letters so far, in the order of the systems: they have been looked at.
    pub fn take_dead_letters(&mut self) -> Vec<DeadLetter> {
        self.read_letters();
        std::mem::take(&mut self.unread)
    }

    /// What is left now.
    pub fn leaks(&mut self) -> Vec<Leak> {
        self.read_letters();
        let mut leaks: Vec<Leak> = self
            .systems
            .iter()
            .filter_map(|watched| {
                let actors = watched.system.running()?;
                Some(Leak::SystemRuns { system: watched.name.clone(), actors })
            })
            .collect();
        let pipes: usize = self.networks.iter().map(FaultyNetwork::open_pipes).sum();
        if pipes > 0 {
            leaks.push(Leak::PipesOpen(pipes));
        }
        if let Some((runtime, before)) = &self.runtime {
            let tasks = runtime.metrics().num_alive_tasks().saturating_sub(*before);
            if tasks > 0 {
                leaks.push(Leak::TasksUnfinished(tasks));
            }
        }
        let (seen, expected) = (self.unread.len(), self.expected_letters);
        if seen > expected {
            let letters = self.unread.iter().map(describe).collect();
            leaks.push(Leak::DeadLetters { expected, letters });
        } else if seen < expected {
            leaks.push(Leak::DeadLettersMissing { expected, seen });
        }
        leaks
    }

    /// Panics if anything is left, and does not look again when it is dropped.
    ///
    /// # Panics
    /// With the list of what is left.
    #[track_caller]
    pub fn verify(&mut self) {
        let leaks = self.leaks();
        self.is_done = true;
        if !leaks.is_empty() {
            let list: Vec<String> = leaks.iter().map(Leak::to_string).collect();
            panic!("the test left something behind:\n- {}", list.join("\n- "));
        }
    }

    fn read_letters(&mut self) {
        for watched in &mut self.systems {
            loop {
                match watched.letters.try_recv() {
                    Ok(letter) => self.unread.push(letter),
                    // More than a thousand at once: those that are still there say enough.
                    Err(TryRecvError::Lagged(_)) => {}
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
        }
    }
}

fn describe(letter: &DeadLetter) -> String {
    let what = letter.type_name.map(str::to_owned);
    let what = what.or_else(|| letter.kind.as_ref().map(ToString::to_string));
    let to = letter.path.as_ref().map(|path| format!(" to {path}")).unwrap_or_default();
    format!("{}{to} ({})", what.as_deref().unwrap_or("a word"), letter.reason)
}

impl fmt::Debug for LeakCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.systems.iter().map(|watched| watched.name.as_str()).collect();
        f.debug_struct("LeakCheck").field("systems", &names).finish_non_exhaustive()
    }
}

impl Drop for LeakCheck {
    fn drop(&mut self) {
        if !self.is_done && !std::thread::panicking() {
            self.verify();
        }
    }
}
