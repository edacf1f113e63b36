//! For every rule a story that keeps it and one that breaks it.

mod hand;
mod logs;
mod pods;
mod words;

use dms_messages::*;
use dms_node::commands::CapabilityView;
use dms_storage::Event;

use self::hand::*;
use super::Summary;
use super::rules::*;
use crate::sim::facts::Fact;

fn failed() -> AllocationState {
    AllocationState::Failed { cause: FailureCause::NodeRestarted }
}

const SUCCEEDED: AllocationState = AllocationState::Succeeded;

#[test]
fn a_job_that_goes_well_breaks_nothing() {
    let mut hand = Hand::new();
    assert!(hand.oracle.is_quiet());
    hand.good(REQUESTER, [submitted(1)]);
    hand.see(REQUESTER, Fact::SubmitAnswered { job: job(1) }).unwrap();
    assert!(!hand.oracle.is_quiet(), "it has a job to end");
    hand.lock(PROVIDER, 1, cores(1)).unwrap();
    hand.lock(OTHER, 2, cores(1)).unwrap();
    hand.good(REQUESTER, [bid_received(1, PROVIDER, 1), bid_received(2, OTHER, 1)]);
    hand.good(REQUESTER, [minted(attempt(1, 1), 1, PROVIDER)]);
    hand.good(OTHER, [let_go(2)]);
    hand.good(PROVIDER, [allocation_accepted(attempt(1, 1), 1, PROVIDER)]);
    hand.write(REQUESTER, false, [attempt_accepted(attempt(1, 1), 1, PROVIDER)]).unwrap();
    hand.see(PROVIDER, run_began(1)).unwrap();
    hand.see(PROVIDER, run_ended(1)).unwrap();
    hand.good(PROVIDER, [ended(1, SUCCEEDED)]);
    hand.good(REQUESTER, [observed(attempt(1, 1), SUCCEEDED), job_ended(1, JobEnd::Succeeded)]);
    assert!(!hand.oracle.is_quiet(), "the provider keeps the result");
    hand.write(PROVIDER, false, [acknowledged(1)]).unwrap();
    assert!(hand.oracle.is_quiet());
    assert_eq!(hand.end(), Vec::<&str>::new());
    let summary = hand.oracle.summary();
    let expected =
        Summary { jobs_submitted: 1, jobs_succeeded: 1, attempts: 1, runs: 1, locks: 2, ..summary };
    assert_eq!((summary, summary.events, summary.restarts), (expected, 15, 0));
    // What is not synced is undone: the result is not acknowledged any more.
    hand.crash(PROVIDER);
    assert!(hand.oracle.is_quiet(), "a node that is down owes nothing");
    hand.start(PROVIDER, 4).unwrap();
    assert!(!hand.oracle.is_quiet());
    assert_eq!(hand.end(), [DISAGREE]);
    assert_eq!((hand.oracle.summary().crashes, hand.oracle.summary().restarts), (1, 1));
}

#[test]
fn a_node_promises_no_more_than_it_has() {
    let gpu = |id| Resources { gpus: [GpuId(id)].into(), ..Resources::default() };
    let port = |port| Resources { ports: [port].into(), ..Resources::default() };
    let slot = || Resources { slots: [(ExecutorKind::Wasm, 1)].into(), ..Resources::default() };
    let memory = || Resources { memory: MemoryMib(2), ..Resources::default() };
    let disk = || Resources { disk: DiskMib(1), ..Resources::default() };
    let table = [
        (vec![cores(2), cores(2)], true),
        (vec![cores(2), cores(2), cores(1)], false),
        (vec![memory(), memory()], true),
        (vec![memory(), memory(), memory()], false),
        (vec![disk()], false),
        (vec![gpu(0), gpu(1)], true),
        (vec![gpu(0), gpu(0)], false),
        (vec![gpu(2)], false),
        (vec![port(80), port(81)], true),
        (vec![port(81), port(81)], false),
        (vec![port(82)], false),
        (vec![slot(), slot()], true),
        (vec![slot(), slot(), slot()], false),
    ];
    for (locks, is_kept) in table {
        let mut hand = Hand::new();
        let mut broken = None;
        for (number, resources) in (1..).zip(locks.clone()) {
            assert_eq!(broken, None, "only the last one is too much: {locks:?}");
            broken = rule(hand.lock(PROVIDER, number, resources));
        }
        assert_eq!(broken, (!is_kept).then_some(CONSERVATION), "{locks:?}");
    }
    // An owner cannot take away what is promised.
    let mut hand = Hand::invoked();
    assert_eq!(hand.breaks(PROVIDER, [registered(cores(1))]), None);
    assert_eq!(hand.breaks(PROVIDER, [Event::CapabilityWithdrawn]), Some(CONSERVATION));
    // Nothing is given back twice, nor taken without a lock.
    let mut hand = Hand::invoked();
    hand.good(PROVIDER, [let_go(1)]);
    assert_eq!(hand.breaks(PROVIDER, [let_go(1)]), Some(CONSERVATION));
    let taken = allocation_accepted(attempt(1, 1), 1, PROVIDER);
    assert_eq!(hand.breaks(PROVIDER, [taken]), Some(CONSERVATION));
    let mut hand = Hand::over(SUCCEEDED);
    hand.lock(PROVIDER, 9, cores(4)).unwrap();
    assert_eq!(hand.breaks(PROVIDER, [ended(1, SUCCEEDED)]), Some(CONSERVATION));
}

#[test]
fn what_is_lost_with_the_power_is_undone() {
    let mut hand = Hand::invoked();
    let last = hand.last[PROVIDER];
    hand.write(PROVIDER, false, [let_go(1)]).unwrap();
    let second = hand.bid_sent(PROVIDER, 2, cores(2));
    let third = hand.bid_sent(PROVIDER, 3, cores(2));
    hand.write(PROVIDER, false, [second.clone(), third]).unwrap();
    hand.crash(PROVIDER);
    hand.start(PROVIDER, last).unwrap();
    // The first lock is there again, and the others are not: three more cores are free, and not four.
    hand.write(PROVIDER, false, [second, registered(cores(4))]).unwrap();
    assert_eq!(rule(hand.lock(PROVIDER, 4, cores(2))), Some(CONSERVATION));

    // A synced write takes everything before it along.
    let mut hand = Hand::new();
    hand.write(REQUESTER, false, [submitted(1)]).unwrap();
    hand.good(REQUESTER, [submitted(2)]);
    hand.write(REQUESTER, false, [submitted(3), minted(attempt(1, 1), 1, PROVIDER)]).unwrap();
    hand.crash(REQUESTER);
    hand.start(REQUESTER, 2).unwrap();
    let summary = hand.oracle.summary();
    assert_eq!((summary.jobs_submitted, summary.attempts, summary.events), (2, 0, 6));
    // Un-synced, and then synced by a write of nothing.
    hand.write(REQUESTER, false, [minted(attempt(1, 1), 1, PROVIDER)]).unwrap();
    hand.good(REQUESTER, []);
    hand.crash(REQUESTER);
    hand.start(REQUESTER, 3).unwrap();
    assert_eq!(hand.oracle.summary().attempts, 1);
}

#[test]
fn a_node_says_of_itself_what_adds_up() {
    let mut hand = Hand::invoked();
    let Event::BidSent { lock, .. } = hand.bid_sent(PROVIDER, 1, cores(1)) else { unreachable!() };
    let Event::CapabilityRegistered { capability } = registered(cores(4)) else { unreachable!() };
    let view = CapabilityView {
        registered: Some(capability),
        available: cores(3),
        locked: cores(1),
        locks: vec![lock],
        ..CapabilityView::default()
    };
    let look = |hand: &mut Hand, view: &CapabilityView| {
        let look = hand.look(PROVIDER, view.clone());
        rule(hand.oracle.look(&look))
    };
    assert_eq!(look(&mut hand, &view), None);
    let views = [
        CapabilityView { available: cores(4), ..view.clone() },
        CapabilityView { available: cores(2), ..view.clone() },
        CapabilityView { locked: cores(2), available: cores(2), ..view.clone() },
        CapabilityView { allocated: cores(1), available: cores(2), ..view.clone() },
        CapabilityView { registered: None, ..view.clone() },
    ];
    for broken in views {
        assert_eq!(look(&mut hand, &broken), Some(CONSERVATION), "{broken:?}");
    }
    // Queues have bounds.
    let mut seen = hand.look(PROVIDER, view.clone());
    (seen.waiting, seen.pending_words) = (1024, 4096);
    assert_eq!(rule(hand.oracle.look(&seen)), None);
    seen.waiting += 1;
    assert_eq!(rule(hand.oracle.look(&seen)), Some(UNBOUNDED));
    (seen.waiting, seen.pending_words) = (0, 4097);
    assert_eq!(rule(hand.oracle.look(&seen)), Some(UNBOUNDED));
    // What it has in memory does not outlive its lease, be it in its log or not.
    for is_written in [true, false] {
        let mut hand = Hand::invoked();
        if !is_written {
            hand.good(PROVIDER, [let_go(1)]);
        }
        hand.at += seconds(14);
        assert_eq!(look(&mut hand, &view), None);
        hand.at += seconds(1);
        assert_eq!(look(&mut hand, &view), Some(LEASE));
    }
}

#[test]
fn no_attempt_begins_to_run_twice() {
    let mut hand = Hand::running();
    assert_eq!(rule(hand.see(PROVIDER, run_began(1))), Some(STARTED_TWICE));
    // Nor in another life.
    let mut hand = Hand::running();
    let last = hand.last[PROVIDER];
    hand.crash(PROVIDER);
    hand.start(PROVIDER, last).unwrap();
    let again = hand.see(PROVIDER, run_began(1)).unwrap_err();
    assert_eq!(again.rule, STARTED_TWICE);
    assert!(again.text.contains("in life 1 of node 1"), "{again}");
    // Nor under another allocation, elsewhere.
    let mut hand = Hand::running();
    hand.lock(OTHER, 2, cores(1)).unwrap();
    assert_eq!(hand.breaks(OTHER, [allocation_accepted(attempt(1, 1), 2, OTHER)]), Some(TWO_CONTRACTS));
    assert_eq!(rule(hand.see(OTHER, run_began(2))), Some(STARTED_TWICE));
    // Another attempt may.
    let mut hand = Hand::running();
    hand.crash(PROVIDER);
    hand.mint_another();
    hand.good(OTHER, [allocation_accepted(attempt(1, 2), 2, OTHER)]);
    hand.see(OTHER, run_began(2)).unwrap();
    assert_eq!(hand.oracle.summary().runs, 2);
}

#[test]
fn nothing_runs_before_that_is_on_the_disk() {
    let accepted = || allocation_accepted(attempt(1, 1), 1, PROVIDER);
    let mut hand = Hand::invoked();
    assert_eq!(rule(hand.see(PROVIDER, run_began(1))), Some(RAN_BEFORE_RECORDED), "nothing is written");
    let mut hand = Hand::invoked();
    hand.write(PROVIDER, false, [accepted()]).unwrap();
    assert_eq!(rule(hand.see(PROVIDER, run_began(1))), Some(RAN_BEFORE_RECORDED), "nothing is synced");
    let mut hand = Hand::invoked();
    hand.write(PROVIDER, false, [accepted()]).unwrap();
    hand.good(PROVIDER, []);
    assert_eq!(rule(hand.see(OTHER, run_began(1))), Some(RAN_BEFORE_RECORDED), "it is another's");
    let mut hand = Hand::invoked();
    hand.write(PROVIDER, false, [accepted()]).unwrap();
    hand.good(PROVIDER, []);
    assert_eq!(rule(hand.see(PROVIDER, run_began(1))), None);
}

#[test]
fn two_attempts_run_side_by_side_for_no_longer_than_an_orphan() {
    let both = || {
        let mut hand = Hand::running();
        hand.at += seconds(100);
        hand.mint_another();
        hand.good(OTHER, [allocation_accepted(attempt(1, 2), 2, OTHER)]);
        hand.see(OTHER, run_began(2)).unwrap();
        hand
    };
    let mut hand = both();
    hand.wait(REQUESTER, seconds(65)).unwrap();
    hand.see(PROVIDER, run_ended(1)).unwrap();
    hand.wait(REQUESTER, seconds(1000)).unwrap();
    // The judge hears of it with whatever happens next, anywhere.
    let mut hand = both();
    let breach = hand.wait(REQUESTER, seconds(66)).unwrap_err();
    assert_eq!((breach.rule, breach.node), (OVERLAP, OTHER));
    assert!(breach.text.contains(&format!("{} on node {PROVIDER}", attempt(1, 1))), "{breach}");
    let mut hand = both();
    hand.at += seconds(66);
    assert_eq!(rule(hand.see(PROVIDER, run_ended(1))), Some(OVERLAP));
    // With the power it ends.
    let mut hand = both();
    hand.crash(PROVIDER);
    hand.wait(REQUESTER, seconds(1000)).unwrap();
}

#[test]
fn attempts_are_numbered_one_by_one_and_the_newest_counts() {
    let mut hand = Hand::new();
    hand.good(REQUESTER, [submitted(1)]);
    assert_eq!(
        hand.breaks(REQUESTER, [minted(attempt(1, 2), 1, PROVIDER)]),
        Some(FENCING),
        "number 1 is left out"
    );
    let mut hand = Hand::invoked();
    assert_eq!(hand.breaks(REQUESTER, [minted(attempt(1, 1), 2, OTHER)]), Some(FENCING), "twice");
    let mut hand = Hand::invoked();
    hand.mint_another();
    assert_eq!(hand.breaks(REQUESTER, [minted(attempt(1, 2), 3, OTHER)]), Some(FENCING), "twice");
    assert_eq!(hand.breaks(REQUESTER, [minted(attempt(1, 3), 3, OTHER)]), None);
    assert_eq!(hand.breaks(REQUESTER, [minted(attempt(7, 1), 4, OTHER)]), Some(FENCING), "of no job");

    // The first attempt's result does not count once there is a second.
    let mut hand = Hand::over(SUCCEEDED);
    hand.mint_another();
    assert_eq!(hand.breaks(REQUESTER, [job_ended(1, JobEnd::Succeeded)]), Some(FENCING));
    let mut hand = Hand::over(failed());
    hand.good(REQUESTER, [observed(attempt(1, 1), failed())]);
    assert_eq!(hand.breaks(REQUESTER, [job_ended(1, JobEnd::Succeeded)]), Some(FENCING));
    let mut hand = Hand::invoked();
    assert_eq!(
        hand.breaks(REQUESTER, [job_ended(1, JobEnd::Succeeded)]),
        Some(FENCING),
        "nothing was reported"
    );
    let mut hand = Hand::over(SUCCEEDED);
    hand.good(REQUESTER, [observed(attempt(1, 1), SUCCEEDED), job_ended(1, JobEnd::Succeeded)]);
    assert_eq!(hand.breaks(REQUESTER, [job_ended(1, JobEnd::Cancelled)]), Some(FENCING), "it ends once");
    assert_eq!(hand.breaks(REQUESTER, [minted(attempt(1, 2), 2, OTHER)]), Some(FENCING), "it is over");

    // What was minted for one provider is accepted by no other, and nothing that was not minted.
    let mut hand = Hand::invoked();
    hand.lock(OTHER, 2, cores(1)).unwrap();
    assert_eq!(hand.breaks(OTHER, [allocation_accepted(attempt(1, 1), 2, OTHER)]), Some(FENCING));
    let mut hand = Hand::invoked();
    assert_eq!(hand.breaks(PROVIDER, [allocation_accepted(attempt(1, 2), 1, PROVIDER)]), Some(FENCING));
}

#[test]
fn an_attempt_has_one_contract() {
    let again = || allocation_accepted(attempt(1, 1), 2, PROVIDER);
    let mut hand = Hand::running();
    hand.lock(PROVIDER, 2, cores(1)).unwrap();
    assert_eq!(hand.breaks(PROVIDER, [again()]), Some(TWO_CONTRACTS), "the first one lives");
    let mut hand = Hand::over(SUCCEEDED);
    hand.lock(PROVIDER, 2, cores(1)).unwrap();
    assert_eq!(hand.breaks(PROVIDER, [again()]), Some(TWO_CONTRACTS), "and if it has ended");
    // One that was lost with the power never was.
    let mut hand = Hand::invoked();
    let last = hand.last[PROVIDER];
    hand.write(PROVIDER, false, [allocation_accepted(attempt(1, 1), 1, PROVIDER)]).unwrap();
    hand.crash(PROVIDER);
    hand.start(PROVIDER, last).unwrap();
    hand.good(PROVIDER, [allocation_accepted(attempt(1, 1), 1, PROVIDER)]);
    // Another attempt has its own.
    hand.mint_another();
    hand.good(OTHER, [allocation_accepted(attempt(1, 2), 2, OTHER)]);
}

/// Numbers by chance from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u8) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from((self.0 >> 33) % u64::from(bound)).unwrap()
    }
}

/// Any event about a few things, whether it fits or not, and the node that things of this number are at.
fn any_event(chance: &mut Chance, hand: &Hand) -> (usize, Event) {
    let number = 1 + chance.below(6);
    let (of, try_number) = (1 + number % 2, 1 + u32::from(number / 2));
    let provider = if number.is_multiple_of(2) { OTHER } else { PROVIDER };
    let id = attempt(of, try_number);
    match chance.below(14) {
        0 => (provider, registered(cores(u64::from(number) + 2))),
        1 | 2 => (provider, hand.bid_sent(provider, number, cores(1))),
        3 => (provider, let_go(number)),
        4 => (provider, Event::LockRenewed { bid: bid(number), expires: Timestamp(u64::from(number)) }),
        5 | 6 => (provider, allocation_accepted(id, number, provider)),
        7 => (provider, ended(number, SUCCEEDED)),
        8 => (provider, acknowledged(number)),
        9 => (REQUESTER, submitted(of)),
        10 => (REQUESTER, minted(id, number, provider)),
        11 => (REQUESTER, Event::JobCancelWanted { job: job(of) }),
        12 => (REQUESTER, observed(id, failed())),
        _ => (REQUESTER, job_ended(of, JobEnd::Cancelled)),
    }
}

#[test]
fn after_a_crash_the_judge_knows_what_it_would_know_of_the_synced_log() {
    for seed in 0..200 {
        let mut chance = Chance(seed);
        let mut hand = Hand::new();
        // What was written since the beginning and is not lost, and how much of it is synced on its node.
        let mut kept: Vec<(usize, Event)> = Vec::new();
        let mut is_synced: Vec<bool> = Vec::new();
        for _ in 0..60 {
            let (node, event) = any_event(&mut chance, &hand);
            let sync = chance.below(4) == 0;
            // Much of it breaks rules, and is folded all the same.
            let _ = hand.write(node, sync, [event.clone()]);
            kept.push((node, event));
            is_synced.push(false);
            if sync {
                let mine = kept.iter().map(|(at, _)| *at == node);
                is_synced.iter_mut().zip(mine).for_each(|(it, is_mine)| *it |= is_mine);
            }
            if chance.below(8) == 0 {
                let lost = |(index, (at, _)): (usize, &(usize, Event))| *at == node && !is_synced[index];
                let lost: Vec<bool> = kept.iter().enumerate().map(lost).collect();
                hand.crash(node);
                let count = u64::try_from(lost.iter().filter(|is_lost| **is_lost).count()).unwrap();
                hand.start(node, hand.last[node] - count).unwrap();
                let mut is_lost = lost.iter();
                kept.retain(|_| !is_lost.next().unwrap());
                let mut is_lost = lost.iter();
                is_synced.retain(|_| !is_lost.next().unwrap());
            }
        }
        let mut again = Hand::new();
        for (node, event) in kept {
            let _ = again.write(node, true, [event]);
        }
        for node in 0..3 {
            hand.good(node, []);
            again.good(node, []);
        }
        assert_eq!(format!("{:?}", hand.oracle.model), format!("{:?}", again.oracle.model), "seed {seed}");
    }
}
