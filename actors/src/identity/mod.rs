//! Who speaks, and what is spoken of: decentralised identifiers, keys and content identifiers.
//!
//! One Ed25519 key is everything at once: the signing key of documents, the `did:key` DID and the
//! libp2p peer id. Text that arrives from peers is parsed by the checked codecs here, which never panic.

mod content_id;
mod did;
mod keypair;
#[cfg(feature = "testing")]
pub(crate) mod memo;

pub use content_id::{ContentId, ContentIdError};
pub use did::{Did, DidError};
pub use keypair::{Keypair, SECRET_KEY_LENGTH};
