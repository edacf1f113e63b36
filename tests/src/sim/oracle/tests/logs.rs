//! The judge of logs alone: [`crate::sim::post_mortem`].

use dms_messages::*;
use dms_storage::{Entry, Event};

use super::super::rules::*;
use super::hand::*;
use crate::sim::post_mortem::{PostMortem, judge};

const SUCCEEDED: AllocationState = AllocationState::Succeeded;
const BEGAN: u64 = 1_700_000_000_000;

/// Events of the requester's and the provider's log, in the order in which they happened.
type Story = Vec<(usize, Event)>;

/// A story's logs, each event this many milliseconds after the one before it.
fn logs(story: &Story, step: u64) -> Vec<(Did, Vec<(u64, Entry)>)> {
    let mut logs = vec![(did(REQUESTER), Vec::new()), (did(PROVIDER), Vec::new())];
    for (number, (node, event)) in (0..).zip(story) {
        let log = &mut logs[*node].1;
        let entry = Entry { at: Timestamp(BEGAN + number * step), event: event.clone() };
        log.push((log.len() as u64 + 1, entry));
    }
    logs
}

fn broken(story: &Story, step: u64) -> Vec<&'static str> {
    judge(logs(story, step)).into_iter().map(|breach| breach.rule).collect()
}

fn running(number: u8) -> Event {
    Event::AllocationMoved { allocation: allocation(number), state: AllocationState::Running }
}

/// One job that goes well.
fn good() -> Story {
    vec![
        (PROVIDER, registered(cores(4))),
        (REQUESTER, submitted(1)),
        (PROVIDER, Hand::new().bid_sent(PROVIDER, 1, cores(1))),
        (REQUESTER, bid_received(1, PROVIDER, 1)),
        (REQUESTER, minted(attempt(1, 1), 1, PROVIDER)),
        (PROVIDER, allocation_accepted(attempt(1, 1), 1, PROVIDER)),
        (REQUESTER, attempt_accepted(attempt(1, 1), 1, PROVIDER)),
        (PROVIDER, running(1)),
        (PROVIDER, ended(1, SUCCEEDED)),
        (REQUESTER, observed(attempt(1, 1), SUCCEEDED)),
        (REQUESTER, job_ended(1, JobEnd::Succeeded)),
        (PROVIDER, acknowledged(1)),
    ]
}

/// The good story with one event left out.
fn without(event: usize) -> Story {
    let mut story = good();
    story.remove(event);
    story
}

/// The good story with one event more.
fn with(place: usize, node: usize, event: Event) -> Story {
    let mut story = good();
    story.insert(place, (node, event));
    story
}

#[test]
fn logs_of_one_clock_are_laid_into_one_order() {
    for step in [0, 1, 500] {
        assert_eq!(judge(logs(&good(), step)), [], "{step} ms between events");
    }
    // In whichever order the logs are given.
    for step in [0, 1] {
        let mut turned = logs(&good(), step);
        turned.reverse();
        assert_eq!(judge(turned), []);
    }
    // And piece by piece, as long as nobody lived in between.
    let mut judge = PostMortem::new(vec![did(REQUESTER), did(PROVIDER)]);
    let logs = logs(&good(), 1);
    let split = Timestamp(BEGAN + 6);
    let piece = |is_late: bool| {
        logs.iter()
            .map(move |(_, log)| log.iter().filter(|(_, it)| (it.at > split) == is_late).cloned().collect())
    };
    assert_eq!(judge.read(piece(false).collect()), []);
    assert!(!judge.finish().is_empty(), "it is not over yet");
    assert_eq!(judge.read(piece(true).collect()), []);
    assert_eq!(judge.finish(), []);
    let summary = judge.summary();
    assert_eq!((summary.events, summary.attempts, summary.runs, summary.locks), (12, 1, 1, 1));
}

#[test]
fn what_is_wrong_in_the_logs_is_found() {
    let second = || allocation_accepted(attempt(1, 1), 2, PROVIDER);
    let lock = |number| Hand::new().bid_sent(PROVIDER, number, cores(1));
    let twice = {
        let mut story = with(6, PROVIDER, second());
        story.insert(6, (PROVIDER, lock(2)));
        story.extend([(PROVIDER, ended(2, SUCCEEDED)), (PROVIDER, acknowledged(2))]);
        story
    };
    // The second attempt is minted before the first one's result is there, which then must not count.
    let old = {
        let mut story = with(9, REQUESTER, minted(attempt(1, 2), 2, PROVIDER));
        story.extend([(PROVIDER, lock(3)), (PROVIDER, let_go(3))]);
        story
    };
    let early = {
        let mut story = good();
        story.swap(4, 5);
        story
    };
    let renumbered = {
        let mut story = good();
        story.remove(7);
        story.push((PROVIDER, running(1)));
        story.push((PROVIDER, running(1)));
        story
    };
    let table: [(&str, Story, u64, &[&str]); 9] = [
        ("a lock whose end is lost", with(2, PROVIDER, lock(9)), 1, &[LEAKED_LOCK]),
        ("a lock that was given back is taken", with(5, PROVIDER, let_go(1)), 1, &[CONSERVATION]),
        ("an attempt that is accepted twice", twice, 1, &[TWO_CONTRACTS]),
        ("a result of an older attempt", old, 1, &[FENCING]),
        ("an acceptance before its invocation", early, 1, &[FENCING]),
        ("a result that nobody acknowledged", without(11), 1, &[DISAGREE]),
        ("a program that runs twice", renumbered, 1, &[STARTED_TWICE]),
        ("a job that never ends", good()[..2].to_vec(), 1, &[NOT_TERMINAL]),
        // Invoked five seconds after everything before.
        ("a lock that is taken after its end", good(), 5_000, &[LEASE]),
    ];
    for (what, story, step, rules) in table {
        assert_eq!(broken(&story, step), rules, "{what}");
    }
    // A log that does not begin with its first event, or has a hole.
    for lost in [0, 1] {
        let mut logs = logs(&good(), 1);
        logs[REQUESTER].1.remove(lost);
        assert!(judge(logs).iter().any(|breach| breach.rule == FORGOTTEN), "without entry {lost}");
    }
}
