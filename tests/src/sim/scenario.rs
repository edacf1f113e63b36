//! What happens in a simulated world before anybody reacts: nodes, jobs and faults, made from one seed or written by
//! hand.
//!
//! Pure: the same seed and size give the same scenario on every machine. Every time is in milliseconds of virtual time
//! since the world began.

use std::fmt;

use dms_actors::testing::Chance;
use dms_messages::Did;
use serde::{Deserialize, Serialize};

use super::facts::NodeIndex;

/// How long a world has to become quiet once nothing is broken any more: longer than the longest time that the nodes
/// give anything that a fault can leave behind (a job's wait, an orphan's time, the patience for a result).
pub const LIVENESS_MS: u64 = 5 * 60_000;

/// A scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What everything that the scenario leaves open is drawn from: delays, losses, ids.
    pub seed: u64,
    /// When everything that is broken is mended, and only time passes.
    pub safety_ms: u64,
    /// How much later at the latest every job has ended and all capacity is free.
    #[serde(default = "liveness")]
    pub liveness_ms: u64,
    /// The links and the gossip between the nodes.
    #[serde(default)]
    pub network: NetworkPlan,
    /// The nodes; the first has the index 0.
    pub nodes: Vec<NodePlan>,
    /// The jobs.
    #[serde(default)]
    pub jobs: Vec<JobPlan>,
    /// The faults.
    #[serde(default)]
    pub faults: Vec<FaultPlan>,
}

fn liveness() -> u64 {
    LIVENESS_MS
}

/// What the network does to everybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkPlan {
    /// How long a byte takes at least.
    pub delay_ms: u64,
    /// How much longer it may take.
    pub jitter_ms: u64,
    /// Bytes that a link carries in a second; without it as many as there are.
    pub bytes_per_second: Option<u64>,
    /// One in so many pieces of a link is lost, and comes later because it is sent again.
    pub lose_one_in: u32,
    /// One in so many links breaks after some kilobytes.
    pub break_one_in: u32,
    /// One in so many gossiped messages does not reach a node.
    pub lose_gossip_one_in: u32,
    /// One in so many reaches it twice.
    pub repeat_gossip_one_in: u32,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Thousandths of a core that it offers; 0: it offers nothing, and only hands in jobs.
    pub cpu: u64,
    /// MiB that it offers.
    pub memory: u64,
    /// How far its wall clock is ahead.
    #[serde(default)]
    pub ahead_ms: i64,
    /// How long a synced write takes it at most.
    #[serde(default = "sync_ms")]
    pub sync_ms: u64,
}

fn sync_ms() -> u64 {
    8
}

/// A job, and the person who hands it in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobPlan {
    /// When.
    pub at_ms: u64,
    /// Where.
    pub node: NodeIndex,
    /// Thousandths of a core.
    pub cpu: u64,
    /// MiB.
    pub memory: u64,
    /// How long its program runs.
    pub run_ms: u64,
    /// How the program ends.
    #[serde(default)]
    pub exit: i32,
    /// How many tasks its pod has: they share what it needs, each runs for a part of the time, and the last one ends
    /// as said.
    #[serde(default = "one_task", skip_serializing_if = "is_one_task")]
    pub tasks: u16,
    /// How many attempts it may have.
    #[serde(default = "attempts")]
    pub attempts: u32,
    /// How long to go on asking when nobody can take it.
    #[serde(default = "wait")]
    pub wait_ms: u64,
    /// How long after it was taken the person wants it ended, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_after_ms: Option<u64>,
}

fn attempts() -> u32 {
    5
}

fn one_task() -> u16 {
    1
}

fn is_one_task(count: &u16) -> bool {
    *count == 1
}

fn wait() -> u64 {
    60_000
}

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPlan {
    /// When.
    pub at_ms: u64,
    /// How long; it ends with the safety phase at the latest.
    pub for_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: Fault,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// A node loses its power, and comes back afterwards.
    Crash {
        /// Which.
        node: NodeIndex,
    },
    /// A node is stopped in order, and started again afterwards.
    Stop {
        /// Which.
        node: NodeIndex,
    },
    /// Only nodes of the same island reach each other.
    Partition {
        /// The island of each node, by its index.
        islands: Vec<u8>,
    },
    /// Nothing of what one node says reaches another, and neither is told.
    OneWay {
        /// Who speaks.
        from: NodeIndex,
        /// Who does not hear.
        to: NodeIndex,
    },
    /// The link between two nodes breaks, and can be opened again at once.
    Break {
        /// One.
        a: NodeIndex,
        /// The other.
        b: NodeIndex,
    },
    /// What passes between two nodes takes so much longer.
    SlowLink {
        /// One.
        a: NodeIndex,
        /// The other.
        b: NodeIndex,
        /// Each way.
        delay_ms: u64,
    },
    /// A node's disk is full.
    DiskFull {
        /// Which.
        node: NodeIndex,
    },
    /// A node's disk takes so long for each write.
    SlowDisk {
        /// Which.
        node: NodeIndex,
        /// Each write.
        write_ms: u64,
    },
    /// A node's owner withdraws what it offers as soon as nothing runs, and offers it again afterwards.
    Offboard {
        /// Which.
        node: NodeIndex,
    },
    /// A node's owner offers half of what it did, if that is enough for what is promised, and all of it afterwards.
    Halve {
        /// Which.
        node: NodeIndex,
    },
    /// A node's owner chooses otherwise for a while, and by the defaults afterwards.
    Prefer {
        /// Which.
        node: NodeIndex,
        /// How.
        taste: Taste,
        /// Whom that concerns, if it concerns anybody.
        other: NodeIndex,
    },
}

/// How an owner chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taste {
    /// Never this one, as requester and as provider.
    Shun,
    /// This one alone runs its jobs, and it runs nobody else's.
    Cling,
    /// Dearer the more is taken.
    Dear,
    /// Whoever has done well comes first, and whoever has done badly is not taken.
    Proven,
    /// Only small pods.
    Small,
}

impl Taste {
    const ALL: [Self; 5] = [Self::Shun, Self::Cling, Self::Dear, Self::Proven, Self::Small];

    /// The preferences, as an owner writes them.
    pub fn text(self, other: Did) -> String {
        match self {
            Self::Shun => {
                format!("[requester]\nexclude = [\"{other}\"]\n[provider]\nexclude = [\"{other}\"]\n")
            }
            Self::Cling => format!("[requester]\npin = [\"{other}\"]\n[provider]\npin = [\"{other}\"]\n"),
            Self::Dear => "[pricing.full]\noverall = 5000\n".to_owned(),
            Self::Proven => {
                "[requester]\norder = [\"reputation\", \"price\", \"fit\"]\nmin_reputation = 300\n".to_owned()
            }
            Self::Small => {
                "[[provider.expression]]\nname = \"small\"\ncel = \"needed_cores <= 1.0\"\n".to_owned()
            }
        }
    }
}

impl Scenario {
    /// The scenario of a seed with so many nodes: a few minutes of everything.
    ///
    /// # Panics
    /// Without a node.
    pub fn of_seed(seed: u64, node_count: usize) -> Self {
        assert!(node_count > 0, "a world without nodes has nothing to show");
        let mut chance = Chance::of(seed, &[b"scenario"]);
        // Some worlds have long jobs and are parted for long: what one part does not know of the other counts there.
        let is_long = chance.one_in(4);
        let mut draw = Draw { chance, is_long };
        let safety_ms = if is_long { draw.between(150_000, 200_000) } else { draw.between(60_000, 180_000) };
        let network = draw.network();
        let nodes: Vec<NodePlan> = (0..node_count).map(|index| draw.node(index)).collect();
        let job_count = draw.between(1, 6 * node_count as u64);
        let mut jobs: Vec<JobPlan> = (0..job_count).map(|_| draw.job(node_count, safety_ms)).collect();
        jobs.sort_by_key(|job| job.at_ms);
        // Drawn apart, so that the rest of the story is what it was when every pod had one task.
        let mut pods = Chance::of(seed, &[b"pods"]);
        jobs.iter_mut().for_each(|job| job.tasks = [1, 1, 2, 3][pods.up_to(3) as usize]);
        let fault_count = draw.between(0, 3 * node_count as u64);
        let mut faults: Vec<FaultPlan> =
            (0..fault_count).map(|_| draw.fault(node_count, safety_ms)).collect();
        // Drawn apart, so that a seed gives the world that it gave before there were preferences, but for them.
        let mut tastes = Draw { chance: Chance::of(seed, &[b"preferences"]), is_long };
        let taste_count = if tastes.chance.one_in(2) { tastes.between(1, node_count as u64) } else { 0 };
        faults.extend((0..taste_count).map(|_| tastes.taste(node_count, safety_ms)));
        faults.sort_by_key(|fault| fault.at_ms);
        Self { seed, safety_ms, liveness_ms: LIVENESS_MS, network, nodes, jobs, faults }
    }

    /// The large world of the figures: `node_count` nodes for `minutes`, `job_count` jobs, 5 % loss, 0 to 500 ms delay,
    /// a tenth of the nodes crashing and three partitions.
    pub fn large(seed: u64, node_count: usize, job_count: usize, minutes: u64) -> Self {
        let mut draw = Draw { chance: Chance::of(seed, &[b"large"]), is_long: false };
        let safety_ms = minutes * 60_000;
        let network = NetworkPlan {
            delay_ms: 0,
            jitter_ms: 500,
            lose_one_in: 20,
            lose_gossip_one_in: 20,
            repeat_gossip_one_in: 20,
            ..NetworkPlan::default()
        };
        let nodes = (0..node_count).map(|index| draw.node(index)).collect();
        let mut jobs: Vec<JobPlan> = (0..job_count).map(|_| draw.job(node_count, safety_ms)).collect();
        jobs.sort_by_key(|job| job.at_ms);
        let crash = |draw: &mut Draw| {
            let for_ms = draw.between(5_000, 120_000);
            let node = draw.index(node_count);
            FaultPlan { at_ms: draw.between(60_000, safety_ms), for_ms, what: Fault::Crash { node } }
        };
        let mut faults: Vec<FaultPlan> = (0..node_count.div_ceil(10)).map(|_| crash(&mut draw)).collect();
        for part in 0..3 {
            let at_ms = safety_ms * (2 * part + 1) / 7;
            let islands = (0..node_count).map(|_| draw.between(0, 1) as u8).collect();
            let for_ms = draw.between(30_000, 90_000);
            faults.push(FaultPlan { at_ms, for_ms, what: Fault::Partition { islands } });
        }
        faults.sort_by_key(|fault| fault.at_ms);
        Self { seed, safety_ms, liveness_ms: LIVENESS_MS, network, nodes, jobs, faults }
    }
}

/// Draws the parts of a scenario.
struct Draw {
    chance: Chance,
    is_long: bool,
}

impl Draw {
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.chance.up_to(most - least)
    }

    fn index(&mut self, count: usize) -> NodeIndex {
        self.between(0, count as u64 - 1) as NodeIndex
    }

    fn pick(&mut self, choices: &[u64]) -> u64 {
        choices[self.index(choices.len())]
    }

    /// Two different ones, if there are two.
    fn pair(&mut self, count: usize) -> (NodeIndex, NodeIndex) {
        let a = self.index(count);
        let b = (a + 1 + self.index(count.max(2) - 1)) % count;
        (a, b)
    }

    fn network(&mut self) -> NetworkPlan {
        NetworkPlan {
            delay_ms: self.pick(&[0, 1, 20, 100]),
            jitter_ms: self.pick(&[0, 5, 80, 400]),
            bytes_per_second: match self.pick(&[0, 0, 1]) {
                0 => None,
                _ => Some(self.pick(&[20_000, 200_000, 2_000_000])),
            },
            lose_one_in: self.pick(&[0, 100, 20]) as u32,
            break_one_in: self.pick(&[0, 0, 20, 5]) as u32,
            lose_gossip_one_in: self.pick(&[0, 20, 5, 2]) as u32,
            repeat_gossip_one_in: self.pick(&[0, 20, 5]) as u32,
        }
    }

    fn node(&mut self, index: usize) -> NodePlan {
        // The first one always offers something.
        let is_provider = index == 0 || !self.chance.one_in(4);
        let (cpu, memory) =
            if is_provider { (self.between(1, 8) * 1_000, self.between(1, 8) * 1_024) } else { (0, 0) };
        let ahead_ms = match self.pick(&[0, 0, 1]) {
            0 => 0,
            _ => self.between(0, 28_000) as i64 - 14_000,
        };
        NodePlan { cpu, memory, ahead_ms, sync_ms: self.pick(&[1, 8, 40, 300]) }
    }

    fn job(&mut self, node_count: usize, safety_ms: u64) -> JobPlan {
        JobPlan {
            at_ms: self.between(4_000, if self.is_long { 40_000 } else { safety_ms - 5_000 }),
            node: self.index(node_count),
            cpu: self.between(1, 30) * 100,
            memory: self.between(1, 20) * 100,
            run_ms: match self.is_long {
                true => self.pick(&[20_000, 130_000]),
                false => self.pick(&[0, 200, 3_000, 20_000, 70_000, 130_000]),
            },
            exit: i32::from(self.chance.one_in(10)),
            tasks: 1,
            attempts: self.between(1, 5) as u32,
            wait_ms: self.pick(&[5_000, 30_000, 60_000]),
            cancel_after_ms: self.chance.one_in(8).then(|| self.chance.up_to(20_000)),
        }
    }

    fn taste(&mut self, node_count: usize, safety_ms: u64) -> FaultPlan {
        let at_ms = self.between(2_000, safety_ms - 2_000);
        let for_ms = self.pick(&[1_000, 25_000, 70_000]);
        let (node, other) = self.pair(node_count);
        let taste = Taste::ALL[self.index(Taste::ALL.len())];
        FaultPlan { at_ms, for_ms, what: Fault::Prefer { node, taste, other } }
    }

    fn fault(&mut self, node_count: usize, safety_ms: u64) -> FaultPlan {
        let (at_ms, for_ms) = match self.is_long {
            true => (self.between(10_000, 60_000), self.pick(&[40_000, 120_000])),
            false => (
                self.between(2_000, safety_ms - 2_000),
                self.pick(&[50, 1_000, 5_000, 25_000, 70_000, 120_000]),
            ),
        };
        let node = self.index(node_count);
        let (a, b) = self.pair(node_count);
        let kind = if self.is_long { self.between(5, 12) } else { self.between(0, 15) };
        let what = match kind {
            0..=5 => Fault::Crash { node },
            6 => Fault::Stop { node },
            7 | 8 => {
                Fault::Partition { islands: (0..node_count).map(|_| self.between(0, 1) as u8).collect() }
            }
            9 => Fault::OneWay { from: a, to: b },
            10 => Fault::Break { a, b },
            11 => Fault::SlowLink { a, b, delay_ms: self.pick(&[300, 2_000, 8_000]) },
            12 => Fault::DiskFull { node },
            13 => Fault::SlowDisk { node, write_ms: self.pick(&[200, 1_000, 4_000]) },
            14 => Fault::Offboard { node },
            _ => Fault::Halve { node },
        };
        FaultPlan { at_ms, for_ms, what }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match toml::to_string(self) {
            Ok(text) => f.write_str(&text),
            Err(error) => write!(f, "a scenario that cannot be written: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_scenario_and_another_seed_another() {
        assert_eq!(Scenario::of_seed(1, 7), Scenario::of_seed(1, 7));
        assert_ne!(Scenario::of_seed(1, 7), Scenario::of_seed(2, 7));
        for seed in 0..200 {
            let scenario = Scenario::of_seed(seed, 1 + (seed as usize % 9));
            let text = scenario.to_string();
            assert_eq!(toml::from_str::<Scenario>(&text).as_ref(), Ok(&scenario), "{text}");
        }
    }

    #[test]
    fn a_scenario_can_be_written_by_hand_in_ten_lines() {
        let scenario: Scenario = toml::from_str(
            "seed = 1
             safety_ms = 20_000
             nodes = [{ cpu = 4_000, memory = 4_096 }, { cpu = 0, memory = 0 }]
             jobs = [{ at_ms = 5_000, node = 1, cpu = 500, memory = 64, run_ms = 3_000 }]
             faults = [{ at_ms = 7_000, for_ms = 1_000, fault = \"crash\", node = 0 }]",
        )
        .expect("it is one");
        assert_eq!(scenario.faults[0].what, Fault::Crash { node: 0 });
        assert_eq!(scenario.liveness_ms, LIVENESS_MS);
    }
}
