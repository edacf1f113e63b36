//! Typed identifiers: what the compiler must not let anybody mix up.

use std::fmt;
use std::str::FromStr;

use dms_actors::{ContentId, Did};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The identifier made of 16 random bytes (as a version 4 UUID).
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }

            /// The 16 bytes, for keys.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Reads the 16 bytes of a key.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| IdError { text: text.chars().take(64).collect(), expected: $expected })
            }
        }
    };
}

uuid_id!(
    /// A node's own number, drawn once when its identity is made.
    NodeUuid, "a node id (a UUID)");
uuid_id!(
    /// One job, named by its requester.
    JobId, "a job id (a UUID)");
uuid_id!(
    /// One running task of a job on a provider, named by that provider.
    #[doc(alias = "AllocationID")]
    AllocationId, "an allocation id (a UUID)");
impl AllocationId {
    /// The allocation of a task, from 0, of the pod whose first task has this one. Both sides can work it out, so that
    /// what a provider countersigns names all of them; not alike at the beginning, so that people can tell them apart.
    pub fn of_task(self, task: u16) -> Self {
        if task == 0 {
            return self;
        }
        let seed = [self.as_bytes().as_slice(), &task.to_be_bytes()].concat();
        let digest = ContentId::of_bytes(&seed).to_bytes();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[digest.len() - 16..]);
        Self::from_random(bytes)
    }
}

uuid_id!(
    /// One request for bids.
    BidRequestId, "a bid request id (a UUID)");
uuid_id!(
    /// One bid, named by its bidder.
    BidId, "a bid id (a UUID)");

/// All the names of a node.
#[doc(alias = "NodeID")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeId {
    /// The node's own number.
    pub uuid: NodeUuid,
    /// The identifier of its signed [`crate::NodeCard`].
    pub cid: ContentId,
    /// Its libp2p peer id, as text.
    pub peer_id: String,
    /// Its DID: the same key as the peer id.
    pub did: Did,
}

/// One try to run one pod of a job. Numbers are minted by the requester, start at 1 and only grow;
/// an attempt never starts twice, and only the highest number's result counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The job.
    pub job: JobId,
    /// The pod's index within the job.
    pub pod: u16,
    /// The number of the try.
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.job, self.pod, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_printed_and_wrong_text_is_named() {
        let id = JobId::from_random([9; 16]);
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        let error = "nonsense".parse::<JobId>().unwrap_err();
        assert_eq!(error.to_string(), "\"nonsense\" is not a job id (a UUID)");
    }
}
