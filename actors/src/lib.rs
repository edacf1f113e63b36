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
//! * With `testing`: what an application's tests want (probes, virtual time, faulty networks, leak checks).
//! * With `actix-bridge`: existing actix actors as actors of this crate.
//! * With `macros` (default): the derives and [`handlers`](macro@handlers).

#![deny(missing_docs)]

// What the macros write names this crate by its name, also in our own sources.
extern crate self as dms_actors;

pub mod cbor;
pub mod clock;
pub mod identity;
#[cfg(feature = "macros")]
mod macros;
pub mod signed;
pub mod wire;

#[cfg(feature = "actix-bridge")]
#[path = "actix_bridge.rs"]
pub mod bridge;

#[cfg(feature = "runtime")]
pub mod blob;
#[cfg(feature = "runtime")]
pub mod directory;
#[cfg(feature = "runtime")]
pub mod mesh;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "runtime")]
pub mod transport;

pub use identity::{ContentId, Did, Keypair};
#[cfg(all(feature = "macros", feature = "runtime"))]
pub use macros::{Actor, handlers, main};
#[cfg(feature = "macros")]
pub use macros::{Message, WireMessage};
#[cfg(feature = "runtime")]
pub use runtime::*;
pub use signed::Signed;
pub use wire::{Kind, Message, WireMessage};

/// What the macros' expansions call; no part of the crate's interface.
#[cfg(feature = "runtime")]
#[doc(hidden)]
pub mod __private {
    pub use crate::runtime::expansion::{IntoAnswer, answer, run};
}

/// Compiles the programs of the README.
#[cfg(all(doctest, feature = "macros", feature = "runtime"))]
#[doc = include_str!("../README.md")]
struct Readme;
