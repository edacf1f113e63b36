//! Whole lives of jobs, told as stories: every event a story records must fit the books.

mod pods;

use std::sync::Arc;

use dms_messages::{AllocationId, ContentId, MemoryMib};
use dms_storage::Books;

use super::*;
use crate::testing::*;

/// A machine, the books it records into, and everything it wanted since it was last asked.
struct Story {
    clock: Arc<StillClock>,
    me: Signer,
    machine: JobMachine,
    books: Books,
    words: Vec<Addressed>,
    wishes: Vec<Effect>,
}

impl Story {
    fn new(change: impl FnOnce(&mut Job)) -> Self {
        let clock = Arc::new(StillClock::default());
        let me = signer(1, &clock);
        let mut job = job();
        change(&mut job);
        let mut books = Books::default();
        let id = job.id;
        apply(&mut books, Event::JobSubmitted { job });
        let machine = JobMachine::resume(&books.jobs()[&id], None, JobRules::default(), Duration::ZERO);
        Self { clock, me, machine, books, words: Vec::new(), wishes: Vec::new() }
    }

    /// Every event must fit the books: the machine and the fold agree.
    fn step(&mut self, input: Input) {
        for effect in self.machine.step(input, &self.me.clone()) {
            match effect {
                Effect::Record { events, words } => {
                    events.into_iter().for_each(|event| apply(&mut self.books, event));
                    self.words.extend(words);
                }
                effect => self.wishes.push(effect),
            }
        }
    }

    fn after(&mut self, time: Duration, timer: Timer) {
        self.clock.advance(time);
        self.step(Input::Timer(timer));
    }

    /// A round among providers; returns its request.
    fn ask(&mut self, providers: &[u8], can_gossip: bool) -> BidRequest {
        self.ask_beside(0, providers, can_gossip)
    }

    /// The same, while so many jobs rest.
    fn ask_beside(&mut self, resting: usize, providers: &[u8], can_gossip: bool) -> BidRequest {
        let known = providers.iter().map(|seed| Candidate { did: did(*seed), addresses: vec![] }).collect();
        self.step(Input::Candidates(Candidates { known, can_gossip, resting, ..Candidates::default() }));
        let requests = self.books.requests_sent().values();
        requests.max_by_key(|row| row.request.id).unwrap().request.clone()
    }

    fn bid(&mut self, seed: u8, request: &BidRequest, price: u64) {
        let bid = bid(request, price, &signer(seed, &self.clock));
        self.step(Input::Bid(bid));
    }

    fn decline(&mut self, seed: u8, request: &BidRequest, reason: DeclineReason) {
        let retry = reason.retry();
        self.step(Input::Decline { from: did(seed), request: request.id, reason, retry });
    }

    /// Up to a running attempt at provider 2.
    fn run(&mut self) -> AttemptId {
        self.step(Input::Started);
        let request = self.ask(&[2], false);
        self.bid(2, &request, 5);
        let attempt = self.machine.current_attempt().unwrap();
        self.accept(2, attempt);
        attempt
    }

    fn accept(&mut self, seed: u8, attempt: AttemptId) {
        let contract = self.row().current_attempt().unwrap().contract;
        let accepted = Accepted { attempt, contract, allocation: AllocationId::from_random([seed; 16]) };
        let signed = signer(seed, &self.clock).sign(accepted, None, RECORD_TTL).unwrap();
        self.step(Input::Accepted(signed));
    }

    fn report(&mut self, seed: u8, attempt: AttemptId, state: AllocationState) {
        let id = ContentId::of_bytes(b"");
        let result = state.is_terminal().then_some(AllocationResult {
            stdout: id,
            stderr: id,
            output: None,
            wall: Millis(1),
            peak_memory: MemoryMib(1),
            output_dropped: 0,
        });
        let status = AllocationStatus {
            attempt,
            allocation: AllocationId::from_random([seed; 16]),
            task: 0,
            state,
            result,
        };
        self.step(Input::Status(signer(seed, &self.clock).sign(status, None, RECORD_TTL).unwrap()));
    }

    /// The node starts again, with what its disk has.
    fn restart(&mut self) {
        let contract = self
            .row()
            .current_attempt()
            .map(|attempt| self.books.contracts()[&attempt.contract].contract.clone());
        let now = self.me.monotonic();
        self.machine = JobMachine::resume(self.row(), contract, JobRules::default(), now);
        self.step(Input::Started);
    }

    /// True if the countersignature of the newest attempt's contract is in the books.
    fn is_countersigned(&self) -> bool {
        let attempt = self.row().current_attempt().unwrap();
        self.books.contracts()[&attempt.contract].accepted.is_some()
    }

    fn row(&self) -> &JobRow {
        self.books.jobs().values().next().unwrap()
    }

    fn end(&self) -> Option<JobEnd> {
        self.row().end.clone()
    }

    /// What was said since this was last asked, as (to, word).
    fn said(&mut self) -> Vec<(Did, &'static str)> {
        let name = |word: &Word| match word {
            Word::BidRequest(_) => "bid request",
            Word::Release(_) => "release",
            Word::Invocation(_) => "invocation",
            Word::Cancel(_) => "cancel",
            Word::Acknowledge(_) => "acknowledge",
            Word::AllocationStatusRequest(_) => "status request",
            _ => "other",
        };
        self.words.drain(..).map(|addressed| (addressed.to, name(&addressed.word))).collect()
    }

    fn wants(&mut self, is_it: impl Fn(&Effect) -> bool) -> bool {
        let found = self.wishes.iter().any(is_it);
        self.wishes.clear();
        found
    }
}

#[test]
fn a_job_is_bid_on_invoked_run_and_acknowledged() {
    let mut story = Story::new(|_| {});
    story.step(Input::Started);
    assert!(story.wants(|wish| matches!(wish, Effect::FindCandidates)));
    let request = story.ask(&[2, 3], true);
    assert_eq!(story.said(), [(did(2), "bid request"), (did(3), "bid request")]);
    story.bid(2, &request, 5);
    story.bid(3, &request, 4);
    let attempt = story.machine.current_attempt().unwrap();
    assert_eq!(attempt.number, 1);
    assert_eq!(story.said(), [(did(3), "invocation"), (did(2), "release")], "the cheaper one");
    assert_eq!(story.row().phase, JobPhase::Invoking);
    assert_eq!(story.row().attempts.len(), 1, "minted on record before the invocation is said");
    story.accept(3, attempt);
    assert_eq!(story.row().phase, JobPhase::Running);
    story.report(3, attempt, AllocationState::Running);
    assert!(!story.wants(|wish| matches!(wish, Effect::Collect { .. })));
    story.report(3, attempt, AllocationState::Succeeded);
    assert!(story.wants(|wish| matches!(wish, Effect::Collect { .. })));
    assert_eq!(story.end(), None, "not before the result is here");
    story.step(Input::Collected { attempt, outcome: Ok(()) });
    assert_eq!(story.end(), Some(JobEnd::Succeeded));
    assert_eq!(story.said(), [(did(3), "acknowledge")]);
}

#[test]
fn all_final_answers_end_it_at_once_and_later_ones_do_not() {
    let mut story = Story::new(|_| {});
    story.step(Input::Started);
    let request = story.ask(&[2, 3], false);
    story.decline(2, &request, DeclineReason::NotTrusted);
    story.decline(3, &request, DeclineReason::Location);
    let end = |is_final| Some(JobEnd::Failed { failure: JobFailure::NobodyTookIt { is_final } });
    assert_eq!(story.end(), end(true));

    let mut story = Story::new(|_| {});
    story.step(Input::Started);
    let request = story.ask(&[2, 3], false);
    story.decline(2, &request, DeclineReason::NotTrusted);
    story.decline(3, &request, DeclineReason::Busy { shortfalls: vec![] });
    assert_eq!(story.end(), None);
    assert!(story.wants(|wish| matches!(wish, Effect::After(_, Timer::Retry(_)))));
    // The wait is over: the next fruitless round is the last.
    let round = story.machine.round;
    story.after(Duration::from_secs(61), Timer::Retry(round));
    story.said();
    let request = story.ask(&[2, 3], false);
    assert_eq!(story.said(), [(did(3), "bid request")], "whoever said no for good is not asked again");
    story.decline(3, &request, DeclineReason::Draining);
    assert_eq!(story.end(), end(false));
}

/// How the turns that were given back since this was last asked had ended: (has a winner, is crowded).
fn turns(story: &mut Story) -> Vec<(bool, bool)> {
    let ends = story.wishes.drain(..).filter_map(|wish| match wish {
        Effect::RoundOver(end) => Some((end.has_winner, end.is_crowded)),
        _ => None,
    });
    ends.collect()
}

#[test]
fn every_turn_to_ask_is_given_back_once_and_says_how_it_ended() {
    let busy = DeclineReason::Busy { shortfalls: vec![] };
    // What each of two providers answers (none: a bid), and how the round ended.
    let table = [
        ([None, None], (true, false)),
        ([Some(busy.clone()), None], (true, false)),
        ([Some(DeclineReason::LockShare), None], (true, true)),
        ([Some(busy.clone()), Some(busy.clone())], (false, false)),
        ([Some(busy.clone()), Some(DeclineReason::LockShare)], (false, true)),
    ];
    for (answers, expected) in table {
        let mut story = Story::new(|_| {});
        story.step(Input::Started);
        let request = story.ask(&[2, 3], false);
        assert_eq!(turns(&mut story), [], "the round is open");
        for (seed, answer) in [2, 3].into_iter().zip(answers.clone()) {
            match answer {
                Some(reason) => story.decline(seed, &request, reason),
                None => story.bid(seed, &request, 5),
            }
        }
        assert_eq!(turns(&mut story), [expected], "{answers:?}");
    }
    let mut alone = Story::new(|_| {});
    alone.step(Input::Started);
    alone.step(Input::Candidates(Candidates::default()));
    assert_eq!(turns(&mut alone), [(false, false)], "nobody to ask");

    let mut unwanted = Story::new(|_| {});
    unwanted.run();
    unwanted.wishes.clear();
    unwanted.step(Input::Candidates(Candidates::default()));
    assert_eq!(turns(&mut unwanted), [(false, false)], "a turn that is not used");
}

#[test]
fn a_crowded_round_is_forgotten_in_the_next() {
    let mut story = Story::new(|_| {});
    story.step(Input::Started);
    let request = story.ask(&[2], false);
    story.decline(2, &request, DeclineReason::LockShare);
    let round = story.machine.round;
    story.after(Duration::from_secs(1), Timer::Retry(round));
    story.wishes.clear();
    let request = story.ask(&[2], false);
    story.bid(2, &request, 5);
    assert_eq!(turns(&mut story), [(true, false)]);
}

#[test]
fn a_job_that_rests_asks_at_once_when_told_and_its_timer_then_does_nothing() {
    let asks = |story: &mut Story| story.wants(|wish| matches!(wish, Effect::FindCandidates));
    let mut story = Story::new(|_| {});
    story.step(Input::Started);
    assert!(asks(&mut story));
    story.step(Input::AskNow);
    assert!(!asks(&mut story), "it asks already");
    let request = story.ask(&[2], false);
    story.step(Input::AskNow);
    assert!(!asks(&mut story), "a round is open");
    story.decline(2, &request, DeclineReason::LockShare);
    let round = story.machine.round;
    story.step(Input::AskNow);
    assert!(asks(&mut story));
    story.after(Duration::from_secs(1), Timer::Retry(round));
    assert!(!asks(&mut story), "it asks already");
    let request = story.ask(&[2], false);
    story.bid(2, &request, 5);
    story.step(Input::AskNow);
    assert!(!asks(&mut story), "an attempt is out");
}

#[test]
fn a_gossiped_round_follows_only_when_too_few_are_known() {
    let mut story = Story::new(|job| job.wanted = 2);
    story.step(Input::Started);
    let request = story.ask(&[2], true);
    story.decline(2, &request, DeclineReason::Location);
    assert!(story.wants(|wish| matches!(wish, Effect::Gossip(_))));
    assert_eq!(story.end(), None);
    let round = story.machine.round;
    story.after(Duration::from_secs(2), Timer::Auction(round));
    let failure = JobFailure::NobodyTookIt { is_final: true };
    assert_eq!(story.end(), Some(JobEnd::Failed { failure }), "what the direct round found stands");
}

#[test]
fn strangers_are_asked_beside_busy_providers_only_every_so_often() {
    let mut story = Story::new(|job| job.wanted = 2);
    story.step(Input::Started);
    for is_gossiped in [false, false, false, true] {
        let request = story.ask(&[2], true);
        story.wishes.clear();
        story.decline(2, &request, DeclineReason::Busy { shortfalls: vec![] });
        assert_eq!(story.wants(|wish| matches!(wish, Effect::Gossip(_))), is_gossiped);
        let round = story.machine.round;
        let timer = if is_gossiped { Timer::Auction(round) } else { Timer::Retry(round) };
        story.after(Duration::from_secs(1), timer);
    }
    assert_eq!(story.end(), None);
}

#[test]
fn a_lost_provider_is_left_out_and_its_late_answers_do_not_count() {
    let mut story = Story::new(|_| {});
    let first = story.run();
    story.said();
    story.step(Input::PeerDown(did(2)));
    assert_eq!(story.said(), [(did(2), "status request")], "asked at once, which dials again");
    story.step(Input::Unreachable { peer: did(2), reason: "refused".into() });
    assert_eq!(story.row().phase, JobPhase::Rescheduling);
    assert!(matches!(story.row().attempts[0].state, AttemptState::Lost { .. }));
    let round = story.machine.round;
    story.said();
    story.after(Duration::from_secs(1), Timer::Retry(round));
    let request = story.ask(&[2, 3], false);
    assert_eq!(story.said(), [(did(3), "bid request")], "not the one that lost it");
    story.bid(3, &request, 5);
    let second = story.machine.current_attempt().unwrap();
    assert_eq!(second.number, 2);
    story.accept(3, second);
    story.said();
    // The first provider was only cut off, and has finished meanwhile.
    story.report(2, first, AllocationState::Running);
    assert_eq!(story.said(), [(did(2), "cancel")], "superseded");
    story.report(2, first, AllocationState::Succeeded);
    assert_eq!(
        story.said(),
        [(did(2), "acknowledge")],
        "nothing is left to stop: no word goes back and forth"
    );
    assert_eq!(story.end(), None);
    story.report(3, second, AllocationState::Succeeded);
    story.step(Input::Collected { attempt: second, outcome: Ok(()) });
    assert_eq!(story.end(), Some(JobEnd::Succeeded));
}

#[test]
fn a_provider_that_says_nothing_is_lost_by_the_heartbeat() {
    let mut story = Story::new(|_| {});
    story.run();
    story.said();
    story.after(Duration::from_secs(10), Timer::Heartbeat(1));
    assert_eq!(story.said(), [(did(2), "status request")]);
    story.after(Duration::from_secs(20), Timer::Heartbeat(1));
    assert_eq!(story.row().phase, JobPhase::Rescheduling);
}

#[test]
fn an_unanswered_invocation_is_lost_and_never_sent_again_under_its_number() {
    let mut story = Story::new(|_| {});
    story.step(Input::Started);
    let request = story.ask(&[2], false);
    story.bid(2, &request, 5);
    let first = story.machine.current_attempt().unwrap();
    story.after(Duration::from_secs(5), Timer::Invocation(1));
    assert_eq!(story.machine.current_attempt(), None);
    story.said();
    story.accept(2, first);
    assert_eq!(story.said(), [(did(2), "cancel")], "a late acceptance is turned down");
}

#[test]
fn the_programs_own_failure_is_final_and_the_providers_is_not() {
    let table = [
        (FailureCause::ExitCode { code: 3 }, true),
        (FailureCause::MemoryExceeded { granted: MemoryMib(64) }, true),
        (FailureCause::NodeRestarted, false),
        (FailureCause::Panic, false),
    ];
    for (cause, is_final) in table {
        let mut story = Story::new(|_| {});
        let attempt = story.run();
        story.report(2, attempt, AllocationState::Failed { cause: cause.clone() });
        story.step(Input::Collected { attempt, outcome: Ok(()) });
        let failure = JobFailure::Program { cause: cause.clone() };
        let end = is_final.then_some(JobEnd::Failed { failure });
        assert_eq!(story.end(), end, "{cause}");
    }
}

#[test]
fn a_provider_that_stops_is_believed_without_its_leftovers() {
    let mut story = Story::new(|_| {});
    let attempt = story.run();
    story.said();
    story.wishes.clear();
    story.report(2, attempt, AllocationState::Stopped { cause: StopCause::Offboarding });
    assert!(!story.wants(|wish| matches!(wish, Effect::Collect { .. })));
    assert_eq!(story.row().phase, JobPhase::Rescheduling);
    let left = story.row().attempts[0].result.as_ref().map(|result| result.wall);
    assert_eq!(left, Some(Millis(1)), "how long it ran is known");
    assert_eq!(story.said(), [(did(2), "acknowledge")]);
    assert!(story.machine.lost.is_empty(), "it may bid again when it is back");
}

#[test]
fn more_candidates_than_are_asked_at_once_are_asked_in_turn() {
    let mut story = Story::new(|_| {});
    story.step(Input::Started);
    let everybody: Vec<u8> = (2..=20).collect();
    let request = story.ask(&everybody, false);
    let asked: Vec<Did> = story.said().into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked.len(), 16);
    for seed in everybody.iter().filter(|seed| asked.contains(&did(**seed))) {
        story.decline(*seed, &request, DeclineReason::Location);
    }
    assert_eq!(story.end(), None, "three were not asked yet");
    let round = story.machine.round;
    story.after(Duration::from_secs(1), Timer::Retry(round));
    let request = story.ask(&everybody, false);
    let rest: Vec<Did> = story.said().into_iter().map(|(to, _)| to).collect();
    assert_eq!(rest.len(), 3);
    assert!(rest.iter().all(|did| !asked.contains(did)));
    for seed in everybody.iter().filter(|seed| rest.contains(&did(**seed))) {
        story.decline(*seed, &request, DeclineReason::Location);
    }
    assert_eq!(story.end(), Some(JobEnd::Failed { failure: JobFailure::NobodyTookIt { is_final: true } }));
}

#[test]
fn results_that_cannot_be_pulled_lose_the_attempt_and_those_that_cannot_be_kept_end_the_job() {
    let collect = |failure| {
        let mut story = Story::new(|_| {});
        let attempt = story.run();
        story.report(2, attempt, AllocationState::Succeeded);
        story.step(Input::Unreachable { peer: did(2), reason: "a flap".into() });
        assert_eq!(story.row().phase, JobPhase::Running, "whoever pulls the result asks again");
        story.step(Input::Collected { attempt, outcome: Err(failure) });
        story
    };
    let lost = collect(CollectFailure::Provider("gone".into()));
    assert_eq!(lost.row().phase, JobPhase::Rescheduling);
    let table = [
        (CollectFailure::Local("the store is full".into()), false),
        (CollectFailure::Unacceptable("over the grant".into()), true),
    ];
    for (failure, is_let_go) in table {
        let mut kept = collect(failure.clone());
        assert!(matches!(kept.end(), Some(JobEnd::Failed { failure: JobFailure::Program { .. } })));
        assert_eq!(kept.said().contains(&(did(2), "acknowledge")), is_let_go, "{failure:?}");
    }
}

#[test]
fn a_refusal_while_the_result_is_fetched_changes_nothing() {
    let mut story = Story::new(|_| {});
    let attempt = story.run();
    story.report(2, attempt, AllocationState::Succeeded);
    story.step(Input::Refused { from: did(2), attempt, reason: RefusedReason::ReadOnly });
    assert_eq!(story.row().phase, JobPhase::Running, "it has run");
    story.step(Input::Collected { attempt, outcome: Ok(()) });
    assert_eq!(story.end(), Some(JobEnd::Succeeded));
}

#[test]
fn output_is_a_sign_of_life_and_its_receipt_is_told() {
    let mut story = Story::new(|_| {});
    story.run();
    story.said();
    story.clock.advance(Duration::from_secs(25));
    story.step(Input::OutputReceived { task: 0, stdout: 1000, stderr: 0 });
    assert_eq!(story.said(), []);
    story.step(Input::OutputReceived { task: 0, stdout: 70_000, stderr: 0 });
    assert_eq!(story.said(), [(did(2), "status request")]);
    story.after(Duration::from_secs(10), Timer::Heartbeat(1));
    assert_eq!(story.row().phase, JobPhase::Running, "not silent");
}

/// A job that provider 2 has lost, between two rounds.
fn lost_once() -> Story {
    let mut story = Story::new(|_| {});
    story.run();
    story.step(Input::Unreachable { peer: did(2), reason: "gone".into() });
    next_round(&mut story);
    story
}

/// The pause between two rounds is over.
fn next_round(story: &mut Story) {
    let round = story.machine.round;
    story.after(Duration::from_secs(1), Timer::Retry(round));
    story.said();
}

/// Whom a request was said to since this was last asked.
fn asked(story: &mut Story) -> Vec<Did> {
    story.said().into_iter().filter(|(_, word)| *word == "bid request").map(|(to, _)| to).collect()
}

fn answer_of(story: &Story, seed: u8) -> String {
    match &story.row().answers[&did(seed)] {
        dms_storage::books::NodeAnswer::NotAsked { reason } => reason.clone(),
        answer => format!("{answer:?}"),
    }
}

#[test]
fn a_provider_that_lost_an_attempt_is_asked_and_taken_again_when_nobody_else_is_there() {
    let mut story = lost_once();
    story.ask(&[2], false);
    assert_eq!(asked(&mut story), [did(2)]);
    // It is not back yet.
    story.step(Input::Unreachable { peer: did(2), reason: "connection refused".into() });
    assert_eq!(answer_of(&story, 2), "connection refused");
    assert_eq!((story.row().phase, story.end()), (JobPhase::Bidding, None));
    next_round(&mut story);
    let request = story.ask(&[2], false);
    assert_eq!(asked(&mut story), [did(2)]);
    story.bid(2, &request, 5);
    assert_eq!(story.machine.current_attempt().map(|attempt| attempt.number), Some(2));
    // As often as the job has attempts, and no more.
    story.step(Input::Unreachable { peer: did(2), reason: "gone".into() });
    next_round(&mut story);
    let request = story.ask(&[2], false);
    story.bid(2, &request, 5);
    story.step(Input::Unreachable { peer: did(2), reason: "gone".into() });
    assert_eq!(story.end(), Some(JobEnd::Failed { failure: JobFailure::AttemptsExhausted { attempts: 3 } }));
}

#[test]
fn who_lost_an_attempt_is_left_out_while_another_may_yet_take_the_job() {
    let busy = || DeclineReason::Busy { shortfalls: vec![] };
    /// What provider 3 does in the round after the loss.
    type Answer = fn(&mut Story, &BidRequest);
    let table: [(&str, Answer, &[u8]); 4] = [
        ("busy", |story, request| story.decline(3, request, DeclineReason::LockShare), &[3]),
        ("no for good", |story, request| story.decline(3, request, DeclineReason::Location), &[2]),
        ("gone", |story, _| story.step(Input::Unreachable { peer: did(3), reason: "gone".into() }), &[2, 3]),
        (
            "silent",
            |story, _| {
                let round = story.machine.round;
                story.after(Duration::from_secs(2), Timer::Auction(round));
            },
            &[2, 3],
        ),
    ];
    for (what, answer, expected) in table {
        let mut story = lost_once();
        let request = story.ask(&[2, 3], false);
        assert_eq!(asked(&mut story), [did(3)], "{what}");
        let reason = "not asked: it lost attempt 1 of this job, and others may yet take it";
        assert_eq!(answer_of(&story, 2), reason, "{what}");
        answer(&mut story, &request);
        assert_eq!(story.end(), None, "{what}");
        next_round(&mut story);
        story.ask(&[2, 3], false);
        let mut expected: Vec<Did> = expected.iter().map(|seed| did(*seed)).collect();
        expected.sort();
        assert_eq!(asked(&mut story), expected, "{what}");
    }
    // Whoever was silent and speaks again is somebody who may take it.
    let mut story = lost_once();
    story.ask(&[2, 3], false);
    story.step(Input::Unreachable { peer: did(3), reason: "gone".into() });
    next_round(&mut story);
    let request = story.ask(&[2, 3], false);
    story.decline(3, &request, busy());
    story.decline(2, &request, busy());
    next_round(&mut story);
    story.ask(&[2, 3], false);
    assert_eq!(asked(&mut story), [did(3)]);
    // After a restart of the node the books say who lost what.
    story.restart();
    next_round(&mut story);
    story.ask(&[2, 3], false);
    assert_eq!(asked(&mut story), [did(3)]);
}

#[test]
fn who_lost_an_attempt_wins_by_gossip_only_if_nobody_else_bids() {
    for has_other in [true, false] {
        let mut story = lost_once();
        let request = story.ask(&[], true);
        story.bid(2, &request, 1);
        if has_other {
            story.bid(3, &request, 9);
        }
        assert_eq!(story.machine.current_attempt(), None, "the cheaper one is not the better one");
        let round = story.machine.round;
        story.after(Duration::from_secs(2), Timer::Auction(round));
        let winner = story.row().current_attempt().map(|attempt| (attempt.id.number, attempt.provider));
        assert_eq!(winner, Some((2, if has_other { did(3) } else { did(2) })));
    }
}

#[test]
fn a_job_that_finds_nobody_to_ask_is_bidding_all_the_same() {
    let mut story = Story::new(|_| {});
    story.step(Input::Started);
    story.step(Input::Candidates(Candidates::default()));
    assert_eq!(story.row().phase, JobPhase::Bidding);
    let mut story = lost_once();
    assert_eq!(story.row().phase, JobPhase::Rescheduling);
    story.step(Input::Candidates(Candidates::default()));
    assert_eq!((story.row().phase, story.machine.phase()), (JobPhase::Bidding, JobPhase::Bidding));
}

#[test]
fn attempts_are_bounded() {
    let mut story = Story::new(|job| job.max_attempts = 2);
    story.run();
    story.step(Input::Unreachable { peer: did(2), reason: "gone".into() });
    let round = story.machine.round;
    story.after(Duration::from_secs(1), Timer::Retry(round));
    let request = story.ask(&[3], false);
    story.bid(3, &request, 5);
    story.step(Input::Unreachable { peer: did(3), reason: "gone".into() });
    let failure = JobFailure::AttemptsExhausted { attempts: 2 };
    assert_eq!(story.end(), Some(JobEnd::Failed { failure }));
}

#[test]
fn a_cancel_is_obeyed_in_every_phase() {
    let cancelled = Some(JobEnd::Cancelled);
    let mut submitted = Story::new(|_| {});
    submitted.step(Input::Started);
    submitted.step(Input::Cancel);
    assert_eq!(submitted.end(), cancelled);

    let mut bidding = Story::new(|_| {});
    bidding.step(Input::Started);
    let request = bidding.ask(&[2, 3], false);
    bidding.bid(2, &request, 5);
    bidding.said();
    bidding.step(Input::Cancel);
    assert_eq!(bidding.end(), cancelled);
    assert_eq!(bidding.said(), [(did(2), "release")]);
    let late = bid(&request, 5, &signer(3, &bidding.clock));
    bidding.step(Input::Bid(late));
    assert_eq!(bidding.said(), [(did(3), "release")]);

    let mut running = Story::new(|_| {});
    let attempt = running.run();
    running.said();
    running.step(Input::Cancel);
    assert_eq!((running.said(), running.end()), (vec![(did(2), "cancel")], None), "the provider has its say");
    running.report(2, attempt, AllocationState::Stopped { cause: StopCause::Cancelled });
    running.step(Input::Collected { attempt, outcome: Ok(()) });
    assert_eq!(running.end(), cancelled);

    let mut silent = Story::new(|_| {});
    silent.run();
    silent.step(Input::Cancel);
    silent.after(Duration::from_secs(5), Timer::Cancel(1));
    assert_eq!(silent.end(), cancelled);
}

#[test]
fn a_restart_takes_up_a_running_attempt_where_it_was() {
    let mut story = Story::new(|_| {});
    let attempt = story.run();
    story.said();
    story.restart();
    assert_eq!(story.said(), [(did(2), "status request")], "asked, not invoked again");
    story.report(2, attempt, AllocationState::Succeeded);
    story.step(Input::Collected { attempt, outcome: Ok(()) });
    assert_eq!(story.end(), Some(JobEnd::Succeeded));
}

#[test]
fn a_restart_between_mint_and_invocation_does_not_start_the_attempt_twice() {
    let mut story = Story::new(|_| {});
    story.step(Input::Started);
    let request = story.ask(&[2], false);
    story.bid(2, &request, 5);
    let first = story.machine.current_attempt().unwrap();
    story.said();
    story.restart();
    assert_eq!(story.said(), [(did(2), "status request")]);
    story.step(Input::Refused { from: did(2), attempt: first, reason: RefusedReason::UnknownAttempt });
    let round = story.machine.round;
    story.after(Duration::from_secs(1), Timer::Retry(round));
    let request = story.ask(&[2], false);
    story.bid(2, &request, 5);
    assert_eq!(story.machine.current_attempt().map(|attempt| attempt.number), Some(2));
}

/// Up to an attempt at provider 2 that a status proves to run, and whose acceptance was lost.
fn run_without_acceptance() -> (Story, AttemptId) {
    let mut story = Story::new(|_| {});
    story.step(Input::Started);
    let request = story.ask(&[2], false);
    story.bid(2, &request, 5);
    let attempt = story.machine.current_attempt().unwrap();
    story.said();
    story.report(2, attempt, AllocationState::Running);
    (story, attempt)
}

#[test]
fn a_countersignature_that_was_lost_is_asked_for_and_recorded_whenever_it_comes() {
    let (mut story, attempt) = run_without_acceptance();
    assert_eq!(story.said(), [(did(2), "invocation")], "it runs: saying it again starts nothing");
    assert!(!story.is_countersigned());
    story.after(Duration::from_secs(10), Timer::Heartbeat(1));
    assert_eq!(story.said(), [(did(2), "status request"), (did(2), "invocation")]);
    story.accept(2, attempt);
    assert!(story.is_countersigned(), "although a status had proved the run");
    story.accept(2, attempt);
    story.after(Duration::from_secs(10), Timer::Heartbeat(1));
    assert_eq!(story.said(), [(did(2), "status request")]);
}

#[test]
fn a_countersignature_is_not_asked_for_without_end() {
    let (mut story, attempt) = run_without_acceptance();
    for _ in 0..2 * MAX_REPEATS {
        story.after(Duration::from_secs(10), Timer::Heartbeat(1));
        story.report(2, attempt, AllocationState::Running);
    }
    let invocations = story.said().into_iter().filter(|(_, word)| *word == "invocation").count();
    assert_eq!(invocations, MAX_REPEATS as usize);
    assert_eq!(story.row().phase, JobPhase::Running);
}

#[test]
fn an_ended_attempt_waits_a_little_for_its_countersignature() {
    for (is_given, state) in
        [true, false].into_iter().flat_map(|is_given| [(is_given, true), (is_given, false)])
    {
        let (mut story, attempt) = run_without_acceptance();
        story.said();
        let end = match state {
            true => AllocationState::Succeeded,
            false => AllocationState::Failed { cause: FailureCause::NodeRestarted },
        };
        story.report(2, attempt, end);
        assert_eq!(story.said(), [(did(2), "invocation")]);
        if state {
            story.step(Input::Collected { attempt, outcome: Ok(()) });
        }
        assert_eq!((story.said(), story.end()), (vec![], None), "an acknowledged attempt may be forgotten");
        match is_given {
            true => story.accept(2, attempt),
            false => story.after(Duration::from_secs(5), Timer::Countersignature(1)),
        }
        assert_eq!(story.said(), [(did(2), "acknowledge")]);
        assert_eq!(story.is_countersigned(), is_given);
        assert_eq!(story.end(), state.then_some(JobEnd::Succeeded));
        let phase = if state { JobPhase::Succeeded } else { JobPhase::Rescheduling };
        assert_eq!(story.row().phase, phase);
        let before = story.row().clone();
        story.after(Duration::from_secs(5), Timer::Countersignature(1));
        assert_eq!(*story.row(), before, "a late timer does nothing");
    }
}

#[test]
fn a_restart_asks_for_the_countersignature_that_the_disk_does_not_have() {
    let (mut story, attempt) = run_without_acceptance();
    story.said();
    story.restart();
    assert_eq!(story.said(), [(did(2), "status request"), (did(2), "invocation")]);
    story.accept(2, attempt);
    assert!(story.is_countersigned());
    story.restart();
    assert_eq!(story.said(), [(did(2), "status request")]);
}

#[test]
fn the_wait_runs_while_a_job_waits_for_its_turn() {
    let wait = Duration::from_secs(60);
    let timers = |story: &mut Story| -> Vec<Duration> {
        let timers = story.wishes.drain(..).filter_map(|wish| match wish {
            Effect::After(delay, Timer::Wait(0)) => Some(delay),
            _ => None,
        });
        timers.collect()
    };
    let mut never = Story::new(|job| job.wait = Millis::from(wait));
    never.step(Input::Started);
    assert_eq!(timers(&mut never), [wait]);
    never.after(wait, Timer::Wait(0));
    let failure = JobFailure::NotItsTurn;
    assert!(failure.to_string().contains("turn"));
    assert_eq!(never.end(), Some(JobEnd::Failed { failure }));
    assert!(never.wants(|wish| matches!(wish, Effect::Finish)));

    // It asked once, and its second turn does not come.
    let mut again = Story::new(|job| job.wait = Millis::from(wait));
    again.step(Input::Started);
    let request = again.ask(&[2], false);
    again.decline(2, &request, DeclineReason::Busy { shortfalls: vec![] });
    timers(&mut again);
    let round = again.machine.round;
    again.after(Duration::from_secs(59), Timer::Retry(round));
    assert_eq!(timers(&mut again), [LAST_TURN], "a last turn has its time");
    again.after(Duration::from_secs(1), Timer::Wait(0));
    assert_eq!((again.end(), timers(&mut again)), (None, vec![LAST_TURN - Duration::from_secs(1)]));
    again.after(LAST_TURN, Timer::Wait(0));
    assert_eq!(again.end(), Some(JobEnd::Failed { failure: JobFailure::NobodyTookIt { is_final: false } }));

    // While it asks, rests or runs, the timer means nothing.
    let mut asking = Story::new(|job| job.wait = Millis::from(wait));
    asking.step(Input::Started);
    let request = asking.ask(&[2], false);
    // Not a moment later, so that the bid's lease holds.
    asking.step(Input::Timer(Timer::Wait(0)));
    assert_eq!(asking.end(), None, "the round says how it ends");
    asking.bid(2, &request, 5);
    asking.after(wait, Timer::Wait(0));
    assert!(asking.machine.current_attempt().is_some());
    asking.step(Input::Unreachable { peer: did(2), reason: "gone".into() });
    let round = asking.machine.round;
    asking.wishes.clear();
    asking.after(Duration::from_secs(1), Timer::Retry(round));
    let is_new = |wish: &Effect| matches!(wish, Effect::After(delay, Timer::Wait(1)) if *delay == wait);
    assert!(asking.wants(is_new), "it waits anew");
    asking.after(wait, Timer::Wait(0));
    assert_eq!(asking.end(), None, "the timer of the wait before");
}

#[test]
fn a_crowd_that_rests_asks_less_often_each() {
    let longest_pause = |resting: usize| {
        let mut story = Story::new(|_| {});
        story.step(Input::Started);
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            let request = story.ask_beside(resting, &[2], false);
            story.decline(2, &request, DeclineReason::Busy { shortfalls: vec![] });
            let pauses = story.wishes.drain(..).filter_map(|wish| match wish {
                Effect::After(pause, Timer::Retry(_)) => Some(pause),
                _ => None,
            });
            longest = pauses.fold(longest, Duration::max);
            let round = story.machine.round;
            story.after(Duration::ZERO, Timer::Retry(round));
        }
        longest
    };
    let rules = JobRules::default();
    assert!(longest_pause(1) <= rules.retry.1);
    let crowd = longest_pause(400);
    assert!((rules.retry_each * 200..=rules.retry_each * 400).contains(&crowd), "{crowd:?}");
}

#[test]
fn the_pause_grows_and_is_bounded() {
    let rules = (Duration::from_millis(250), Duration::from_secs(5));
    for (tries, longest) in [(0, 250), (1, 500), (4, 4000), (5, 5000), (60, 5000)] {
        for random in [0, 128, 255] {
            let pause = backoff(rules, tries, random).as_millis();
            assert!((longest / 2..=longest).contains(&pause), "{tries} {random}: {pause}");
        }
    }
}
