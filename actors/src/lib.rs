//! An embeddable actor runtime: actors with bounded mailboxes, near or far.
//!
//! The crate knows how a message reaches a mailbox and who restarts whom; it knows no word of any
//! application. Two halves:
//!
//! * Without features: [`identity`] (one Ed25519 key is the DID and the libp2p peer id),
//!   [`cbor`] (deterministic CBOR and the walker that guards it), [`wire`] (messages that travel) and
//!   [`signed`] (documents that can be checked offline). No tokio, no actix.
//! * With `runtime` (default): mailboxes, references, supervision, the registry, and links over a
//!   transport.

pub mod cbor;
pub mod clock;
pub mod identity;
pub mod signed;
pub mod wire;

#[cfg(feature = "runtime")]
pub mod blob;
#[cfg(feature = "runtime")]
pub mod directory;
#[cfg(feature = "runtime")]
pub mod mesh;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "runtime")]
pub mod transport;

pub use identity::{ContentId, Did, Keypair};
#[cfg(feature = "runtime")]
pub use runtime::*;
pub use signed::Signed;
pub use wire::{Kind, Message, WireMessage};
