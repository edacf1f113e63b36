//! Which ability each word needs: the whole policy in one table. What is not in it is refused.

use dms_actors::wire::{DecodeContext, DecodeError};
use dms_actors::{ActorPath, Kind, WireMessage};
use dms_messages::ability::{PROVIDE_BID, REQUEST_BIDS, REQUEST_INVOKE};
use dms_messages::{
    Accepted, Acknowledge, Admitted, Advert, AllocationCheck, AllocationMessage, AllocationOutput,
    AllocationStatus, AllocationStatusRequest, Bid, BidRequest, Cancel, Census, CensusReply, Decline,
    Invocation, Join, NotAdmitted, Reconcile, Refused, Release, Renew, Revocations, Signed, Successions,
};

use crate::paths::ALLOCATIONS_PATH;

/// What a sender needs for a word to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing but its key: the word proves itself, is only a hint, or asks to be let in.
    Nothing,
    /// To share something with this node: a contract, or trust in any form. What it says then counts only for what is
    /// its own.
    Acquaintance,
    /// This ability.
    Ability(&'static str),
    /// To have asked for the allocation that it is said to, or the ability to speak to it.
    Allocation,
}

/// Where a word is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// To a live allocation.
    Allocation,
    /// To the node, or to whom nobody has heard of: there the runtime says that nobody is there.
    Node,
}

impl Place {
    /// Which place a path is.
    pub fn of(path: &ActorPath) -> Self {
        if path.as_str().starts_with(ALLOCATIONS_PATH) { Self::Allocation } else { Self::Node }
    }
}

/// A word that a peer may say.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its kind.
    pub kind: Kind,
    /// Where it is said; it is refused everywhere else.
    pub place: Place,
    /// What its sender needs.
    pub need: Need,
    /// Reads it as a link does, and forgets it: for whoever tries what a body may hold.
    pub read: fn(&[u8], &DecodeContext) -> Result<(), DecodeError>,
}

/// Every word and what it needs.
pub fn table() -> Vec<Known> {
    fn word<M: WireMessage>(need: Need) -> Known {
        let place = if need == Need::Allocation { Place::Allocation } else { Place::Node };
        let kind = Kind::of::<M>();
        Known { kind, place, need, read: |body, context| M::decode_body(body, context).map(drop) }
    }
    vec![
        // A hint: nobody is asked, let alone believed, because of it who is not trusted.
        word::<Signed<Advert>>(Need::Nothing),
        // Requesters.
        word::<Signed<BidRequest>>(Need::Ability(REQUEST_BIDS)),
        word::<Release>(Need::Acquaintance),
        word::<Signed<Invocation>>(Need::Ability(REQUEST_INVOKE)),
        word::<AllocationStatusRequest>(Need::Acquaintance),
        word::<Acknowledge>(Need::Acquaintance),
        word::<Cancel>(Need::Acquaintance),
        word::<AllocationMessage>(Need::Allocation),
        // Whose it is, is looked at by whoever answers: also of what has ended.
        word::<AllocationCheck>(Need::Acquaintance),
        // Providers.
        word::<Signed<Bid>>(Need::Ability(PROVIDE_BID)),
        word::<Signed<Decline>>(Need::Acquaintance),
        word::<Signed<Accepted>>(Need::Acquaintance),
        word::<Signed<Refused>>(Need::Acquaintance),
        word::<Signed<AllocationStatus>>(Need::Acquaintance),
        word::<AllocationOutput>(Need::Acquaintance),
        // Both.
        word::<Reconcile>(Need::Acquaintance),
        // Hearsay, whose way is measured: of strangers nothing in it is taken, and nothing is told to them.
        word::<Census>(Need::Nothing),
        word::<CensusReply>(Need::Nothing),
        // Whoever asks to be let in is nobody yet; the secret, or what the books grant it, decides.
        word::<Join>(Need::Nothing),
        word::<Renew>(Need::Nothing),
        // Whoever was asked to let this node in is nobody yet, either.
        word::<Admitted>(Need::Nothing),
        word::<NotAdmitted>(Need::Nothing),
        // Each proves itself, which takes work that is not done for strangers; they may gossip it.
        word::<Revocations>(Need::Acquaintance),
        // Whoever has a new key is nobody until the old one has spoken for it.
        word::<Successions>(Need::Nothing),
    ]
}
