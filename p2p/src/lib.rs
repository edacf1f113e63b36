//! One libp2p swarm behind the seams of `dms-actors`: it carries bytes, peers and topics, not words.
//!
//! `node/src/network.rs` starts a [`P2p`] and hands its [`Transport`](dms_actors::transport::Transport)
//! and [`Mesh`](dms_actors::mesh::Mesh) to the actor runtime. Nothing here decides anything about an
//! application, keeps state on disk, or trusts what a peer says about itself beyond its key.
//!
//! # The map
//!
//! One task owns the swarm (`swarm`) and only polls and dispatches; nothing in it waits for a
//! caller or a consumer. Everything else talks to it through bounded channels.
//!
//! | file | concern |
//! |---|---|
//! | `config` | what a user sets; checked once, at start |
//! | `node` | [`P2p`]: start, status, shutdown; the `Transport` and `Mesh` handles |
//! | `swarm` | the loop: selects and dispatches |
//! | `behaviour` | composes the libp2p behaviours, nothing more |
//! | `event` | what goes out to the consumer: ups, downs, streams, in order |
//! | `links` | streams of our protocols over libp2p connections |
//! | `dial` | dials and who waits for them |
//! | `bootstrap` | the peers that are dialled again for ever, with back-off |
//! | `addresses` | the address book, and which addresses are worth keeping |
//! | `listen` | binding listeners, and noticing that a port is taken |
//! | `gossip` | gossipsub: limits, scores, topics, verdicts |
//! | `identify` | what peers say about themselves |
//! | `liveness` | pings, and closing connections that stopped answering |
//! | `limits` | connection limits and who is admitted |
//! | `peer` | PeerId and DID are two names of one key |
//!
//! A new discovery means (QUIC, mDNS, Kademlia) is a new file, one field in `behaviour` and one arm
//! in `swarm`.

mod addresses;
mod behaviour;
mod bootstrap;
mod config;
mod dial;
mod event;
mod gossip;
mod identify;
mod limits;
mod links;
mod listen;
mod liveness;
mod node;
mod peer;
mod status;
mod swarm;

pub use config::{ConfigError, P2pConfig, Timing};
pub use limits::ConnectionLimits;
pub use node::{P2p, P2pError};
pub use status::{P2pStatus, TopicStatus};
