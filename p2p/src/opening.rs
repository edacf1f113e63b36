//! Asking for a stream: whoever owns the connections is told by a bounded channel, and answers.
//!
//! The handles of `node` and `embedded` share it. Every wait ends: with an answer, with the time limit,
//! or with whoever owns the connections.

use std::sync::Arc;
use std::time::Duration;

use dms_actors::Did;
use dms_actors::transport::{OpenError, PROTOCOLS, Pipe};
use futures::future::BoxFuture;
use libp2p::PeerId;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::links::{OpenFailure, OpenStream};
use crate::peer;

/// Streams being opened at once; more wait their turn within their time limit.
const OPENS: usize = 256;
/// libp2p's own limit for agreeing on the protocol of a stream.
pub(crate) const NEGOTIATION_TIME: Duration = Duration::from_secs(10);
/// How often a stream is tried whose connection closes under it, and the wait between two tries, in
/// which the close becomes known.
const OPEN_ATTEMPTS: u32 = 3;
const OPEN_RETRY_WAIT: Duration = Duration::from_millis(50);

/// A wish for a stream to one peer.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) peer: PeerId,
    pub(crate) wish: OpenStream,
}

/// Asks for streams; `C` is what the channel carries.
#[derive(Debug)]
pub(crate) struct Opener<C> {
    commands: mpsc::Sender<C>,
    places: Arc<Semaphore>,
    limit: Duration,
}

impl<C: From<Open> + Send + 'static> Opener<C> {
    /// One that asks over `commands` and waits at most `limit` for each stream.
    pub(crate) fn new(commands: mpsc::Sender<C>, limit: Duration) -> Self {
        Self { commands, places: Arc::new(Semaphore::new(OPENS)), limit }
    }

    /// A stream of `protocol` to `peer`.
    pub(crate) fn open(
        &self,
        peer: Did,
        protocol: &'static str,
    ) -> BoxFuture<'static, Result<Pipe, OpenError>> {
        let (commands, places, limit) = (self.commands.clone(), self.places.clone(), self.limit);
        Box::pin(async move {
            let opening = async {
                let _place = places.acquire().await.map_err(|_| OpenError::Closed)?;
                open_stream(&commands, peer, protocol).await
            };
            match tokio::time::timeout(limit, opening).await {
                Ok(result) => result,
                Err(_) => Err(unreachable_because(peer, format!("no stream within {limit:?}"))),
            }
        })
    }
}

/// Asks for a stream; again if the connection that it was asked on closes (it may have been idle for
/// just too long).
async fn open_stream<C: From<Open>>(
    commands: &mpsc::Sender<C>,
    peer: Did,
    protocol: &'static str,
) -> Result<Pipe, OpenError> {
    if !PROTOCOLS.contains(&protocol) {
        return Err(OpenError::Unsupported { peer, protocol });
    }
    for attempt in 0..OPEN_ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(OPEN_RETRY_WAIT).await;
        }
        let (reply, answer) = oneshot::channel();
        let open = Open { peer: peer::peer_id(&peer), wish: OpenStream { protocol, reply } };
        commands.send(open.into()).await.map_err(|_| OpenError::Closed)?;
        match answer.await {
            Ok(Ok(stream)) => return Ok(Box::new(stream.compat())),
            Ok(Err(OpenFailure::NoRoute)) => return Err(OpenError::NoRoute(peer)),
            Ok(Err(OpenFailure::Unsupported)) => return Err(OpenError::Unsupported { peer, protocol }),
            Ok(Err(OpenFailure::Unreachable(reason))) => return Err(unreachable_because(peer, reason)),
            Err(_) if commands.is_closed() => return Err(OpenError::Closed),
            Err(_) => {}
        }
    }
    Err(unreachable_because(peer, "the connection closed while the stream was opened".to_owned()))
}

fn unreachable_because(peer: Did, reason: String) -> OpenError {
    OpenError::Unreachable { peer, reason }
}
