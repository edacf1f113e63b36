//! Which ability each word needs: the whole policy in one table. What is not in it is refused.

use dms_actors::{Kind, WireMessage};
use dms_messages::ability::{PROVIDE_BID, REQUEST_BIDS, REQUEST_INVOKE};
use dms_messages::{
    Accepted, Acknowledge, Admitted, Advert, AllocationOutput, AllocationStatus, AllocationStatusRequest,
    Bid, BidRequest, Cancel, Decline, Invocation, Join, NotAdmitted, Reconcile, Refused, Release, Renew,
    Revocations, Signed, Successions,
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

/// Every word and what it needs.
pub fn table() -> Vec<(Kind, Need)> {
    fn kind<M: WireMessage>() -> Kind {
        Kind::of::<M>()
    }
    vec![
        // A hint: nobody is asked, let alone believed, because of it who is not trusted.
        (kind::<Signed<Advert>>(), Need::Nothing),
        // Requesters.
        (kind::<Signed<BidRequest>>(), Need::Ability(REQUEST_BIDS)),
        (kind::<Release>(), Need::Acquaintance),
        (kind::<Signed<Invocation>>(), Need::Ability(REQUEST_INVOKE)),
        (kind::<AllocationStatusRequest>(), Need::Acquaintance),
        (kind::<Acknowledge>(), Need::Acquaintance),
        (kind::<Cancel>(), Need::Acquaintance),
        // Providers.
        (kind::<Signed<Bid>>(), Need::Ability(PROVIDE_BID)),
        (kind::<Signed<Decline>>(), Need::Acquaintance),
        (kind::<Signed<Accepted>>(), Need::Acquaintance),
        (kind::<Signed<Refused>>(), Need::Acquaintance),
        (kind::<Signed<AllocationStatus>>(), Need::Acquaintance),
        (kind::<AllocationOutput>(), Need::Acquaintance),
        // Both.
        (kind::<Reconcile>(), Need::Acquaintance),
        // Whoever asks to be let in is nobody yet; the secret, or what the books grant it, decides.
        (kind::<Join>(), Need::Nothing),
        (kind::<Renew>(), Need::Nothing),
        // Whoever was asked to let this node in is nobody yet, either.
        (kind::<Admitted>(), Need::Nothing),
        (kind::<NotAdmitted>(), Need::Nothing),
        // Each proves itself, which takes work that is not done for strangers; they may gossip it.
        (kind::<Revocations>(), Need::Acquaintance),
        // Whoever has a new key is nobody until the old one has spoken for it.
        (kind::<Successions>(), Need::Nothing),
    ]
}
