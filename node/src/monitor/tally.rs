//! What the node answered to requests, by reason: counted since its start, for whoever draws curves.

use std::collections::BTreeMap;

use dms_messages::DeclineReason;

/// The code of a refusal because of the machine's owner; on the wire it is `busy`, with whose use it is.
const OWNER: &str = "busy_owner";

/// What was answered since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    bids: u64,
    /// As many entries as there are reasons.
    declines: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// A bid was said.
    pub(crate) fn bid(&mut self) {
        self.bids += 1;
    }

    /// A request was declined, whether or not anybody was told.
    pub(crate) fn decline(&mut self, reason: &DeclineReason) {
        let is_owners = match reason {
            DeclineReason::Busy { shortfalls } => shortfalls.iter().any(|shortfall| shortfall.is_owners),
            _ => false,
        };
        *self.declines.entry(if is_owners { OWNER } else { reason.code() }).or_default() += 1;
    }

    /// Bids said.
    pub fn bids(&self) -> u64 {
        self.bids
    }

    /// Refusals by the reason's code.
    pub fn declines(&self) -> &BTreeMap<&'static str, u64> {
        &self.declines
    }
}

#[cfg(test)]
mod tests {
    use dms_messages::{Dimension, Shortfall};

    use super::*;

    #[test]
    fn refusals_are_counted_by_reason_and_the_owners_apart() {
        let busy = |is_owners| DeclineReason::Busy {
            shortfalls: vec![Shortfall { dimension: Dimension::Cpu, needed: 2, had: 1, is_owners }],
        };
        let mut tally = Tally::default();
        tally.bid();
        let label = |key: &str| DeclineReason::Label { key: key.to_owned() };
        for reason in [busy(false), busy(true), busy(true), label("a"), label("b"), DeclineReason::LockShare]
        {
            tally.decline(&reason);
        }
        assert_eq!(tally.bids(), 1);
        let counts = [("busy", 1), ("busy_owner", 2), ("label", 2), ("lock_share", 1)];
        assert_eq!(tally.declines(), &BTreeMap::from(counts));
    }
}
