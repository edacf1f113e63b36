//! How many auctions of ours are open at a time, and whose turn is next.
//!
//! An open auction holds locks at every provider that bids in it, and no provider lets one requester hold many:
//! a crowd of jobs that asks all at once locks itself out, is declined, and comes back after a pause. So a job asks
//! when it is its turn. How many have one follows what the rounds show: fewer when a provider says that we hold too
//! many locks, one more whenever as many rounds as there are turns have found a winner. Capacity that comes free calls
//! the job that has rested longest, before its pause is over. Decides only; the Node asks it and carries the answers.

use std::collections::{BTreeSet, VecDeque};

use dms_messages::JobId;

use crate::capability::ledger;

/// Most turns: as many locks as any provider lets one requester hold.
const MAX_TURNS: usize = ledger::MAX_LOCKS_PER_REQUESTER;

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundEnd {
    /// True if somebody was invoked; the other bidders' locks are free again.
    pub has_winner: bool,
    /// True if a provider declined because we hold too many locks there.
    pub is_crowded: bool,
}

/// Whose turn it is. Every job is in at most one of the three places.
#[derive(Debug, Clone)]
pub struct Turns {
    limit: usize,
    /// Rounds that found a winner since the limit last changed.
    winners: usize,
    open: BTreeSet<JobId>,
    waiting: VecDeque<JobId>,
    /// Between two rounds, the longest first.
    resting: VecDeque<JobId>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            limit: MAX_TURNS,
            winners: 0,
            open: BTreeSet::new(),
            waiting: VecDeque::new(),
            resting: VecDeque::new(),
        }
    }
}

impl Turns {
    /// A job wants to ask for bids: true if it may now; otherwise [`Turns::close`] or [`Turns::forget`] names it later.
    pub fn ask(&mut self, job: JobId) -> bool {
        self.resting.retain(|resting| *resting != job);
        if self.open.contains(&job) || self.open.len() < self.limit {
            self.waiting.retain(|waiting| *waiting != job);
            self.open.insert(job);
            return true;
        }
        if !self.waiting.contains(&job) {
            self.waiting.push_back(job);
        }
        false
    }

    /// A job's round is over; gives the jobs whose turn it is now.
    pub fn close(&mut self, job: JobId, end: RoundEnd) -> Vec<JobId> {
        if !self.open.remove(&job) {
            return Vec::new();
        }
        if !end.has_winner {
            self.resting.push_back(job);
        }
        // A round that was won shows that there is room elsewhere, whatever one small or hostile machine says.
        if end.is_crowded && !end.has_winner {
            (self.limit, self.winners) = ((self.limit / 2).max(1), 0);
        } else if end.has_winner {
            self.winners += 1;
            if self.winners >= self.limit && self.limit < MAX_TURNS {
                (self.limit, self.winners) = (self.limit + 1, 0);
            }
        }
        self.next()
    }

    /// A job is followed no more; gives the jobs whose turn it is now.
    pub fn forget(&mut self, job: JobId) -> Vec<JobId> {
        self.open.remove(&job);
        self.waiting.retain(|waiting| *waiting != job);
        self.resting.retain(|resting| *resting != job);
        self.next()
    }

    /// Capacity came free: the job that is to try it, if one rests. Named once; it rests again when it fails again.
    pub fn wake(&mut self) -> Option<JobId> {
        self.resting.pop_front()
    }

    /// How many jobs have asked in vain and rest.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    fn next(&mut self) -> Vec<JobId> {
        let room = self.limit.saturating_sub(self.open.len()).min(self.waiting.len());
        let next: Vec<JobId> = self.waiting.drain(..room).collect();
        self.open.extend(&next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WON: RoundEnd = RoundEnd { has_winner: true, is_crowded: false };
    const NOBODY: RoundEnd = RoundEnd { has_winner: false, is_crowded: false };
    const CROWDED: RoundEnd = RoundEnd { has_winner: false, is_crowded: true };

    fn job(number: usize) -> JobId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        JobId::from_random(bytes)
    }

    #[test]
    fn so_many_ask_at_once_and_the_others_in_their_order() {
        let mut turns = Turns::default();
        for number in 0..MAX_TURNS {
            assert!(turns.ask(job(number)));
            assert!(turns.ask(job(number)), "it has its turn already");
        }
        for number in 100..103 {
            assert!(!turns.ask(job(number)));
            assert!(!turns.ask(job(number)), "asking again is no second place");
        }
        assert_eq!(turns.close(job(0), WON), [job(100)]);
        assert_eq!(turns.close(job(0), WON), [], "a round is over once");
        assert_eq!(turns.forget(job(101)), [], "nobody waits for one that is gone");
        assert_eq!(turns.forget(job(1)), [job(102)], "a turn does not end with its job alone");
        assert_eq!(turns.close(job(2), NOBODY), []);
    }

    #[test]
    fn a_crowd_makes_fewer_turns_and_winners_make_more() {
        let mut turns = Turns::default();
        (0..MAX_TURNS).for_each(|number| assert!(turns.ask(job(number))));
        for number in 0..MAX_TURNS {
            assert_eq!(turns.close(job(number), CROWDED), []);
        }
        assert!(turns.ask(job(1)), "one may always ask");
        assert!(!turns.ask(job(2)));
        assert_eq!(turns.close(job(1), NOBODY), [job(2)], "machines that are full say nothing of locks");
        assert!(!turns.ask(job(3)) && !turns.ask(job(4)) && !turns.ask(job(5)));
        assert_eq!(turns.close(job(2), WON), [job(3), job(4)], "one more");
        assert_eq!(turns.close(job(3), WON), [job(5)], "two winners for the next one");
        (10..20).for_each(|number| assert!(!turns.ask(job(number))));
        assert_eq!(turns.close(job(4), WON), [job(10), job(11)]);
    }

    #[test]
    fn one_machine_that_feels_crowded_does_not_slow_rounds_that_are_won() {
        let mut turns = Turns::default();
        for number in 0..100 {
            assert!(turns.ask(job(number)));
            turns.close(job(number), RoundEnd { has_winner: true, is_crowded: true });
        }
        (0..MAX_TURNS).for_each(|number| assert!(turns.ask(job(number))));
    }

    #[test]
    fn who_rests_is_woken_once_the_longest_first() {
        let mut turns = Turns::default();
        for number in [1, 2, 3] {
            assert!(turns.ask(job(number)));
            turns.close(job(number), if number == 3 { WON } else { NOBODY });
        }
        assert_eq!(turns.resting(), 2);
        assert_eq!(turns.wake(), Some(job(1)));
        assert!(turns.ask(job(2)), "its pause was over");
        assert_eq!(turns.resting(), 0);
        assert_eq!(turns.wake(), None);
        turns.close(job(2), NOBODY);
        turns.forget(job(2));
        assert_eq!(turns.wake(), None, "it is gone");
    }
}
