//! One libp2p swarm behind the seams of `dms-actors`: it carries bytes, peers and topics, not words.
//!
//! `node/src/network.rs` starts a [`P2p`] and hands its [`Transport`](dms_actors::transport::Transport),
//! [`Mesh`](dms_actors::mesh::Mesh) and [`Directory`](dms_actors::directory::Directory) to the actor runtime. Nothing here decides anything about an
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
//! | `node` | [`P2p`]: start, status, shutdown; the `Transport`, `Mesh` and `Directory` handles |
//! | `swarm` | the loop: selects and dispatches |
//! | `transports` | QUIC, TCP and names; how long a dead end may cost |
//! | `behaviour` | composes the libp2p behaviours, nothing more |
//! | `event` | what goes out to the consumer: ups, downs, streams, in order |
//! | `links` | streams of our protocols over libp2p connections |
//! | `dial` | dials and who waits for them |
//! | `bootstrap` | the peers that are dialled again for ever, with back-off |
//! | `addresses` | the address book, and which addresses are worth keeping |
//! | `listen` | binding listeners, and noticing that a port is taken |
//! | `gossip` | gossipsub: limits, scores, topics, verdicts |
//! | `identify` | what peers say about themselves |
//! | `foreigners` | peers of other networks, which are let go |
//! | `dht` | Kademlia: settings, the routing table, what it may dial |
//! | `directory` | queries for records, providers and peers; checks of what others store here |
//! | `shelf` | the records and providers kept here |
//! | `lookup` | who waits for a peer whose address must be found first |
//! | `mdns` | finding peers on the local network |
//! | `liveness` | pings, and closing connections that stopped answering |
//! | `limits` | connection limits and who is admitted |
//! | `peer` | PeerId and DID are two names of one key |
//!
//! A new discovery means is a new file, one field in `behaviour` and one arm
//! in `swarm`.

mod addresses;
mod behaviour;
mod bootstrap;
mod config;
mod dht;
mod dial;
mod directory;
mod event;
mod foreigners;
mod gossip;
mod identify;
mod limits;
mod links;
mod listen;
mod liveness;
mod lookup;
mod mdns;
mod node;
mod peer;
mod shelf;
mod sources;
mod status;
mod swarm;
mod transports;

pub use config::{ConfigError, P2pConfig, Timing};
pub use limits::ConnectionLimits;
pub use node::{P2p, P2pError};
pub use status::{Direction, P2pStatus, PeerStatus, TopicStatus, TransportKind, UnreachedBootstrap};
