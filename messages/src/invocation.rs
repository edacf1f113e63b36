//! `Invocation`, `Accepted`, `Refused`: the requester takes a bid, the provider says yes or no.
//!
//! All three are signed and direct. An invocation is void when the bid's lease ends; a repeat of one
//! that was accepted is answered with the same allocation.

use std::fmt;

use dms_actors::signed::Document;
use dms_actors::{ContentId, Signed};
use serde::{Deserialize, Serialize};

use crate::check_text;
use crate::contract::Contract;
use crate::ids::{AllocationId, AttemptId, BidId};

/// The order to run, with the contract signed by the requester.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Invocation {
    /// The bid that is taken.
    pub bid: BidId,
    /// The terms.
    pub contract: Signed<Contract>,
}

impl Document for Invocation {
    const KIND: &'static str = "dms.invocation";
    const VERSION: u16 = 1;
    const IS_DIRECTED: bool = true;

    fn check(&self) -> Result<(), String> {
        if self.contract.value().bid == self.bid {
            Ok(())
        } else {
            Err("the contract is for another bid".to_owned())
        }
    }
}

/// The provider's yes: its signature under the contract, whose lock has become an allocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The attempt.
    pub attempt: AttemptId,
    /// The content identifier of the contract it countersigns.
    pub contract: ContentId,
    /// The allocation that runs it: the first task's, from which the others follow ([`AllocationId::of_task`]).
    pub allocation: AllocationId,
}

impl Document for Accepted {
    const KIND: &'static str = "dms.accepted";
    const VERSION: u16 = 1;
    const IS_DIRECTED: bool = true;
}

/// Why a provider does not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusedReason {
    /// The bid's lease has ended.
    LeaseEnded,
    /// The bid is not known here.
    UnknownBid,
    /// The attempt is not known here: it never started or was forgotten after it was acknowledged.
    UnknownAttempt,
    /// The sender is not the one the bid was made for.
    NotYours,
    /// The contract is not what was bid.
    ContractDiffers {
        /// In what.
        what: String,
    },
    /// A newer attempt of the same pod is here.
    Superseded,
    /// The sender may not do this.
    NotTrusted,
    /// The node has more to write than it can; the lock still holds.
    Busy,
    /// The node is stopping.
    Draining,
    /// The node cannot write its books.
    ReadOnly,
}

impl fmt::Display for RefusedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseEnded => f.write_str("the bid's lease has ended"),
            Self::UnknownBid => f.write_str("the bid is not known"),
            Self::UnknownAttempt => f.write_str("the attempt is not known"),
            Self::NotYours => f.write_str("the bid was made for somebody else"),
            Self::ContractDiffers { what } => write!(f, "the contract differs from the bid in {what}"),
            Self::Superseded => f.write_str("a newer attempt has taken its place"),
            Self::NotTrusted => f.write_str("does not trust the sender"),
            Self::Busy => f.write_str("has too much to do just now"),
            Self::Draining => f.write_str("is stopping"),
            Self::ReadOnly => f.write_str("cannot write its books"),
        }
    }
}

/// The provider's typed no to an [`Invocation`], a [`crate::Cancel`] or an
/// [`crate::AllocationStatusRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The attempt that was spoken of.
    pub attempt: AttemptId,
    /// Why.
    pub reason: RefusedReason,
}

impl Document for Refused {
    const KIND: &'static str = "dms.refused";
    const VERSION: u16 = 1;
    const IS_DIRECTED: bool = true;

    fn check(&self) -> Result<(), String> {
        match &self.reason {
            RefusedReason::ContractDiffers { what } => check_text("reason", what),
            _ => Ok(()),
        }
    }
}
