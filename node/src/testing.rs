//! Examples that the unit tests of this crate start from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dms_actors::clock::{Clock, Timestamp};
use dms_messages::{
    AttemptId, Bid, BidId, BidRequest, BidRequestId, Capability, ContentId, Contract, CpuMillis, Did,
    DiskMib, ExecutorKind, Job, JobId, Keypair, MemoryMib, Millis, Pod, Price, Requirement, Resources,
    Signed, Task,
};
use dms_storage::{Books, Entry, Event, Lock};

use crate::signer::{ANSWER_TTL, RECORD_TTL, Signer};

/// A clock that stands still until it is moved, and whose chance is a counter.
#[derive(Debug, Default)]
pub(crate) struct StillClock(Mutex<(Duration, u64)>);

impl StillClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.lock().unwrap().0 += by;
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000).saturating_add(self.0.lock().unwrap().0)
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().0
    }

    fn random(&self) -> [u8; 16] {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&state.1.to_be_bytes());
        bytes
    }
}

pub(crate) fn signer(seed: u8, clock: &Arc<StillClock>) -> Signer {
    let keypair = Arc::new(Keypair::from_secret(&[seed; 32]));
    Signer::new(keypair, Arc::clone(clock) as Arc<dyn Clock>, "test")
}

pub(crate) fn did(seed: u8) -> Did {
    Keypair::from_secret(&[seed; 32]).did()
}

pub(crate) fn resources(cpu: u64, memory: u64) -> Resources {
    Resources { cpu: CpuMillis(cpu), memory: MemoryMib(memory), disk: DiskMib(0), ..Resources::default() }
}

pub(crate) fn requirement(cpu: u64, memory: u64) -> Requirement {
    Requirement {
        cpu: CpuMillis(cpu),
        memory: MemoryMib(memory),
        disk: DiskMib(0),
        gpus: vec![],
        executor: ExecutorKind::Wasm,
        locations: BTreeSet::new(),
        labels: BTreeMap::new(),
        ..Requirement::default()
    }
}

pub(crate) fn capability(cpu: u64, memory: u64) -> Capability {
    Capability {
        resources: resources(cpu, memory),
        executors: BTreeSet::from([ExecutorKind::Wasm]),
        ..Capability::default()
    }
}

pub(crate) fn job() -> Job {
    let task = Task {
        name: "task".into(),
        module: ContentId::of_bytes(b"module"),
        args: vec![],
        env: BTreeMap::new(),
        stdin: None,
        input: None,
        timeout: Millis(60_000),
        resources: None,
    };
    Job {
        id: JobId::from_random([1; 16]),
        name: "job".into(),
        pods: vec![Pod { requirement: requirement(1000, 64), tasks: vec![task] }],
        max_price: None,
        wanted: 2,
        wait: Millis(60_000),
        max_attempts: 3,
        submitted: Timestamp(1_700_000_000_000),
    }
}

pub(crate) fn request(job: &Job) -> BidRequest {
    BidRequest {
        id: BidRequestId::from_random([2; 16]),
        job: job.id,
        pod: 0,
        requirement: job.pods[0].requirement.clone(),
        run_time: Millis(60_000),
        max_price: job.max_price,
        wanted: job.wanted,
        addresses: vec![],
        credentials: Default::default(),
    }
}

pub(crate) fn bid(request: &BidRequest, price: u64, signer: &Signer) -> Signed<Bid> {
    let bid = Bid {
        id: BidId::from_random(signer.random()),
        request: request.id,
        resources: Resources {
            cpu: request.requirement.cpu,
            memory: request.requirement.memory,
            disk: request.requirement.disk,
            ..Resources::default()
        },
        price: Price(price),
        score: 500,
        lease: Millis(10_000),
        profile: Default::default(),
    };
    signer.sign(bid, None, ANSWER_TTL).unwrap()
}

/// Books of an onboarded node.
pub(crate) fn books(cpu: u64, memory: u64) -> Books {
    let mut books = Books::default();
    apply(&mut books, Event::CapabilityRegistered { capability: capability(cpu, memory) });
    books
}

pub(crate) fn apply(books: &mut Books, event: Event) {
    books.apply(&Entry { at: Timestamp(1_700_000_000_000), event }).unwrap();
    books.check().unwrap();
}

/// Records a bid for `requester` with its lock, as the Node does; the number makes its ids.
pub(crate) fn lock(
    books: &mut Books,
    provider: &Signer,
    requester: Did,
    number: u8,
    resources: Resources,
) -> Lock {
    let job = Job { id: JobId::from_random([number; 16]), ..job() };
    let mut request = request(&job);
    request.id = BidRequestId::from_random([number; 16]);
    apply(books, Event::BidRequestReceived { requester, request: request.clone(), declined: None });
    let signed = bid(&request, 5, provider);
    let lock = Lock {
        bid: signed.value().id,
        request: request.id,
        requester,
        job: job.id,
        pod: 0,
        resources,
        expires: provider.now().saturating_add(Duration::from_secs(11)),
    };
    apply(books, Event::BidSent { bid: signed, lock: lock.clone() });
    lock
}

/// The contract that a requester would sign for a lock.
pub(crate) fn contract(lock: &Lock, requester: &Signer, provider: Did, number: u32) -> Contract {
    let mut pod = job().pods.remove(0);
    pod.requirement.cpu = lock.resources.cpu;
    pod.requirement.memory = lock.resources.memory;
    Contract {
        requester: requester.me(),
        provider,
        attempt: AttemptId { job: lock.job, pod: 0, number },
        request: lock.request,
        bid: lock.bid,
        resources: lock.resources.clone(),
        price: Price(5),
        pod,
        orphan_after: Millis(60_000),
    }
}

pub(crate) fn sign_contract(contract: Contract, requester: &Signer) -> Signed<Contract> {
    let audience = contract.provider;
    requester.sign(contract, Some(audience), RECORD_TTL).unwrap()
}

/// Tokens as tests sign them.
pub(crate) mod tokens {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use dms_actors::signed::SignOptions;
    use dms_messages::{Ability, ContentId, DocumentId, Keypair, Role, Signed, Timestamp, Token};

    /// The mesh.
    pub(crate) const NETWORK: &str = "test";
    /// When they are signed.
    pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

    pub(crate) fn key(seed: u8) -> Keypair {
        Keypair::from_secret(&[seed; 32])
    }

    /// A token to be signed.
    #[derive(Debug, Clone)]
    pub(crate) struct Sign {
        pub(crate) from: u8,
        pub(crate) to: Option<u8>,
        pub(crate) abilities: BTreeSet<Ability>,
        pub(crate) topics: Option<BTreeSet<String>>,
        pub(crate) depth: u8,
        pub(crate) parent: Option<ContentId>,
        pub(crate) hours: u64,
        pub(crate) network: &'static str,
        pub(crate) at: Timestamp,
    }

    impl Sign {
        /// For a day, for nothing yet.
        pub(crate) fn new(from: u8, to: u8) -> Self {
            Self {
                from,
                to: Some(to),
                abilities: BTreeSet::new(),
                topics: None,
                depth: 0,
                parent: None,
                hours: 24,
                network: NETWORK,
                at: NOW,
            }
        }

        pub(crate) fn abilities(self, abilities: &[&str]) -> Self {
            Self { abilities: abilities.iter().map(|text| text.parse().unwrap()).collect(), ..self }
        }

        pub(crate) fn role(self, role: Role) -> Self {
            Self { abilities: role.abilities(), depth: role.depth(), ..self }
        }

        pub(crate) fn topics(self, topics: &[&str]) -> Self {
            Self { topics: Some(topics.iter().map(|topic| (*topic).to_owned()).collect()), ..self }
        }

        pub(crate) fn depth(self, depth: u8) -> Self {
            Self { depth, ..self }
        }

        pub(crate) fn after(self, parent: &Signed<Token>) -> Self {
            Self { parent: Some(parent.content_id()), ..self }
        }

        pub(crate) fn sign(&self) -> Signed<Token> {
            let token = Token {
                abilities: self.abilities.clone(),
                topics: self.topics.clone(),
                depth: self.depth,
                parent: self.parent,
            };
            let mut id = [0; 16];
            id[..2].copy_from_slice(&[self.from, self.to.unwrap_or_default()]);
            let options = SignOptions {
                network: self.network.to_owned(),
                audience: self.to.map(|to| key(to).did()),
                issued_at: self.at,
                ttl: Duration::from_secs(self.hours * 3600),
                id: DocumentId(id),
            };
            Signed::sign(token, &key(self.from), options).unwrap()
        }
    }
}
