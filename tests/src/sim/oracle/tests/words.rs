//! The same for what is said, told to people, held for a time, and left at the end.

use dms_messages::*;
use dms_storage::{Entry, Event};

use super::super::rules::*;
use super::hand::*;
use crate::sim::facts::Fact;

const SUCCEEDED: AllocationState = AllocationState::Succeeded;

fn nobody() -> JobEnd {
    JobEnd::Failed { failure: JobFailure::NobodyTookIt { is_final: false } }
}

#[test]
fn what_a_person_was_told_is_on_the_disk() {
    let taken = || Fact::SubmitAnswered { job: job(1) };
    let mut hand = Hand::new();
    assert_eq!(rule(hand.see(REQUESTER, taken())), Some(FORGOTTEN), "it is not in the log");
    let mut hand = Hand::new();
    hand.write(REQUESTER, false, [submitted(1)]).unwrap();
    assert_eq!(rule(hand.see(REQUESTER, taken())), Some(FORGOTTEN), "it is not synced");
    hand.good(REQUESTER, []);
    assert_eq!(rule(hand.see(OTHER, taken())), Some(FORGOTTEN), "it is another's");
    assert_eq!(rule(hand.see(REQUESTER, taken())), None);

    let cancelled = || Fact::CancelAnswered { job: job(1) };
    let wanted = || Event::JobCancelWanted { job: job(1) };
    let mut hand = Hand::invoked();
    assert_eq!(rule(hand.see(REQUESTER, cancelled())), Some(FORGOTTEN), "it is not in the log");
    let mut hand = Hand::invoked();
    hand.write(REQUESTER, false, [wanted()]).unwrap();
    assert_eq!(rule(hand.see(REQUESTER, cancelled())), Some(FORGOTTEN), "it is not synced");
    let answered = |mut hand: Hand| {
        hand.good(REQUESTER, [wanted()]);
        hand.see(REQUESTER, cancelled()).unwrap();
        hand
    };
    let mut hand = answered(Hand::invoked());
    hand.good(REQUESTER, [lost(attempt(1, 1)), job_ended(1, JobEnd::Cancelled)]);
    // What was decided just before may still be written.
    let mut hand = answered(Hand::invoked());
    hand.good(REQUESTER, [job_ended(1, nobody())]);
    let mut hand = answered(Hand::invoked());
    hand.good(PROVIDER, [let_go(1)]);
    hand.at += seconds(31);
    assert_eq!(hand.breaks(REQUESTER, [lost(attempt(1, 1)), job_ended(1, nobody())]), Some(FORGOTTEN));
    let mut hand = answered(Hand::over(SUCCEEDED));
    hand.at += seconds(31);
    let success = [observed(attempt(1, 1), SUCCEEDED), job_ended(1, JobEnd::Succeeded)];
    assert_eq!(hand.breaks(REQUESTER, success), None, "its program had ended by then");
    let mut hand = answered(Hand::over(SUCCEEDED));
    hand.at += seconds(31);
    let another = [lost(attempt(1, 1)), minted(attempt(1, 2), 2, OTHER)];
    assert_eq!(hand.breaks(REQUESTER, another), Some(FORGOTTEN), "it does not go on");
}

#[test]
fn a_log_is_after_a_restart_what_was_synced() {
    let unsynced = || {
        let mut hand = Hand::new();
        hand.good(REQUESTER, [submitted(1)]);
        hand.write(REQUESTER, false, [submitted(2)]).unwrap();
        hand
    };
    for (last_event, expected) in [(0, Some(FORGOTTEN)), (1, None), (2, Some(FORGOTTEN))] {
        let mut hand = unsynced();
        hand.crash(REQUESTER);
        assert_eq!(rule(hand.start(REQUESTER, last_event)), expected, "{last_event}");
    }
    for (last_event, expected) in [(1, Some(FORGOTTEN)), (2, None), (3, Some(FORGOTTEN))] {
        let mut hand = unsynced();
        hand.see(REQUESTER, Fact::Stopped).unwrap();
        assert_eq!(rule(hand.start(REQUESTER, last_event)), expected, "{last_event}");
    }
    // What was lost is written anew; nothing else is, and nothing is left out.
    let mut hand = unsynced();
    hand.crash(REQUESTER);
    hand.start(REQUESTER, 1).unwrap();
    hand.good(REQUESTER, [submitted(3)]);
    hand.last[REQUESTER] -= 1;
    assert_eq!(hand.breaks(REQUESTER, [submitted(4)]), Some(FORGOTTEN), "number 2 again");
    hand.last[REQUESTER] += 1;
    assert_eq!(hand.breaks(REQUESTER, [submitted(5)]), Some(FORGOTTEN), "number 3 is left out");
}

#[test]
fn who_hears_a_promise_finds_it_on_the_disk() {
    // What is said, by whom; what is written by whoever hears it, where.
    type Case = (fn() -> Hand, usize, fn(&Hand) -> Event, usize, fn() -> Event);
    let table: [Case; 6] = [
        (
            || {
                let mut hand = Hand::new();
                hand.good(REQUESTER, [submitted(1)]);
                hand
            },
            PROVIDER,
            |hand| hand.bid_sent(PROVIDER, 1, cores(1)),
            REQUESTER,
            || bid_received(1, PROVIDER, 1),
        ),
        (
            || {
                let mut hand = Hand::new();
                hand.good(REQUESTER, [submitted(1)]);
                hand.lock(PROVIDER, 1, cores(1)).unwrap();
                hand
            },
            REQUESTER,
            |_| minted(attempt(1, 1), 1, PROVIDER),
            PROVIDER,
            || allocation_accepted(attempt(1, 1), 1, PROVIDER),
        ),
        (
            Hand::invoked,
            PROVIDER,
            |_| allocation_accepted(attempt(1, 1), 1, PROVIDER),
            REQUESTER,
            || attempt_accepted(attempt(1, 1), 1, PROVIDER),
        ),
        (Hand::running, PROVIDER, |_| ended(1, SUCCEEDED), REQUESTER, || observed(attempt(1, 1), SUCCEEDED)),
        (
            || Hand::over(SUCCEEDED),
            REQUESTER,
            |_| observed(attempt(1, 1), SUCCEEDED),
            PROVIDER,
            || acknowledged(1),
        ),
        (|| Hand::over(SUCCEEDED), REQUESTER, |_| lost(attempt(1, 1)), PROVIDER, || acknowledged(1)),
    ];
    for (number, (begin, speaker, said, hearer, heard)) in table.into_iter().enumerate() {
        // The hearer's own log may lose what it heard.
        let hears = |hand: &mut Hand| rule(hand.write(hearer, false, [heard()]));
        let mut hand = begin();
        let event = said(&hand);
        hand.good(speaker, [event.clone()]);
        assert_eq!(hears(&mut hand), None, "case {number}: synced");

        let mut hand = begin();
        hand.write(speaker, false, [event.clone()]).unwrap();
        assert_eq!(hears(&mut hand), Some(SPOKE_BEFORE_SYNC), "case {number}: written");

        let mut hand = begin();
        hand.write(speaker, false, [event.clone()]).unwrap();
        hand.good(speaker, []);
        assert_eq!(hears(&mut hand), None, "case {number}: synced later");

        let mut hand = begin();
        hand.write(speaker, false, [event]).unwrap();
        hand.crash(speaker);
        let broken = if number == 1 { FENCING } else { SPOKE_BEFORE_SYNC };
        assert_eq!(hears(&mut hand), Some(broken), "case {number}: lost");
    }
    // Not what was said, but something else.
    let mut hand = Hand::over(AllocationState::Failed { cause: FailureCause::Panic });
    assert_eq!(hand.breaks(REQUESTER, [observed(attempt(1, 1), SUCCEEDED)]), Some(SPOKE_BEFORE_SYNC));
    // What runs still may be reported un-synced, and a stranger promises nothing that is judged.
    let mut hand = Hand::running();
    assert_eq!(hand.breaks(REQUESTER, [observed(attempt(1, 1), AllocationState::Running)]), None);
    assert_eq!(hand.breaks(REQUESTER, [bid_received(77, 9, 1)]), None);
}

#[test]
fn a_job_that_is_over_lets_every_result_go() {
    let mut hand = Hand::over(SUCCEEDED);
    hand.good(REQUESTER, [job_ended(1, JobEnd::Cancelled)]);
    assert_eq!(hand.breaks(PROVIDER, [acknowledged(1)]), None);
    let mut hand = Hand::over(SUCCEEDED);
    assert_eq!(hand.breaks(PROVIDER, [acknowledged(1)]), Some(SPOKE_BEFORE_SYNC), "it waits for the result");
}

#[test]
fn no_lock_outlives_its_lease() {
    // Something that has nothing to do with locks: what was decided before it is before it in the log.
    let next = |hand: &mut Hand| hand.breaks(PROVIDER, [Event::Pruned { before: Timestamp(0) }]);
    let after = |mut hand: Hand, by: u64| {
        hand.at += seconds(by);
        next(&mut hand)
    };
    assert_eq!(after(Hand::invoked(), 14), None);
    assert_eq!(after(Hand::invoked(), 15), Some(LEASE), "four seconds late");
    let let_go_after = |by: u64| {
        let mut hand = Hand::invoked();
        hand.at += seconds(by);
        hand.breaks(PROVIDER, [let_go(1)])
    };
    assert_eq!((let_go_after(14), let_go_after(15)), (None, Some(LEASE)));

    // The disk may be slow: what counts is when it was decided.
    let slow = |decided: u64, written: u64| {
        let mut hand = Hand::invoked();
        let at = Timestamp(1_700_000_000_000 + 1000 * decided);
        let entries = vec![(hand.last[PROVIDER] + 1, Entry { at, event: let_go(1) })];
        hand.at += seconds(written);
        rule(hand.see(PROVIDER, Fact::Written { entries, is_synced: true }))
    };
    assert_eq!((slow(11, 20), slow(15, 20)), (None, Some(LEASE)));
    // And where nothing is written at all, somebody else's facts are no reason to look.
    let mut hand = Hand::invoked();
    hand.wait(PROVIDER, seconds(24)).unwrap();
    hand.wait(REQUESTER, seconds(1)).unwrap();
    assert_eq!(rule(hand.wait(PROVIDER, seconds(0))), Some(LEASE));

    // A lease that was renewed ends later.
    let renewed = || {
        let mut hand = Hand::invoked();
        let expires = Timestamp(1_700_000_000_000 + 30_000);
        hand.good(PROVIDER, [Event::LockRenewed { bid: bid(1), expires }]);
        hand
    };
    assert_eq!((after(renewed(), 33), after(renewed(), 34)), (None, Some(LEASE)));

    // One that comes back with a crash ends soon after the start.
    let restarted = || {
        let mut hand = Hand::invoked();
        let last = hand.last[PROVIDER];
        hand.write(PROVIDER, false, [let_go(1)]).unwrap();
        hand.crash(PROVIDER);
        hand.wait(PROVIDER, seconds(100)).unwrap();
        hand.start(PROVIDER, last).unwrap();
        hand
    };
    assert_eq!((after(restarted(), 3), after(restarted(), 4)), (None, Some(LEASE)));

    // While the disk does not work nothing can be ended, nor just after.
    let mended = || {
        let mut hand = Hand::invoked();
        hand.see(PROVIDER, Fact::Disk { works: false }).unwrap();
        hand.wait(PROVIDER, seconds(100)).unwrap();
        hand.see(PROVIDER, Fact::Disk { works: true }).unwrap();
        hand
    };
    assert_eq!((after(mended(), 13), after(mended(), 14)), (None, Some(LEASE)));

    // A wall clock that goes wrong takes its leases along; one that is set forward shortens none.
    let ahead = |is_ahead_before: bool| {
        let mut hand = Hand::new();
        hand.ahead[PROVIDER] = seconds(if is_ahead_before { 1000 } else { 0 });
        hand.lock(PROVIDER, 1, cores(1)).unwrap();
        hand.ahead[PROVIDER] = seconds(1000);
        hand
    };
    for is_ahead_before in [true, false] {
        assert_eq!(after(ahead(is_ahead_before), 14), None);
        assert_eq!(after(ahead(is_ahead_before), 15), Some(LEASE));
    }
}

#[test]
fn at_the_end_everything_is_over_and_free() {
    let mut hand = Hand::new();
    hand.good(REQUESTER, [submitted(1)]);
    assert_eq!(hand.end(), Vec::<&str>::new(), "nobody was told that it is taken");
    hand.see(REQUESTER, Fact::SubmitAnswered { job: job(1) }).unwrap();
    assert_eq!(hand.end(), [NOT_TERMINAL]);
    assert!(!hand.oracle.is_quiet());
    hand.crash(REQUESTER);
    assert_eq!(hand.end(), [NOT_TERMINAL], "also of a node that is down");
    hand.start(REQUESTER, 1).unwrap();
    hand.good(REQUESTER, [job_ended(1, nobody())]);
    assert_eq!((hand.end(), hand.oracle.is_quiet()), (vec![], true));

    let mut hand = Hand::invoked();
    assert_eq!((hand.end(), hand.oracle.is_quiet()), (vec![LEAKED_LOCK], false));
    hand.good(PROVIDER, [let_go(1)]);
    assert_eq!((hand.end(), hand.oracle.is_quiet()), (vec![], true));

    let mut hand = Hand::running();
    assert_eq!((hand.end(), hand.oracle.is_quiet()), (vec![LEAKED_ALLOCATION], false));
    hand.good(REQUESTER, [lost(attempt(1, 1))]);
    assert_eq!(hand.end(), [LEAKED_ALLOCATION, DISAGREE], "its requester has done with it");
    hand.good(PROVIDER, [ended(1, SUCCEEDED)]);
    assert_eq!((hand.end(), hand.oracle.is_quiet()), (vec![ORPHAN_RUN], false));
    hand.see(PROVIDER, run_ended(1)).unwrap();
    assert_eq!(
        (hand.end(), hand.oracle.is_quiet()),
        (vec![], false),
        "a result that nobody waits for is let go"
    );
    hand.good(PROVIDER, [acknowledged(1)]);
    assert!(hand.oracle.is_quiet());
    // What is down holds nothing.
    let mut hand = Hand::running();
    hand.crash(PROVIDER);
    assert_eq!((hand.end(), hand.oracle.is_quiet()), (vec![], true));
}

#[test]
fn at_the_end_both_parties_say_the_same() {
    let observed = || observed(attempt(1, 1), SUCCEEDED);
    let mut hand = Hand::over(SUCCEEDED);
    hand.good(REQUESTER, [observed(), job_ended(1, JobEnd::Succeeded)]);
    assert_eq!((hand.end(), hand.oracle.is_quiet()), (vec![DISAGREE], false), "not acknowledged");
    hand.good(PROVIDER, [acknowledged(1)]);
    assert_eq!((hand.end(), hand.oracle.is_quiet()), (vec![], true));
    // The requester has what its provider has not said.
    let mut hand = Hand::over(AllocationState::Stopped { cause: StopCause::Orphaned });
    assert_eq!(hand.breaks(REQUESTER, [observed()]), Some(SPOKE_BEFORE_SYNC));
    hand.good(PROVIDER, [acknowledged(1)]);
    assert_eq!(hand.end(), [DISAGREE]);
    // Who is down is not asked, and who waits for somebody who is down owes nothing.
    let mut hand = Hand::over(SUCCEEDED);
    hand.good(REQUESTER, [observed(), job_ended(1, JobEnd::Succeeded)]);
    hand.crash(REQUESTER);
    assert_eq!((hand.end(), hand.oracle.is_quiet()), (vec![], true));
}

#[test]
fn every_rule_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = ALL.into_iter().collect();
    assert_eq!(names.len(), ALL.len());
}
