//! An honest story between a node and its peers: what was said in it is what gets replayed, and what it leaves open is
//! what a forged word would move.

use std::collections::BTreeSet;

use dms_actors::mesh::Topic;
use dms_actors::mesh::memory::MemoryMesh;
use dms_messages::{
    AllocationId, AllocationState, AttemptId, BidId, BidRequestId, ContentId, Contract, Credentials,
    DeclineReason, Did, Document, ExecutorKind, Job, JobId, MemoryMib, Millis, Pod, Price, PriceList,
    RefusedReason, ReleaseCause, Requirement, Resources, Retry, Role, Signed, to_canonical,
};
use dms_node::commands::{Onboard, ShowJob, SubmitJob};
use dms_node::network;
use dms_node::trust::commands::GrantToken;
use dms_storage::books::AttemptState;
use dms_tests::DEADLINE;
use dms_tests::hand_made::{self, capability, machine};
use dms_tests::pair::wait_until;
use serde_bytes::ByteBuf;

use super::house::{self, Subject, Voice, World, key};
use super::words::{Draft, NETWORK, Word, signed};

pub(crate) const SUBJECT: u8 = 1;
const OTHER: u8 = 2;
const REQUESTER: u8 = 3;
const PROVIDER: u8 = 4;
const INSIDER: u8 = 5;
const STRANGER: u8 = 6;

/// How something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Told(Word),
    Gossiped,
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Requester,
    Provider,
}

/// A document that was said to the node, and taken.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) by: Who,
    pub(crate) way: Way,
    pub(crate) bytes: Vec<u8>,
}

/// The node under test, another one, and their peers.
pub(crate) struct House {
    pub(crate) world: World,
    pub(crate) subject: Subject,
    pub(crate) other: Subject,
    /// Lets the node run programs, by a token of the node's.
    pub(crate) requester: Voice,
    /// Runs programs for the node, trusted by name.
    pub(crate) provider: Voice,
    /// Trusted by name, and up to no good.
    pub(crate) insider: Voice,
    /// Nobody.
    pub(crate) stranger: Voice,
    /// The requester's.
    pub(crate) token: Credentials,
    /// All that was said honestly.
    pub(crate) said: Vec<Said>,
}

/// What waits for a word.
pub(crate) struct Open {
    /// The requester holds its lock.
    pub(crate) held: Signed<dms_messages::Bid>,
    /// The node waits for the provider's bid on it.
    pub(crate) asked: dms_messages::BidRequest,
    /// The node waits for the provider's answer to it.
    pub(crate) invoked: Signed<Contract>,
}

fn bytes(kind: u8, number: usize) -> [u8; 16] {
    let mut bytes = [kind; 16];
    bytes[8..].copy_from_slice(&(number as u64).to_be_bytes());
    bytes
}

pub(crate) fn pod() -> Pod {
    hand_made::pod(Millis(10_000))
}

/// More memory than the node has: its own jobs are for others.
fn large_pod() -> Pod {
    let pod = pod();
    Pod { requirement: Requirement { memory: MemoryMib(10_000), ..pod.requirement }, ..pod }
}

/// What a pod is granted.
fn resources(pod: &Pod) -> Resources {
    let Requirement { cpu, memory, disk, .. } = pod.requirement;
    Resources { cpu, memory, disk, ..Resources::default() }
}

/// A request that nobody has made yet.
pub(crate) fn request(number: usize) -> dms_messages::BidRequest {
    dms_messages::BidRequest {
        id: BidRequestId::from_random(bytes(0x11, number)),
        job: JobId::from_random(bytes(0x22, number)),
        pod: 0,
        requirement: pod().requirement,
        run_time: pod().run_time(),
        max_price: None,
        wanted: 1,
        addresses: vec![],
        credentials: Credentials::default(),
    }
}

/// A bid on a request of the node's.
pub(crate) fn bid(request: BidRequestId, number: usize) -> dms_messages::Bid {
    dms_messages::Bid {
        id: BidId::from_random(bytes(0x33, number)),
        request,
        resources: resources(&large_pod()),
        price: Price(1),
        score: 1,
        lease: Millis(3_600_000),
        profile: Default::default(),
    }
}

/// The contract that takes a bid of the node's.
pub(crate) fn contract(requester: Did, held: &Signed<dms_messages::Bid>, job: JobId) -> Contract {
    let bid = held.value();
    Contract {
        requester,
        provider: held.issuer(),
        attempt: AttemptId { job, pod: 0, number: 1 },
        request: bid.request,
        bid: bid.id,
        resources: bid.resources.clone(),
        price: bid.price,
        pod: pod(),
        orphan_after: Millis(60_000),
    }
}

pub(crate) fn advert(sequence: u64) -> dms_messages::Advert {
    dms_messages::Advert {
        card: ContentId::of_bytes(b"card"),
        addresses: vec![],
        executors: BTreeSet::from([ExecutorKind::Wasm]),
        available: Resources { memory: MemoryMib(20_000), ..machine() },
        prices: PriceList::default(),
        sequence,
        credentials: Credentials::default(),
        profile: Default::default(),
    }
}

pub(crate) fn node_status(sequence: u64) -> dms_messages::NodeStatus {
    dms_messages::NodeStatus {
        role: dms_messages::NodeRole::Provider,
        mode: dms_messages::ServingMode::Serving,
        available: dms_messages::ResourceSummary::default(),
        allocations: 0,
        locks: 0,
        jobs: 0,
        peers: 0,
        sequence,
    }
}

/// Tokens or revocations as they are carried.
pub(crate) fn credentials(tokens: &[Vec<u8>]) -> Credentials {
    let tokens: Vec<ByteBuf> = tokens.iter().cloned().map(ByteBuf::from).collect();
    Credentials::try_from(tokens).expect("they are few")
}

pub(crate) fn revocations(bytes: Vec<u8>) -> Vec<u8> {
    let revocations = vec![ByteBuf::from(bytes)];
    to_canonical(&dms_messages::Revocations { revocations }).expect("it is short")
}

pub(crate) fn request_topic() -> Topic {
    network::bid_request_topic(NETWORK)
}

impl House {
    /// A node that offers its machine, and peers that have said nothing yet.
    pub(crate) async fn new() -> Self {
        let world = World::new();
        let [me, other, requester, provider, insider] =
            [SUBJECT, OTHER, REQUESTER, PROVIDER, INSIDER].map(|seed| key(seed).did());
        let subject = world.node(SUBJECT, &[provider, insider, other], &world.mesh);
        let other = world.node(OTHER, &[me, requester, provider, insider], &MemoryMesh::default());
        for node in [&subject, &other] {
            let onboarded = node.node.ask(Onboard { capability: capability() }).timeout(DEADLINE).await;
            onboarded.expect("the node answers").expect("the capability is sound");
        }
        let grant = GrantToken {
            to: requester,
            abilities: Role::Requester.abilities(),
            topics: None,
            depth: 0,
            parent: None,
            ttl: None,
        };
        let granted = subject.node.ask(grant).timeout(DEADLINE).await.expect("the node answers");
        let token: Credentials = granted.expect("it may").text.parse().expect("it is carried well");
        let none = Credentials::default();
        let mut house = Self {
            requester: world.voice(REQUESTER, &token),
            provider: world.voice(PROVIDER, &none),
            insider: world.voice(INSIDER, &none),
            stranger: world.voice(STRANGER, &none),
            world,
            subject,
            other,
            token,
            said: Vec::new(),
        };
        house.meet().await;
        house
    }

    pub(crate) fn voices(&self) -> [&Voice; 4] {
        [&self.requester, &self.provider, &self.insider, &self.stranger]
    }

    /// Opens every link to the node, and has the provider introduce itself.
    pub(crate) async fn meet(&mut self) {
        for voice in self.voices() {
            self.world.network.connect(voice.did, self.subject.did);
        }
        let seal = self.world.seal(&self.provider.key, None);
        let (advert, status) =
            (advert(seal.issued_at.0).sign(&seal), node_status(seal.issued_at.0).sign(&seal));
        wait_until("all peers", async || (self.subject.status().await.peers.len() == 4).then_some(())).await;
        wait_until("the offer", async || {
            // What is told on the link to the node's former life, which is about to end, is lost.
            self.provider.tell(self.subject.did, Word::Advert, advert.clone()).await;
            self.settle().await;
            let peers = self.subject.status().await.peers;
            peers.iter().any(|peer| peer.did == self.provider.did && peer.is_provider).then_some(())
        })
        .await;
        self.said.push(Said { by: Who::Provider, way: Way::Told(Word::Advert), bytes: advert });
        let topic = network::status_topic(NETWORK);
        house::gossip(&self.world, &self.subject, &self.provider, &topic, vec![status]).await;
    }

    /// Until everything that was told the node has been handled.
    pub(crate) async fn settle(&self) {
        for voice in self.voices() {
            assert!(voice.system.flush(DEADLINE).await, "the links are in order");
        }
        self.subject.status().await;
    }

    /// Tells the node an honest word, and keeps it.
    async fn say<T: Document>(&mut self, by: Who, word: Word, value: T) {
        let me = self.subject.did;
        let voice = self.voice(by);
        let bytes = signed(value, &self.world.seal(&voice.key, Some(me))).bytes().to_vec();
        self.say_bytes(by, word, bytes).await;
    }

    async fn say_bytes(&mut self, by: Who, word: Word, bytes: Vec<u8>) {
        self.voice(by).tell(self.subject.did, word, bytes.clone()).await;
        self.said.push(Said { by, way: Way::Told(word), bytes });
    }

    pub(crate) fn voice(&self, who: Who) -> &Voice {
        match who {
            Who::Requester => &self.requester,
            Who::Provider => &self.provider,
        }
    }

    pub(crate) async fn release(&self, bid: BidId) {
        let release = dms_messages::Release { bid, cause: ReleaseCause::NotChosen };
        let bytes = to_canonical(&release).expect("it is short");
        self.requester.tell(self.subject.did, Word::Release, bytes).await;
    }

    /// The requester asks and gets a bid.
    async fn ask(&mut self, number: usize) -> Signed<dms_messages::Bid> {
        self.say(Who::Requester, Word::BidRequest, request(number)).await;
        self.requester.hear_document(Word::Bid).await
    }

    /// Hands in a job of the node's.
    pub(crate) async fn submit(&self, number: usize) -> JobId {
        let job = Job {
            id: JobId::from_random(bytes(0x44, number)),
            pods: vec![large_pod()],
            wait: Millis(24 * 3_600_000),
            ..hand_made::job(Millis(10_000))
        };
        let submitted = self.subject.node.ask(SubmitJob { job }).timeout(DEADLINE).await;
        submitted.expect("the node answers").expect("the job is sound")
    }

    /// Waits until the current attempt of a job of the node's, or its end, is so.
    async fn wait_for_job(&self, job: JobId, is_there: impl Fn(&dms_storage::books::JobRow) -> bool) {
        wait_until("the job's state", async || {
            let row = self.subject.node.ask(ShowJob { job }).timeout(DEADLINE).await.expect("it answers");
            row.ok().filter(|row| is_there(row))
        })
        .await;
    }

    /// The provider bids on a job of the node's and is invoked.
    pub(crate) async fn win(&mut self, number: usize) -> Signed<Contract> {
        let asked = self.provider.hear_document::<dms_messages::BidRequest>(Word::BidRequest).await;
        self.say(Who::Provider, Word::Bid, bid(asked.value().id, number)).await;
        let invoked = self.provider.hear_document::<dms_messages::Invocation>(Word::Invocation).await;
        invoked.value().contract.clone()
    }

    /// Everything that may be said, said once, and one of each left open.
    pub(crate) async fn tell(&mut self) -> Open {
        let (me, requester) = (self.subject.did, self.requester.did);
        // The requester: one that runs, one that is held, one that was let go, one that was declined.
        let taken = self.ask(1).await;
        let seal = self.world.seal(&self.requester.key, Some(me));
        let terms = signed(contract(requester, &taken, request(1).job), &seal);
        let invocation = dms_messages::Invocation { bid: taken.value().id, contract: terms };
        self.say(Who::Requester, Word::Invocation, invocation).await;
        self.requester.hear(Word::Accepted).await;
        loop {
            let status =
                self.requester.hear_document::<dms_messages::AllocationStatus>(Word::AllocationStatus);
            if status.await.value().state == AllocationState::Running {
                break;
            }
        }
        let held = self.ask(2).await;
        // Asked for twice, under two signatures.
        let let_go = self.ask(3).await;
        assert_eq!(self.ask(3).await.value().id, let_go.value().id, "one lock");
        self.release(let_go.value().id).await;
        let mut large = request(4);
        large.requirement.memory = MemoryMib(1 << 20);
        self.say(Who::Requester, Word::BidRequest, large).await;
        self.requester.hear(Word::Decline).await;
        // By gossip.
        let asked = dms_messages::BidRequest { credentials: self.token.clone(), ..request(5) };
        let asked = asked.sign(&self.world.seal(&self.requester.key, None));
        let topic = request_topic();
        house::gossip(&self.world, &self.subject, &self.requester, &topic, vec![asked.clone()]).await;
        self.said.push(Said { by: Who::Requester, way: Way::Gossiped, bytes: asked });
        self.requester.hear(Word::Bid).await;
        wait_until("the lock to be let go", async || {
            (self.subject.status().await.lock_count == 2).then_some(())
        })
        .await;
        // The provider: one that it refuses, one that it declines, one that it runs.
        let job = self.submit(1).await;
        let refused = self.win(1).await;
        let refusal = dms_messages::Refused { attempt: refused.value().attempt, reason: RefusedReason::Busy };
        self.say(Who::Provider, Word::Refused, refusal).await;
        self.wait_for_job(job, |row| row.phase.is_terminal()).await;
        let job = self.submit(2).await;
        let asked = self.provider.hear_document::<dms_messages::BidRequest>(Word::BidRequest).await;
        let decline = dms_messages::Decline {
            request: asked.value().id,
            reason: DeclineReason::NotOnboarded,
            retry: Retry::Final,
        };
        self.say(Who::Provider, Word::Decline, decline).await;
        self.wait_for_job(job, |row| row.phase.is_terminal()).await;
        let job = self.submit(3).await;
        let terms = self.win(3).await;
        self.accept(&terms, 3).await;
        let running = AttemptState::Observed { state: AllocationState::Running };
        self.wait_for_job(job, |row| row.current_attempt().is_some_and(|it| it.state == running)).await;
        // A token that the provider has signed for somebody holds no longer.
        let revocation =
            dms_messages::Revocation { token: ContentId::of_bytes(b"a token of the provider's") };
        let revocation = revocation.sign(&self.world.seal(&self.provider.key, None));
        self.say_bytes(Who::Provider, Word::Revocations, revocations(revocation)).await;
        // Left open.
        self.submit(4).await;
        let invoked = self.win(4).await;
        let job = self.submit(5).await;
        let asked = self.provider.hear_document::<dms_messages::BidRequest>(Word::BidRequest).await;
        // It asks itself too.
        self.wait_for_job(job, |row| row.declines.contains_key(&me)).await;
        Open { held, asked: asked.value().clone(), invoked }
    }

    /// The provider takes an attempt, and runs it.
    pub(crate) async fn accept(&mut self, terms: &Signed<Contract>, number: usize) {
        let (attempt, allocation) = (terms.value().attempt, allocation(number));
        let accepted = dms_messages::Accepted { attempt, contract: terms.content_id(), allocation };
        self.say(Who::Provider, Word::Accepted, accepted).await;
        let state = AllocationState::Running;
        let status = dms_messages::AllocationStatus { attempt, allocation, task: 0, state, result: None };
        self.say(Who::Provider, Word::AllocationStatus, status).await;
    }
}

pub(crate) fn allocation(number: usize) -> AllocationId {
    AllocationId::from_random(bytes(0x55, number))
}
