//! The log of a world, byte for byte: one line for each fact, with everything that is in it.
//!
//! Two runs of one seed are the same run if their logs are, so nothing is shortened here and nothing is left out:
//! whole ids, nanoseconds, entries as JSON with their signed documents as hexadecimal digits.

use std::io::Write;

use sha2::{Digest, Sha256};

use crate::sim::facts::{Channel, Fact, Seen};

/// Bytes of the log that are kept for comparing; the digest covers all.
pub(super) const KEPT_BYTES: usize = 64 << 20;

/// The log: its beginning, and the digest of all of it.
#[derive(Debug)]
pub(super) struct Log {
    digest: Sha256,
    kept: Vec<u8>,
    limit: usize,
    is_whole: bool,
    /// The line that is being written; kept for its room.
    line: Vec<u8>,
}

impl Log {
    /// A log that keeps this many bytes, in whole lines.
    pub(super) fn keeping(limit: usize) -> Self {
        Self { digest: Sha256::new(), kept: Vec::new(), limit, is_whole: true, line: Vec::new() }
    }

    pub(super) fn add(&mut self, seen: &Seen) {
        self.line.clear();
        write_line(seen, &mut self.line).expect("a vector takes every byte");
        self.digest.update(&self.line);
        // After a line that did not fit no shorter one is taken: what is kept is a beginning.
        self.is_whole = self.is_whole && self.kept.len() + self.line.len() <= self.limit;
        if self.is_whole {
            self.kept.extend_from_slice(&self.line);
        }
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }

    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }
}

/// Free texts are quoted and entries are JSON, so a line ends only where its fact does.
fn write_line(seen: &Seen, out: &mut Vec<u8>) -> std::io::Result<()> {
    let Seen { at, wall, node, life, fact } = seen;
    write!(out, "{} {} n{node} life {life} ", at.as_nanos(), wall.0)?;
    match fact {
        Fact::Started { last_event } => write!(out, "started {last_event}")?,
        Fact::Survived { last_event } => write!(out, "survived {last_event}")?,
        Fact::Crashed => write!(out, "crashed")?,
        Fact::Stopped => write!(out, "stopped")?,
        Fact::Written { entries, is_synced } => {
            write!(out, "written {}", if *is_synced { "synced" } else { "unsynced" })?;
            for (sequence, entry) in entries {
                write!(out, " {sequence}=")?;
                serde_json::to_writer(&mut *out, entry)?;
            }
        }
        Fact::Disk { works } => write!(out, "disk {}", if *works { "works" } else { "refuses" })?,
        Fact::RunBegan { allocation } => write!(out, "run_began {allocation}")?,
        Fact::RunEnded { allocation } => write!(out, "run_ended {allocation}")?,
        Fact::SubmitAnswered { job } => write!(out, "submit_answered {job}")?,
        Fact::CancelAnswered { job } => write!(out, "cancel_answered {job}")?,
        Fact::Fault { text } => write!(out, "fault {text:?}")?,
        Fact::Heard { from, by, bytes } => {
            let by = match by {
                Channel::Stream => "stream",
                Channel::Gossip => "gossip",
            };
            write!(out, "heard n{from} {by} {bytes}")?;
        }
    }
    writeln!(out)
}

/// The first line in which two logs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its number, from 1.
    pub line: usize,
    /// What the one log says; none if it has ended.
    pub one: Option<String>,
    /// What the other says.
    pub other: Option<String>,
}

/// Finds the first line in which two logs differ, if they do.
pub fn first_difference(one: &[u8], other: &[u8]) -> Option<Difference> {
    let text = |line: Option<&[u8]>| line.map(|line| String::from_utf8_lossy(line).trim_end().to_owned());
    let (mut one, mut other) = (lines(one), lines(other));
    for line in 1.. {
        match (one.next(), other.next()) {
            (None, None) => break,
            (one, other) if one != other => {
                return Some(Difference { line, one: text(one), other: text(other) });
            }
            _ => {}
        }
    }
    None
}

/// The lines with their ends, so that one that was cut is another.
fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    log.split_inclusive(|byte| *byte == b'\n')
}
