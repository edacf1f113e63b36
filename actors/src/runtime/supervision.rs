//! Who is restarted, how often and how soon; and the ways an actor ends.

use std::collections::VecDeque;
use std::time::Duration;

/// Why an actor ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExitReason {
    /// It was told to stop, or stopped itself.
    #[error("stopped")]
    Stopped,
    /// It said that it failed.
    #[error("failed: {0}")]
    Failed(String),
    /// Its code panicked with this text.
    #[error("panicked: {0}")]
    Panicked(String),
    /// It failed more often than its supervision allows.
    #[error("failed {restarts} times too often, at last: {last}")]
    RestartsExhausted {
        /// How many restarts were made within the supervision's window.
        restarts: u32,
        /// The failure after them.
        last: String,
    },
    /// Its system was stopped.
    #[error("the system stopped")]
    SystemStopped,
}

/// Which endings lead to a restart. Being told to stop from outside never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Failures, and when the actor stops itself.
    Permanent,
    /// Failures only (a panic, or [`Context::fail`](super::Context::fail)).
    Transient,
    /// Nothing.
    Never,
}

/// How one actor is supervised. A restart builds a new state from the factory; the mailbox, its
/// queue and every reference stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervision {
    /// Which endings lead to a restart.
    pub restart: Restart,
    /// How many restarts are made within [`Self::within`]; one more failure ends the actor.
    pub max_restarts: u32,
    /// The sliding window in which restarts are counted.
    pub within: Duration,
    /// The pause before the first restart; it doubles with each restart in the window.
    pub backoff_min: Duration,
    /// The longest pause. Each pause is drawn from the upper half of its length, so that actors that
    /// failed together do not come back together.
    pub backoff_max: Duration,
}

impl Supervision {
    /// No restart.
    pub fn never() -> Self {
        Self { restart: Restart::Never, ..Self::transient() }
    }

    /// Restart after failures, at most 5 within a minute, with 10 ms to 5 s between.
    pub fn transient() -> Self {
        Self {
            restart: Restart::Transient,
            max_restarts: 5,
            within: Duration::from_secs(60),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(5),
        }
    }

    /// Restart also when the actor stops itself, with the same budget.
    pub fn permanent() -> Self {
        Self { restart: Restart::Permanent, ..Self::transient() }
    }
}

/// The restarts of one actor within its window.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Monotonic instants; never more than `max_restarts` of them.
    made: VecDeque<Duration>,
}

/// What follows a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Restart after this pause.
    After(Duration),
    /// No more.
    Exhausted(u32),
}

impl Budget {
    /// Counts a failure at `now`; `chance` (0 to 255) spreads the pause over its upper half.
    pub(crate) fn spend(&mut self, supervision: &Supervision, now: Duration, chance: u8) -> Verdict {
        while self.made.front().is_some_and(|made| now.saturating_sub(*made) > supervision.within) {
            self.made.pop_front();
        }
        let restarts = u32::try_from(self.made.len()).unwrap_or(u32::MAX);
        if restarts >= supervision.max_restarts {
            return Verdict::Exhausted(restarts);
        }
        self.made.push_back(now);
        let full = supervision
            .backoff_min
            .saturating_mul(1_u32.checked_shl(restarts).unwrap_or(u32::MAX))
            .min(supervision.backoff_max);
        Verdict::After(full / 2 + (full / 2).mul_f64(f64::from(chance) / 255.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_the_budget_ends() {
        let supervision = Supervision {
            max_restarts: 4,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_millis(300),
            ..Supervision::transient()
        };
        let mut budget = Budget::default();
        for (chance, pause) in [(255, 100), (255, 200), (255, 300), (0, 150)] {
            let verdict = budget.spend(&supervision, Duration::ZERO, chance);
            assert_eq!(verdict, Verdict::After(Duration::from_millis(pause)));
        }
        assert_eq!(budget.spend(&supervision, Duration::ZERO, 0), Verdict::Exhausted(4));
    }

    #[test]
    fn restarts_before_the_window_are_forgotten() {
        let supervision = Supervision { max_restarts: 1, ..Supervision::transient() };
        let mut budget = Budget::default();
        assert!(matches!(budget.spend(&supervision, Duration::ZERO, 0), Verdict::After(_)));
        assert_eq!(budget.spend(&supervision, Duration::from_secs(60), 0), Verdict::Exhausted(1));
        assert!(matches!(budget.spend(&supervision, Duration::from_secs(61), 0), Verdict::After(_)));
    }

    #[test]
    fn no_restart_is_within_a_budget_of_none() {
        let supervision = Supervision { max_restarts: 0, ..Supervision::transient() };
        assert_eq!(Budget::default().spend(&supervision, Duration::ZERO, 0), Verdict::Exhausted(0));
    }
}
