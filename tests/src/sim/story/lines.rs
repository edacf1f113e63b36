//! The timeline: a line for each thing that is worth reading, and which of them a reader wants.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::sim::facts::NodeIndex;

use super::names::Names;

/// Lines that are kept. The oldest go first, because what went wrong stands at the end.
pub(super) const KEPT_LINES: usize = 200_000;

/// Which lines are wanted; all by default. What was done to the world and what broke is told in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this job, by its name in the timeline (`j2`) or by the beginning of its id; and what befell the nodes that
    /// had to do with it.
    pub job: Option<String>,
    /// Only this node.
    pub node: Option<NodeIndex>,
}

/// What stands in the margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Plain,
    Breach,
    Crash,
    Start,
    Stop,
    Disk,
    Fault,
    Told,
}

impl Mark {
    fn text(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Breach => "!!",
            Self::Crash => "XX",
            Self::Start => ">>",
            Self::Stop => "[]",
            Self::Disk => "##",
            Self::Fault => "**",
            Self::Told => "<-",
        }
    }
}

/// What the marks mean.
const LEGEND: &str = "\
!! broken promise   XX power lost   >> started   [] stopped   ## disk   ** done to the world   <- told to a person
● event that survives a loss of power   ○ event that is not synced yet   n3.2: node 3 in its second life
";

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) at: Duration,
    pub(super) node: NodeIndex,
    pub(super) life: u32,
    pub(super) mark: Mark,
    /// The number of the event, and whether it was synced with its write.
    pub(super) event: Option<(u64, bool)>,
    /// The job that it is about.
    pub(super) job: Option<u32>,
    pub(super) text: Box<str>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, node, life, mark, event, text, .. } = self;
        let node = if *life > 1 { format!("n{node}.{life}") } else { format!("n{node}") };
        let (number, disk) = match event {
            Some((number, true)) => (number.to_string(), "●"),
            Some((number, false)) => (number.to_string(), "○"),
            None => (String::new(), ""),
        };
        let (seconds, milliseconds) = (at.as_secs(), at.subsec_millis());
        write!(f, "{:2} {seconds:>7}.{milliseconds:03}  {node:<6} {number:>5} {disk:1}  {text}", mark.text())
    }
}

/// All lines that are kept, and counts of what is not.
#[derive(Debug, Default)]
pub(super) struct Lines {
    kept: VecDeque<Line>,
    dropped: u64,
    deliveries: u64,
    words: u64,
}

impl Lines {
    pub(super) fn push(&mut self, line: Line) {
        if self.kept.len() == KEPT_LINES {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.kept.push_back(line);
    }

    /// Bytes came from another node: told in the picture.
    pub(super) fn leave_out_delivery(&mut self) {
        self.deliveries += 1;
    }

    /// A signed word was remembered.
    pub(super) fn leave_out_word(&mut self) {
        self.words += 1;
    }

    /// The timeline, as far as it is wanted.
    pub(super) fn tell(&self, title: &str, filter: &Filter, names: &Names) -> String {
        let mut text = format!("{title}\n{LEGEND}");
        let jobs: Option<BTreeSet<u32>> =
            filter.job.as_ref().map(|job| names.jobs_called(job).into_iter().collect());
        if let Some((job, jobs)) = filter.job.as_ref().zip(jobs.as_ref()) {
            text += &match jobs.iter().map(|number| format!("j{number}")).collect::<Vec<_>>() {
                jobs if jobs.is_empty() => format!("no job is called {job}\n"),
                jobs => format!("only job {}\n", jobs.join(", ")),
            };
        }
        if let Some(node) = filter.node {
            text += &format!("only node n{node}\n");
        }
        if self.dropped > 0 {
            text += &format!("{} earlier lines were dropped\n", self.dropped);
        }
        text.push('\n');
        let is_about = |line: &Line| match (&jobs, line.job) {
            (None, _) => true,
            (Some(jobs), Some(job)) => jobs.contains(&job),
            (Some(_), None) => false,
        };
        let concerned: BTreeSet<NodeIndex> =
            self.kept.iter().filter(|line| is_about(line)).map(|line| line.node).collect();
        let is_wanted = |line: &&Line| {
            let is_here = filter.node.is_none_or(|node| line.node == node);
            match line.mark {
                Mark::Fault | Mark::Breach => true,
                Mark::Crash | Mark::Start | Mark::Stop | Mark::Disk => {
                    is_here && concerned.contains(&line.node)
                }
                Mark::Plain | Mark::Told => is_here && is_about(line),
            }
        };
        for line in self.kept.iter().filter(is_wanted) {
            text += &format!("{line}\n");
        }
        text + &format!(
            "\nnot told: {} deliveries between nodes, {} signed words remembered\n",
            self.deliveries, self.words
        )
    }
}
