//! The fold: capacity comes back, nothing is promised twice, and the disk shows the same books.

use std::sync::Arc;
use std::time::Duration;

use dms_messages::*;

use super::*;
use crate::committer::Committer;
use crate::engine::{Engine, MemoryEngine};
use crate::rows::{ROW_FAMILIES, all_rows, row_value};
use crate::schema::Family;
use crate::store::{Store, StoreError};
use crate::{Batch, Durability};

mod pods;

const PROVIDER: [u8; 32] = [1; 32];
const REQUESTER: [u8; 32] = [2; 32];

fn signed<T: Document>(value: T, secret: &[u8; 32], id: u8) -> Signed<T> {
    let options = dms_messages::SignOptions {
        network: "test".into(),
        audience: None,
        issued_at: Timestamp(1_700_000_000_000),
        ttl: Duration::from_secs(60),
        id: DocumentId([id; 16]),
    };
    Signed::sign(value, &Keypair::from_secret(secret), options).unwrap()
}

fn resources(cpu: u64) -> Resources {
    Resources { cpu: CpuMillis(cpu), memory: MemoryMib(cpu), disk: DiskMib(1), ..Resources::default() }
}

fn registered() -> Event {
    let resources = Resources { disk: DiskMib(100), ..resources(4000) };
    Event::CapabilityRegistered { capability: Capability { resources, ..Capability::default() } }
}

fn job() -> Job {
    let requirement = Requirement {
        cpu: CpuMillis(1000),
        memory: MemoryMib(1000),
        disk: DiskMib(1),
        gpus: vec![],
        executor: ExecutorKind::Wasm,
        locations: Default::default(),
        labels: Default::default(),
        ..Requirement::default()
    };
    let task = Task {
        name: "t".into(),
        module: ContentId::of_bytes(b"m"),
        args: vec![],
        env: Default::default(),
        stdin: None,
        input: None,
        timeout: Millis(1000),
        resources: None,
    };
    Job {
        id: JobId::from_random([1; 16]),
        name: "j".into(),
        pods: vec![Pod { requirement, tasks: vec![task] }],
        max_price: None,
        wanted: 1,
        wait: Millis(1000),
        max_attempts: 3,
        submitted: Timestamp(1),
    }
}

fn bid_sent(id: u8, cpu: u64) -> Event {
    let bid = Bid {
        id: BidId::from_random([id; 16]),
        request: BidRequestId::from_random([id; 16]),
        resources: resources(cpu),
        price: Price(1),
        score: 1,
        lease: Millis(10_000),
        profile: Default::default(),
    };
    let lock = Lock {
        bid: bid.id,
        request: bid.request,
        requester: Keypair::from_secret(&REQUESTER).did(),
        job: job().id,
        pod: 0,
        resources: bid.resources.clone(),
        expires: Timestamp(11_000),
    };
    Event::BidSent { bid: signed(bid, &PROVIDER, id), lock }
}

fn attempt(number: u32) -> AttemptId {
    AttemptId { job: job().id, pod: 0, number }
}

fn contract(bid: u8, number: u32) -> Signed<Contract> {
    let contract = Contract {
        requester: Keypair::from_secret(&REQUESTER).did(),
        provider: Keypair::from_secret(&PROVIDER).did(),
        attempt: attempt(number),
        request: BidRequestId::from_random([bid; 16]),
        bid: BidId::from_random([bid; 16]),
        resources: resources(1000),
        price: Price(1),
        pod: job().pods.remove(0),
        orphan_after: Millis(60_000),
    };
    signed(contract, &REQUESTER, 100 + bid)
}

fn allocation(number: u8) -> AllocationId {
    AllocationId::from_random([number; 16])
}

fn accepted(bid: u8, number: u32) -> Signed<Accepted> {
    let contract = contract(bid, number).content_id();
    signed(Accepted { attempt: attempt(number), contract, allocation: allocation(bid) }, &PROVIDER, 200)
}

fn allocation_accepted(bid: u8, number: u32) -> Event {
    Event::AllocationAccepted {
        allocation: allocation(bid),
        contract: contract(bid, number),
        accepted: accepted(bid, number),
    }
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

/// One of everything, both roles at once.
fn story() -> Vec<Event> {
    vec![
        registered(),
        Event::JobSubmitted { job: job() },
        Event::JobMoved { job: job().id, phase: JobPhase::Bidding },
        bid_sent(1, 1000),
        bid_sent(2, 500),
        Event::AttemptMinted {
            attempt: attempt(1),
            provider: Keypair::from_secret(&PROVIDER).did(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            contract: contract(1, 1),
        },
        allocation_accepted(1, 1),
        Event::AttemptAccepted { accepted: accepted(1, 1) },
        Event::AllocationMoved { allocation: allocation(1), state: AllocationState::Running },
        Event::AttemptObserved { attempt: attempt(1), state: AllocationState::Running, result: None },
        Event::AllocationEnded {
            allocation: allocation(1),
            state: AllocationState::Succeeded,
            result: Some(result()),
        },
        Event::AttemptObserved {
            attempt: attempt(1),
            state: AllocationState::Succeeded,
            result: Some(result()),
        },
        Event::JobEnded { job: job().id, end: JobEnd::Succeeded },
        Event::AllocationAcknowledged { allocation: allocation(1) },
        Event::LockEnded { bid: BidId::from_random([2; 16]), end: LockEnd::Released },
        Event::DocumentSeen { id: DocumentId([9; 16]), until: Timestamp(99) },
    ]
}

fn entry(event: Event) -> Entry {
    // Only who held a lock for a while has a standing.
    let is_late = matches!(event, Event::LockEnded { .. });
    Entry { at: Timestamp(if is_late { 5005 } else { 5 }), event }
}

fn apply(books: &mut Books, event: Event) -> Result<(), BooksError> {
    let outcome = books.apply(&entry(event)).map(|_| ());
    books.check().unwrap();
    outcome
}

#[test]
fn capacity_comes_back_to_exactly_what_it_was() {
    let mut books = Books::default();
    apply(&mut books, registered()).unwrap();
    let before = books.available().clone();
    for event in story().into_iter().skip(1) {
        apply(&mut books, event).unwrap();
    }
    assert_eq!(books.available(), &before);
    assert!(books.locks().is_empty() && books.live_allocations().next().is_none());
    assert_eq!(books.jobs()[&job().id].phase, JobPhase::Succeeded);
    assert_eq!(books.jobs()[&job().id].exit_code(), Some(0));
    assert!(books.contracts().values().all(|row| row.accepted.is_some()));
}

#[test]
fn a_lock_becomes_an_allocation_without_a_gap() {
    let mut books = Books::default();
    apply(&mut books, registered()).unwrap();
    apply(&mut books, bid_sent(1, 1000)).unwrap();
    let available = books.available().clone();
    apply(&mut books, allocation_accepted(1, 1)).unwrap();
    assert_eq!(books.available(), &available);
    assert_eq!((books.locked().cpu, books.allocated().cpu), (CpuMillis(0), CpuMillis(1000)));
}

#[test]
fn events_that_would_break_the_law_or_repeat_are_refused_and_change_nothing() {
    let mut books = Books::default();
    apply(&mut books, registered()).unwrap();
    apply(&mut books, bid_sent(1, 3000)).unwrap();
    let before = books.clone();
    let refused = [
        bid_sent(2, 1001),
        bid_sent(1, 1),
        Event::CapabilityWithdrawn,
        Event::LockEnded { bid: BidId::from_random([7; 16]), end: LockEnd::Expired },
        allocation_accepted(7, 1),
        Event::AllocationEnded { allocation: allocation(7), state: AllocationState::Succeeded, result: None },
        Event::JobMoved { job: job().id, phase: JobPhase::Bidding },
        Event::AttemptAccepted { accepted: accepted(1, 1) },
    ];
    for event in refused {
        let name = event.name();
        assert!(apply(&mut books, event).is_err(), "{name}");
        assert_eq!(format!("{books:?}"), format!("{before:?}"), "{name}");
    }
}

#[test]
fn an_attempt_starts_once_and_an_end_is_an_end() {
    let mut books = Books::default();
    for event in story() {
        apply(&mut books, event).unwrap();
    }
    let again = [
        bid_sent(1, 1),
        allocation_accepted(1, 1),
        Event::AllocationMoved { allocation: allocation(1), state: AllocationState::Running },
        Event::AllocationEnded { allocation: allocation(1), state: AllocationState::Succeeded, result: None },
        Event::JobEnded { job: job().id, end: JobEnd::Cancelled },
        Event::JobCancelWanted { job: job().id },
        Event::JobSubmitted { job: job() },
    ];
    for event in again {
        let name = event.name();
        assert!(matches!(apply(&mut books, event), Err(BooksError::OutOfOrder { .. })), "{name}");
    }
}

#[test]
fn a_job_remembers_when_it_was_bid_on_and_ran_at_what_price_and_who_said_no() {
    let mut books = Books::default();
    let no = |reason| Event::DeclineReceived {
        job: job().id,
        provider: Keypair::from_secret(&PROVIDER).did(),
        reason,
    };
    let bid = |id| {
        let Event::BidSent { bid, .. } = bid_sent(id, 1000) else { unreachable!("it is a bid") };
        Event::BidReceived { job: job().id, bid }
    };
    let running =
        || Event::AttemptObserved { attempt: attempt(1), state: AllocationState::Running, result: None };
    let minted = story().into_iter().find(|event| matches!(event, Event::AttemptMinted { .. })).unwrap();
    let events = [
        Event::JobSubmitted { job: job() },
        no(DeclineReason::Busy { shortfalls: Vec::new() }),
        no(DeclineReason::LockShare),
        no(DeclineReason::Busy { shortfalls: Vec::new() }),
        bid(1),
        bid(2),
        minted,
        running(),
        running(),
    ];
    for (second, event) in (1..).zip(events) {
        books.apply(&Entry { at: Timestamp(second), event }).unwrap();
    }
    let row = &books.jobs()[&job().id];
    assert_eq!(row.first_bid, Some(Timestamp(5)), "the first, not the last");
    assert_eq!(row.attempts[0].running, Some(Timestamp(8)), "the first report, not its repeat");
    assert_eq!(row.attempts[0].price, contract(1, 1).value().price);
    let declines: Vec<_> =
        row.declines.values().flatten().map(|(code, count)| (code.as_str(), *count)).collect();
    assert_eq!(declines, [("busy", 2), ("lock_share", 1)]);
}

#[test]
fn what_is_over_is_forgotten_and_what_is_live_is_not() {
    let mut books = Books::default();
    for event in story() {
        apply(&mut books, event).unwrap();
    }
    let requester = Keypair::from_secret(&REQUESTER).did();
    for id in [5, 6] {
        let request = BidRequest { id: BidRequestId::from_random([id; 16]), ..asked() };
        apply(&mut books, Event::BidRequestReceived { requester, request, declined: None }).unwrap();
    }
    apply(&mut books, bid_sent(5, 10)).unwrap();
    apply(&mut books, Event::Pruned { before: Timestamp(1_000_000) }).unwrap();
    assert_eq!(books.bids_sent().len(), 1, "the one with a live lock");
    let remembered: Vec<_> = books.requests_received().keys().copied().collect();
    assert_eq!(remembered, [BidRequestId::from_random([5; 16])], "what a live lock was given for");
    apply(&mut books, Event::LockEnded { bid: BidId::from_random([5; 16]), end: LockEnd::Expired }).unwrap();
    apply(&mut books, Event::Pruned { before: Timestamp(1_000_000) }).unwrap();
    assert!(books.requests_received().is_empty() && books.bids_sent().is_empty());
    assert!(books.allocations().is_empty() && books.seen_count() == 0);
    assert_eq!(books.jobs().len(), 1, "jobs and contracts stay");
    assert_eq!(books.contracts().len(), 1);
}

/// What a job asks for.
fn asked() -> BidRequest {
    BidRequest {
        id: BidRequestId::from_random([8; 16]),
        job: job().id,
        pod: 0,
        requirement: job().pods.remove(0).requirement,
        run_time: Millis(1000),
        max_price: None,
        wanted: 3,
        addresses: vec![],
        credentials: Default::default(),
    }
}

/// [`story`], and then what is live, what ran out, and what settles.
fn long_story() -> Vec<Event> {
    let request = asked();
    let requester = Keypair::from_secret(&REQUESTER).did();
    let card = NodeCard {
        uuid: NodeUuid::from_random([1; 16]),
        did: Keypair::from_secret(&PROVIDER).did(),
        peer_id: Keypair::from_secret(&PROVIDER).did().peer_id(),
        created: Timestamp(1),
    };
    let bid = |id| BidId::from_random([id; 16]);
    let declined = Some(DeclineReason::LockShare);
    let Event::BidSent { bid: received, .. } = bid_sent(9, 10) else { unreachable!("it is a bid") };
    let preferences = Event::PreferencesSet { text: "[pricing]\nminimum = \"1\"\n".to_owned() };
    let mut events = vec![Event::NodeNamed { card: signed(card, &PROVIDER, 250) }, preferences];
    events.extend(story());
    events.extend([
        Event::BidRequestSent { request: request.clone(), expires: Timestamp(100) },
        Event::BidRequestReceived { requester, request, declined },
        Event::BidReceived { job: job().id, bid: received },
        bid_sent(3, 300),
        bid_sent(4, 400),
        Event::LockEnded { bid: bid(4), end: LockEnd::Expired },
        Event::LockRenewed { bid: bid(3), expires: Timestamp(22_000) },
        Event::Settled { ended_before: Timestamp(5) },
        Event::Settled { ended_before: Timestamp(6) },
        bid_sent(5, 1000),
        bid_sent(6, 100),
        Event::LockEnded { bid: bid(6), end: LockEnd::Expired },
        allocation_accepted(5, 2),
        Event::AllocationMoved { allocation: allocation(5), state: AllocationState::Running },
        bid_sent(7, 100),
        Event::LockEnded { bid: bid(7), end: LockEnd::Released },
        Event::JobSubmitted { job: other_job() },
        Event::Pruned { before: Timestamp(5) },
    ]);
    events.extend(trust_story());
    events
}

/// Whom the node trusts and lets in, and what comes of it; one row of each kind stays.
fn trust_story() -> Vec<Event> {
    let [friend, other] = [PROVIDER, REQUESTER].map(|secret| Keypair::from_secret(&secret).did());
    let token = |id: u8| {
        let token = Token { abilities: Role::Member.abilities(), topics: None, depth: 1, parent: None };
        signed(token, &PROVIDER, id)
    };
    let revoke = |id: u8| TrustEvent::TokenRevoked {
        revocation: signed(Revocation { token: token(id).content_id() }, &PROVIDER, id + 100),
    };
    let root = Root { abilities: Role::Provider.abilities(), depth: 2 };
    let grant = Grant {
        abilities: Role::Member.abilities(),
        topics: Some(["advert".to_owned()].into()),
        depth: 0,
        until: None,
        via: Some(friend),
    };
    let secret = |id: u8| InviteSecret::from_random([id; 16]);
    let invited = |id: u8| TrustEvent::InviteMade {
        invite: secret(id).invite(),
        role: Role::Admin,
        uses: 2,
        expires: Timestamp(1_700_000_000_000),
    };
    let join = |inviter: Did| TrustEvent::JoinBegun {
        invite: Box::new(Invite {
            inviter,
            network: "test".into(),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            secret: secret(3),
            role: Role::Requester,
            expires: Timestamp(1_700_000_000_000),
            pre_shared_key: None,
        }),
    };
    let changes = [
        TrustEvent::RootTrusted { did: friend, root: root.clone() },
        TrustEvent::RootTrusted { did: other, root },
        TrustEvent::RootDistrusted { did: other },
        TrustEvent::Granted { to: friend, grant: grant.clone() },
        TrustEvent::Granted { to: other, grant },
        TrustEvent::GrantEnded { to: other },
        TrustEvent::TokenKept { token: token(1), is_issued: true },
        TrustEvent::TokenKept { token: token(2), is_issued: false },
        TrustEvent::TokenDropped { token: token(2).content_id() },
        revoke(1),
        invited(1),
        invited(2),
        TrustEvent::InviteUsed { invite: secret(1).invite(), by: other },
        TrustEvent::InviteEnded { invite: secret(2).invite() },
        join(friend),
        join(other),
        TrustEvent::JoinRefused { inviter: friend, reason: NotAdmittedReason::Used },
        TrustEvent::JoinEnded { inviter: other },
        TrustEvent::Succeeded {
            succession: signed(Succession { new: other }, &PROVIDER, 200),
            root: Some(Root { abilities: Role::Provider.abilities(), depth: 2 }),
        },
    ];
    changes.into_iter().map(|change| Event::Trust { change }).collect()
}

#[test]
fn a_change_of_trust_that_is_about_nothing_is_refused_and_what_has_ended_is_forgotten() {
    let mut books = Books::default();
    let nobody = Keypair::from_secret(&PROVIDER).did();
    let nothing = ContentId::of_bytes(b"nothing");
    let in_vain = [
        TrustEvent::RootDistrusted { did: nobody },
        TrustEvent::GrantEnded { to: nobody },
        TrustEvent::TokenDropped { token: nothing },
        TrustEvent::InviteUsed { invite: nothing, by: nobody },
        TrustEvent::InviteEnded { invite: nothing },
        TrustEvent::JoinRefused { inviter: nobody, reason: NotAdmittedReason::Used },
        TrustEvent::JoinEnded { inviter: nobody },
    ];
    for change in in_vain {
        let refused = apply(&mut books, Event::Trust { change: change.clone() });
        assert!(matches!(refused, Err(BooksError::Unknown { .. })), "{change:?}");
    }
    trust_story().into_iter().for_each(|event| apply(&mut books, event).unwrap());
    let trust = books.trust();
    let counts = |trust: &TrustBooks| {
        let sizes = [trust.roots().len(), trust.grants().len(), trust.tokens().len()];
        let ends = [trust.revocations().len(), trust.invites().len(), trust.successions().len()];
        (sizes, ends, trust.joins().len())
    };
    assert_eq!(counts(trust), ([1, 1, 1], [1, 1, 1], 1));
    let ends = Timestamp(1_700_000_060_000);
    apply(&mut books, Event::Pruned { before: ends }).unwrap();
    assert_eq!(counts(books.trust()), ([1, 1, 1], [1, 0, 1], 1), "what holds to the second holds");
    apply(&mut books, Event::Pruned { before: Timestamp(ends.0 + 1) }).unwrap();
    assert_eq!(counts(books.trust()), ([1, 1, 0], [0, 0, 0], 1), "trust does not end by itself");
}

#[test]
fn whoever_has_a_new_key_is_found_by_every_old_name() {
    let keys: Vec<[u8; 32]> = (20..25).map(|seed| [seed; 32]).collect();
    let did = |n: usize| Keypair::from_secret(&keys[n]).did();
    let mut books = Books::default();
    for old in [1, 0, 2] {
        let succession = signed(Succession { new: did(old + 1) }, &keys[old], 1);
        let change = TrustEvent::Succeeded { succession, root: None };
        apply(&mut books, Event::Trust { change }).unwrap();
    }
    let trust = books.trust();
    assert!((0..4).all(|old| trust.present_name(did(old)) == did(3)));
    assert_eq!(trust.present_name(did(4)), did(4));
    let lineage: Vec<Did> = trust.lineage(did(3)).iter().map(|one| one.issuer()).collect();
    assert_eq!(lineage, [did(0), did(1), did(2)]);
    assert!(trust.lineage(did(0)).is_empty());
    // A ring, which nobody records, ends all the same.
    let succession = signed(Succession { new: did(0) }, &keys[3], 1);
    apply(&mut books, Event::Trust { change: TrustEvent::Succeeded { succession, root: None } }).unwrap();
    books.trust().present_name(did(0));
    assert_eq!(books.trust().lineage(did(0)).len(), 64);
}

fn other_job() -> Job {
    Job { id: JobId::from_random([2; 16]), ..job() }
}

/// The same books at every step, whether folded live, reopened, or rebuilt after a crash.
#[test]
fn a_restart_at_every_step_shows_the_same_books() {
    let engine = Arc::new(MemoryEngine::new());
    let open = || {
        let engine: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(&engine);
        Store::open(Arc::clone(&engine), Committer::inline(engine)).unwrap()
    };
    for (step, event) in long_story().into_iter().enumerate() {
        let (mut store, mut books) = open();
        assert_eq!(store.event_count(), step as u64);
        store.record(&mut books, &[entry(event)]).unwrap().wait().unwrap();
        books.check().unwrap();
        let (_, again) = open();
        assert_eq!(format!("{again:?}"), format!("{books:?}"), "after event {step}");
    }
}

/// Whatever the books hold is in their rows: sums, orders and what has started are derived from them again.
#[test]
fn books_are_put_together_from_their_rows_at_every_step() {
    let mut books = Books::default();
    let mut families = BTreeSet::new();
    for (step, event) in long_story().into_iter().enumerate() {
        apply(&mut books, event).unwrap();
        let mut rows: Vec<_> = all_rows(&books).into_iter().map(|row| (row.family().tag(), row)).collect();
        rows.sort_by_key(|(tag, _)| *tag);
        let mut again = Books::default();
        for (_, row) in rows.iter().filter(|(_, row)| Books::is_restored_from(row.family())) {
            let value = row_value(&books, row).expect("it was listed");
            again.restore(row.family(), &row.key(), &value).unwrap();
        }
        assert_eq!(format!("{again:?}"), format!("{books:?}"), "after event {step}");
        families.extend(rows.into_iter().map(|(_, row)| row.family()));
    }
    let all: BTreeSet<Family> =
        ROW_FAMILIES.into_iter().chain([Family::Meta, Family::ContractsByPeer]).collect();
    assert_eq!(families, all, "the story has rows of every family");
}

#[test]
fn rows_that_do_not_fit_are_not_put_together() {
    let mut books = Books::default();
    for event in long_story() {
        apply(&mut books, event).unwrap();
    }
    for row in all_rows(&books).into_iter().filter(|row| Books::is_restored_from(row.family())) {
        let value = row_value(&books, &row).unwrap();
        let restore = |key: &[u8], value: &[u8]| Books::default().restore(row.family(), key, value);
        assert!(restore(&[&row.key()[..], &[0]].concat(), &value).is_err(), "{row:?}: a key too long");
        assert!(restore(&row.key(), &value[..value.len() - 1]).is_err(), "{row:?}: cut");
        assert!(restore(&row.key(), &[]).is_err(), "{row:?}: empty");
        let names_itself = matches!(row, Row::Job(_) | Row::Allocation(_) | Row::Locked(_));
        assert!(!names_itself || restore(&[7; 16], &value).is_err(), "{row:?}: under another key");
    }
    let lock = books.locks().keys().next().copied().map(Row::Locked).unwrap();
    let value = row_value(&books, &lock).unwrap();
    assert!(Books::default().restore(Family::Locked, &lock.key(), &value).is_err(), "nothing is registered");
}

#[test]
fn what_settles_is_archived_as_it_was_and_what_is_current_stays() {
    let mut books = Books::default();
    for event in story() {
        apply(&mut books, event).unwrap();
    }
    // Of the same age: a job that goes on, and an allocation that runs.
    for event in [bid_sent(5, 1000), allocation_accepted(5, 2), Event::JobSubmitted { job: other_job() }] {
        apply(&mut books, event).unwrap();
    }
    let before = books.clone();
    assert!(books.apply(&entry(Event::Settled { ended_before: Timestamp(5) })).unwrap().is_empty());
    assert_eq!(format!("{books:?}"), format!("{before:?}"), "nothing ended before that instant");

    let changes = books.apply(&entry(Event::Settled { ended_before: Timestamp(6) })).unwrap();
    books.check().unwrap();
    let mut rows = Vec::new();
    let mut archived = Vec::new();
    for change in changes {
        match change {
            Change::Row(row) => rows.push(row),
            Change::Archive(row) => archived.push(*row),
        }
    }
    let contract_id = contract(1, 1).content_id();
    assert_eq!(rows, [Row::Job(job().id), Row::Allocation(allocation(1)), Row::Contract(contract_id)]);
    assert!(rows.iter().all(|row| row_value(&books, row).is_none()), "the live rows are deleted");
    let [Archived { at: Timestamp(1), row: ArchivedRow::Job(job_row), .. }, allocation_row, contract_row] =
        &archived[..]
    else {
        panic!("{archived:?}")
    };
    assert_eq!(job_row, &before.jobs()[&job().id]);
    let ArchivedRow::Allocation(row) = &allocation_row.row else { panic!("{allocation_row:?}") };
    assert_eq!((row, allocation_row.at), (&before.allocations()[&allocation(1)], Timestamp(5)));
    let ArchivedRow::Contract(row) = &contract_row.row else { panic!("{contract_row:?}") };
    assert_eq!(format!("{row:?}"), format!("{:?}", before.contracts()[&contract_id]));
    assert_eq!(archived[0].contents(), before.live_contents(), "the job's module and results");
    assert_eq!(archived[1].contents(), LiveContents::default());

    assert_eq!(books.jobs().keys().collect::<Vec<_>>(), [&other_job().id]);
    assert_eq!(books.allocations().keys().collect::<Vec<_>>(), [&allocation(5)]);
    assert_eq!(books.contracts().keys().collect::<Vec<_>>(), [&contract(5, 2).content_id()]);
    assert_eq!(format!("{:?}", books.bids_sent()), format!("{:?}", before.bids_sent()));
    assert_eq!(books.accounts(), before.accounts());
    assert_eq!((books.ended_job_count(), books.ended_allocation_count()), (0, 0));
}

#[test]
fn a_result_waits_for_its_requester_a_day_and_its_contract_with_it() {
    const DAY: u64 = 24 * 3600 * 1000;
    let mut books = Books::default();
    let is_acknowledgement = |event: &Event| matches!(event, Event::AllocationAcknowledged { .. });
    for event in story().into_iter().filter(|event| !is_acknowledgement(event)) {
        apply(&mut books, event).unwrap();
    }
    assert_eq!(books.next_settling(Timestamp(DAY + 5), 10), Some(Timestamp(DAY + 5)), "the job");
    apply(&mut books, Event::Settled { ended_before: Timestamp(DAY + 5) }).unwrap();
    assert_eq!((books.jobs().len(), books.allocations().len(), books.contracts().len()), (0, 1, 1));
    assert_eq!(books.next_settling(Timestamp(DAY + 5), 10), None);
    assert_eq!(books.next_settling(Timestamp(DAY + 6), 10), Some(Timestamp(DAY + 6)));
    apply(&mut books, Event::Settled { ended_before: Timestamp(DAY + 6) }).unwrap();
    assert_eq!((books.allocations().len(), books.contracts().len()), (0, 0));
}

#[test]
fn an_attempt_that_settled_starts_no_second_time_while_its_bid_is_remembered() {
    let requester = Keypair::from_secret(&REQUESTER).did();
    let mut books = Books::default();
    for event in story() {
        apply(&mut books, event).unwrap();
    }
    apply(&mut books, Event::Settled { ended_before: Timestamp(6) }).unwrap();
    assert!(books.allocations_of(requester, attempt(1)).next().is_none(), "not in memory");
    assert_eq!(books.started(requester, attempt(1)), Some(allocation(1)));
    assert_eq!(books.newest_attempt_like(requester, attempt(2)), Some(attempt(1)));
    apply(&mut books, bid_sent(7, 1000)).unwrap();
    let again = apply(&mut books, allocation_accepted(7, 1));
    assert!(matches!(again, Err(BooksError::OutOfOrder { .. })), "{again:?}");
    apply(&mut books, Event::Pruned { before: Timestamp(6) }).unwrap();
    assert_eq!(books.started(requester, attempt(1)), None, "no word of it can be repeated any more");
}

#[test]
fn a_settling_is_as_large_as_asked_or_as_one_millisecond() {
    let mut books = Books::default();
    for n in 0..10u8 {
        let id = JobId::from_random([n; 16]);
        // 0, 0, 2, 2, 4, 4, …
        let at = Timestamp(u64::from(n / 2) * 2);
        for event in [
            Event::JobSubmitted { job: Job { id, ..job() } },
            Event::JobEnded { job: id, end: JobEnd::Cancelled },
        ] {
            books.apply(&Entry { at, event }).unwrap();
        }
    }
    let table = [
        (0, 4, None),
        (1, 4, Some(1)),
        (100, 1, Some(1)),
        (100, 2, Some(1)),
        (100, 3, Some(3)),
        (4, 3, Some(3)),
        (4, 9, Some(4)),
        (100, 10, Some(9)),
        (100, 11, Some(100)),
    ];
    for (before, limit, expected) in table {
        let found = books.next_settling(Timestamp(before), limit);
        assert_eq!(found, expected.map(Timestamp), "before {before}, {limit}");
    }
    let mut counts = Vec::new();
    while let Some(ended_before) = books.next_settling(Timestamp(100), 3) {
        let left = books.ended_job_count();
        apply(&mut books, Event::Settled { ended_before }).unwrap();
        counts.push(left - books.ended_job_count());
    }
    assert_eq!(counts, [4, 4, 2], "and it comes to an end");
}

#[test]
fn a_renewed_lock_ends_later_and_an_unknown_one_is_refused() {
    let bid = BidId::from_random([1; 16]);
    let renew = |expires| Event::LockRenewed { bid, expires: Timestamp(expires) };
    let mut books = Books::default();
    apply(&mut books, registered()).unwrap();
    assert!(matches!(apply(&mut books, renew(1)), Err(BooksError::Unknown { .. })));
    apply(&mut books, bid_sent(1, 1000)).unwrap();
    let changes = books.apply(&entry(renew(22_000))).unwrap();
    assert_eq!(changes.len(), 3, "the lock, where it was and where it is by expiry");
    assert_eq!(books.locks()[&bid].expires, Timestamp(22_000));
    assert_eq!(books.accounts().by_expiry().iter().collect::<Vec<_>>(), [&(Timestamp(22_000), bid)]);
    apply(&mut books, Event::LockEnded { bid, end: LockEnd::Expired }).unwrap();
    assert!(books.accounts().by_expiry().is_empty());
    assert!(matches!(apply(&mut books, renew(33_000)), Err(BooksError::Unknown { .. })));
    assert_eq!(renew(1).durability(), Durability::Synced, "it is a promise");
    assert_eq!(Event::Settled { ended_before: Timestamp(1) }.durability(), Durability::Unsynced);
}

/// Every family: a row that is changed, gone, renamed or added is found when the books are opened.
#[test]
fn a_row_that_is_not_what_the_log_says_is_damage() {
    let make = || {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let (mut store, mut books) =
            Store::open(Arc::clone(&engine), Committer::inline(Arc::clone(&engine))).unwrap();
        let entries: Vec<Entry> = long_story().into_iter().map(entry).collect();
        // Not the last event, which forgets.
        let (_, entries) = entries.split_last().unwrap();
        store.record(&mut books, entries).unwrap().wait().unwrap();
        engine
    };
    type Damage = fn(&mut Batch, Family, Vec<u8>, Vec<u8>);
    let table: [(&str, Damage); 4] = [
        ("changed", |batch, family, key, _| batch.put(family, key, b"other".to_vec())),
        ("gone", |batch, family, key, _| batch.delete(family, key)),
        ("renamed", |batch, family, mut key, value| {
            batch.delete(family, key.clone());
            *key.last_mut().expect("no key is empty") ^= 1;
            batch.put(family, key, value);
        }),
        ("added", |batch, family, mut key, value| {
            key.push(0);
            batch.put(family, key, value);
        }),
    ];
    let current = ROW_FAMILIES.map(|family| (family, true));
    // Its rows of contracts that are over are compared by the check alone.
    for (family, is_only_current) in current.into_iter().chain([(Family::ContractsByPeer, false)]) {
        for (name, damage) in table {
            let engine = make();
            let all = crate::engine::ScanRange::all();
            let rows = engine.scan(family, all, usize::MAX).unwrap();
            let is_current =
                |key: &[u8]| is_only_current || key.ends_with(&contract(5, 2).content_id().to_bytes());
            let row = rows.into_iter().find(|(key, _)| is_current(key));
            let (key, value) = row.unwrap_or_else(|| panic!("the story has no row of {family:?}"));
            let mut batch = Batch::new();
            damage(&mut batch, family, key, value);
            engine.write(batch, Durability::Synced).unwrap();
            let opened = Store::open(Arc::clone(&engine), Committer::inline(engine));
            let found = matches!(&opened, Err(StoreError::RowDiffers { family: f }) if *f == family.name());
            assert_eq!(found, is_only_current || name != "added", "{family:?} {name}: {:?}", opened.err());
        }
    }
}

#[test]
fn a_failed_commit_is_told_and_the_disk_is_what_counts() {
    let engine = Arc::new(MemoryEngine::new());
    let shared: Arc<dyn Engine> = Arc::<MemoryEngine>::clone(&engine);
    let (mut store, mut books) = Store::open(Arc::clone(&shared), Committer::inline(shared)).unwrap();
    store.record(&mut books, &[entry(registered())]).unwrap().wait().unwrap();
    engine.fail_writes(true);
    assert!(store.record(&mut books, &[entry(bid_sent(1, 1000))]).unwrap().wait().is_err());
    assert!(store.is_poisoned());
    assert_eq!(books.locks().len(), 1, "memory is ahead");
    assert!(store.reload().unwrap().locks().is_empty(), "the disk is not");
}

#[test]
fn what_a_word_rests_on_is_synced() {
    let lock = BidId::from_random([1; 16]);
    let ended = |state| Event::AllocationEnded { allocation: allocation(1), state, result: None };
    let table = [
        (Event::JobSubmitted { job: job() }, Durability::Synced),
        (bid_sent(1, 1000), Durability::Synced),
        (ended(AllocationState::Succeeded), Durability::Synced),
        (Event::JobEnded { job: job().id, end: JobEnd::Succeeded }, Durability::Synced),
        // Promised on the strength of these is nothing that is not synced itself, and so takes them along.
        (Event::LockEnded { bid: lock, end: LockEnd::Released }, Durability::Unsynced),
        (Event::LockEnded { bid: lock, end: LockEnd::Expired }, Durability::Unsynced),
        (Event::AllocationAcknowledged { allocation: allocation(1) }, Durability::Unsynced),
        (Event::AttemptAccepted { accepted: accepted(1, 1) }, Durability::Unsynced),
    ];
    for (event, expected) in table {
        assert_eq!(event.durability(), expected, "{}", event.name());
    }
}
