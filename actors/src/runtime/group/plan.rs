//! What a group does next: who ends, who starts, in which order, after which pause. Pure: it is told
//! what happened and when, and says one step at a time.

use std::ops::Range;
use std::time::Duration;

use super::super::supervision::{Budget, Limits, Verdict};
use super::super::{ExitReason, Restart};
use super::Strategy;

/// What a member says to its group.
#[derive(Debug)]
pub(super) enum News {
    /// It has started.
    Up,
    /// Its state has ended, by its own failure or on command; it waits for a start.
    Down(ExitReason),
    /// It has ended for good.
    Gone,
}

/// What the group does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Let the member start.
    Start { member: usize, turn: u32 },
    /// Let the member end its state and wait.
    Pause { member: usize, turn: u32 },
    /// Let the member end for good, since nothing restarts it.
    Dismiss { member: usize },
    /// Wait this long before anybody starts.
    Wait { pause: Duration, turn: u32 },
    /// The group has failed; this member was the last to.
    Fail { member: usize, reason: ExitReason },
    /// Nobody is left.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Down,
    Starting,
    Up,
    Ending,
    Gone,
}

struct Member {
    restart: Restart,
    place: Place,
    /// It has to end before anybody starts.
    is_due: bool,
    /// The number of the last command to it.
    turn: u32,
}

/// The pause before a restart.
enum Rest {
    None,
    Owed(Duration),
    Taken { turn: u32 },
}

/// A group's members and what is still to be done to them.
pub(super) struct Plan {
    strategy: Strategy,
    limits: Limits,
    budget: Budget,
    members: Vec<Member>,
    rest: Rest,
    last_turn: u32,
    failure: Option<(usize, ExitReason)>,
    is_over: bool,
}

/// Who is restarted when `failed` of `count` members fails.
fn affected(strategy: Strategy, failed: usize, count: usize) -> Range<usize> {
    match strategy {
        Strategy::OneForOne => failed..failed + 1,
        Strategy::OneForAll => 0..count,
        Strategy::RestForOne => failed..count,
    }
}

impl Plan {
    /// All members wait for their first start.
    pub(super) fn new(strategy: Strategy, limits: Limits, kinds: Vec<Restart>) -> Self {
        let waiting = |restart| Member { restart, place: Place::Down, is_due: false, turn: 0 };
        Self {
            strategy,
            limits,
            budget: Budget::default(),
            members: kinds.into_iter().map(waiting).collect(),
            rest: Rest::None,
            last_turn: 0,
            failure: None,
            is_over: false,
        }
    }

    /// Takes in what a member said in answer to the command of number `turn`.
    pub(super) fn hear(&mut self, member: usize, turn: u32, news: News, now: Duration, chance: u8) {
        let count = self.members.len();
        let speaker = &mut self.members[member];
        match (news, speaker.place) {
            (News::Gone, _) => {
                speaker.place = Place::Gone;
                speaker.is_due = false;
            }
            // A later command has crossed it, and will be answered.
            _ if turn != speaker.turn => {}
            (News::Up, Place::Starting) => speaker.place = Place::Up,
            (News::Down(_), Place::Ending) => speaker.place = Place::Down,
            (News::Down(reason), Place::Starting | Place::Up) => {
                speaker.place = Place::Down;
                speaker.is_due = false;
                match self.budget.spend(self.limits, now, chance) {
                    Verdict::After(pause) => {
                        for sibling in &mut self.members[affected(self.strategy, member, count)] {
                            sibling.is_due |= matches!(sibling.place, Place::Starting | Place::Up);
                        }
                        // One that is being taken begins anew: this failure's is the longer.
                        self.rest = Rest::Owed(pause);
                    }
                    Verdict::Exhausted(restarts) => {
                        let reason = ExitReason::RestartsExhausted { restarts, last: reason.to_string() };
                        self.failure.get_or_insert((member, reason));
                    }
                }
            }
            (News::Up | News::Down(_), _) => {}
        }
    }

    /// The pause of this number is over.
    pub(super) fn wait_is_over(&mut self, turn: u32) {
        if matches!(self.rest, Rest::Taken { turn: taken } if taken == turn) {
            self.rest = Rest::None;
        }
    }

    /// What to do now; `None` while something is being waited for. To be called until it says that.
    pub(super) fn next_step(&mut self) -> Option<Step> {
        if self.is_over {
            return None;
        }
        if let Some((member, reason)) = self.failure.take() {
            self.is_over = true;
            return Some(Step::Fail { member, reason });
        }
        if self.members.iter().all(|member| member.place == Place::Gone) {
            self.is_over = true;
            return Some(Step::End);
        }
        // One at a time, and the elder only when the younger has ended.
        if self.is_any(Place::Ending) {
            return None;
        }
        if let Some(member) = self.members.iter().rposition(|member| member.is_due) {
            let turn = self.next_turn();
            let due = &mut self.members[member];
            due.is_due = false;
            due.place = Place::Ending;
            due.turn = turn;
            return Some(match due.restart {
                Restart::Never => Step::Dismiss { member },
                Restart::Permanent | Restart::Transient => Step::Pause { member, turn },
            });
        }
        match self.rest {
            Rest::Owed(pause) => {
                let turn = self.next_turn();
                self.rest = Rest::Taken { turn };
                return Some(Step::Wait { pause, turn });
            }
            Rest::Taken { .. } => return None,
            Rest::None => {}
        }
        // One at a time, and the younger only when the elder has started.
        if self.is_any(Place::Starting) {
            return None;
        }
        let member = self.members.iter().position(|member| member.place == Place::Down)?;
        let turn = self.next_turn();
        self.members[member].place = Place::Starting;
        self.members[member].turn = turn;
        Some(Step::Start { member, turn })
    }

    fn is_any(&self, place: Place) -> bool {
        self.members.iter().any(|member| member.place == place)
    }

    fn next_turn(&mut self) -> u32 {
        self.last_turn = self.last_turn.wrapping_add(1);
        self.last_turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);

    /// A plan and the members' answers to it, written down as `+n` (started), `-n` (told to end and
    /// wait), `xn` (told to end), `w` (a pause), `!n` (failed for good), `end`.
    struct Stage {
        plan: Plan,
        log: Vec<String>,
        waiting: Option<u32>,
    }

    fn stage(strategy: Strategy, max_restarts: u32, kinds: &[Restart]) -> Stage {
        let limits = Limits {
            max_restarts,
            within: Duration::from_secs(60),
            backoff_min: PAUSE,
            backoff_max: 4 * PAUSE,
        };
        Stage { plan: Plan::new(strategy, limits, kinds.to_vec()), log: Vec::new(), waiting: None }
    }

    impl Stage {
        fn hear(&mut self, member: usize, turn: u32, news: News) {
            self.plan.hear(member, turn, news, Duration::ZERO, 255);
        }

        /// Every command is answered as it should be; pauses pass.
        fn settle(&mut self) {
            while self.step() {}
        }

        fn step(&mut self) -> bool {
            match self.plan.next_step() {
                Some(Step::Start { member, turn }) => {
                    self.log.push(format!("+{member}"));
                    self.hear(member, turn, News::Up);
                }
                Some(Step::Pause { member, turn }) => {
                    self.log.push(format!("-{member}"));
                    self.hear(member, turn, News::Down(ExitReason::Stopped));
                }
                Some(Step::Dismiss { member }) => {
                    self.log.push(format!("x{member}"));
                    self.hear(member, 0, News::Gone);
                }
                Some(Step::Wait { pause, turn }) => {
                    self.log.push(format!("w{}", pause.as_millis()));
                    self.waiting = Some(turn);
                }
                Some(Step::Fail { member, reason }) => {
                    assert!(reason.is_failure());
                    self.log.push(format!("!{member}"));
                }
                Some(Step::End) => self.log.push("end".to_owned()),
                None => match self.waiting.take() {
                    Some(turn) => self.plan.wait_is_over(turn),
                    None => return false,
                },
            }
            true
        }

        fn fail(&mut self, member: usize) {
            let turn = self.plan.members[member].turn;
            self.hear(member, turn, News::Down(ExitReason::Failed("x".into())));
        }

        fn log(&mut self) -> String {
            std::mem::take(&mut self.log).join(" ")
        }
    }

    use Restart::{Never, Permanent, Transient};

    #[test]
    fn who_ends_and_who_starts_in_which_order() {
        let kinds = [Permanent, Transient, Permanent];
        let table = [
            (Strategy::OneForOne, 0, "w100 +0"),
            (Strategy::OneForOne, 1, "w100 +1"),
            (Strategy::OneForAll, 0, "-2 -1 w100 +0 +1 +2"),
            (Strategy::OneForAll, 1, "-2 -0 w100 +0 +1 +2"),
            (Strategy::OneForAll, 2, "-1 -0 w100 +0 +1 +2"),
            (Strategy::RestForOne, 0, "-2 -1 w100 +0 +1 +2"),
            (Strategy::RestForOne, 1, "-2 w100 +1 +2"),
            (Strategy::RestForOne, 2, "w100 +2"),
        ];
        for (strategy, failed, expected) in table {
            let mut stage = stage(strategy, 5, &kinds);
            stage.settle();
            assert_eq!(stage.log(), "+0 +1 +2", "the eldest first");
            stage.fail(failed);
            stage.settle();
            assert_eq!(stage.log(), expected, "{strategy:?}, {failed} failed");
        }
    }

    #[test]
    fn one_that_is_never_restarted_ends_with_the_others_and_stays_away() {
        let mut stage = stage(Strategy::OneForAll, 5, &[Permanent, Never, Permanent]);
        stage.settle();
        stage.log();
        stage.fail(0);
        stage.settle();
        assert_eq!(stage.log(), "-2 x1 w100 +0 +2");
        stage.fail(2);
        stage.settle();
        assert_eq!(stage.log(), "-0 w200 +0 +2");
    }

    #[test]
    fn the_budget_is_the_groups_and_its_end_is_the_groups_end() {
        let mut stage = stage(Strategy::OneForOne, 2, &[Permanent, Permanent]);
        stage.settle();
        for (failed, expected) in [(0, "+0 +1 w100 +0"), (1, "w200 +1"), (0, "!0"), (1, "")] {
            stage.fail(failed);
            stage.settle();
            assert_eq!(stage.log(), expected);
        }
    }

    #[test]
    fn one_that_has_gone_is_left_out_and_the_last_ends_the_group() {
        let mut stage = stage(Strategy::OneForAll, 5, &[Permanent, Permanent, Permanent]);
        stage.settle();
        stage.log();
        stage.hear(1, 0, News::Gone);
        stage.settle();
        assert_eq!(stage.log(), "", "who was told to end takes nobody along");
        stage.fail(2);
        stage.settle();
        assert_eq!(stage.log(), "-0 w100 +0 +2");
        stage.hear(0, 0, News::Gone);
        stage.hear(2, 0, News::Gone);
        stage.settle();
        assert_eq!(stage.log(), "end");
    }

    #[test]
    fn a_start_that_fails_is_a_failure() {
        let mut stage = stage(Strategy::RestForOne, 2, &[Permanent, Permanent]);
        for expected in ["w100", "w200"] {
            let Some(Step::Start { member: 0, turn }) = stage.plan.next_step() else {
                panic!("the eldest starts first");
            };
            assert_eq!(stage.plan.next_step(), None, "the second waits for it");
            stage.hear(0, turn, News::Down(ExitReason::Panicked("in start".into())));
            stage.step();
            assert_eq!(stage.log(), expected);
            stage.step();
        }
        let Some(Step::Start { member: 0, turn }) = stage.plan.next_step() else { panic!("again") };
        stage.hear(0, turn, News::Down(ExitReason::Panicked("in start".into())));
        stage.settle();
        assert_eq!(stage.log(), "!0");
    }

    #[test]
    fn failures_during_a_restart() {
        let mut stage = stage(Strategy::OneForAll, 5, &[Permanent, Permanent, Permanent]);
        stage.settle();
        stage.log();
        // 0 and 2 fail at once, before anything is done about the first: two restarts are counted, and
        // made as one.
        stage.fail(0);
        stage.fail(2);
        stage.settle();
        assert_eq!(stage.log(), "-1 w200 +0 +1 +2");

        // A sibling fails by itself while it is told to end: its answer to the command is what counts.
        stage.fail(0);
        let Some(Step::Pause { member: 2, turn }) = stage.plan.next_step() else { panic!("the youngest") };
        stage.hear(2, turn - 1, News::Down(ExitReason::Panicked("crossed".into())));
        assert_eq!(stage.plan.next_step(), None);
        stage.hear(2, turn, News::Down(ExitReason::Stopped));
        stage.settle();
        assert_eq!(stage.log(), "-1 w400 +0 +1 +2");

        // One that has started again fails while the next starts.
        stage.fail(1);
        assert!(stage.step() && stage.step() && stage.step());
        assert_eq!(stage.log(), "-2 -0 w400");
        assert!(stage.step() && stage.step());
        assert_eq!(stage.log(), "+0");
        let Some(Step::Start { member: 1, .. }) = stage.plan.next_step() else { panic!("the second") };
        stage.fail(0);
        // It may be up or starting: either way it ends first.
        stage.settle();
        assert_eq!(stage.log(), "-1 w400 +0 +1 +2");
    }

    #[test]
    fn a_pause_that_was_overtaken_does_not_count() {
        let mut stage = stage(Strategy::OneForOne, 5, &[Permanent, Permanent]);
        stage.settle();
        stage.log();
        stage.fail(0);
        let Some(Step::Wait { turn: first, .. }) = stage.plan.next_step() else { panic!("a pause") };
        stage.fail(1);
        stage.plan.wait_is_over(first);
        stage.settle();
        assert_eq!(stage.log(), "w200 +0 +1");
    }
}
