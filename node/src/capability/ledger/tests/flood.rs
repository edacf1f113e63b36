//! Twenty peers that ask and never invoke, beside one that means it: what the honest one still gets done.
//!
//! A provider as the Node is one (the ledger decides, the fold records), on a clock that is moved by hand: nothing here
//! depends on how fast the machine is. The greedy ones are always asked first, and take the most they can get.

use std::collections::BTreeMap;

use dms_messages::{
    Accepted, AllocationId, AllocationState, AttemptId, Bid, BidRequest, Invocation, Millis, Price, Signed,
};
use dms_storage::Entry;

use super::*;
use crate::signer::{ANSWER_TTL, RECORD_TTL, Signer};

const LEASE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(500);
const HOUR: Duration = Duration::from_secs(3600);
const PRUNE_PERIOD: Duration = Duration::from_secs(600);
const JOB_TIME: Duration = Duration::from_secs(30);
/// Cores of the machine; an honest job needs one of them.
const CORES: u64 = 16;
const GREEDY: usize = 20;

/// What a greedy peer does with what it has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greed {
    /// Lets it run out.
    Idles,
    /// Gives it back at the last moment.
    Releases,
    /// Gives it back after 49 percent of its lease, and asks again at once.
    ReleasesEarly,
    /// Gives it back as soon as an honest one would, and asks again at once.
    ReleasesAtOnce,
    /// Asks again and again for the same, to keep it.
    Renews,
}

/// Records that a lock was invoked, as the Node does.
pub(super) fn accept(
    books: &mut Books,
    me: &Signer,
    requester: &Signer,
    held: &Lock,
    number: u32,
) -> AllocationId {
    let terms = contract(held, requester, me.me(), number);
    let attempt: AttemptId = terms.attempt;
    let contract = sign_contract(terms, requester);
    let allocation = AllocationId::from_random(me.random());
    let accepted = Accepted { attempt, contract: contract.content_id(), allocation };
    let accepted = me.sign(accepted, Some(requester.me()), RECORD_TTL).unwrap();
    let event = Event::AllocationAccepted { allocation, contract, accepted };
    books.apply(&Entry { at: me.now(), event }).unwrap();
    allocation
}

/// Records that an allocation ended, and that its requester has what it left.
pub(super) fn end(books: &mut Books, allocation: AllocationId) {
    apply(books, Event::AllocationEnded { allocation, state: AllocationState::Succeeded, result: None });
    apply(books, Event::AllocationAcknowledged { allocation });
}

struct Provider {
    books: Books,
    clock: Arc<StillClock>,
    me: Signer,
}

impl Provider {
    fn new() -> Self {
        let clock = Arc::new(StillClock::default());
        Self { books: books(CORES * 1000, CORES * 1000), me: signer(1, &clock), clock }
    }

    fn record(&mut self, event: Event) {
        self.books.apply(&Entry { at: self.me.now(), event }).unwrap();
    }

    /// A bid with its lock, if one is made.
    fn ask(&mut self, requester: Did, cores: u64) -> Option<Lock> {
        let need = requirement(cores * 1000, cores * 1000);
        let resources = hold(&self.books, requester, self.me.me(), &need).ok()?;
        let request = BidRequest {
            id: dms_messages::BidRequestId::from_random(self.me.random()),
            job: dms_messages::JobId::from_random(self.me.random()),
            requirement: need,
            ..request(&job())
        };
        let bid = Bid {
            id: BidId::from_random(self.me.random()),
            request: request.id,
            resources: resources.clone(),
            price: Price(5),
            score: 500,
            lease: Millis::from(LEASE),
            profile: Default::default(),
        };
        let lock = Lock {
            bid: bid.id,
            request: bid.request,
            requester,
            job: request.job,
            pod: 0,
            resources,
            expires: self.me.now().saturating_add(LEASE + LEASE_GRACE),
        };
        let bid: Signed<Bid> = self.me.sign(bid, Some(requester), ANSWER_TTL).unwrap();
        self.record(Event::BidRequestReceived { requester, request, declined: None });
        self.record(Event::BidSent { bid, lock: lock.clone() });
        Some(lock)
    }

    fn sweep(&mut self) {
        for bid in expired(&self.books, self.me.now()) {
            self.record(Event::LockEnded { bid, end: LockEnd::Expired });
        }
    }
}

/// True if a lock was made longer than `age` ago.
fn is_older(provider: &Provider, bid: BidId, age: Duration) -> bool {
    let made = provider.books.bids_sent().get(&bid).map(|row| row.at);
    made.is_some_and(|made| provider.me.now() > made.saturating_add(age))
}

/// Says a proof's counts: to whoever watches, and to the log that is shown at the end of all tests.
fn say(line: &str) {
    println!("{line}");
    let Some(log) = std::env::var_os("DMS_PROOF_LOG").filter(|log| !log.is_empty()) else { return };
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
    let written = log.and_then(|mut log| std::io::Write::write_all(&mut log, format!("{line}\n").as_bytes()));
    written.expect("the log of proofs can be written");
}

/// One greedy peer's step: it takes the most that it can get, and keeps it in its way.
fn grab(provider: &mut Provider, greed: Greed, who: Did) {
    let now = provider.me.now();
    let mine: Vec<Lock> =
        provider.books.locks().values().filter(|lock| lock.requester == who).cloned().collect();
    for lock in mine {
        match greed {
            Greed::Releases if lock.expires <= now.saturating_add(LEASE_GRACE + STEP) => {
                provider.record(Event::LockEnded { bid: lock.bid, end: LockEnd::Released });
            }
            // Of steps, the last before that.
            Greed::ReleasesEarly if is_older(provider, lock.bid, LEASE * 49 / 100 - STEP) => {
                provider.record(Event::LockEnded { bid: lock.bid, end: LockEnd::Released });
            }
            Greed::ReleasesAtOnce if is_older(provider, lock.bid, STEP) => {
                provider.record(Event::LockEnded { bid: lock.bid, end: LockEnd::Released });
            }
            Greed::Renews => {
                let renewal = renew(&provider.books, who, provider.me.me(), lock.request, LEASE, now);
                if let Some(Renewal { bid, expires, is_longer: true, .. }) = renewal {
                    provider.record(Event::LockRenewed { bid, expires });
                }
            }
            _ => {}
        }
    }
    for cores in [16, 12, 8, 4, 2, 1] {
        while provider.ask(who, cores).is_some() {}
    }
}

/// How many jobs the honest peer finishes in an hour in which it always has more.
fn finished_in_an_hour(greed: Option<Greed>) -> usize {
    let mut provider = Provider::new();
    let honest = signer(2, &provider.clock);
    let greedy: Vec<Did> = (100..).take(GREEDY).map(did).collect();
    let mut running: BTreeMap<Timestamp, Vec<AllocationId>> = BTreeMap::new();
    let (start, mut finished, mut pruned) = (provider.me.now(), 0, Duration::ZERO);
    let before = provider.books.available().clone();
    loop {
        let now = provider.me.now();
        let spent = now.saturating_since(start);
        if spent >= HOUR {
            break;
        }
        provider.sweep();
        if spent.saturating_sub(pruned) >= PRUNE_PERIOD {
            pruned = spent;
            provider.record(Event::Pruned { before: Timestamp(now.0 - Millis::from(HOUR).0) });
            provider.books.check().unwrap();
        }
        while let Some(due) = running.first_entry().filter(|due| *due.key() <= now) {
            for allocation in due.remove() {
                let state = AllocationState::Succeeded;
                provider.record(Event::AllocationEnded { allocation, state, result: None });
                provider.record(Event::AllocationAcknowledged { allocation });
                finished += 1;
            }
        }
        if let Some(greed) = greed {
            for who in &greedy {
                grab(&mut provider, greed, *who);
            }
        }
        while let Some(lock) = provider.ask(honest.me(), 1) {
            let terms = contract(&lock, &honest, provider.me.me(), 1);
            let invocation = Invocation { bid: lock.bid, contract: sign_contract(terms, &honest) };
            take(&provider.books, honest.me(), &invocation, now).unwrap();
            let allocation = accept(&mut provider.books, &provider.me, &honest, &lock, 1);
            running.entry(now.saturating_add(JOB_TIME)).or_default().push(allocation);
        }
        provider.clock.advance(STEP);
    }
    // Everything comes back.
    provider.clock.advance(HOUR);
    provider.sweep();
    running.into_values().flatten().for_each(|allocation| end(&mut provider.books, allocation));
    assert_eq!(provider.books.available(), &before);
    finished
}

#[test]
fn twenty_peers_that_ask_and_never_invoke_leave_an_honest_one_four_fifths_of_its_work() {
    let alone = finished_in_an_hour(None);
    let greeds = [Greed::Idles, Greed::Releases, Greed::ReleasesEarly, Greed::ReleasesAtOnce, Greed::Renews];
    for greed in greeds {
        let beside = finished_in_an_hour(Some(greed));
        say(&format!("flood: {GREEDY} peers, {greed:?}: honest jobs {beside} of {alone}"));
        assert!(beside * 5 >= alone * 4, "{greed:?}: {beside} of {alone}");
    }
}
