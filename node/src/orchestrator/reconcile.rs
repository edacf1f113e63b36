//! What this node shares with each peer, and what is to be said where the peer's books differ from ours.
//!
//! ```text
//!   their page          our books                      said
//!   requested ────────► not here ────────────────────► Refused(UnknownAttempt)
//!             ────────► further, or countersigned ───► AllocationStatus, Accepted
//!   provided  ────────► not wanted, and it goes on ──► Cancel(Superseded)
//!             ────────► not wanted, and it has ended ► Acknowledge
//!             ────────► wanted, and not as far ──────► AllocationStatusRequest
//! ```
//!
//! Nothing here is recorded: what is said brings words for which there are handlers, and those record.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::{
    AttemptId, AttemptStage, Did, MAX_RECONCILED, ProvidedAttempt, Reconcile, RequestedAttempt,
};
use dms_storage::Books;
use dms_storage::books::{AttemptRow, AttemptState};

/// Most pages for one peer at a time: 4,096 attempts, more than an honest pair shares. Those after them have their
/// turn when some of these are over.
pub const MAX_PAGES: usize = 16;

/// What mends a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mend {
    /// Tell the requester that the attempt is not here.
    Disown,
    /// Tell the requester how it stands.
    Tell,
    /// Give the requester the countersignature again.
    Countersign,
    /// Both, the countersignature first.
    CountersignAndTell,
    /// Ask the provider how it stands.
    Ask,
    /// Tell the provider to stop it.
    Stop,
    /// Tell the provider that its result is not waited for (any more).
    Release,
}

/// An attempt on which two nodes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub attempt: AttemptId,
    /// How far it is by our books; none if they do not have it, or have done with it.
    pub here: Option<AttemptStage>,
    /// How far it is, as the peer says.
    pub there: AttemptStage,
    /// What is said.
    pub mend: Mend,
}

/// What is shared with each of `peers`, in pages.
pub fn shared(books: &Books, is_peer: impl Fn(Did) -> bool) -> BTreeMap<Did, Vec<Reconcile>> {
    let mut pages = Pages::default();
    for row in books.jobs().values().filter(|row| !row.phase.is_terminal()) {
        let attempt = row.current_attempt().filter(|attempt| is_peer(attempt.provider));
        if let Some((attempt, stage)) = attempt.and_then(|attempt| Some((attempt, stage_of(attempt)?))) {
            let is_countersigned = attempt.allocation.is_some();
            let requested = RequestedAttempt { attempt: attempt.id, stage, is_countersigned };
            pages.add(attempt.provider, |page| page.requested.push(requested));
        }
    }
    // A pod is spoken of as a whole, with its first task's row.
    for row in books.allocations().values().filter(|row| row.task == 0) {
        if is_peer(row.requester)
            && (row.ended().is_none() || !row.is_acknowledged)
            && let Some(state) = books.pod_state(row.requester, row.attempt)
        {
            let provided = ProvidedAttempt { attempt: row.attempt, stage: AttemptStage::from(&state) };
            pages.add(row.requester, |page| page.provided.push(provided));
        }
    }
    pages.0
}

/// The requesters whose results wait here to be acknowledged.
pub fn requesters_waited_for(books: &Books) -> BTreeSet<Did> {
    let rows = books.allocations().values();
    rows.filter(|row| row.ended().is_some() && !row.is_acknowledged).map(|row| row.requester).collect()
}

/// Goes round in a set that changes, a few of it at a time.
#[derive(Debug, Default)]
pub struct Round {
    last: Option<Did>,
}

impl Round {
    /// The next `count` of `all` behind those that were given out last, then from the beginning again.
    pub fn next(&mut self, all: &BTreeSet<Did>, count: usize) -> BTreeSet<Did> {
        let behind = all.iter().filter(|did| self.last.is_none_or(|last| **did > last));
        let next: Vec<Did> = behind.chain(all).take(count.min(all.len())).copied().collect();
        self.last = next.last().copied().or(self.last);
        next.into_iter().collect()
    }
}

#[derive(Default)]
struct Pages(BTreeMap<Did, Vec<Reconcile>>);

impl Pages {
    fn add(&mut self, peer: Did, add: impl FnOnce(&mut Reconcile)) {
        let pages = self.0.entry(peer).or_default();
        if pages.last().is_none_or(|page| page.len() >= MAX_RECONCILED) {
            if pages.len() >= MAX_PAGES {
                return;
            }
            pages.push(Reconcile::default());
        }
        pages.last_mut().map(add);
    }
}

/// How far an attempt of ours is; none if it is over.
fn stage_of(attempt: &AttemptRow) -> Option<AttemptStage> {
    match &attempt.state {
        AttemptState::Invoked => Some(AttemptStage::Invoked),
        AttemptState::Observed { state } if !state.is_terminal() => Some(AttemptStage::from(state)),
        _ => None,
    }
}

/// What `requester` says of an attempt that it wants us to run, against our books.
pub fn as_provider(books: &Books, requester: Did, claim: &RequestedAttempt) -> Option<Difference> {
    let RequestedAttempt { attempt, stage: there, is_countersigned } = *claim;
    let here = books.pod_state(requester, attempt).map(|state| AttemptStage::from(&state));
    let mend = match here {
        None => Mend::Disown,
        // One that has heard nothing learns by the countersignature that it is accepted.
        Some(AttemptStage::Accepted) if !is_countersigned => Mend::Countersign,
        Some(here) if here == there && is_countersigned => return None,
        Some(here) if here == there => Mend::Countersign,
        Some(_) if is_countersigned => Mend::Tell,
        Some(_) => Mend::CountersignAndTell,
    };
    Some(Difference { attempt, here, there, mend })
}

/// What `provider` says of an attempt that it runs or has run for us, against our books.
pub fn as_requester(books: &Books, provider: Did, claim: &ProvidedAttempt) -> Option<Difference> {
    let ProvidedAttempt { attempt, stage: there } = *claim;
    // Only the newest attempt of a job that goes on is wanted, and only from the provider that has it.
    let job = books.jobs().get(&attempt.job).filter(|row| !row.phase.is_terminal());
    let wanted = job.and_then(|row| row.current_attempt());
    let wanted = wanted.filter(|row| row.id == attempt && row.provider == provider);
    let here = wanted.and_then(stage_of);
    let mend = match here {
        Some(here) if here == there => return None,
        Some(_) => Mend::Ask,
        None if there == AttemptStage::Ended => Mend::Release,
        None => Mend::Stop,
    };
    Some(Difference { attempt, here, there, mend })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::RECORD_TTL;
    use crate::testing::{
        StillClock, apply, books, contract, did, job, lock, resources, sign_contract, signer,
    };
    use dms_messages::{Accepted, AllocationId, AllocationState, FailureCause, Job, JobEnd, JobId};
    use dms_storage::Event;
    use std::sync::Arc;

    fn requested(attempt: AttemptId, stage: AttemptStage, is_countersigned: bool) -> RequestedAttempt {
        RequestedAttempt { attempt, stage, is_countersigned }
    }

    fn attempt(job: u8, number: u32) -> AttemptId {
        AttemptId { job: JobId::from_random([job; 16]), pod: 0, number }
    }

    /// Accepts an attempt of `requester`, whose job and lock have this number.
    fn accept(books: &mut Books, number: u8) -> AllocationId {
        let clock = Arc::new(StillClock::default());
        let (provider, requester) = (signer(1, &clock), signer(2, &clock));
        // Chance is a counter, and each bid must have an id of its own.
        (0..number).for_each(|_| {
            provider.random();
        });
        let lock = lock(books, &provider, requester.me(), number, resources(100, 1));
        let contract = sign_contract(contract(&lock, &requester, provider.me(), 1), &requester);
        let allocation = AllocationId::from_random([number; 16]);
        let accepted =
            Accepted { attempt: contract.value().attempt, contract: contract.content_id(), allocation };
        let accepted = provider.sign(accepted, Some(requester.me()), RECORD_TTL).unwrap();
        apply(books, Event::AllocationAccepted { allocation, contract, accepted });
        allocation
    }

    fn ended() -> AllocationState {
        AllocationState::Failed { cause: FailureCause::Panic }
    }

    #[test]
    fn a_provider_says_what_its_requester_lacks() {
        use AttemptStage::{Accepted, Invoked, Preparing, Running};
        let mut books = books(4000, 400);
        let requester = did(2);
        for number in 1..=3 {
            accept(&mut books, number);
        }
        let state = AllocationState::Running;
        apply(&mut books, Event::AllocationMoved { allocation: AllocationId::from_random([2; 16]), state });
        let allocation = AllocationId::from_random([3; 16]);
        apply(&mut books, Event::AllocationEnded { allocation, state: ended(), result: None });
        let table = [
            // Just accepted.
            (1, Invoked, false, Some(Mend::Countersign)),
            (1, Accepted, false, Some(Mend::Countersign)),
            (1, Accepted, true, None),
            // Running.
            (2, Invoked, false, Some(Mend::CountersignAndTell)),
            (2, Preparing, true, Some(Mend::Tell)),
            (2, Running, false, Some(Mend::Countersign)),
            (2, Running, true, None),
            // Ended.
            (3, Invoked, false, Some(Mend::CountersignAndTell)),
            (3, Running, true, Some(Mend::Tell)),
            // Never here, whatever the requester believes.
            (4, Invoked, false, Some(Mend::Disown)),
            (4, Running, true, Some(Mend::Disown)),
        ];
        for (number, stage, is_countersigned, mend) in table {
            let claim = requested(attempt(number, 1), stage, is_countersigned);
            let found = as_provider(&books, requester, &claim).map(|it| it.mend);
            assert_eq!(found, mend, "{claim:?}");
        }
        // Another's attempt of the same name is not here.
        let claim = requested(attempt(1, 1), Running, true);
        assert_eq!(as_provider(&books, did(9), &claim).map(|it| it.mend), Some(Mend::Disown));
    }

    /// Books with a job of each number, whose one attempt is at the provider.
    fn requester_books(numbers: &[u8]) -> Books {
        let clock = Arc::new(StillClock::default());
        let mut books = Books::default();
        for number in numbers {
            let job = Job { id: JobId::from_random([*number; 16]), ..job() };
            apply(&mut books, Event::JobSubmitted { job });
            mint(&mut books, *number, 1, &clock);
        }
        books
    }

    fn mint(books: &mut Books, job: u8, number: u32, clock: &Arc<StillClock>) {
        let (provider, requester) = (signer(1, clock), signer(2, clock));
        let mut theirs = crate::testing::books(4000, 400);
        let lock = lock(&mut theirs, &provider, requester.me(), job, resources(100, 1));
        let contract = sign_contract(contract(&lock, &requester, provider.me(), number), &requester);
        let attempt = attempt(job, number);
        let minted = Event::AttemptMinted { attempt, provider: provider.me(), addresses: vec![], contract };
        apply(books, minted);
    }

    #[test]
    fn a_requester_stops_or_releases_what_it_does_not_want() {
        use AttemptStage::{Accepted, Ended, Running};
        let clock = Arc::new(StillClock::default());
        let mut books = requester_books(&[1, 2, 3, 4]);
        let running =
            Event::AttemptObserved { attempt: attempt(2, 1), state: AllocationState::Running, result: None };
        apply(&mut books, running);
        // A newer attempt has taken its place.
        apply(&mut books, Event::AttemptLost { attempt: attempt(3, 1), reason: "gone".into() });
        mint(&mut books, 3, 2, &clock);
        apply(&mut books, Event::JobEnded { job: attempt(4, 1).job, end: JobEnd::Cancelled });
        let table = [
            // Heard nothing of it yet.
            (attempt(1, 1), Accepted, Some(Mend::Ask)),
            (attempt(1, 1), Ended, Some(Mend::Ask)),
            (attempt(2, 1), Running, None),
            (attempt(2, 1), Ended, Some(Mend::Ask)),
            (attempt(3, 1), Running, Some(Mend::Stop)),
            (attempt(3, 1), Ended, Some(Mend::Release)),
            (attempt(3, 2), Accepted, Some(Mend::Ask)),
            (attempt(4, 1), Running, Some(Mend::Stop)),
            (attempt(4, 1), Ended, Some(Mend::Release)),
            // What these books have forgotten, or never had.
            (attempt(1, 2), Running, Some(Mend::Stop)),
            (attempt(5, 1), Running, Some(Mend::Stop)),
            (attempt(5, 1), Ended, Some(Mend::Release)),
        ];
        for (attempt, stage, mend) in table {
            let claim = ProvidedAttempt { attempt, stage };
            let found = as_requester(&books, did(1), &claim).map(|it| it.mend);
            assert_eq!(found, mend, "{claim:?}");
        }
        // Whoever says to run what another was asked for is not believed.
        let claim = ProvidedAttempt { attempt: attempt(2, 1), stage: Running };
        assert_eq!(as_requester(&books, did(9), &claim).map(|it| it.mend), Some(Mend::Stop));
    }

    #[test]
    fn what_is_over_on_both_sides_is_not_spoken_of() {
        let mut books = requester_books(&[1, 2]);
        apply(&mut books, Event::JobEnded { job: attempt(2, 1).job, end: JobEnd::Cancelled });
        let all = shared(&books, |_| true);
        let page = Reconcile {
            requested: vec![requested(attempt(1, 1), AttemptStage::Invoked, false)],
            provided: vec![],
        };
        assert_eq!(all, BTreeMap::from([(did(1), vec![page])]));

        let mut books = crate::testing::books(4000, 400);
        let ids: Vec<AllocationId> = (1..=3).map(|number| accept(&mut books, number)).collect();
        for id in &ids[1..] {
            apply(&mut books, Event::AllocationEnded { allocation: *id, state: ended(), result: None });
        }
        apply(&mut books, Event::AllocationAcknowledged { allocation: ids[2] });
        let all = shared(&books, |did| did == self::did(2));
        let provided = |number, stage| ProvidedAttempt { attempt: attempt(number, 1), stage };
        let page = Reconcile {
            requested: vec![],
            provided: vec![provided(1, AttemptStage::Accepted), provided(2, AttemptStage::Ended)],
        };
        assert_eq!(all, BTreeMap::from([(did(2), vec![page])]));
        assert_eq!(shared(&books, |_| false), BTreeMap::new());
    }

    #[test]
    fn everybody_has_a_turn_however_the_set_changes() {
        let all: BTreeSet<Did> = (1..=5).map(did).collect();
        let mut round = Round::default();
        let turns: Vec<BTreeSet<Did>> = (0..5).map(|_| round.next(&all, 2)).collect();
        assert!(turns.iter().all(|turn| turn.len() == 2));
        for did in &all {
            assert_eq!(turns.iter().filter(|turn| turn.contains(did)).count(), 2, "in five turns of two");
        }
        assert_eq!(round.next(&BTreeSet::from([did(1)]), 2), BTreeSet::from([did(1)]), "once, not twice");
        assert_eq!(round.next(&BTreeSet::new(), 2), BTreeSet::new());
    }

    #[test]
    fn pages_are_bounded() {
        let mut pages = Pages::default();
        let claim = |n: u32| ProvidedAttempt { attempt: attempt(1, n), stage: AttemptStage::Running };
        for number in 0..5000 {
            pages.add(did(1), |page| page.provided.push(claim(number)));
        }
        let lengths: Vec<usize> = pages.0[&did(1)].iter().map(Reconcile::len).collect();
        assert_eq!(lengths, [MAX_RECONCILED; MAX_PAGES]);
    }
}
