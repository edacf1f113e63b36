//! One libp2p swarm behind the seams of `dms-actors`: it carries bytes, peers and topics, not words.
//!
//! An application starts a [`P2p`] and hands its [`Transport`](dms_actors::transport::Transport),
//! [`Mesh`](dms_actors::mesh::Mesh) and [`Directory`](dms_actors::directory::Directory) to the actor runtime. Nothing here decides anything about an
//! application, keeps state on disk, or trusts what a peer says about itself beyond its key.
//!
//! # Two processes
//!
//! Without an argument this program serves, and prints its multiaddr; with that it asks.
//!
//! ```no_run
//! use dms_actors::{Actor, ActorSystem, Address, Answer, Context, Handler, Keypair, Supervision};
//! use dms_p2p::{P2p, P2pConfig, did_of};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Ping(u64);
//! dms_actors::wire_message!(Ping, "example.ping", 1, reply = u64);
//!
//! struct Pinger;
//! impl Actor for Pinger {}
//! impl Handler<Ping> for Pinger {
//!     fn handle(&mut self, ping: Ping, _: &mut Context<'_, Self>) -> Answer<u64> {
//!         (ping.0 + 1).into()
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (key, other) = (Keypair::generate()?, std::env::args().nth(1));
//!     let p2p = P2p::start(&key, P2pConfig::local("example").with_bootstrap(other.clone())).await?;
//!     let system = ActorSystem::builder(key.did(), "example").transport(p2p.transport()).start()?;
//!     if let Some(other) = other {
//!         let pinger = system.resolve::<Ping>(&Address::new(did_of(&other)?, "/pinger")?);
//!         println!("the answer is {}", pinger.ask(Ping(41)).await?);
//!     } else {
//!         let pinger = system.spawn(|| Pinger, Supervision::transient());
//!         system.register("/pinger", &pinger)?.accepts::<Ping>();
//!         println!("{}", p2p.listen_addresses()[0]);
//!         tokio::signal::ctrl_c().await?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! An application that has a swarm already puts an [`ActorBehaviour`] into it instead.
//!
//! # The map
//!
//! One task owns the swarm (`swarm`) and only polls and dispatches; nothing in it waits for a
//! caller or a consumer. Everything else talks to it through bounded channels.
//!
//! | file | concern |
//! |---|---|
//! | `config` | what a user sets; checked once, at start |
//! | `join` | [`join()`]: a peer and an actor system over it, for the first hour |
//! | `node` | [`P2p`]: start, status, shutdown; the `Transport`, `Mesh` and `Directory` handles |
//! | `swarm` | the loop: selects and dispatches |
//! | `transports` | QUIC, TCP and names; how long a dead end may cost |
//! | `behaviour` | composes the libp2p behaviours, nothing more |
//! | `event` | what goes out to the consumer: ups, downs, streams, in order |
//! | `links` | streams of our protocols over libp2p connections |
//! | `opening` | asking for a stream, with a time limit |
//! | `embedded` | [`ActorBehaviour`]: the same inside of an application's own swarm |
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
mod embedded;
mod event;
mod foreigners;
mod gossip;
mod identify;
mod join;
mod limits;
mod links;
mod listen;
mod liveness;
mod lookup;
mod mdns;
mod node;
mod opening;
mod peer;
mod shelf;
mod shut_out;
mod sources;
mod status;
mod swarm;
mod transports;

pub use config::{ConfigError, P2pConfig, Timing};
pub use embedded::{ActorBehaviour, ActorEvent};
pub use join::{JoinError, join};
pub use libp2p::pnet::PreSharedKey;
pub use limits::ConnectionLimits;
pub use node::{P2p, P2pError};
pub use peer::{NoDid, claimed_address, did_of, did_of_peer, peer_id};
pub use status::{Direction, P2pStatus, PeerStatus, TopicStatus, TransportKind, UnreachedBootstrap};

/// The libp2p of this crate, for those who put an [`ActorBehaviour`] into a swarm of theirs.
pub use libp2p;
/// Compiles the programs of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
