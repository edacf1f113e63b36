//! Who may do what here: the one place where it is decided whether a word is taken, before it is read.
//!
//! ```text
//!  books (roots, grants, tokens, revocations) ──▶ Authority ◀── Credentials that peers show
//!                                                    │            (in a link's greeting, with gossip)
//!        kind of a word ──▶ Need ──▶ Gate ──────────▶ may this peer? ──▶ taken, or refused by what it lacks
//! ```
//!
//! [`chain`] proves what a token is worth, [`authority`] knows who is trusted and what has been shown, [`needs`] says
//! which ability each word needs, [`succession`] what becomes of trust in somebody who has a new key, [`conduct`] counts
//! who abuses the way, and the [`Gate`] joins them to the links. Nothing here reads the disk or waits;
//! whoever may do what changes with the next word after the owner says so.

pub mod authority;
pub mod chain;
pub mod commands;
pub mod conduct;
mod gate;
pub mod issue;
pub mod needs;
pub mod succession;

use std::collections::BTreeSet;

use dms_messages::{Did, PreSharedKey};

pub use gate::{Gate, Measures};

/// Whom a node is told to trust when it starts, beside what its books say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// True if strangers may ask for bids here, and be asked.
    pub is_open: bool,
    /// Who else may.
    pub peers: BTreeSet<Did>,
    /// The key of a private mesh, which comes with every invite.
    pub pre_shared_key: Option<PreSharedKey>,
}
