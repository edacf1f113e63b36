//! A long random story in both roles, whose every event fits: what the tests of the store record.

use std::time::Duration;

use dms_messages::*;

use crate::books::{Books, Entry, Event, Lock, LockEnd};

/// Draws the next events by looking at the books; the same seed tells the same story.
pub(super) struct Story {
    random: u64,
    at: u64,
    drawn: u64,
    me: Keypair,
    peers: Vec<Keypair>,
}

impl Story {
    pub(super) fn new(seed: u64) -> Self {
        let peers = (2..6).map(|n| Keypair::from_secret(&[n; 32])).collect();
        let random = seed.wrapping_mul(2).wrapping_add(1);
        Self { random, at: 1_700_000_000_000, drawn: 0, me: Keypair::from_secret(&[1; 32]), peers }
    }

    /// When the last event was.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.at)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) as usize % bound
    }

    fn pick<T: Clone>(&mut self, from: impl Iterator<Item = T>) -> Option<T> {
        let all: Vec<T> = from.collect();
        if all.is_empty() { None } else { Some(all[self.below(all.len())].clone()) }
    }

    fn id(&mut self) -> [u8; 16] {
        self.drawn += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        id[8..].copy_from_slice(&self.drawn.to_be_bytes());
        id
    }

    fn sign<T: Document>(&mut self, value: T, signer: &Keypair) -> Signed<T> {
        let id = DocumentId(self.id());
        let issued_at = self.now();
        let ttl = Duration::from_secs(60);
        Signed::sign(
            value,
            signer,
            SignOptions { network: "test".into(), audience: None, issued_at, ttl, id },
        )
        .unwrap()
    }

    fn part() -> Resources {
        Resources { cpu: CpuMillis(1000), memory: MemoryMib(64), disk: DiskMib(10), ..Default::default() }
    }

    fn pod() -> Pod {
        let requirement = Requirement {
            cpu: CpuMillis(1000),
            memory: MemoryMib(64),
            disk: DiskMib(10),
            gpus: vec![],
            executor: ExecutorKind::Wasm,
            locations: Default::default(),
            labels: Default::default(),
            ports: 0,
            architecture: None,
            min_clock_mhz: 0,
            min_score: 0,
        };
        let task = Task {
            name: "t".into(),
            module: ContentId::of_bytes(b"m"),
            args: vec!["a".into()],
            env: Default::default(),
            stdin: None,
            input: None,
            timeout: Millis(1000),
            resources: None,
        };
        Pod { requirement, tasks: vec![task] }
    }

    fn result() -> AllocationResult {
        let id = ContentId::of_bytes(b"out");
        AllocationResult {
            stdout: id,
            stderr: id,
            output: None,
            wall: Millis(1),
            peak_memory: MemoryMib(1),
            output_dropped: 0,
        }
    }

    /// The entries of the next record, one to three.
    pub(super) fn next(&mut self, books: &Books) -> Vec<Entry> {
        loop {
            let events = self.draw(books);
            if events.is_empty() {
                continue;
            }
            return events
                .into_iter()
                .map(|event| {
                    self.at += 1 + self.below(400) as u64;
                    Entry { at: self.now(), event }
                })
                .collect();
        }
    }

    fn draw(&mut self, books: &Books) -> Vec<Event> {
        if books.registered().is_none() {
            let resources = Resources {
                cpu: CpuMillis(12_000),
                memory: MemoryMib(900),
                disk: DiskMib(900),
                ..Self::part()
            };
            let capability = Capability { resources, ..Capability::default() };
            return vec![Event::CapabilityRegistered { capability }];
        }
        let has_room = books.available().fits(&Self::part());
        match self.below(17) {
            0 | 1 if has_room => self.bid(books),
            2 => {
                let bid = self.pick(books.locks().keys().copied());
                let end = if self.below(2) == 0 { LockEnd::Released } else { LockEnd::Expired };
                bid.map(|bid| Event::LockEnded { bid, end }).into_iter().collect()
            }
            3 => {
                let expires = Timestamp(self.at + 20_000);
                let bid = self.pick(books.locks().keys().copied());
                bid.map(|bid| Event::LockRenewed { bid, expires }).into_iter().collect()
            }
            4 | 5 => self.accept(books),
            6 => {
                let accepted = books.live_allocations().filter(|row| row.state == AllocationState::Accepted);
                let moving = self.pick(accepted.map(|row| row.id));
                let moved =
                    |allocation| Event::AllocationMoved { allocation, state: AllocationState::Running };
                moving.map(moved).into_iter().collect()
            }
            7 | 8 => {
                let ending = self.pick(books.live_allocations().map(|row| row.id));
                let ended = |allocation| Event::AllocationEnded {
                    allocation,
                    state: AllocationState::Succeeded,
                    result: Some(Self::result()),
                };
                ending.map(ended).into_iter().collect()
            }
            9 => {
                let kept = books.allocations().values().filter(|row| row.state.is_terminal());
                let kept = self.pick(kept.filter(|row| !row.is_acknowledged).map(|row| row.id));
                kept.map(|allocation| Event::AllocationAcknowledged { allocation }).into_iter().collect()
            }
            10 => {
                let job = Job {
                    id: JobId::from_random(self.id()),
                    name: "j".into(),
                    pods: vec![Self::pod()],
                    max_price: None,
                    wanted: 1,
                    wait: Millis(1000),
                    max_attempts: 3,
                    submitted: self.now(),
                };
                vec![Event::JobSubmitted { job }]
            }
            11 | 12 => self.mint(books),
            13 => {
                let live = books.jobs().values().filter(|row| !row.phase.is_terminal());
                let ending = self.pick(live.map(|row| row.job.id));
                ending.map(|job| Event::JobEnded { job, end: JobEnd::Succeeded }).into_iter().collect()
            }
            14 => vec![Event::DocumentSeen { id: DocumentId(self.id()), until: Timestamp(self.at + 5_000) }],
            15 if self.below(6) == 0 => vec![Event::Pruned { before: Timestamp(self.at - 15_000) }],
            16 if self.below(6) == 0 => {
                let before = Timestamp(self.at - 2_000);
                books
                    .next_settling(before, 8)
                    .map(|ended_before| Event::Settled { ended_before })
                    .into_iter()
                    .collect()
            }
            _ => vec![],
        }
    }

    fn bid(&mut self, _books: &Books) -> Vec<Event> {
        let peer = self.below(self.peers.len());
        let requester = self.peers[peer].did();
        let job = JobId::from_random(self.id());
        let request = BidRequest {
            id: BidRequestId::from_random(self.id()),
            job,
            pod: 0,
            requirement: Self::pod().requirement,
            run_time: Millis(1000),
            max_price: None,
            wanted: 1,
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            credentials: Default::default(),
        };
        let bid = Bid {
            id: BidId::from_random(self.id()),
            request: request.id,
            resources: Self::part(),
            price: Price(1),
            score: 1,
            lease: Millis(10_000),
            profile: Default::default(),
        };
        let lock = Lock {
            bid: bid.id,
            request: request.id,
            requester,
            job,
            pod: 0,
            resources: bid.resources.clone(),
            expires: Timestamp(self.at + 11_000),
        };
        let me = self.me.clone();
        let bid = self.sign(bid, &me);
        vec![
            Event::BidRequestReceived { requester, request, declined: None },
            Event::BidSent { bid, lock },
            Event::DocumentSeen { id: DocumentId(self.id()), until: Timestamp(self.at + 30_000) },
        ]
    }

    fn contract(
        &mut self,
        requester: &Keypair,
        provider: Did,
        attempt: AttemptId,
        bid: BidId,
    ) -> Signed<Contract> {
        let contract = Contract {
            requester: requester.did(),
            provider,
            attempt,
            request: BidRequestId::from_random(self.id()),
            bid,
            resources: Self::part(),
            price: Price(1),
            pod: Self::pod(),
            orphan_after: Millis(60_000),
        };
        self.sign(contract, requester)
    }

    fn accept(&mut self, books: &Books) -> Vec<Event> {
        let Some(lock) = self.pick(books.locks().values().cloned()) else { return vec![] };
        let Some(peer) = self.peers.iter().find(|peer| peer.did() == lock.requester).cloned() else {
            return vec![];
        };
        let me = self.me.clone();
        let attempt = AttemptId { job: lock.job, pod: 0, number: 1 };
        let contract = self.contract(&peer, me.did(), attempt, lock.bid);
        let allocation = AllocationId::from_random(self.id());
        let accepted = Accepted { attempt, contract: contract.content_id(), allocation };
        let accepted = self.sign(accepted, &me);
        vec![Event::AllocationAccepted { allocation, contract, accepted }]
    }

    fn mint(&mut self, books: &Books) -> Vec<Event> {
        let open = books.jobs().values().filter(|row| !row.phase.is_terminal() && row.attempts.len() < 3);
        let Some(row) = self.pick(open.cloned()) else { return vec![] };
        let peer = self.below(self.peers.len());
        let (me, peer) = (self.me.clone(), self.peers[peer].clone());
        let attempt = AttemptId { job: row.job.id, pod: 0, number: row.attempts.len() as u32 + 1 };
        let bid = BidId::from_random(self.id());
        let contract = self.contract(&me, peer.did(), attempt, bid);
        let allocation = AllocationId::from_random(self.id());
        let accepted = Accepted { attempt, contract: contract.content_id(), allocation };
        let accepted = self.sign(accepted, &peer);
        let addresses = vec!["/ip4/127.0.0.1/tcp/1".into()];
        vec![
            Event::AttemptMinted { attempt, provider: peer.did(), addresses, contract },
            Event::AttemptAccepted { accepted },
        ]
    }
}
