//! Which ability each word needs: the whole policy in one table. What is not in it is refused.

use dms_actors::wire::{DecodeContext, DecodeError};
use dms_actors::{Kind, WireMessage};
use dms_messages::ability::{PROVIDE_BID, REQUEST_BIDS, REQUEST_INVOKE};
use dms_messages::{
    Accepted, Acknowledge, Admitted, Advert, AllocationOutput, AllocationStatus, AllocationStatusRequest,
    Bid, BidRequest, Cancel, Census, CensusReply, Decline, Invocation, Join, NotAdmitted, Reconcile, Refused,
    Release, Renew, Revocations, Signed, Successions,
};

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
}

/// A word that a peer may say.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its kind.
    pub kind: Kind,
    /// What its sender needs.
    pub need: Need,
    /// Reads it as a link does, and forgets it: for whoever tries what a body may hold.
    pub read: fn(&[u8], &DecodeContext) -> Result<(), DecodeError>,
}

/// Every word and what it needs.
pub fn table() -> Vec<Known> {
    fn word<M: WireMessage>(need: Need) -> Known {
        Known { kind: Kind::of::<M>(), need, read: |body, context| M::decode_body(body, context).map(drop) }
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
