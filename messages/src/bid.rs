//! `Bid` and `Decline`: a provider's two answers to a [`crate::BidRequest`]; `Release`: the requester
//! gives a bid back.
//!
//! Bid: signed, direct; backed by a lock that is on disk before the bid leaves; answered with an
//! [`crate::Invocation`] or a [`Release`]; void when its lease ends. Decline: signed, direct; answers
//! nothing. Release: a frame, direct.

use std::fmt;

use dms_actors::signed::Document;
use serde::{Deserialize, Serialize};

use crate::capability::{ExecutorKind, Resources, Shortfall};
use crate::ids::{BidId, BidRequestId};
use crate::profile::Profile;
use crate::units::{Millis, Price};
use crate::{check_text, units};

/// A promise of capacity, for as long as its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    /// Names this bid.
    pub id: BidId,
    /// The request it answers.
    pub request: BidRequestId,
    /// What is locked for it.
    pub resources: Resources,
    /// Price per hour.
    pub price: Price,
    /// How well the bidder thinks it fits, 0 to 1000; a hint for ranking, not for fitting.
    pub score: u16,
    /// How long the lock holds, counted by the provider from its commit and by the requester from when it
    /// sent the request, so that the requester's view ends first.
    pub lease: Millis,
    /// What the machine is like.
    #[serde(default, skip_serializing_if = "Profile::is_empty")]
    pub profile: Profile,
}

impl Document for Bid {
    const KIND: &'static str = "dms.bid";
    const VERSION: u16 = 1;
    const IS_DIRECTED: bool = true;

    fn check(&self) -> Result<(), String> {
        if self.score > 1000 {
            return Err("a score is between 0 and 1000".to_owned());
        }
        self.resources.check()?;
        self.profile.check()?;
        if self.lease == units::Millis(0) {
            Err("a bid without a lease promises nothing".to_owned())
        } else {
            Ok(())
        }
    }
}

/// Whether asking again later may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The answer will stay the same.
    Final,
    /// The answer may change.
    Later,
}

/// Why a provider does not bid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeclineReason {
    /// The machine never has that much.
    TooBig {
        /// The dimensions that are short of what is registered.
        shortfalls: Vec<Shortfall>,
    },
    /// The machine has that much, but not free now.
    Busy {
        /// The dimensions that are short now.
        shortfalls: Vec<Shortfall>,
    },
    /// The machine does not run this kind of workload.
    NoExecutor {
        /// The kind.
        executor: ExecutorKind,
    },
    /// The machine stands elsewhere.
    Location,
    /// A label is missing or different.
    Label {
        /// Which.
        key: String,
    },
    /// The machine's processor has another instruction set.
    Architecture {
        /// The one it has; empty where the machine does not say.
        had: String,
    },
    /// The machine's clock is slower than needed.
    Clock {
        /// What is needed, in MHz.
        needed: u32,
        /// What it has, in MHz; 0 where the machine does not say.
        had: u32,
    },
    /// The machine's score is lower than needed.
    Score {
        /// What is needed ([`crate::CpuInfo::score`]).
        needed: u32,
        /// What it has; 0 where it was not measured.
        had: u32,
    },
    /// The machine costs more than the limit.
    TooExpensive {
        /// Its price per hour.
        price: Price,
    },
    /// The machine costs more than the limit while so much of it is taken.
    DearNow {
        /// Its price per hour now.
        price: Price,
        /// What it costs per hour at the least, when nothing of it is taken.
        lowest: Price,
    },
    /// The machine's owner prefers not to run this.
    Preference {
        /// The owner's rule, by its name.
        rule: String,
        /// Whether asking again later may help.
        retry: Retry,
    },
    /// The requester is a stranger here.
    NotTrusted,
    /// The node does not trust the requester for this.
    Lacks {
        /// The ability that it has not shown, as the node says it.
        ability: String,
    },
    /// The requester already holds its share of locks that it has not invoked.
    LockShare,
    /// The node offers nothing to anybody.
    NotOnboarded,
    /// The node is stopping.
    Draining,
    /// The node cannot write its books.
    ReadOnly,
    /// The request cannot be understood or fulfilled by this version.
    Unsupported {
        /// What.
        what: String,
    },
    /// A reason of a later version; what came with it says whether asking again may help.
    #[serde(other)]
    Other,
}

impl DeclineReason {
    /// Whether asking again later may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Busy { .. }
            | Self::DearNow { .. }
            | Self::LockShare
            | Self::Draining
            | Self::ReadOnly
            | Self::Other => Retry::Later,
            Self::Preference { retry, .. } => *retry,
            _ => Retry::Final,
        }
    }

    /// The reason without its particulars, in the word that stands for it on the wire: for counting.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooBig { .. } => "too_big",
            Self::Busy { .. } => "busy",
            Self::NoExecutor { .. } => "no_executor",
            Self::Location => "location",
            Self::Label { .. } => "label",
            Self::Architecture { .. } => "architecture",
            Self::Clock { .. } => "clock",
            Self::Score { .. } => "score",
            Self::TooExpensive { .. } => "too_expensive",
            Self::DearNow { .. } => "dear_now",
            Self::Preference { .. } => "preference",
            Self::NotTrusted => "not_trusted",
            Self::Lacks { .. } => "lacks",
            Self::LockShare => "lock_share",
            Self::NotOnboarded => "not_onboarded",
            Self::Draining => "draining",
            Self::ReadOnly => "read_only",
            Self::Unsupported { .. } => "unsupported",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for DeclineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, shortfalls: &[Shortfall]| {
            for (index, shortfall) in shortfalls.iter().enumerate() {
                if index > 0 {
                    f.write_str("; ")?;
                }
                fmt::Display::fmt(shortfall, f)?;
            }
            Ok(())
        };
        match self {
            Self::TooBig { shortfalls } => list(f, shortfalls),
            Self::Busy { shortfalls } if shortfalls.is_empty() => f.write_str("has too much to do just now"),
            Self::Busy { shortfalls } => {
                f.write_str("busy: ")?;
                list(f, shortfalls)
            }
            Self::NoExecutor { executor } => write!(f, "does not run {executor}"),
            Self::Location => f.write_str("stands in no location that the job accepts"),
            Self::Label { key } => write!(f, "label {key:?} is missing or different"),
            Self::Architecture { had } if had.is_empty() => f.write_str("does not say its instruction set"),
            Self::Architecture { had } => write!(f, "has the instruction set {had}"),
            Self::Clock { needed, had: 0 } => write!(f, "needs {needed} MHz, and does not say its clock"),
            Self::Clock { needed, had } => write!(f, "needs {needed} MHz, has {had}"),
            Self::Score { needed, had: 0 } => write!(f, "needs a score of {needed}, and was not measured"),
            Self::Score { needed, had } => write!(f, "needs a score of {needed}, has {had}"),
            Self::TooExpensive { price } => write!(f, "costs {price} per hour, over the limit"),
            Self::DearNow { price, lowest } => {
                write!(
                    f,
                    "costs {price} per hour while it is so busy, over the limit ({lowest} at the least)"
                )
            }
            Self::Preference { rule, .. } => write!(f, "prefers not to run it (its owner's rule {rule:?})"),
            Self::NotTrusted => f.write_str("does not trust the requester"),
            Self::Lacks { ability } => write!(f, "does not trust the requester: {ability}"),
            Self::LockShare => f.write_str("the requester already holds its share of locks"),
            Self::NotOnboarded => f.write_str("offers no capacity (not onboarded)"),
            Self::Draining => f.write_str("is stopping"),
            Self::ReadOnly => f.write_str("cannot write its books"),
            Self::Unsupported { what } => write!(f, "does not support {what}"),
            Self::Other => f.write_str("does not bid, for a reason of a later version"),
        }
    }
}

/// A provider's typed no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// The request it answers.
    pub request: BidRequestId,
    /// Why.
    pub reason: DeclineReason,
    /// Whether asking again later may help.
    pub retry: Retry,
}

impl Document for Decline {
    const KIND: &'static str = "dms.decline";
    const VERSION: u16 = 1;
    const IS_DIRECTED: bool = true;

    fn check(&self) -> Result<(), String> {
        match &self.reason {
            DeclineReason::Label { key: text }
            | DeclineReason::Architecture { had: text }
            | DeclineReason::Lacks { ability: text }
            | DeclineReason::Preference { rule: text, .. }
            | DeclineReason::Unsupported { what: text } => check_text("reason", text),
            DeclineReason::TooBig { shortfalls } | DeclineReason::Busy { shortfalls }
                if shortfalls.len() > 16 =>
            {
                Err("more shortfalls than dimensions".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Why a lock is given back, or why an auction let a bid go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseCause {
    /// Another bid was chosen.
    NotChosen,
    /// The bid came after the auction.
    TooLate,
    /// The job was cancelled.
    Cancelled,
    /// The bid is not what was asked for.
    NotAcceptable,
}

/// Tells a bidder that its lock is not needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The bid let go.
    pub bid: BidId,
    /// Why.
    pub cause: ReleaseCause,
}

dms_actors::wire_message!(Release, "dms.release", 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Dimension;

    #[test]
    fn nodes_of_before_read_an_owners_refusal_as_any_other() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Before {
            dimension: Dimension,
            needed: u64,
            had: u64,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(tag = "code", rename_all = "snake_case")]
        enum ReasonBefore {
            Busy { shortfalls: Vec<Before> },
        }
        let short = |is_owners| Shortfall { dimension: Dimension::Memory, needed: 64, had: 8, is_owners };
        let before = ReasonBefore::Busy {
            shortfalls: vec![Before { dimension: Dimension::Memory, needed: 64, had: 8 }],
        };
        for is_owners in [false, true] {
            let reason = DeclineReason::Busy { shortfalls: vec![short(is_owners)] };
            let bytes = crate::to_canonical(&reason).unwrap();
            assert_eq!(crate::from_canonical::<ReasonBefore>(&bytes).unwrap(), before);
            assert_eq!(crate::from_canonical::<DeclineReason>(&bytes).unwrap(), reason);
            let is_said = bytes.windows(9).any(|window| window == b"is_owners");
            assert_eq!(is_said, is_owners, "what is not so is not said");
        }
    }

    #[test]
    fn a_reasons_code_is_its_word_on_the_wire() {
        let reasons = [
            DeclineReason::TooBig { shortfalls: Vec::new() },
            DeclineReason::Busy { shortfalls: Vec::new() },
            DeclineReason::NoExecutor { executor: ExecutorKind::Wasm },
            DeclineReason::Location,
            DeclineReason::Label { key: "disk".into() },
            DeclineReason::Architecture { had: "riscv64".into() },
            DeclineReason::Clock { needed: 3000, had: 0 },
            DeclineReason::Score { needed: 300, had: 0 },
            DeclineReason::TooExpensive { price: Price(1) },
            DeclineReason::DearNow { price: Price(2), lowest: Price(1) },
            DeclineReason::Preference { rule: "exclude".into(), retry: Retry::Final },
            DeclineReason::NotTrusted,
            DeclineReason::Lacks { ability: "it needs /dms/request/bids".into() },
            DeclineReason::LockShare,
            DeclineReason::NotOnboarded,
            DeclineReason::Draining,
            DeclineReason::ReadOnly,
            DeclineReason::Unsupported { what: "pods".into() },
        ];
        for reason in reasons {
            let code = reason.code().as_bytes();
            // A text of CBOR that is shorter than 24 bytes: its length in the first one.
            let text = [&[0x60 + code.len() as u8], code].concat();
            let encoded = crate::to_canonical(&reason).unwrap();
            assert!(encoded.windows(text.len()).any(|window| window == text), "{}", reason.code());
        }
    }
}
