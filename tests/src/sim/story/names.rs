//! Short names for what has long ids: `n0` a node, `j1` a job, `j1#2` its second attempt, `r1` a request for bids, `b1`
//! a bid, `c1` a contract, `a1` an allocation, numbered in the order in which they appear.
//!
//! Learned from the facts as they come, and put wherever a text says an id: whole, or shortened as in the node's own
//! lines. Where two things are shortened alike, the text is left as it is.

use std::collections::BTreeMap;
use std::fmt::Display;

use dms_messages::{AllocationId, AttemptId, BidId, BidRequestId, ContentId, Did, JobId};
use dms_storage::Event;

/// Characters that the node's lines show of an id, and of a contract's.
const SHORT_ID: usize = 8;
const SHORT_CID: usize = 18;
/// Things that have names. A world with more is told with the ids of those that come later.
const NAMED: usize = 200_000;
/// Characters of a text of whoever: a line is for reading.
const LONGEST: usize = 400;

/// All names known by now.
#[derive(Debug, Default)]
pub(super) struct Names {
    words: Words,
    jobs: BTreeMap<JobId, u32>,
    requests: BTreeMap<BidRequestId, u32>,
    bids: BTreeMap<BidId, u32>,
    contracts: BTreeMap<ContentId, u32>,
    allocations: BTreeMap<AllocationId, u32>,
    job_of_bid: BTreeMap<BidId, u32>,
    attempt_of: BTreeMap<AllocationId, AttemptId>,
}

/// What may stand in a text, and the name to put there; none where two things are written alike.
#[derive(Debug, Default)]
struct Words(BTreeMap<String, Option<String>>);

impl Words {
    fn add(&mut self, word: String, name: &str) {
        self.0
            .entry(word)
            .and_modify(|known| *known = known.take().filter(|known| known == name))
            .or_insert_with(|| Some(name.to_owned()));
    }

    fn name(&self, word: &str) -> Option<&str> {
        self.0.get(word)?.as_deref()
    }

    /// The number of an id, which is new if it was not known.
    fn number<I: Ord + Clone + Display>(
        &mut self,
        known: &mut BTreeMap<I, u32>,
        letter: char,
        id: &I,
        short: usize,
    ) -> u32 {
        if let Some(number) = known.get(id) {
            return *number;
        }
        let number = u32::try_from(known.len()).map_or(u32::MAX, |count| count.saturating_add(1));
        if known.len() < NAMED {
            known.insert(id.clone(), number);
            let (whole, name) = (id.to_string(), format!("{letter}{number}"));
            self.add(whole.chars().take(short).collect(), &name);
            self.add(whole, &name);
        }
        number
    }
}

impl Names {
    /// The names of the nodes.
    pub(super) fn new(dids: &[Did]) -> Self {
        let mut names = Self::default();
        for (node, did) in dids.iter().enumerate() {
            let name = format!("n{node}");
            for word in [did.to_string(), did.short(), did.peer_id()] {
                names.words.add(word, &name);
            }
        }
        names
    }

    /// The number of a job.
    pub(super) fn learn_job(&mut self, job: &JobId) -> u32 {
        self.words.number(&mut self.jobs, 'j', job, SHORT_ID)
    }

    /// Learns what an event names; `job` is the job that it names itself. Gives the number of the job that it is about.
    pub(super) fn learn(&mut self, event: &Event, job: Option<JobId>) -> Option<u32> {
        let job = job.map(|job| self.learn_job(&job));
        match event {
            Event::BidRequestSent { request, .. } | Event::BidRequestReceived { request, .. } => {
                self.words.number(&mut self.requests, 'r', &request.id, SHORT_ID);
                job
            }
            Event::BidSent { lock, .. } => self.learn_bid(&lock.bid, job),
            Event::BidReceived { bid, .. } => self.learn_bid(&bid.value().id, job),
            Event::LockRenewed { bid, .. } | Event::LockEnded { bid, .. } => self.learn_bid(bid, None),
            Event::AttemptMinted { contract, .. } => {
                self.words.number(&mut self.contracts, 'c', &contract.content_id(), SHORT_CID);
                job
            }
            Event::AllocationAccepted { allocation, contract, .. } => {
                self.words.number(&mut self.contracts, 'c', &contract.content_id(), SHORT_CID);
                let tasks = (0..).zip(&contract.value().pod.tasks).skip(1);
                let job = self.learn_allocation(allocation, Some(contract.value().attempt));
                for (task, _) in tasks {
                    self.learn_allocation(&allocation.of_task(task), Some(contract.value().attempt));
                }
                job
            }
            Event::AttemptAccepted { accepted } => {
                let accepted = accepted.value();
                self.learn_allocation(&accepted.allocation, Some(accepted.attempt))
            }
            Event::AllocationMoved { allocation, .. }
            | Event::AllocationEnded { allocation, .. }
            | Event::AllocationAcknowledged { allocation } => self.learn_allocation(allocation, None),
            _ => job,
        }
    }

    fn learn_bid(&mut self, bid: &BidId, job: Option<u32>) -> Option<u32> {
        self.words.number(&mut self.bids, 'b', bid, SHORT_ID);
        if let Some(job) = job.filter(|_| self.job_of_bid.len() < NAMED) {
            self.job_of_bid.insert(*bid, job);
        }
        job.or_else(|| self.job_of_bid.get(bid).copied())
    }

    fn learn_allocation(&mut self, allocation: &AllocationId, attempt: Option<AttemptId>) -> Option<u32> {
        self.words.number(&mut self.allocations, 'a', allocation, SHORT_ID);
        if let Some(attempt) = attempt.filter(|_| self.attempt_of.len() < NAMED) {
            self.attempt_of.insert(*allocation, attempt);
        }
        self.job_of_allocation(allocation)
    }

    /// The job that an allocation runs.
    pub(super) fn job_of_allocation(&self, allocation: &AllocationId) -> Option<u32> {
        self.jobs.get(&self.attempt_of.get(allocation)?.job).copied()
    }

    /// An allocation and its attempt, as far as they are known: `a1 (j1#2)`.
    pub(super) fn run(&self, allocation: &AllocationId) -> String {
        let text = match self.attempt_of.get(allocation) {
            Some(attempt) => format!("{allocation} ({attempt})"),
            None => allocation.to_string(),
        };
        self.shorten(&text)
    }

    /// How many jobs have names.
    pub(super) fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// The jobs that `text` may mean: a name (`j2`), or the beginning of an id.
    pub(super) fn jobs_called(&self, text: &str) -> Vec<u32> {
        let text = text.to_ascii_lowercase();
        let is_meant = |(id, number): &(&JobId, &u32)| {
            text == format!("j{number}") || (!text.is_empty() && id.to_string().starts_with(&text))
        };
        self.jobs.iter().filter(is_meant).map(|(_, number)| *number).collect()
    }

    /// The text on one line, with names in the place of ids.
    pub(super) fn shorten(&self, text: &str) -> String {
        let mut short = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let (word, after) = rest.split_at(word_length(rest).max(first.len_utf8()));
            rest = after;
            match self.words.name(word) {
                Some(name) => {
                    rest = push_name(&mut short, name, rest);
                }
                None if first.is_control() => short.extend(first.escape_default()),
                None => short.push_str(word),
            }
        }
        match short.char_indices().nth(LONGEST) {
            Some((at, _)) => format!("{}…", &short[..at]),
            None => short,
        }
    }
}

/// The length of what may be an id at the beginning of a text: 0 if there is nothing like it.
fn word_length(text: &str) -> usize {
    let is_of_word = |character: char| character.is_alphanumeric() || matches!(character, '-' | '…');
    let head = text.strip_prefix("did:key:").map_or(0, |rest| text.len() - rest.len());
    text[head..].find(|character| !is_of_word(character)).map_or(text.len(), |length| head + length)
}

/// Puts down a name, and an attempt as `j1#2`, however it was written: `try 2 of job j1`, or `j1/0#2`. Gives what of
/// `rest` is still to be read.
fn push_name<'t>(short: &mut String, name: &str, rest: &'t str) -> &'t str {
    let is_digit = |character: char| character.is_ascii_digit();
    if !name.starts_with('j') {
        short.push_str(name);
        return rest;
    }
    if let Some(head) = short.strip_suffix(" of job ") {
        let before = head.trim_end_matches(is_digit);
        if let Some(start) = before.strip_suffix("try ") {
            let number = head[before.len()..].to_owned();
            short.truncate(start.len());
            short.push_str(&format!("{name}#{number}"));
            return rest;
        }
    }
    short.push_str(name);
    // A job has one pod, whose number says nothing.
    match rest.strip_prefix("/0#") {
        Some(number) if number.starts_with(is_digit) => &rest["/0".len()..],
        _ => rest,
    }
}
