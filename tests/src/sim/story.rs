//! Tells a world to people: a timeline, a picture of who talked to whom, and a log that two runs are compared by.
//!
//! ```text
//!   Seen ──► log       every fact with all of its bytes: two runs of one seed must not differ in one
//!        └─► names ──► lines      what is worth reading, in short names (n0, j1, j1#2, b4, a3)
//!                 ├──► traffic    bytes from node to node
//!                 └──► lanes      what each node was doing, when
//! ```
//!
//! Called by the world's sink with each fact, and by whoever runs a seed. It judges nothing: that is the oracle's. What
//! it keeps is bounded; what did not fit is counted, and said.

mod lanes;
mod lines;
mod log;
mod names;
mod svg;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::BTreeMap;
use std::time::Duration;

use dms_messages::{AllocationId, Did};
use dms_node::log_lines::LogLine;
use dms_storage::{Entry, Event};

use crate::sim::facts::{Breach, Fact, NodeIndex, Seen};

use self::lanes::{Lanes, TickKind};
use self::lines::{Line, Lines, Mark};
use self::log::Log;
use self::names::Names;
use self::svg::Canvas;
use self::traffic::Traffic;

pub use self::lines::Filter;
pub use self::log::{Difference, first_difference};

/// Everything that is told of one world.
#[derive(Debug)]
pub struct Story {
    log: Log,
    /// None if only the digest is wanted.
    told: Option<Box<Told>>,
}

/// What is told to people.
#[derive(Debug)]
struct Told {
    title: String,
    node_count: usize,
    names: Names,
    lines: Lines,
    traffic: Traffic,
    lanes: Lanes,
    disks: BTreeMap<NodeIndex, Disk>,
    running: BTreeMap<(NodeIndex, AllocationId), Duration>,
}

/// How far a node's log has come.
#[derive(Debug, Clone, Copy, Default)]
struct Disk {
    last_written: u64,
    last_synced: u64,
}

impl Story {
    /// A story of the nodes with these identities, in the order of their numbers.
    pub fn new(title: String, dids: Vec<Did>) -> Self {
        let told = Told {
            title,
            node_count: dids.len(),
            names: Names::new(&dids),
            lines: Lines::default(),
            traffic: Traffic::default(),
            lanes: Lanes::default(),
            disks: BTreeMap::new(),
            running: BTreeMap::new(),
        };
        Self { log: Log::keeping(log::KEPT_BYTES), told: Some(Box::new(told)) }
    }

    /// A story that only computes its digest: for runs that nobody reads.
    pub fn digest_only(_dids: Vec<Did>) -> Self {
        Self { log: Log::keeping(0), told: None }
    }

    /// Takes in a fact; facts come in the order in which they happened.
    pub fn see(&mut self, seen: &Seen) {
        self.log.add(seen);
        if let Some(told) = &mut self.told {
            told.see(seen);
        }
    }

    /// Takes in what the oracle says. It is no part of the log.
    pub fn breach(&mut self, breach: &Breach) {
        if let Some(told) = &mut self.told {
            told.breach(breach);
        }
    }

    /// The timeline, as text; empty if only the digest was wanted.
    pub fn timeline(&self, filter: &Filter) -> String {
        let Some(told) = &self.told else { return String::new() };
        told.lines.tell(&told.title, filter, &told.names)
    }

    /// The digest of every fact: two runs that differ in one byte of one fact have two digests.
    pub fn digest(&self) -> [u8; 32] {
        self.log.digest()
    }

    /// The canonical text of the facts, one line each, as far as it was kept.
    pub fn log(&self) -> &[u8] {
        self.log.kept()
    }

    /// True if [`Story::log`] holds every fact.
    pub fn is_log_whole(&self) -> bool {
        self.log.is_whole()
    }

    /// The picture: who talked to whom, and what each node was doing when. Empty if only the digest was wanted.
    pub fn svg(&self) -> String {
        let Some(told) = &self.told else { return String::new() };
        let mut canvas = Canvas::default();
        canvas.text(svg::MARGIN, 44.0, "h1", &told.title);
        canvas.text(svg::MARGIN, 70.0, "sub", &told.counts());
        let is_breached = |node| told.lanes.is_breached(node);
        let y =
            told.traffic.draw(&mut canvas, 100.0, told.node_count, &|n| told.lanes.crashes(n), &is_breached);
        let y = told.lanes.draw(&mut canvas, y + 30.0, told.node_count);
        canvas.finish(y + 20.0)
    }
}

impl Told {
    fn see(&mut self, seen: &Seen) {
        let Seen { at, node, life, fact, .. } = seen;
        self.lanes.reach(*at);
        let line = |mark, job, text: String| Line {
            at: *at,
            node: *node,
            life: *life,
            mark,
            event: None,
            job,
            text: text.into(),
        };
        let line = match fact {
            Fact::Started { last_event } => {
                self.lanes.start(*node, *at);
                let before =
                    self.disks.insert(*node, Disk { last_written: *last_event, last_synced: *last_event });
                line(Mark::Start, None, started(*life, before, *last_event))
            }
            Fact::Survived { last_event } => {
                if let Some(disk) = self.disks.get_mut(node) {
                    disk.last_synced = disk.last_synced.max(*last_event);
                }
                return;
            }
            Fact::Crashed => {
                self.lanes.crash(*node, *at);
                line(Mark::Crash, None, lost(self.disks.get(node).copied().unwrap_or_default()))
            }
            Fact::Stopped => {
                self.lanes.stop(*node, *at);
                line(Mark::Stop, None, "stopped in order, everything is on disk".to_owned())
            }
            Fact::Written { entries, is_synced } => return self.written(seen, entries, *is_synced),
            Fact::Disk { works } => {
                self.lanes.disk(*node, *at, *works);
                let text = if *works { "its disk works again" } else { "its disk refuses writes" };
                line(Mark::Disk, None, text.to_owned())
            }
            Fact::RunBegan { allocation } => {
                let job = self.names.job_of_allocation(allocation);
                self.running.insert((*node, *allocation), *at);
                let who = self.names.run(allocation);
                self.lanes.run_began(*node, *at, *allocation, job, &who);
                line(Mark::Plain, job, format!("the machine began to run {who}"))
            }
            Fact::RunEnded { allocation } => {
                self.lanes.run_ended(*node, *at, *allocation);
                let ran = self.running.remove(&(*node, *allocation)).map(|began| at.saturating_sub(began));
                let ran = ran.map(|ran| format!(", after {:.3} s", ran.as_secs_f64())).unwrap_or_default();
                let text = format!("the machine runs {} no more{ran}", self.names.run(allocation));
                line(Mark::Plain, self.names.job_of_allocation(allocation), text)
            }
            Fact::SubmitAnswered { job } => {
                let number = self.names.learn_job(job);
                line(Mark::Told, Some(number), format!("a person was told: job j{number} is taken"))
            }
            Fact::CancelAnswered { job } => {
                let number = self.names.learn_job(job);
                line(Mark::Told, Some(number), format!("a person was told: job j{number} will be ended"))
            }
            Fact::Fault { text } => {
                let text = self.names.shorten(text);
                self.lanes.tick(*node, *at, TickKind::Fault, &text);
                line(Mark::Fault, None, text)
            }
            Fact::Heard { from, by, bytes } => {
                self.traffic.heard(*from, *node, *by, *bytes);
                return self.lines.leave_out_delivery();
            }
        };
        self.lines.push(line);
    }

    fn written(&mut self, seen: &Seen, entries: &[(u64, Entry)], is_synced: bool) {
        let Seen { at, node, life, .. } = seen;
        let disk = self.disks.entry(*node).or_default();
        let older = disk.last_written - disk.last_synced.min(disk.last_written);
        disk.last_written = entries.last().map_or(disk.last_written, |(sequence, _)| *sequence);
        if is_synced {
            disk.last_synced = disk.last_written;
        }
        for (sequence, entry) in entries {
            let words = LogLine::of(*sequence, entry, false);
            let job = self.names.learn(&entry.event, words.job);
            // One for each signed word that comes: nothing that a reader looks for.
            if matches!(entry.event, Event::DocumentSeen { .. }) {
                self.lines.leave_out_word();
                continue;
            }
            self.lines.push(Line {
                at: *at,
                node: *node,
                life: *life,
                mark: Mark::Plain,
                event: Some((*sequence, is_synced)),
                job,
                text: self.names.shorten(&words.text).into(),
            });
        }
        if entries.is_empty() && is_synced && older > 0 {
            let text = format!("everything up to event {} is on disk", disk.last_synced);
            let (at, node, life) = (*at, *node, *life);
            let line = Line { at, node, life, mark: Mark::Plain, event: None, job: None, text: text.into() };
            self.lines.push(line);
        }
    }

    fn breach(&mut self, breach: &Breach) {
        let Breach { at, node, rule, text } = breach;
        self.lanes.reach(*at);
        let text = format!("{rule}: {}", self.names.shorten(text));
        self.lanes.tick(*node, *at, TickKind::Breach, &text);
        let (mark, text) = (Mark::Breach, text.into());
        self.lines.push(Line { at: *at, node: *node, life: 1, mark, event: None, job: None, text });
    }

    /// The second line of the picture.
    fn counts(&self) -> String {
        let mut parts = vec![
            svg::counted(self.node_count as u64, "node", "nodes"),
            format!("{:.1} s of virtual time", self.lanes.end().as_secs_f64()),
            svg::counted(self.names.job_count() as u64, "job", "jobs"),
        ];
        parts.extend(self.lanes.counts());
        parts.push(self.traffic.counts());
        parts.join(" · ")
    }
}

/// What a start is like; `before` is how far the log had come in the life before.
fn started(life: u32, before: Option<Disk>, last_event: u64) -> String {
    match before {
        Some(disk) if disk.last_written > last_event => {
            format!(
                "started again, life {life}, with {last_event} events; gone: {}",
                span(last_event, disk.last_written)
            )
        }
        Some(_) => format!("started again, life {life}, with all its {last_event} events"),
        None if last_event == 0 => "started for the first time".to_owned(),
        None => format!("started, life {life}, with {last_event} events"),
    }
}

/// What a loss of power means.
fn lost(disk: Disk) -> String {
    match disk.last_written - disk.last_synced.min(disk.last_written) {
        0 => "lost its power; all its events are on disk".to_owned(),
        _ => format!("lost its power; not synced: {}", span(disk.last_synced, disk.last_written)),
    }
}

/// The events after one and up to another.
fn span(after: u64, until: u64) -> String {
    match until - after {
        1 => format!("event {until}"),
        count => format!("{count} events ({} to {until})", after + 1),
    }
}
