//! The vertex program that every node runs: how many nodes are there, and how long is the way to each neighbour?
//!
//! ```text
//!   tick ──► Census ──► neighbour: joins the sample to its own, answers at once with what the asker lacks
//!            ◄── CensusReply: the asker joins it; the time since the question is a round trip
//! ```
//!
//! Time is cut into epochs by the wall clock. In each, everybody begins with its own key, and samples are joined along
//! the edges until all have the same (`sketch`): the least 256 ranks of all keys, whose number follows from them. What
//! the epochs before had is forgotten, and with it whoever has left. An epoch is named in every word, and words of its
//! neighbours are taken, too, so that clocks may differ.
//!
//! A node that has news asks each second up to eight neighbours that may lack it, and says only what they lack; one
//! without news asks one neighbour a second at most, and each every half minute, without a sample. So news goes one
//! edge further in about a second, and a mesh of 200 hops is counted within an epoch.
//!
//! **What a liar can do.** Whoever is trusted for anything may speak, strangers are only told that they are heard. A
//! rank is computed by whoever hears the key, so a sample cannot simply claim to be of many: to look like a mesh of a
//! million, a million keys must be ranked, in each epoch. That costs a second, so it is no more than a nuisance to the
//! liar: an estimate is hearsay. A member can make the mesh look larger (by keys without nodes, or of nodes that have
//! left), and for no longer than it goes on and two epochs; it cannot make it look smaller to those that reach each
//! other without it. So nothing follows from the estimate but how often hints are said, and there it counts for no more
//! than [`HEARSAY`] times those that were heard of by words of their own ([`paced_for`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_messages::{Census, CensusReply, Did, MAX_SAMPLE, Sample};
use sha2::{Digest, Sha256};

use super::sketch::Sketch;
use super::{Edge, Inbox, Moment, Outbox, Vertex};

/// How long a count takes. Whoever has left is forgotten after two of them at the latest.
pub const EPOCH: Duration = Duration::from_secs(5 * 60);
/// How often a step is taken without a word.
pub const TICK: Duration = Duration::from_secs(1);
/// How many times more nodes than it has heard of by words of their own a node paces itself for.
pub const HEARSAY: u64 = 16;
/// Most nodes that hearsay counts for: then hints come every ten minutes, three times in the life of an advert.
pub const MAX_HEARSAY: u64 = 3_000;
/// Neighbours that are told news at a time.
const FAN_OUT: usize = 8;
/// How often each neighbour is asked, if there are few.
const PROBE_PERIOD: Duration = Duration::from_secs(30);
/// The longest pause before somebody is asked again who does not answer.
const MAX_PAUSE: Duration = Duration::from_secs(8 * 60);
/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long news is told to neighbours of whom it is not known what they have; after that they are asked first.
const FRESH: Duration = Duration::from_secs(3);
/// Neighbours of whom it is remembered what they have: 2 KiB each.
const MAX_BELIEFS: usize = 16;
/// How often at most a neighbour that says it differs is told everything again.
const REPEAT_PAUSE: Duration = Duration::from_secs(30);
/// Questions of one neighbour that are answered in this time: twice what a node asks.
const MAX_HEARD: u32 = 20;
/// See [`MAX_HEARD`].
const HEARD_PERIOD: Duration = Duration::from_secs(10);
/// Most edges that are kept; more than a node has connections.
const MAX_EDGES: usize = 1024;
/// How long the edge to somebody is kept who is not connected any more.
const KEEP_EDGE: Duration = Duration::from_secs(3600);

/// What neighbours say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CensusWord {
    /// A question.
    Ask(Census),
    /// Its answer.
    Reply(CensusReply),
}

/// A node's part of it.
#[derive(Debug)]
pub struct MeshSize {
    me: Did,
    epoch: u64,
    /// Of the epoch before, this one and, by faster clocks, the next.
    sketches: BTreeMap<u64, Sketch>,
    /// When this epoch's last changed.
    news: Duration,
    neighbours: BTreeMap<Did, Neighbour>,
    beliefs: BTreeMap<Did, Belief>,
}

/// Somebody who is, or was, connected.
#[derive(Debug)]
struct Neighbour {
    edge: Edge,
    /// Where it stands among those that are asked alike; elsewhere at each node.
    order: u64,
    is_connected: bool,
    is_trusted: bool,
    asked: Option<Asked>,
    last_asked: Option<Duration>,
    /// Questions in a row that were not answered.
    missed: u32,
    /// When its questions were last counted from 0, and how many came since.
    counted_since: Duration,
    heard: u32,
    /// When it was connected last.
    seen: Duration,
}

/// A question that is not answered yet.
#[derive(Debug)]
struct Asked {
    question: u64,
    at: Duration,
    epoch: u64,
    said: Vec<u64>,
}

/// The ranks that a neighbour has, as far as was said. An answer may be lost: digests that differ show it.
#[derive(Debug)]
struct Belief {
    epoch: u64,
    ranks: BTreeSet<u64>,
    /// The digest, if it had the same as we had then.
    same: Option<u64>,
    used: Duration,
    repeated: Option<Duration>,
}

/// How many nodes a node paces itself for that has heard of so many by words of their own, and estimates so many.
pub fn paced_for(heard: u64, estimate: u64) -> u64 {
    let hearsay = heard.saturating_add(1).saturating_mul(HEARSAY).min(MAX_HEARSAY);
    heard.max(estimate.min(hearsay))
}

impl MeshSize {
    /// A vertex without neighbours.
    pub fn new(me: Did) -> Self {
        Self {
            me,
            epoch: 0,
            sketches: BTreeMap::new(),
            news: Duration::ZERO,
            neighbours: BTreeMap::new(),
            beliefs: BTreeMap::new(),
        }
    }

    /// How many nodes there are, this one included: 1 while it has no neighbours.
    pub fn estimate(&self) -> u64 {
        if !self.neighbours.values().any(Neighbour::is_counted) {
            return 1;
        }
        // The epoch before is whole, unless this node came later; this one grows, and has whoever came since.
        let sizes = self.sketches.range(..=self.epoch).map(|(_, sketch)| sketch.size());
        sizes.max().unwrap_or(1)
    }

    /// Somebody is connected.
    pub fn connect(&mut self, peer: Did, is_trusted: bool, now: Duration) {
        if peer == self.me {
            return;
        }
        if !self.neighbours.contains_key(&peer) && self.neighbours.len() >= MAX_EDGES {
            let gone = self.neighbours.iter().filter(|(_, it)| !it.is_connected);
            let Some(oldest) = gone.min_by_key(|(_, it)| it.seen).map(|(did, _)| *did) else { return };
            self.neighbours.remove(&oldest);
        }
        let order = mix(self.me.public_key(), &peer);
        let neighbour = self.neighbours.entry(peer).or_insert_with(|| Neighbour::new(order, now));
        (neighbour.is_connected, neighbour.is_trusted, neighbour.seen) = (true, is_trusted, now);
        neighbour.missed = 0;
    }

    /// Somebody is not connected any more. A question that it leaves open was not answered.
    pub fn disconnect(&mut self, peer: Did, now: Duration) {
        self.beliefs.remove(&peer);
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            (neighbour.is_connected, neighbour.seen) = (false, now);
            neighbour.give_up();
        }
    }

    /// Who is trusted may have changed: only what they say counts, and only they are asked.
    pub fn trust(&mut self, is_trusted: impl Fn(Did) -> bool) {
        for (did, neighbour) in &mut self.neighbours {
            neighbour.is_trusted = is_trusted(*did);
        }
    }

    /// Contents came from somebody: so many bytes in so long.
    pub fn carried(&mut self, peer: Did, bytes: u64, took: Duration) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.edge.carried(bytes, took);
        }
    }

    /// Forgets the edges to whoever is long gone.
    pub fn prune(&mut self, now: Duration) {
        self.neighbours.retain(|_, it| it.is_connected || now.saturating_sub(it.seen) < KEEP_EDGE);
    }

    /// Everybody of whom an edge is known, connected or not.
    pub fn edges(&self) -> impl Iterator<Item = (Did, &Edge)> {
        self.neighbours.iter().map(|(did, neighbour)| (*did, &neighbour.edge))
    }

    fn sketch(&mut self, epoch: u64) -> &mut Sketch {
        let key = *self.me.public_key();
        self.sketches.entry(epoch).or_insert_with(|| Sketch::new(epoch, key))
    }

    fn turn_epoch(&mut self, at: &Moment) {
        let epoch = at.wall.0 / u64::try_from(EPOCH.as_millis()).unwrap_or(u64::MAX);
        if epoch != self.epoch || self.sketches.is_empty() {
            self.epoch = epoch;
            self.news = at.now;
        }
        self.sketches.retain(|of, _| of.abs_diff(epoch) <= 1);
        self.sketch(epoch);
    }

    /// Joins what somebody has said, and remembers that it has it.
    fn join(&mut self, from: Did, epoch: u64, sample: &Sample, now: Duration) {
        let (ranks, is_news) = self.sketch(epoch).join(sample);
        if is_news && epoch == self.epoch {
            self.news = now;
        }
        self.believe(from, epoch, ranks, now);
    }

    fn believe(&mut self, of: Did, epoch: u64, ranks: Vec<u64>, now: Duration) {
        if !self.beliefs.contains_key(&of)
            && self.beliefs.len() >= MAX_BELIEFS
            && let Some(oldest) =
                self.beliefs.iter().min_by_key(|(_, belief)| belief.used).map(|(did, _)| *did)
        {
            self.beliefs.remove(&oldest);
        }
        let fresh = Belief { epoch, ranks: BTreeSet::new(), same: None, used: now, repeated: None };
        let belief = self.beliefs.entry(of).or_insert(fresh);
        if belief.epoch != epoch {
            (belief.epoch, belief.ranks, belief.same) = (epoch, BTreeSet::new(), None);
        }
        belief.used = now;
        belief.ranks.extend(ranks);
        // What is not among the least any more is of no use to anybody.
        if belief.ranks.len() > 2 * MAX_SAMPLE
            && let Some(sketch) = self.sketches.get(&epoch)
        {
            belief.ranks.retain(|rank| sketch.has(*rank));
        }
    }

    /// It has the same as we have, or else something was lost that we believe it has: then it is told all of it again.
    fn compare(&mut self, with: Did, epoch: u64, digest: u64, is_quiet: bool, now: Duration) {
        let Some(sketch) = self.sketches.get(&epoch) else { return };
        let Some(belief) = self.beliefs.get_mut(&with).filter(|belief| belief.epoch == epoch) else { return };
        belief.same = None;
        if digest == sketch.digest() {
            belief.ranks = sketch.ranks();
            belief.same = Some(digest);
        } else if is_quiet
            && sketch.beyond(&belief.ranks).0.is_empty()
            && belief.repeated.is_none_or(|at| now.saturating_sub(at) >= REPEAT_PAUSE)
        {
            belief.ranks.clear();
            belief.repeated = Some(now);
        }
    }

    /// What a neighbour lacks of an epoch, as far as is known.
    fn lacking(&self, peer: Did, epoch: u64, now: Duration) -> (Sample, Vec<u64>) {
        let belief = self.beliefs.get(&peer).filter(|belief| belief.epoch == epoch);
        let is_fresh = now.saturating_sub(self.news) <= FRESH;
        match (self.sketches.get(&epoch), belief) {
            (Some(sketch), Some(belief)) if belief.same == Some(sketch.digest()) => Default::default(),
            (Some(sketch), Some(belief)) => sketch.beyond(&belief.ranks),
            (Some(sketch), None) if is_fresh => sketch.beyond(&BTreeSet::new()),
            _ => Default::default(),
        }
    }

    fn answer(&mut self, from: Did, census: &Census, at: &Moment) -> Option<CensusReply> {
        let neighbour = self.neighbours.get_mut(&from)?;
        if !neighbour.may_ask(at.now) {
            return None;
        }
        let question = census.question;
        let is_in_time = census.epoch.abs_diff(self.epoch) <= 1;
        if !neighbour.is_trusted || !is_in_time {
            return Some(CensusReply { question, epoch: self.epoch, digest: 0, sample: Sample::default() });
        }
        let epoch = census.epoch;
        self.join(from, epoch, &census.sample, at.now);
        self.compare(from, epoch, census.digest, census.sample.is_empty(), at.now);
        let (sample, said) = match self.beliefs.get(&from) {
            Some(belief) => self.sketch_of(epoch)?.beyond(&belief.ranks),
            None => Default::default(),
        };
        self.believe(from, epoch, said, at.now);
        Some(CensusReply { question, epoch, digest: self.sketch_of(epoch)?.digest(), sample })
    }

    fn sketch_of(&self, epoch: u64) -> Option<&Sketch> {
        self.sketches.get(&epoch)
    }

    fn hear(&mut self, from: Did, reply: &CensusReply, at: &Moment) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        let asked = neighbour.asked.take_if(|asked| asked.question == reply.question);
        // What nobody asked for, or no longer, is no answer.
        let Some(Asked { at: then, epoch, said, .. }) = asked else { return };
        neighbour.edge.answered(at.now.saturating_sub(then));
        neighbour.missed = 0;
        if !neighbour.is_trusted || reply.epoch != epoch || epoch.abs_diff(self.epoch) > 1 {
            return;
        }
        let is_quiet = said.is_empty() && reply.sample.is_empty();
        self.believe(from, epoch, said, at.now);
        self.join(from, epoch, &reply.sample, at.now);
        self.compare(from, epoch, reply.digest, is_quiet, at.now);
    }

    fn tick(&mut self, at: &Moment) -> Outbox<CensusWord> {
        for neighbour in self.neighbours.values_mut() {
            if neighbour.asked.as_ref().is_some_and(|asked| at.now.saturating_sub(asked.at) >= ANSWER_TIME) {
                neighbour.give_up();
            }
        }
        let epoch = self.epoch;
        // Whoever was asked least lately first; of those alike, each node has an order of its own.
        let mut waiting: Vec<(Option<Duration>, u64, Did)> = self
            .neighbours
            .iter()
            .filter(|(_, it)| it.is_counted() && it.asked.is_none() && it.is_willing(at.now))
            .map(|(did, it)| (it.last_asked, it.order, *did))
            .collect();
        waiting.sort_unstable();
        let mut asks: Vec<(Did, Sample, Vec<u64>)> = Vec::new();
        let mut quiet = None;
        for (last, _, did) in waiting {
            if asks.len() >= FAN_OUT {
                break;
            }
            let (sample, said) = self.lacking(did, epoch, at.now);
            if !sample.is_empty() {
                asks.push((did, sample, said));
            } else if quiet.is_none() && last.is_none_or(|last| at.now.saturating_sub(last) >= PROBE_PERIOD) {
                quiet = Some((did, sample, said));
            }
        }
        let digest = self.sketch(epoch).digest();
        let asks = asks.into_iter().chain(quiet);
        asks.map(|(to, sample, said)| {
            let question = mix(&at.chance, &to);
            if let Some(neighbour) = self.neighbours.get_mut(&to) {
                neighbour.asked = Some(Asked { question, at: at.now, epoch, said });
                neighbour.last_asked = Some(at.now);
            }
            (to, CensusWord::Ask(Census { question, epoch, digest, sample }))
        })
        .collect()
    }
}

impl Neighbour {
    fn new(order: u64, now: Duration) -> Self {
        Self {
            edge: Edge::default(),
            order,
            is_connected: false,
            is_trusted: false,
            asked: None,
            last_asked: None,
            missed: 0,
            counted_since: now,
            heard: 0,
            seen: now,
        }
    }

    fn is_counted(&self) -> bool {
        self.is_connected && self.is_trusted
    }

    /// False while it is left alone because it does not answer.
    fn is_willing(&self, now: Duration) -> bool {
        let pause = match self.missed {
            // A single word may be lost.
            0 | 1 => Duration::ZERO,
            missed => (PROBE_PERIOD * 2_u32.saturating_pow(missed - 2).min(64)).min(MAX_PAUSE),
        };
        self.last_asked.is_none_or(|last| now.saturating_sub(last) >= pause)
    }

    fn give_up(&mut self) {
        if self.asked.take().is_some() {
            self.edge.missed();
            self.missed = self.missed.saturating_add(1);
        }
    }

    /// Counts a question; false if there were too many.
    fn may_ask(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.counted_since) >= HEARD_PERIOD {
            (self.counted_since, self.heard) = (now, 0);
        }
        self.heard = self.heard.saturating_add(1);
        self.heard <= MAX_HEARD
    }
}

/// A number that follows from both, and that nobody guesses who does not know both.
fn mix(salt: &[u8], did: &Did) -> u64 {
    let hash = Sha256::new().chain_update(salt).chain_update(did.public_key()).finalize();
    u64::from_be_bytes(hash[..8].try_into().expect("eight of thirty-two bytes"))
}

impl Vertex for MeshSize {
    type Message = CensusWord;

    fn neighbours(&self) -> Vec<Did> {
        self.neighbours.iter().filter(|(_, it)| it.is_counted()).map(|(did, _)| *did).collect()
    }

    fn edge(&self, to: Did) -> Option<&Edge> {
        self.neighbours.get(&to).map(|neighbour| &neighbour.edge)
    }

    fn step(&mut self, moment: &Moment, inbox: Inbox<CensusWord>) -> Outbox<CensusWord> {
        self.turn_epoch(moment);
        if inbox.is_empty() {
            return self.tick(moment);
        }
        let mut said = Vec::new();
        for (from, word) in inbox {
            match word {
                CensusWord::Ask(census) => {
                    let reply = self.answer(from, &census, moment);
                    said.extend(reply.map(|reply| (from, CensusWord::Reply(reply))));
                }
                CensusWord::Reply(reply) => self.hear(from, &reply, moment),
            }
        }
        said
    }
}

#[cfg(test)]
mod tests;
