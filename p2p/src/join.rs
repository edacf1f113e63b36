//! The first hour: one call that starts a peer and an actor system over it.

use std::error::Error;

use dms_actors::{ActorSystem, Keypair, StartError};

use crate::{P2p, P2pConfig, P2pError};

/// Why a network could not be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The operating system gave no randomness for a key.
    #[error("no key could be made")]
    Key(#[source] Box<dyn Error + Send + Sync>),
    /// The peer could not be started.
    #[error("the peer could not be started")]
    Peer(#[source] P2pError),
    /// The actor system could not be started.
    #[error("the actor system could not be started")]
    System(#[source] StartError),
}

/// Starts a peer on a free TCP port of this machine, under a key that is made for it and ends with it,
/// and an actor system that speaks over it. `bootstrap` are multiaddrs of peers to dial; an `Option` of
/// one will do.
///
/// Programs that keep their key, or listen where other machines can reach them, start both parts
/// themselves: [`P2p::start`], and `ActorSystem::builder(…).transport(p2p.transport()).start()`.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (p2p, system) = dms_p2p::join("example", std::env::args().nth(1)).await?;
/// println!("{} is at {:?}", system.me(), p2p.listen_addresses());
/// # system.stop(std::time::Duration::from_secs(10)).await?;
/// # p2p.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `Peer` also if the network's name or a multiaddr is not in form.
pub async fn join(
    network: &str,
    bootstrap: impl IntoIterator<Item = impl Into<String>>,
) -> Result<(P2p, ActorSystem), JoinError> {
    let key = Keypair::generate().map_err(|error| JoinError::Key(error.into()))?;
    let config = P2pConfig {
        network: network.to_owned(),
        bootstrap: bootstrap.into_iter().map(Into::into).collect(),
        ..P2pConfig::default()
    };
    let p2p = P2p::start(&key, config).await.map_err(JoinError::Peer)?;
    let system = ActorSystem::builder(key.did(), network).transport(p2p.transport()).start();
    Ok((p2p, system.map_err(JoinError::System)?))
}
