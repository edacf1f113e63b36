//! Signs documents in the node's name, at the node's time, for the node's mesh.

use std::sync::Arc;
use std::time::Duration;

use dms_actors::clock::{SharedClock, Timestamp};
use dms_actors::signed::{Document, DocumentId, SignOptions, Signed, SignedError};
use dms_actors::{Did, Keypair};

/// How long answers (bids, declines, acceptances, refusals) and adverts are fresh.
pub const ANSWER_TTL: Duration = Duration::from_secs(60);
/// How long a contract, a card or a status can be shown to somebody: records, not answers.
pub const RECORD_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// The node's pen. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signer {
    keypair: Arc<Keypair>,
    clock: SharedClock,
    network: Arc<str>,
}

impl Signer {
    /// A pen for one mesh.
    pub fn new(keypair: Arc<Keypair>, clock: SharedClock, network: &str) -> Self {
        Self { keypair, clock, network: network.into() }
    }

    /// Whose pen it is.
    pub fn me(&self) -> Did {
        self.keypair.did()
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The monotonic clock.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Fresh random bytes for an id.
    pub fn random(&self) -> [u8; 16] {
        self.clock.random()
    }

    /// Signs `value`, for `audience` alone if there is one.
    pub fn sign<T: Document>(
        &self,
        value: T,
        audience: Option<Did>,
        ttl: Duration,
    ) -> Result<Signed<T>, SignedError> {
        let options = SignOptions {
            network: self.network.to_string(),
            audience,
            issued_at: self.clock.now(),
            ttl,
            id: DocumentId(self.clock.random()),
        };
        Signed::sign(value, &self.keypair, options)
    }
}
