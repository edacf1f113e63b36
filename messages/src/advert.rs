//! `Advert`: what a provider has to offer. Signed; sent to each peer on link-up and gossiped; the newest
//! sequence of one issuer wins; void after 30 minutes.

use std::collections::BTreeSet;

use dms_actors::ContentId;
use dms_actors::signed::Document;
use serde::{Deserialize, Serialize};

use crate::capability::{ExecutorKind, PriceList, Resources};
use crate::profile::Profile;
use crate::token::Credentials;

/// Most addresses that an advert or a request carries.
pub const MAX_ADDRESSES: usize = 8;

/// A provider's offer to everybody. A hint, not a promise: only a bid promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    /// The content identifier of the issuer's node card.
    pub card: ContentId,
    /// Where the node can be dialled (multiaddrs), at most [`MAX_ADDRESSES`].
    pub addresses: Vec<String>,
    /// What it runs.
    pub executors: BTreeSet<ExecutorKind>,
    /// What was available when this was written.
    pub available: Resources,
    /// Its prices.
    pub prices: PriceList,
    /// Grows with every advert of this issuer (milliseconds of its clock, so that it grows over restarts).
    pub sequence: u64,
    /// What lets the node bid, for requesters that it has no link to.
    #[serde(default, skip_serializing_if = "Credentials::is_empty")]
    pub credentials: Credentials,
    /// What the machine is like.
    #[serde(default, skip_serializing_if = "Profile::is_empty")]
    pub profile: Profile,
}

impl Document for Advert {
    const KIND: &'static str = "dms.advert";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<(), String> {
        check_addresses(&self.addresses)?;
        self.profile.check()?;
        self.available.check()
    }
}

/// Bounds a list of addresses; their form is for the network to judge.
pub(crate) fn check_addresses(addresses: &[String]) -> Result<(), String> {
    if addresses.len() > MAX_ADDRESSES {
        return Err(format!("more than {MAX_ADDRESSES} addresses"));
    }
    addresses.iter().try_for_each(|address| crate::check_text("address", address))
}
