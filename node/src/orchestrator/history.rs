//! How what was begun with each peer has ended: counted from the events of the books, for the rule `reputation`.
//!
//! In memory alone and bounded: it begins with what the books still hold (jobs and allocations of the last hour, while
//! they are few) and goes on with what happens. Only what a peer does itself counts; a program that fails by its own
//! fault has been run well. A requester and a provider of one DID are two things. What was is worth less by the hour, so
//! that nobody is kept from ever doing better.

use std::collections::BTreeMap;
use std::time::Duration;

use dms_messages::{AllocationState, Did, FailureCause, Millis, StopCause, Timestamp};
use dms_storage::books::AttemptState;
use dms_storage::{Books, Event, LockEnd};

use super::comparator::Reputation;

/// Most peers of each role that are remembered: whoever was heard of least lately is forgotten for a new one.
const MAX_PEERS: usize = 1024;
/// Where a count ends and both are halved: what a peer does now must matter, however long it did otherwise.
const MAX_COUNT: u32 = 1000;
/// After so long a count is worth half. Long enough that whoever fails again and again is known for it, short enough
/// that a machine that slept for an afternoon is asked again in the evening.
const HALF_LIFE: Duration = Duration::from_secs(3600);

/// The counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    providers: Counts,
    requesters: Counts,
}

/// The counts of one role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts {
    of: BTreeMap<Did, Count>,
    /// How many endings were noted: what orders the peers by when they were heard of.
    noted: u64,
}

/// The counts of one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    reputation: Reputation,
    /// When it was worth that.
    at: Timestamp,
    /// Which of the noted endings was its last.
    last: u64,
}

impl Count {
    /// What it is worth at `now`, to whole half-lives, and since when.
    fn faded(self, now: Timestamp) -> Self {
        let half_life = Millis::from(HALF_LIFE).0;
        let halves = now.0.saturating_sub(self.at.0) / half_life;
        let half = |count: u32| u32::try_from(halves).ok().and_then(|halves| count.checked_shr(halves));
        let Reputation { well, badly } = self.reputation;
        Self {
            reputation: Reputation {
                well: half(well).unwrap_or_default(),
                badly: half(badly).unwrap_or_default(),
            },
            at: Timestamp(self.at.0.saturating_add(halves.saturating_mul(half_life))),
            ..self
        }
    }
}

impl Counts {
    fn note(&mut self, peer: Did, is_well: bool, at: Timestamp) {
        self.noted += 1;
        if !self.of.contains_key(&peer)
            && self.of.len() >= MAX_PEERS
            && let Some(oldest) = self.of.iter().min_by_key(|(_, count)| count.last).map(|(did, _)| *did)
        {
            self.of.remove(&oldest);
        }
        let count = self.of.entry(peer).or_insert(Count { at, ..Count::default() });
        *count = Count { last: self.noted, ..count.faded(at) };
        let reputation = &mut count.reputation;
        if is_well {
            reputation.well += 1;
        } else {
            reputation.badly += 1;
        }
        if reputation.well.max(reputation.badly) > MAX_COUNT {
            *reputation = Reputation { well: reputation.well / 2, badly: reputation.badly / 2 };
        }
    }

    fn of(&self, peer: Did, now: Timestamp) -> Reputation {
        self.of.get(&peer).map(|count| count.faded(now).reputation).unwrap_or_default()
    }
}

impl History {
    /// What the books still hold.
    pub fn of_books(books: &Books) -> Self {
        let mut history = Self::default();
        for attempt in books.jobs().values().flat_map(|row| &row.attempts) {
            let is_well = match &attempt.state {
                AttemptState::Observed { state } => provided_well(state),
                AttemptState::Lost { .. } => Some(false),
                AttemptState::Invoked | AttemptState::Refused { .. } => None,
            };
            is_well
                .into_iter()
                .for_each(|is_well| history.providers.note(attempt.provider, is_well, attempt.moved));
        }
        for row in books.allocations().values() {
            requested_well(&row.state)
                .into_iter()
                .for_each(|is_well| history.requesters.note(row.requester, is_well, row.moved));
        }
        history
    }

    /// Takes note of an event that the books took at `at`; false if it says nothing of a peer.
    pub fn note(&mut self, event: &Event, books: &Books, at: Timestamp) -> bool {
        let Some((counts, peer, is_well)) = self.ending(event, books) else { return false };
        counts.note(peer, is_well, at);
        true
    }

    fn ending(&mut self, event: &Event, books: &Books) -> Option<(&mut Counts, Did, bool)> {
        let provider = |attempt: &dms_messages::AttemptId| {
            let row = books.jobs().get(&attempt.job)?;
            row.attempts.iter().find(|row| row.id == *attempt).map(|row| row.provider)
        };
        match event {
            Event::AttemptObserved { attempt, state, .. } => {
                Some((&mut self.providers, provider(attempt)?, provided_well(state)?))
            }
            Event::AttemptLost { attempt, .. } => Some((&mut self.providers, provider(attempt)?, false)),
            Event::AllocationEnded { allocation, state, .. } => {
                let requester = books.allocations().get(allocation)?.requester;
                Some((&mut self.requesters, requester, requested_well(state)?))
            }
            // It neither took what was held for it nor gave it back.
            Event::LockEnded { bid, end: LockEnd::Expired } => {
                Some((&mut self.requesters, books.bids_sent().get(bid)?.requester, false))
            }
            _ => None,
        }
    }

    /// How a provider of ours behaved, as far as that matters at `now`.
    pub fn provider(&self, peer: Did, now: Timestamp) -> Reputation {
        self.providers.of(peer, now)
    }

    /// How a requester behaved here, as far as that matters at `now`.
    pub fn requester(&self, peer: Did, now: Timestamp) -> Reputation {
        self.requesters.of(peer, now)
    }
}

/// Whether a provider ran well what ended so; none if it did not end, or not by what the provider did.
fn provided_well(state: &AllocationState) -> Option<bool> {
    match state {
        AllocationState::Accepted | AllocationState::Preparing | AllocationState::Running => None,
        AllocationState::Succeeded => Some(true),
        // It may be the requester that did not hand it out.
        AllocationState::Failed { cause: FailureCause::InputUnavailable { .. } } => None,
        AllocationState::Failed { cause } => Some(cause.is_programs_own()),
        AllocationState::Stopped { cause } => match cause {
            StopCause::Cancelled | StopCause::Superseded | StopCause::Orphaned => None,
            StopCause::NodeStopping | StopCause::Offboarding => Some(false),
            _ => None,
        },
    }
}

/// Whether a requester behaved well about what ended so; none if that shows nothing of it.
fn requested_well(state: &AllocationState) -> Option<bool> {
    match state {
        AllocationState::Accepted | AllocationState::Preparing | AllocationState::Running => None,
        AllocationState::Succeeded => Some(true),
        AllocationState::Failed { cause } => cause.is_programs_own().then_some(true),
        AllocationState::Stopped { cause: StopCause::Orphaned } => Some(false),
        AllocationState::Stopped { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{
        StillClock, apply, books, contract, did, job, lock, resources, sign_contract, signer,
    };

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn only_what_a_peer_does_itself_counts() {
        let exit = FailureCause::ExitCode { code: 3 };
        let unavailable = FailureCause::InputUnavailable { text: "gone".to_owned() };
        // (how it ended, of the provider, of the requester)
        let table = [
            (AllocationState::Running, None, None),
            (AllocationState::Succeeded, Some(true), Some(true)),
            (AllocationState::Failed { cause: exit }, Some(true), Some(true)),
            (AllocationState::Failed { cause: FailureCause::NodeRestarted }, Some(false), None),
            (AllocationState::Failed { cause: FailureCause::Panic }, Some(false), None),
            (AllocationState::Failed { cause: unavailable }, None, None),
            (AllocationState::Stopped { cause: StopCause::Cancelled }, None, None),
            (AllocationState::Stopped { cause: StopCause::Superseded }, None, None),
            (AllocationState::Stopped { cause: StopCause::Orphaned }, None, Some(false)),
            (AllocationState::Stopped { cause: StopCause::NodeStopping }, Some(false), None),
            (AllocationState::Stopped { cause: StopCause::Offboarding }, Some(false), None),
        ];
        for (state, provider, requester) in table {
            assert_eq!((provided_well(&state), requested_well(&state)), (provider, requester), "{state}");
        }
    }

    #[test]
    fn what_happens_is_counted_for_whom_it_is_about_and_found_again_in_the_books() {
        let clock = Arc::new(StillClock::default());
        let (me, peer) = (signer(1, &clock), signer(2, &clock));
        let (mut books, mut history) = (books(4000, 1024), History::default());
        let note = |books: &mut Books, history: &mut History, event: Event| {
            apply(books, event.clone());
            history.note(&event, books, NOW)
        };
        // As provider: a lock that runs out.
        let held = lock(&mut books, &me, peer.me(), 3, resources(1000, 64));
        let ended = Event::LockEnded { bid: held.bid, end: LockEnd::Expired };
        assert!(note(&mut books, &mut history, ended));
        assert_eq!(history.requester(peer.me(), NOW), Reputation { well: 0, badly: 1 });
        // As requester: an attempt that is lost.
        let job = job();
        apply(&mut books, Event::JobSubmitted { job: job.clone() });
        let held = dms_storage::Lock { job: job.id, ..held };
        let contract = sign_contract(contract(&held, &me, peer.me(), 1), &me);
        let attempt = contract.value().attempt;
        let minted = Event::AttemptMinted { attempt, provider: peer.me(), addresses: vec![], contract };
        assert!(!note(&mut books, &mut history, minted), "it has not ended");
        let lost = Event::AttemptLost { attempt, reason: "silent".to_owned() };
        assert!(note(&mut books, &mut history, lost));
        assert_eq!(history.provider(peer.me(), NOW), Reputation { well: 0, badly: 1 });
        assert_eq!(history.provider(me.me(), NOW), Reputation::default());
        assert_eq!(History::of_books(&books).provider(peer.me(), NOW), Reputation { well: 0, badly: 1 });
    }

    #[test]
    fn it_is_bounded_and_the_newest_matters() {
        let mut counts = Counts::default();
        (0..=2 * MAX_COUNT).for_each(|_| counts.note(did(1), true, NOW));
        assert!(counts.of(did(1), NOW).well <= MAX_COUNT);
        (0..2 * MAX_COUNT).for_each(|_| counts.note(did(1), false, NOW));
        assert!(counts.of(did(1), NOW).score() < 400, "{:?}", counts.of(did(1), NOW));
        let table = [(0, 0, 500), (1, 0, 666), (0, 1, 333), (998, 0, 999), (u32::MAX, u32::MAX, 500)];
        for (well, badly, score) in table {
            assert_eq!(Reputation { well, badly }.score(), score, "{well} {badly}");
        }
        let peers: Vec<Did> = (0..=255).flat_map(|a| (0..5).map(move |b| peer(a, b))).collect();
        peers.iter().for_each(|peer| counts.note(*peer, true, NOW));
        assert_eq!(counts.of.len(), MAX_PEERS);
        assert_eq!(counts.of(did(1), NOW), Reputation::default(), "the oldest went first");
        assert_eq!(counts.of(*peers.last().unwrap(), NOW).well, 1);
    }

    #[test]
    fn what_was_is_worth_half_after_an_hour_and_in_the_end_nothing() {
        let mut counts = Counts::default();
        let hours = |hours: u64| Timestamp(NOW.0 + hours * Millis::from(HALF_LIFE).0);
        counts.note(did(1), false, NOW);
        assert_eq!(counts.of(did(1), Timestamp(hours(1).0 - 1)).score(), 333);
        assert_eq!(counts.of(did(1), hours(1)).score(), 500, "asked again");
        (0..8).for_each(|_| counts.note(did(2), false, NOW));
        let left = [1, 2, 3, 4, 40, 1 << 40].map(|after| counts.of(did(2), hours(after)).badly);
        assert_eq!(left, [4, 2, 1, 0, 0, 0]);
        assert_eq!(counts.of(did(2), Timestamp(0)).badly, 8, "a clock that went back changes nothing");
        // Noted between two hours, what was before goes on fading from where it stood.
        counts.note(did(2), true, Timestamp(hours(1).0 + 1));
        assert_eq!(counts.of(did(2), hours(2)), Reputation { well: 0, badly: 2 });
    }

    fn peer(a: u8, b: u8) -> Did {
        let mut secret = [a; 32];
        secret[0] = b;
        dms_messages::Keypair::from_secret(&secret).did()
    }
}
