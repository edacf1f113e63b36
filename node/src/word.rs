//! The words as the node handles them: one enum of everything that can be told to a peer's node.

use dms_messages::{
    Accepted, Acknowledge, Admitted, Advert, AllocationOutput, AllocationStatus, AllocationStatusRequest,
    Bid, BidRequest, Cancel, Census, CensusReply, Decline, Did, Invocation, Join, NotAdmitted, Reconcile,
    Refused, Release, Renew, Revocations, Signed, Successions,
};

/// A word for a peer's node.
#[derive(Debug, Clone)]
pub enum Word {
    /// What we offer.
    Advert(Signed<Advert>),
    /// Who would run this?
    BidRequest(Signed<BidRequest>),
    /// We would.
    Bid(Signed<Bid>),
    /// We would not.
    Decline(Signed<Decline>),
    /// Not needed any more.
    Release(Release),
    /// Run it.
    Invocation(Box<Signed<Invocation>>),
    /// It runs.
    Accepted(Signed<Accepted>),
    /// It does not.
    Refused(Signed<Refused>),
    /// So it stands.
    AllocationStatus(Signed<AllocationStatus>),
    /// How does it stand?
    AllocationStatusRequest(AllocationStatusRequest),
    /// It printed this.
    AllocationOutput(AllocationOutput),
    /// We have the result.
    Acknowledge(Acknowledge),
    /// Stop it.
    Cancel(Cancel),
    /// This is what we share.
    Reconcile(Reconcile),
    /// How many are we?
    Census(Census),
    /// These we know of.
    CensusReply(CensusReply),
    /// We were invited.
    Join(Join),
    /// Our tokens will end.
    Renew(Renew),
    /// Here are your tokens.
    Admitted(Admitted),
    /// You get none.
    NotAdmitted(NotAdmitted),
    /// These hold no longer.
    Revocations(Revocations),
    /// We have a new key.
    Successions(Successions),
}

/// A word and who it is for.
#[derive(Debug, Clone)]
pub struct Addressed {
    /// Whose node.
    pub to: Did,
    /// The word.
    pub word: Word,
}

impl Addressed {
    /// A word for a peer's node.
    pub fn new(to: Did, word: Word) -> Self {
        Self { to, word }
    }
}
