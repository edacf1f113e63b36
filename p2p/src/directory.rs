//! The directory's queries: who waits for which, what is stored for others, and what is said again.
//!
//! `swarm` hands it requests of the handle and Kademlia's events. A record that a peer sends is checked
//! by the application in a task of its own, never on the loop; what does not fit into that task's queue
//! is dropped, as if the peer had met a busy one. What one peer may have in that queue is bounded, and a
//! peer whose records are refused again and again is not listened to for a while (see `sources`).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dms_actors::Did;
use dms_actors::directory::{
    DirectoryError, MAX_KEY_LENGTH, MAX_PROVIDERS, MAX_RECORD_LENGTH, MAX_VALUES, RecordCheck, RecordKey,
};
use libp2p::kad::store::RecordStore;
use libp2p::kad::{
    GetClosestPeersError, GetClosestPeersOk, GetProvidersOk, GetRecordOk, PeerInfo, ProviderRecord,
    PutRecordError, QueryId, QueryResult, QueryStats, Quorum, Record,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::dht;
use crate::peer;
use crate::shelf::MAX_RECORD_TTL;
use crate::sources::Sources;

/// Most queries of the application under way.
const MAX_QUERIES: usize = 64;
/// Most announcements under way at once; the rest wait in line.
const MAX_ANNOUNCEMENTS: usize = 4;
/// A value that this many peers returned needs no more of them.
const ENOUGH_COPIES: usize = 4;
/// Records that wait for their check: 512 KiB at most.
const CHECK_QUEUE: usize = 64;
/// Most addresses kept with a provider: an answer with twenty of them must fit into a packet.
const MAX_PROVIDER_ADDRESSES: usize = 4;
/// How often everything that we provide is said again: thrice within the time it is believed.
const ANNOUNCE_PERIOD: Duration = Duration::from_secs(20 * 60);
/// How soon it is said again after the table grew, and how often at most for that reason.
const ANNOUNCE_SOON: Duration = Duration::from_secs(1);
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(30);
/// How often the table is refreshed while it is small, and later.
const REFRESH_SMALL: Duration = Duration::from_secs(60);
const REFRESH_LARGE: Duration = Duration::from_secs(5 * 60);
/// A table of fewer peers is small: one bucket.
const SMALL_TABLE: usize = 20;

type Answer<T> = oneshot::Sender<Result<T, DirectoryError>>;

/// What a handle asks.
#[derive(Debug)]
pub(crate) enum Request {
    /// Keep and send out a record; its sequence if the application's check named one.
    Put { key: RecordKey, value: Vec<u8>, sequence: Option<u64>, ttl: Duration, reply: Answer<()> },
    /// Collect the values under a key.
    Get { key: RecordKey, reply: Answer<Vec<Vec<u8>>> },
    /// Say that we provide a key, from now on.
    Provide { key: RecordKey, reply: Answer<()> },
    /// Say it no more.
    StopProviding { key: RecordKey },
    /// Collect the providers of a key.
    Providers { key: RecordKey, reply: Answer<Vec<Did>> },
}

/// A query under way.
#[derive(Debug)]
enum Query {
    Put(Answer<()>),
    Get { reply: Answer<Vec<Vec<u8>>>, values: Copies },
    Providers { reply: Answer<Vec<Did>>, found: BTreeSet<Did> },
    Announcement(Option<Answer<()>>),
    Search(PeerId),
}

/// The distinct values that peers returned, each with how often.
#[derive(Debug, Default)]
struct Copies(Vec<(Vec<u8>, usize)>);

impl Copies {
    /// One more answer; true if its value needs no more of them. Counted by value, so that whoever answers
    /// first with something of his own ends nothing.
    fn add(&mut self, value: &[u8]) -> bool {
        let count = match self.0.iter().position(|(known, _)| known == value) {
            Some(index) => {
                self.0[index].1 += 1;
                self.0[index].1
            }
            None if value.len() <= MAX_RECORD_LENGTH && self.0.len() < MAX_VALUES => {
                self.0.push((value.to_vec(), 1));
                1
            }
            None => 0,
        };
        count >= ENOUGH_COPIES
    }

    fn into_values(self) -> Vec<Vec<u8>> {
        self.0.into_iter().map(|(value, _)| value).collect()
    }
}

impl Query {
    fn is_of_application(&self) -> bool {
        !matches!(self, Self::Announcement(None) | Self::Search(_))
    }
}

/// A record that went through its check.
#[derive(Debug)]
pub(crate) struct Checked {
    record: Record,
    /// Its sequence, if it passed.
    sequence: Option<u64>,
    source: PeerId,
}

/// A record that waits for its check.
#[derive(Debug)]
struct Candidate {
    record: Record,
    source: PeerId,
}

/// Runs the directory's queries.
#[derive(Debug)]
pub(crate) struct Clerk {
    me: PeerId,
    running: HashMap<QueryId, Query>,
    /// Keys to be announced, each once.
    line: VecDeque<RecordKey>,
    last_round: Option<Instant>,
    next_round: Instant,
    next_refresh: Instant,
    candidates: Option<mpsc::Sender<Candidate>>,
    sources: Sources,
}

impl Clerk {
    /// A clerk, and the checked records on their way back. Spawns the task that checks; it ends with the
    /// clerk.
    pub(crate) fn new(
        me: PeerId,
        check: Option<Arc<dyn RecordCheck>>,
        now: Instant,
    ) -> (Self, mpsc::Receiver<Checked>) {
        let (checked_sender, checked) = mpsc::channel(CHECK_QUEUE);
        let candidates = check.map(|check| {
            let (candidates, mut waiting) = mpsc::channel(CHECK_QUEUE);
            tokio::spawn(async move {
                while let Some(candidate) = waiting.recv().await {
                    if checked_sender.send(judge(check.as_ref(), candidate)).await.is_err() {
                        break;
                    }
                }
            });
            candidates
        });
        let clerk = Self {
            me,
            running: HashMap::new(),
            line: VecDeque::new(),
            last_round: None,
            next_round: now + ANNOUNCE_PERIOD,
            next_refresh: now + REFRESH_SMALL,
            candidates,
            sources: Sources::default(),
        };
        (clerk, checked)
    }

    /// Begins what a handle asks.
    pub(crate) fn on_request(&mut self, dht: &mut dht::Behaviour, request: Request) {
        let is_busy = self.running.values().filter(|query| query.is_of_application()).count() >= MAX_QUERIES;
        // Whoever asked may have stopped waiting; then the answer is of no use to anyone.
        match request {
            Request::Put { reply, .. } if is_busy => drop(reply.send(Err(DirectoryError::Busy))),
            Request::Get { reply, .. } if is_busy => drop(reply.send(Err(DirectoryError::Busy))),
            Request::Provide { reply, .. } if is_busy => drop(reply.send(Err(DirectoryError::Busy))),
            Request::Providers { reply, .. } if is_busy => drop(reply.send(Err(DirectoryError::Busy))),
            Request::Put { key, value, sequence, ttl, reply } => {
                self.put(dht, key, value, sequence, ttl, reply);
            }
            Request::Get { key, reply } => {
                let id = dht.kad().get_record(key.0.into());
                self.running.insert(id, Query::Get { reply, values: Copies::default() });
            }
            Request::Provide { key, reply } => self.provide(dht, key, reply),
            Request::StopProviding { key } => {
                self.line.retain(|waiting| *waiting != key);
                dht.kad().stop_providing(&key.0.into());
            }
            Request::Providers { key, reply } => {
                let id = dht.kad().get_providers(key.0.into());
                self.running.insert(id, Query::Providers { reply, found: BTreeSet::new() });
            }
        }
    }

    /// Begins a search for a peer, unless there is nobody to ask.
    pub(crate) fn search(&mut self, dht: &mut dht::Behaviour, peer: PeerId) -> bool {
        if dht.table_size() == 0 {
            return false;
        }
        let id = dht.kad().get_closest_peers(peer);
        self.running.insert(id, Query::Search(peer));
        true
    }

    /// Ends the search for a peer: it took too long, or is not needed any more.
    pub(crate) fn end_search(&mut self, dht: &mut dht::Behaviour, peer: &PeerId) {
        let found = self.running.iter().find(|(_, query)| matches!(query, Query::Search(of) if of == peer));
        if let Some(id) = found.map(|(id, _)| *id) {
            self.running.remove(&id);
            finish(dht, &id);
        }
    }

    /// A query got further. If it was a search and is over: whom it searched, and the addresses that
    /// peers told.
    pub(crate) fn on_progress(
        &mut self,
        dht: &mut dht::Behaviour,
        id: QueryId,
        result: QueryResult,
        stats: &QueryStats,
        is_last: bool,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        let query = self.running.get_mut(&id)?;
        match (query, &result) {
            (Query::Get { values, .. }, QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found)))) => {
                let is_enough = values.add(&found.record.value);
                if is_enough {
                    finish(dht, &id);
                }
            }
            (
                Query::Providers { found, .. },
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ) => {
                let others = providers.iter().filter(|provider| **provider != self.me);
                for did in others.filter_map(peer::did) {
                    if found.len() < MAX_PROVIDERS {
                        found.insert(did);
                    }
                }
                if found.len() >= MAX_PROVIDERS {
                    finish(dht, &id);
                }
            }
            _ => {}
        }
        if !is_last {
            return None;
        }
        let has_heard = stats.num_successes() > 0 || stats.num_requests() == 0;
        let finding = self.running.remove(&id).and_then(|query| conclude(query, result, has_heard));
        self.announce(dht);
        finding
    }

    /// A peer sent a record: to be checked, if there is room.
    pub(crate) fn on_record(&mut self, record: Record, source: PeerId, now: Instant) {
        let is_short = record.key.as_ref().len() <= MAX_KEY_LENGTH && record.value.len() <= MAX_RECORD_LENGTH;
        let Some(candidates) = self.candidates.as_ref().filter(|_| is_short) else { return };
        if !self.sources.admit(source, now) {
            tracing::debug!(peer = %source, "dropped a record of a peer that sends too many or bad ones");
        } else if candidates.try_send(Candidate { record, source }).is_err() {
            self.sources.on_dropped(&source);
            tracing::debug!(peer = %source, "dropped a record because too many wait for their check");
        }
    }

    /// A peer says that it provides a key. Where it is told from what we know ourselves.
    pub(crate) fn on_provider(dht: &mut dht::Behaviour, record: ProviderRecord, known: Vec<Multiaddr>) {
        let addresses: Vec<_> = known.into_iter().take(MAX_PROVIDER_ADDRESSES).collect();
        let record = ProviderRecord { addresses, ..record };
        if record.key.as_ref().len() <= MAX_KEY_LENGTH && dht.kad().store_mut().add_provider(record).is_err()
        {
            tracing::debug!("no room for a provider");
        }
    }

    /// A record went through its check: it is kept if it passed.
    pub(crate) fn on_checked(&mut self, dht: &mut dht::Behaviour, checked: Checked, now: Instant) {
        let Checked { mut record, sequence, source } = checked;
        self.sources.on_checked(source, sequence.is_some(), now);
        let Some(sequence) = sequence else { return };
        let longest = now.into_std() + MAX_RECORD_TTL;
        record.expires = Some(record.expires.map_or(longest, |expires| expires.min(longest)));
        if !dht.kad().store_mut().keep(record, sequence, source) {
            tracing::debug!(peer = %source, "a record was older than ours, or there is no room");
        }
    }

    /// The table grew: whoever is new in it may be nearer to what we provide.
    pub(crate) fn on_growth(&mut self, now: Instant) {
        let again = self.last_round.map_or(now, |last| last + ANNOUNCE_AGAIN);
        self.next_round = self.next_round.min(again.max(now + ANNOUNCE_SOON));
    }

    /// Does what time asks for: says again, refreshes the table, forgets. Called every second.
    pub(crate) fn on_tick(&mut self, dht: &mut dht::Behaviour, now: Instant) {
        dht.kad().store_mut().prune(now.into_std());
        self.sources.prune(now);
        let size = dht.table_size();
        if now >= self.next_refresh {
            self.next_refresh = now + if size < SMALL_TABLE { REFRESH_SMALL } else { REFRESH_LARGE };
            if size > 0 {
                // It fails only without anyone in the table.
                let _ = dht.kad().bootstrap();
            }
        }
        if now >= self.next_round {
            self.next_round = now + ANNOUNCE_PERIOD;
            self.last_round = Some(now);
            for key in dht.kad().store_mut().own_keys() {
                let key = RecordKey(key.to_vec());
                if !self.line.contains(&key) {
                    self.line.push_back(key);
                }
            }
        }
        self.announce(dht);
    }

    fn put(
        &mut self,
        dht: &mut dht::Behaviour,
        key: RecordKey,
        value: Vec<u8>,
        sequence: Option<u64>,
        ttl: Duration,
        reply: Answer<()>,
    ) {
        if dht.table_size() == 0 {
            drop(reply.send(Err(DirectoryError::Alone)));
            return;
        }
        let expires = Some(std::time::Instant::now() + ttl.min(MAX_RECORD_TTL));
        let (me, shelf) = (self.me, dht.kad().store_mut());
        let kept = shelf.sequence(&key.0);
        // Without a check every put is newer than the one before it.
        let sequence = sequence.unwrap_or_else(|| kept.map_or(0, |kept| kept + 1));
        let record = Record { key: key.0.into(), value, publisher: Some(me), expires };
        if !shelf.keep(record.clone(), sequence, me) {
            // A newer one is here already, as it may be anywhere else: nothing to do. Or no room.
            let answer = if kept.is_some() { Ok(()) } else { Err(DirectoryError::Busy) };
            drop(reply.send(answer));
            return;
        }
        match dht.kad().put_record(record, Quorum::One) {
            Ok(id) => drop(self.running.insert(id, Query::Put(reply))),
            Err(_) => drop(reply.send(Err(DirectoryError::Busy))),
        }
    }

    fn provide(&mut self, dht: &mut dht::Behaviour, key: RecordKey, reply: Answer<()>) {
        match dht.kad().start_providing(key.0.into()) {
            Ok(id) => drop(self.running.insert(id, Query::Announcement(Some(reply)))),
            Err(_) => drop(reply.send(Err(DirectoryError::Busy))),
        }
    }

    fn announce(&mut self, dht: &mut dht::Behaviour) {
        let is_announcement = |query: &&Query| matches!(query, Query::Announcement(None));
        let mut under_way = self.running.values().filter(is_announcement).count();
        while under_way < MAX_ANNOUNCEMENTS
            && let Some(key) = self.line.pop_front()
        {
            if let Ok(id) = dht.kad().start_providing(key.0.into()) {
                self.running.insert(id, Query::Announcement(None));
                under_way += 1;
            }
        }
    }
}

/// Asks the application, which may take as long as a signature takes to verify.
fn judge(check: &dyn RecordCheck, candidate: Candidate) -> Checked {
    let Candidate { record, source } = candidate;
    let sequence = check
        .check(&RecordKey(record.key.to_vec()), &record.value)
        .inspect_err(|reason| tracing::debug!(peer = %source, reason, "refused a record"))
        .ok();
    Checked { record, sequence, source }
}

fn finish(dht: &mut dht::Behaviour, id: &QueryId) {
    if let Some(mut query) = dht.kad().query_mut(id) {
        query.finish();
    }
}

/// Answers a query that is over; the finding if it was a search.
fn conclude(query: Query, result: QueryResult, has_heard: bool) -> Option<(PeerId, Vec<Multiaddr>)> {
    let silence = || DirectoryError::NoAnswer("nobody answered in time".to_owned());
    match query {
        Query::Put(reply) => {
            let answer = match result {
                QueryResult::PutRecord(Ok(_)) => Ok(()),
                QueryResult::PutRecord(Err(
                    PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. },
                )) if !success.is_empty() => Ok(()),
                _ => Err(DirectoryError::NoAnswer("no peer took the record".to_owned())),
            };
            drop(reply.send(answer));
        }
        Query::Get { reply, values, .. } => {
            let values = values.into_values();
            let answer = if values.is_empty() && !has_heard { Err(silence()) } else { Ok(values) };
            drop(reply.send(answer));
        }
        Query::Providers { reply, found, .. } => {
            let answer =
                if found.is_empty() && !has_heard { Err(silence()) } else { Ok(found.into_iter().collect()) };
            drop(reply.send(answer));
        }
        // It is kept here and said again, whether anyone took it this time or not.
        Query::Announcement(reply) => {
            if let Some(reply) = reply {
                drop(reply.send(Ok(())));
            }
        }
        Query::Search(peer) => {
            let peers = match result {
                QueryResult::GetClosestPeers(
                    Ok(GetClosestPeersOk { peers, .. }) | Err(GetClosestPeersError::Timeout { peers, .. }),
                ) => peers,
                _ => Vec::new(),
            };
            let told = peers.into_iter().filter(|info: &PeerInfo| info.peer_id == peer);
            return Some((peer, told.flat_map(|info| info.addrs).collect()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_of_one_value_end_a_search_early() {
        let mut copies = Copies::default();
        for forged in 1..MAX_VALUES {
            assert!(!copies.add(&forged.to_be_bytes()), "each of them was said by one peer");
        }
        for _ in 1..ENOUGH_COPIES {
            assert!(!copies.add(b"true"));
        }
        assert!(copies.add(b"true"));
        assert!(!copies.add(&vec![0; MAX_RECORD_LENGTH + 1]));
        assert_eq!(copies.into_values().len(), MAX_VALUES);
    }

    #[test]
    fn distinct_values_are_bounded() {
        let mut copies = Copies::default();
        for value in 0..10_000u32 {
            copies.add(&value.to_be_bytes());
        }
        assert_eq!(copies.into_values().len(), MAX_VALUES);
    }
}
