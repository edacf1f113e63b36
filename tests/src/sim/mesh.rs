//! The gossip and the directory of a simulated world: late, lost and repeated as its scenario says, and cut where its
//! nodes are.
//!
//! One queue of what is on its way and one task that delivers it, so that a thousand listeners cost no thousand timers.
//! Who forwards what to whom is not simulated, and neither is who keeps which record: a message has its own delay to
//! each listener, and a record is where anybody on the same island finds it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dms_actors::directory::{
    Directory, DirectoryError, MAX_PROVIDERS, RecordCheck, RecordKey, check_lengths,
};
use dms_actors::mesh::{Gossip, GossipId, MAX_GOSSIP_LENGTH, Mesh, PublishError, Topic, Verdict};
use dms_actors::testing::Chance;
use dms_messages::Did;
use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use super::facts::{Channel, Fact, NodeIndex};
use super::scenario::NetworkPlan;
use super::sink::Sink;

/// Messages that wait for a member; later ones are dropped, as gossip does.
const HEARD: usize = 1024;
/// How long gossip takes besides the links: some hops and their heartbeats.
const HOPS: Duration = Duration::from_millis(300);
/// How long a look-up takes at most, besides the links.
const LOOK_UP: Duration = Duration::from_millis(400);

/// The air of a world. Cheap to clone.
#[derive(Clone)]
pub struct Air(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something comes earlier than what was waited for.
    sooner: Notify,
    dids: Vec<Did>,
    plan: NetworkPlan,
    sink: Sink,
}

struct State {
    chance: Chance,
    /// The island of each node; nodes of different ones do not hear each other.
    islands: Vec<u8>,
    members: BTreeMap<NodeIndex, Member>,
    published: u64,
    on_the_way: BinaryHeap<Reverse<Due>>,
    records: BTreeMap<RecordKey, Record>,
    providers: BTreeMap<RecordKey, BTreeSet<NodeIndex>>,
    rejected: u64,
    is_told: bool,
}

struct Member {
    topics: BTreeSet<Topic>,
    heard: mpsc::Sender<Gossip>,
    check: Arc<dyn RecordCheck>,
}

struct Record {
    value: Vec<u8>,
    sequence: u64,
    by: NodeIndex,
    until: Instant,
}

/// One message on its way to one node; in the order of time, then of speaking.
struct Due {
    at: Instant,
    number: u64,
    to: NodeIndex,
    message: Arc<Message>,
}

struct Message {
    from: NodeIndex,
    topic: Topic,
    id: GossipId,
    body: Vec<u8>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Air {
    /// The air between `dids`; needs a tokio runtime, on which it delivers. `is_told`: the sink hears of each delivery.
    pub fn new(seed: u64, plan: NetworkPlan, dids: Vec<Did>, sink: Sink, is_told: bool) -> Self {
        let state = State {
            chance: Chance::of(seed, &[b"air"]),
            islands: vec![0; dids.len()],
            members: BTreeMap::new(),
            published: 0,
            on_the_way: BinaryHeap::new(),
            records: BTreeMap::new(),
            providers: BTreeMap::new(),
            rejected: 0,
            is_told,
        };
        let air =
            Self(Arc::new(Shared { state: Mutex::new(state), sooner: Notify::new(), dids, plan, sink }));
        tokio::spawn(air.clone().deliver());
        air
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node begins to listen; `check` decides which records of others it would keep.
    pub fn join(&self, node: NodeIndex, check: Arc<dyn RecordCheck>) -> Arc<Listener> {
        let (heard, gossip) = mpsc::channel(HEARD);
        self.lock().members.insert(node, Member { topics: BTreeSet::new(), heard, check });
        Arc::new(Listener { air: self.clone(), me: node, gossip: Mutex::new(Some(gossip)) })
    }

    /// A node is gone.
    pub fn leave(&self, node: NodeIndex) {
        let mut state = self.lock();
        state.members.remove(&node);
        state.providers.values_mut().for_each(|providers| {
            providers.remove(&node);
        });
    }

    /// Only nodes of the same island hear each other from now on.
    pub fn part(&self, islands: &[u8]) {
        self.lock().islands.copy_from_slice(islands);
    }

    /// How many messages their listeners have called wrong: none, between honest nodes.
    pub fn rejected(&self) -> u64 {
        self.lock().rejected
    }

    async fn deliver(self) {
        loop {
            let sooner = self.0.sooner.notified();
            let next = self.lock().on_the_way.peek().map(|Reverse(due)| due.at);
            match next {
                Some(at) if at > Instant::now() => drop(timeout_at(at, sooner).await),
                Some(_) => self.deliver_next(),
                None => sooner.await,
            }
        }
    }

    fn deliver_next(&self) {
        let mut state = self.lock();
        let Some(Reverse(Due { to, message, .. })) = state.on_the_way.pop() else { return };
        let is_told = state.is_told;
        let Some(member) = state.members.get(&to) else { return };
        if state.islands[to] != state.islands[message.from] || !member.topics.contains(&message.topic) {
            return;
        }
        let did = self.0.dids[message.from];
        let gossip = Gossip {
            id: message.id.clone(),
            topic: message.topic.clone(),
            source: did,
            forwarder: did,
            body: message.body.clone(),
        };
        let was_heard = member.heard.try_send(gossip).is_ok();
        drop(state);
        if was_heard && is_told {
            let bytes = message.body.len() as u64;
            self.0.sink.tell(to, Fact::Heard { from: message.from, by: Channel::Gossip, bytes });
        }
    }
}

impl fmt::Debug for Air {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Air").field("nodes", &self.0.dids.len()).finish_non_exhaustive()
    }
}

impl State {
    fn publish(&mut self, plan: &NetworkPlan, message: Message) -> Result<(), PublishError> {
        if message.body.len() > MAX_GOSSIP_LENGTH {
            return Err(PublishError::TooLong(message.body.len()));
        }
        if !self.members.contains_key(&message.from) {
            return Err(PublishError::Closed);
        }
        let (me, topic) = (message.from, message.topic.clone());
        let listeners: Vec<NodeIndex> = self
            .members
            .iter()
            .filter(|(node, member)| {
                **node != me && self.islands[**node] == self.islands[me] && member.topics.contains(&topic)
            })
            .map(|(node, _)| *node)
            .collect();
        if listeners.is_empty() {
            return Err(PublishError::NobodyListens);
        }
        let message = Arc::new(message);
        for to in listeners {
            if self.chance.one_in(plan.lose_gossip_one_in) {
                continue;
            }
            self.send(plan, to, &message);
            if self.chance.one_in(plan.repeat_gossip_one_in) {
                self.send(plan, to, &message);
            }
        }
        Ok(())
    }

    fn send(&mut self, plan: &NetworkPlan, to: NodeIndex, message: &Arc<Message>) {
        let delay = Duration::from_millis(plan.delay_ms)
            + self.chance.duration(Duration::from_millis(plan.jitter_ms) + HOPS);
        self.published += 1;
        let due =
            Due { at: Instant::now() + delay, number: self.published, to, message: Arc::clone(message) };
        self.on_the_way.push(Reverse(due));
    }

    /// Whether anybody else is there to ask.
    fn is_alone(&self, me: NodeIndex) -> bool {
        !self.members.keys().any(|node| *node != me && self.islands[*node] == self.islands[me])
    }
}

/// The air as one node has it.
pub struct Listener {
    air: Air,
    me: NodeIndex,
    gossip: Mutex<Option<mpsc::Receiver<Gossip>>>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Mesh for Listener {
    fn publish(&self, topic: Topic, body: Vec<u8>) -> BoxFuture<'static, Result<(), PublishError>> {
        let published = {
            let mut state = self.air.lock();
            let id = GossipId(state.published.to_be_bytes().to_vec());
            state.publish(&self.air.0.plan, Message { from: self.me, topic, id, body })
        };
        self.air.0.sooner.notify_one();
        Box::pin(async move { published })
    }

    fn subscribe(&self, topic: Topic) -> BoxFuture<'static, Result<(), PublishError>> {
        let subscribed = match self.air.lock().members.get_mut(&self.me) {
            Some(member) => {
                member.topics.insert(topic);
                Ok(())
            }
            None => Err(PublishError::Closed),
        };
        Box::pin(async move { subscribed })
    }

    fn verdict(&self, _: GossipId, _: Did, verdict: Verdict) {
        if verdict == Verdict::Reject {
            self.air.lock().rejected += 1;
        }
    }

    fn take_gossip(&self) -> Option<mpsc::Receiver<Gossip>> {
        self.gossip.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Listener {
    /// Does something with the records after the time that it takes; now and then nobody answers.
    fn after_a_while<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State) -> Result<T, DirectoryError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, DirectoryError>> {
        let (air, me) = (self.air.clone(), self.me);
        let (delay, is_lost) = {
            let chance = &mut self.air.lock().chance;
            let plan = &self.air.0.plan;
            let jitter = Duration::from_millis(plan.jitter_ms) + LOOK_UP;
            (Duration::from_millis(plan.delay_ms) + chance.duration(jitter), chance.one_in(20))
        };
        Box::pin(async move {
            sleep(delay).await;
            let mut state = air.lock();
            if !state.members.contains_key(&me) {
                return Err(DirectoryError::Closed);
            }
            if state.is_alone(me) {
                return Err(DirectoryError::Alone);
            }
            if is_lost {
                return Err(DirectoryError::NoAnswer("nobody answered".to_owned()));
            }
            act(&mut state)
        })
    }
}

impl Directory for Listener {
    fn put(
        &self,
        key: RecordKey,
        value: Vec<u8>,
        ttl: Duration,
    ) -> BoxFuture<'static, Result<(), DirectoryError>> {
        if let Err(error) = check_lengths(&key, &value) {
            return Box::pin(async move { Err(error) });
        }
        let me = self.me;
        self.after_a_while(move |state| {
            // Whoever would keep it looks at it first.
            let keeper = state.members.iter().find(|(node, _)| **node != me).map(|(_, member)| &member.check);
            let keeper = keeper.ok_or(DirectoryError::Alone)?;
            let sequence = keeper.check(&key, &value).map_err(DirectoryError::NoAnswer)?;
            let is_newer = state.records.get(&key).is_none_or(|kept| kept.sequence < sequence);
            if is_newer {
                let until = Instant::now() + ttl;
                state.records.insert(key, Record { value, sequence, by: me, until });
            }
            Ok(())
        })
    }

    fn get(&self, key: RecordKey) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DirectoryError>> {
        let me = self.me;
        self.after_a_while(move |state| {
            let kept = state.records.get(&key);
            let found =
                kept.filter(|it| it.until > Instant::now() && state.islands[it.by] == state.islands[me]);
            Ok(found.map(|record| record.value.clone()).into_iter().collect())
        })
    }

    fn provide(&self, key: RecordKey) -> BoxFuture<'static, Result<(), DirectoryError>> {
        let me = self.me;
        self.after_a_while(move |state| {
            state.providers.entry(key).or_default().insert(me);
            Ok(())
        })
    }

    fn stop_providing(&self, key: RecordKey) {
        if let Some(providers) = self.air.lock().providers.get_mut(&key) {
            providers.remove(&self.me);
        }
    }

    fn providers(&self, key: RecordKey) -> BoxFuture<'static, Result<Vec<Did>, DirectoryError>> {
        let (me, air) = (self.me, self.air.clone());
        self.after_a_while(move |state| {
            let listed = state.providers.get(&key).into_iter().flatten();
            let mut found: Vec<Did> = listed
                .filter(|node| **node != me && state.islands[**node] == state.islands[me])
                .map(|node| air.0.dids[*node])
                .collect();
            found.sort_unstable();
            found.truncate(MAX_PROVIDERS);
            Ok(found)
        })
    }
}
