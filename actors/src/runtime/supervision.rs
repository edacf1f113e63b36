//! Who is restarted, how often and how soon; and the ways an actor ends.

use std::collections::VecDeque;
use std::time::Duration;

use super::{ActorId, Refusal};

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
    /// A child whose failures [escalate](Supervision::escalates) failed for good.
    #[error("its child {child} {reason}")]
    ChildFailed {
        /// The child, or the [group](super::Group) of children.
        child: ActorId,
        /// How it ended.
        reason: Box<ExitReason>,
    },
    /// Its system was stopped.
    #[error("the system stopped")]
    SystemStopped,
    /// Only of an actor of another system: the link to it was lost, or could not be opened. It is unknown
    /// whether the actor has ended.
    #[error("its system is lost")]
    PeerLost,
    /// Only of an address: nobody is there.
    #[error("nobody is there")]
    NobodyThere,
    /// Only of an actor of another system: it does not say how the actor ends.
    #[error("the watch was refused")]
    WatchRefused(#[source] Refusal),
}

impl ExitReason {
    /// True for a failure of the actor or of those it depends on; false when it was told to end, or ended
    /// by itself.
    ///
    /// ```
    /// use dms_actors::ExitReason;
    ///
    /// assert!(ExitReason::Panicked("on purpose".into()).is_failure());
    /// assert!(!ExitReason::Stopped.is_failure());
    /// ```
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Failed(_)
            | Self::Panicked(_)
            | Self::RestartsExhausted { .. }
            | Self::ChildFailed { .. } => true,
            Self::Stopped
            | Self::SystemStopped
            | Self::PeerLost
            | Self::NobodyThere
            | Self::WatchRefused(_) => false,
        }
    }
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
    /// A failure for good (the restarts are used up, or nothing restarts it) makes the parent fail with
    /// [`ExitReason::ChildFailed`], whose own supervision decides in turn. An actor without a parent just
    /// ends.
    pub escalates: bool,
}

impl Supervision {
    /// No restart.
    pub fn never() -> Self {
        Self { restart: Restart::Never, ..Self::transient() }
    }

    /// The same, and a failure for good makes the parent fail, too.
    ///
    /// ```
    /// use dms_actors::Supervision;
    ///
    /// // Five restarts, then it is the parent's turn.
    /// let supervision = Supervision::transient().escalate();
    /// assert!(supervision.escalates);
    /// ```
    #[must_use]
    pub fn escalate(self) -> Self {
        Self { escalates: true, ..self }
    }

    /// Restart after failures, at most 5 within a minute, with 10 ms to 5 s between.
    pub fn transient() -> Self {
        Self {
            restart: Restart::Transient,
            max_restarts: 5,
            within: Duration::from_secs(60),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(5),
            escalates: false,
        }
    }

    /// Restart also when the actor stops itself, with the same budget.
    pub fn permanent() -> Self {
        Self { restart: Restart::Permanent, ..Self::transient() }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_restarts: self.max_restarts,
            within: self.within,
            backoff_min: self.backoff_min,
            backoff_max: self.backoff_max,
        }
    }
}

/// How often and how soon restarts are made, of one actor or of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_restarts: u32,
    pub(crate) within: Duration,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
}

/// The restarts of one actor or group within its window.
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
    pub(crate) fn spend(&mut self, limits: Limits, now: Duration, chance: u8) -> Verdict {
        while self.made.front().is_some_and(|made| now.saturating_sub(*made) > limits.within) {
            self.made.pop_front();
        }
        let restarts = u32::try_from(self.made.len()).unwrap_or(u32::MAX);
        if restarts >= limits.max_restarts {
            return Verdict::Exhausted(restarts);
        }
        self.made.push_back(now);
        let doublings = 1_u32.checked_shl(restarts).unwrap_or(u32::MAX);
        let full = limits.backoff_min.saturating_mul(doublings).min(limits.backoff_max);
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
            let verdict = budget.spend(supervision.limits(), Duration::ZERO, chance);
            assert_eq!(verdict, Verdict::After(Duration::from_millis(pause)));
        }
        assert_eq!(budget.spend(supervision.limits(), Duration::ZERO, 0), Verdict::Exhausted(4));
    }

    #[test]
    fn restarts_before_the_window_are_forgotten() {
        let supervision = Supervision { max_restarts: 1, ..Supervision::transient() };
        let mut budget = Budget::default();
        assert!(matches!(budget.spend(supervision.limits(), Duration::ZERO, 0), Verdict::After(_)));
        assert_eq!(budget.spend(supervision.limits(), Duration::from_secs(60), 0), Verdict::Exhausted(1));
        assert!(matches!(budget.spend(supervision.limits(), Duration::from_secs(61), 0), Verdict::After(_)));
    }

    #[test]
    fn no_restart_is_within_a_budget_of_none() {
        let supervision = Supervision { max_restarts: 0, ..Supervision::transient() };
        assert_eq!(Budget::default().spend(supervision.limits(), Duration::ZERO, 0), Verdict::Exhausted(0));
    }
}
