//! Worlds made by hand, for the judge's tests: three nodes, whose logs are written event by event.

use std::time::Duration;

use dms_messages::*;
use dms_node::commands::{CapabilityView, NodeMode, NodeStatus};
use dms_storage::{Entry, Event, Lock, LockEnd};

use super::super::{Oracle, Rules};
use crate::sim::facts::{Breach, Fact, Look, NodeIndex, Seen};

/// The node that jobs are handed to.
pub(super) const REQUESTER: NodeIndex = 0;
/// A node that offers four cores.
pub(super) const PROVIDER: NodeIndex = 1;
/// Another one.
pub(super) const OTHER: NodeIndex = 2;

fn keypair(node: NodeIndex) -> Keypair {
    Keypair::from_secret(&[u8::try_from(node).unwrap() + 1; 32])
}

pub(super) fn did(node: NodeIndex) -> Did {
    keypair(node).did()
}

pub(super) fn sign<T: Document>(value: T, node: NodeIndex) -> Signed<T> {
    let options = SignOptions {
        network: "test".into(),
        audience: None,
        issued_at: Timestamp(1_700_000_000_000),
        ttl: Duration::from_secs(60),
        id: DocumentId([1; 16]),
    };
    Signed::sign(value, &keypair(node), options).unwrap()
}

pub(super) fn cores(cpu: u64) -> Resources {
    Resources { cpu: CpuMillis(cpu * 1000), memory: MemoryMib(cpu), ..Resources::default() }
}

pub(super) fn registered(resources: Resources) -> Event {
    Event::CapabilityRegistered { capability: Capability { resources, ..Capability::default() } }
}

pub(super) fn job(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

pub(super) fn submitted(number: u8) -> Event {
    let job = Job { id: job(number), ..crate::hand_made::job(Millis(1000)) };
    Event::JobSubmitted { job }
}

pub(super) fn attempt(of: u8, number: u32) -> AttemptId {
    AttemptId { job: job(of), pod: 0, number }
}

pub(super) fn bid(number: u8) -> BidId {
    BidId::from_bytes([number; 16])
}

pub(super) fn allocation(number: u8) -> AllocationId {
    AllocationId::from_bytes([number; 16])
}

fn signed_bid(number: u8, provider: NodeIndex, resources: Resources) -> Signed<Bid> {
    let request = BidRequestId::from_bytes([number; 16]);
    let id = bid(number);
    sign(
        Bid {
            id,
            request,
            resources,
            price: Price(1),
            score: 1,
            lease: Millis(10_000),
            profile: Default::default(),
        },
        provider,
    )
}

pub(super) fn bid_received(number: u8, provider: NodeIndex, of: u8) -> Event {
    Event::BidReceived { job: job(of), bid: signed_bid(number, provider, cores(1)) }
}

/// The contract of an attempt: under the bid of this number, for one core.
pub(super) fn contract(id: AttemptId, number: u8, provider: NodeIndex) -> Signed<Contract> {
    let contract = Contract {
        requester: did(REQUESTER),
        provider: did(provider),
        attempt: id,
        request: BidRequestId::from_bytes([number; 16]),
        bid: bid(number),
        resources: cores(1),
        price: Price(1),
        pod: crate::hand_made::pod(Millis(1000)),
        orphan_after: Millis(60_000),
    };
    sign(contract, REQUESTER)
}

pub(super) fn minted(id: AttemptId, number: u8, provider: NodeIndex) -> Event {
    let contract = contract(id, number, provider);
    Event::AttemptMinted { attempt: id, provider: did(provider), addresses: vec![], contract }
}

fn accepted(id: AttemptId, number: u8, provider: NodeIndex) -> Signed<Accepted> {
    let contract = contract(id, number, provider).content_id();
    sign(Accepted { attempt: id, contract, allocation: allocation(number) }, provider)
}

/// The provider accepts: the bid's number is the allocation's too.
pub(super) fn allocation_accepted(id: AttemptId, number: u8, provider: NodeIndex) -> Event {
    Event::AllocationAccepted {
        allocation: allocation(number),
        contract: contract(id, number, provider),
        accepted: accepted(id, number, provider),
    }
}

pub(super) fn attempt_accepted(id: AttemptId, number: u8, provider: NodeIndex) -> Event {
    Event::AttemptAccepted { accepted: accepted(id, number, provider) }
}

pub(super) fn ended(number: u8, state: AllocationState) -> Event {
    Event::AllocationEnded { allocation: allocation(number), state, result: None }
}

pub(super) fn observed(id: AttemptId, state: AllocationState) -> Event {
    Event::AttemptObserved { attempt: id, state, result: None }
}

pub(super) fn lost(id: AttemptId) -> Event {
    Event::AttemptLost { attempt: id, reason: "silence".to_owned() }
}

pub(super) fn acknowledged(number: u8) -> Event {
    Event::AllocationAcknowledged { allocation: allocation(number) }
}

pub(super) fn job_ended(number: u8, end: JobEnd) -> Event {
    Event::JobEnded { job: job(number), end }
}

pub(super) fn let_go(number: u8) -> Event {
    Event::LockEnded { bid: bid(number), end: LockEnd::Released }
}

pub(super) fn run_began(number: u8) -> Fact {
    Fact::RunBegan { allocation: allocation(number) }
}

pub(super) fn run_ended(number: u8) -> Fact {
    Fact::RunEnded { allocation: allocation(number) }
}

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The rule that was broken, if one was.
pub(super) fn rule(judged: Result<(), Breach>) -> Option<&'static str> {
    judged.err().map(|breach| breach.rule)
}

/// A world and its judge.
pub(super) struct Hand {
    pub(super) oracle: Oracle,
    pub(super) at: Duration,
    /// How far each node's wall clock is ahead.
    pub(super) ahead: [Duration; 3],
    pub(super) last: [u64; 3],
    lives: [u32; 3],
}

impl Hand {
    /// Three nodes that are up; the last two offer four cores, two GPUs and two ports each, for two pods.
    pub(super) fn new() -> Self {
        let oracle = Oracle::new(Rules::default(), (0..3).map(did).collect());
        let mut hand =
            Self { oracle, at: Duration::ZERO, ahead: Default::default(), last: [0; 3], lives: [0; 3] };
        (0..3).for_each(|node| hand.start(node, 0).unwrap());
        let machine = Resources {
            gpus: [GpuId(0), GpuId(1)].into(),
            ports: [80, 81].into(),
            slots: [(ExecutorKind::Wasm, 2)].into(),
            ..cores(4)
        };
        hand.good(PROVIDER, [registered(machine.clone())]);
        hand.good(OTHER, [registered(machine)]);
        hand
    }

    /// A world with job 1 in the log, attempt 1 of it minted, and its bid 1 locked at the provider.
    pub(super) fn invoked() -> Self {
        let mut hand = Self::new();
        hand.good(REQUESTER, [submitted(1)]);
        hand.lock(PROVIDER, 1, cores(1)).unwrap();
        hand.good(REQUESTER, [bid_received(1, PROVIDER, 1), minted(attempt(1, 1), 1, PROVIDER)]);
        hand
    }

    /// The same, accepted and running.
    pub(super) fn running() -> Self {
        let mut hand = Self::invoked();
        hand.good(PROVIDER, [allocation_accepted(attempt(1, 1), 1, PROVIDER)]);
        hand.good(REQUESTER, [attempt_accepted(attempt(1, 1), 1, PROVIDER)]);
        hand.see(PROVIDER, run_began(1)).unwrap();
        hand
    }

    /// The same, with the program and its allocation ended.
    pub(super) fn over(state: AllocationState) -> Self {
        let mut hand = Self::running();
        hand.see(PROVIDER, run_ended(1)).unwrap();
        hand.good(PROVIDER, [ended(1, state)]);
        hand
    }

    /// The first attempt is lost by the requester, and the second minted for another node.
    pub(super) fn mint_another(&mut self) {
        self.good(REQUESTER, [lost(attempt(1, 1))]);
        self.lock(OTHER, 2, cores(1)).unwrap();
        self.good(REQUESTER, [bid_received(2, OTHER, 1), minted(attempt(1, 2), 2, OTHER)]);
    }

    fn wall(&self, node: NodeIndex) -> Timestamp {
        Timestamp(1_700_000_000_000).saturating_add(self.at + self.ahead[node])
    }

    pub(super) fn see(&mut self, node: NodeIndex, fact: Fact) -> Result<(), Breach> {
        let seen = Seen { at: self.at, wall: self.wall(node), node, life: self.lives[node], fact };
        self.oracle.see(&seen)
    }

    /// Something that says nothing, a little later.
    pub(super) fn wait(&mut self, node: NodeIndex, by: Duration) -> Result<(), Breach> {
        self.at += by;
        self.see(node, Fact::Fault { text: String::new() })
    }

    pub(super) fn start(&mut self, node: NodeIndex, last_event: u64) -> Result<(), Breach> {
        self.lives[node] += 1;
        self.last[node] = last_event;
        self.see(node, Fact::Started { last_event })
    }

    pub(super) fn crash(&mut self, node: NodeIndex) {
        self.see(node, Fact::Crashed).unwrap();
    }

    /// One write.
    pub(super) fn write<const N: usize>(
        &mut self,
        node: NodeIndex,
        is_synced: bool,
        events: [Event; N],
    ) -> Result<(), Breach> {
        let at = self.wall(node);
        let mut number = || {
            self.last[node] += 1;
            self.last[node]
        };
        let entries = events.map(|event| (number(), Entry { at, event })).into();
        self.see(node, Fact::Written { entries, is_synced })
    }

    /// One synced write; the rule that it breaks.
    pub(super) fn breaks<const N: usize>(
        &mut self,
        node: NodeIndex,
        events: [Event; N],
    ) -> Option<&'static str> {
        rule(self.write(node, true, events))
    }

    /// One synced write that breaks nothing.
    #[track_caller]
    pub(super) fn good<const N: usize>(&mut self, node: NodeIndex, events: [Event; N]) {
        self.write(node, true, events).unwrap();
    }

    /// A bid with its lock, of ten seconds and one of grace.
    pub(super) fn bid_sent(&self, node: NodeIndex, number: u8, resources: Resources) -> Event {
        let signed = signed_bid(number, node, resources.clone());
        let lock = Lock {
            bid: bid(number),
            request: BidRequestId::from_bytes([number; 16]),
            requester: did(REQUESTER),
            job: job(1),
            pod: 0,
            resources,
            expires: self.wall(node).saturating_add(seconds(11)),
        };
        Event::BidSent { bid: signed, lock }
    }

    pub(super) fn lock(&mut self, node: NodeIndex, number: u8, resources: Resources) -> Result<(), Breach> {
        let event = self.bid_sent(node, number, resources);
        self.write(node, true, [event])
    }

    /// A look at a node, which says this of its capability.
    pub(super) fn look(&self, node: NodeIndex, capability: CapabilityView) -> Look {
        let id = NodeId {
            uuid: NodeUuid::from_bytes([1; 16]),
            cid: ContentId::of_bytes(b"card"),
            peer_id: String::new(),
            did: did(node),
        };
        let status = NodeStatus {
            id,
            mode: NodeMode::Serving,
            is_private: false,
            is_onboarded: true,
            is_offboarding: false,
            peers: vec![],
            mesh_size: 1,
            unreached_bootstraps: vec![],
            addresses: vec![],
            active_job_count: 0,
            job_count: 0,
            active_allocation_count: 0,
            lock_count: 0,
            event_count: 0,
            difference_count: 0,
            waiting_messages: 0,
            task_count: 0,
            api_listen: None,
            started: Timestamp(1),
            version: String::new(),
        };
        let wall = self.wall(node);
        Look { at: self.at, wall, node, capability, status, waiting: 0, pending_words: 0 }
    }

    /// The rules that are broken at the end.
    pub(super) fn end(&mut self) -> Vec<&'static str> {
        let mut rules: Vec<_> = self.oracle.finish(self.at).into_iter().map(|breach| breach.rule).collect();
        rules.dedup();
        rules
    }
}
