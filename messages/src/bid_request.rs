//! `BidRequest`: a requester asks who would run a pod. Signed; sent directly to known candidates, by
//! gossip when too few are known. Answered with a [`crate::Bid`] or a [`crate::Decline`]; void at its
//! expiry.

use dms_actors::signed::Document;
use serde::{Deserialize, Serialize};

use crate::advert::check_addresses;
use crate::capability::Requirement;
use crate::ids::{BidRequestId, JobId};
use crate::token::Credentials;
use crate::units::{Millis, Price};

/// Most bids that a request may want.
pub const MAX_WANTED: u16 = 64;

/// A call for bids on one pod. It says what is needed, not what will be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BidRequest {
    /// Names this request; answers refer to it.
    pub id: BidRequestId,
    /// The job.
    pub job: JobId,
    /// The pod's index within the job.
    pub pod: u16,
    /// What the pod needs.
    pub requirement: Requirement,
    /// How long the pod may run at most.
    pub run_time: Millis,
    /// Highest acceptable price per hour, if there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_price: Option<Price>,
    /// How many bids are wanted (1 to [`MAX_WANTED`]).
    pub wanted: u16,
    /// Where the requester can be dialled, for bidders that heard this by gossip.
    pub addresses: Vec<String>,
    /// What lets the requester ask, for bidders that it has no link to.
    #[serde(default, skip_serializing_if = "Credentials::is_empty")]
    pub credentials: Credentials,
}

impl BidRequest {
    /// The request as it is kept: without what was only shown with it.
    pub fn bare(&self) -> Self {
        Self { credentials: Credentials::default(), ..self.clone() }
    }
}

impl Document for BidRequest {
    const KIND: &'static str = "dms.bid-request";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<(), String> {
        if self.wanted == 0 || self.wanted > MAX_WANTED {
            return Err(format!("between 1 and {MAX_WANTED} bids can be wanted"));
        }
        check_addresses(&self.addresses)?;
        self.requirement.check()
    }
}
