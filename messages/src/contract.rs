//! `Contract`: what the two parties of an attempt agreed on. Signed by the requester, carried by the
//! [`crate::Invocation`], countersigned by the provider's [`crate::Accepted`]; kept by both; can be checked
//! offline for ever.

use dms_actors::Did;
use dms_actors::signed::Document;
use serde::{Deserialize, Serialize};

use crate::capability::Resources;
use crate::ids::{AttemptId, BidId, BidRequestId};
use crate::job::Pod;
use crate::units::{Millis, Price};

/// The terms of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// Who asks; must be the issuer.
    pub requester: Did,
    /// Who runs; must be the audience.
    pub provider: Did,
    /// Which try of which pod of which job.
    pub attempt: AttemptId,
    /// The request.
    pub request: BidRequestId,
    /// The bid that is taken.
    pub bid: BidId,
    /// What is granted.
    pub resources: Resources,
    /// Price per hour, as bid.
    pub price: Price,
    /// What is run.
    pub pod: Pod,
    /// After how long without a word from the requester the provider stops by itself.
    pub orphan_after: Millis,
}

impl Document for Contract {
    const KIND: &'static str = "dms.contract";
    const VERSION: u16 = 1;
    const IS_DIRECTED: bool = true;

    fn check(&self) -> Result<(), String> {
        if self.attempt.number == 0 {
            return Err("attempts are counted from 1".to_owned());
        }
        self.resources.check()?;
        self.pod.check().map_err(|error| error.to_string())
    }
}
