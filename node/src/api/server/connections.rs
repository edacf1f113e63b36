//! Connections: how many, for how long, and what stands before the routes on each.
//!
//! The socket and the port each have places of their own, so that whoever fills the port's does not keep the owner from
//! the socket. A head and a body have to be there in time. Over TCP a connection carries one request: what is left in it
//! is never read as another.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::{TryStreamExt, stream};
use http_body_util::{BodyExt, Limited};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::guard::Guard;
use super::{ApiListener, BindError};
use crate::api::MAX_BLOB_BYTES;
use crate::api::token::Token;

/// Most bytes of a head: the longest target is 64 KiB, which a question about many bids comes near.
const MAX_HEAD_BYTES: usize = 80 * 1024;
/// Most headers: ours send four.
const MAX_HEADERS: usize = 64;
/// How long the rest of a refused request is read away: a connection that is closed while something comes would lose
/// the answer.
const LINGER: Duration = Duration::from_secs(1);
/// Between two tries to accept where the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How much a connection may take, and how many there are.
#[derive(Debug, Clone, Copy)]
pub struct ApiLimits {
    /// How long a request's head may take, and how long a connection may be silent before it.
    pub head: Duration,
    /// How long a request's body may take: the largest in this time needs two megabits a second.
    pub body: Duration,
    /// Open connections over TCP; more wait to be accepted.
    pub tcp_connections: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self { head: Duration::from_secs(5), body: Duration::from_secs(60), tcp_connections: 64 }
    }
}

/// A bound port.
#[derive(Debug)]
pub struct TcpApi {
    listener: TcpListener,
    address: SocketAddr,
    token: Token,
}

impl TcpApi {
    /// Binds a port of this machine; only who has the token may ask there. Needs a tokio context.
    ///
    /// # Errors
    /// [`BindError`]
    pub async fn bind(address: SocketAddr, token: Token) -> Result<Self, BindError> {
        if !address.ip().is_loopback() {
            return Err(BindError::NotLoopback { address });
        }
        let failed = |source| BindError::Port { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, token })
    }

    /// Where it is bound, with the port that the system chose if it was to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What connections come from.
pub(super) trait Source: Send {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// True if a connection may carry several requests.
    const KEEPS_ALIVE: bool;

    /// The next one.
    fn accept(&mut self) -> impl Future<Output = Self::Io> + Send;
}

impl Source for ApiListener {
    type Io = UnixStream;
    const KEEPS_ALIVE: bool = true;

    async fn accept(&mut self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    // The mode of the file keeps others out, except in the moment before it was set.
                    Ok(peer) if peer.uid() == self.file.owner || peer.uid() == 0 => return stream,
                    _ => tracing::warn!("turned away a local user who is not the node's owner"),
                },
                Err(error) => pause(&error).await,
            }
        }
    }
}

impl Source for TcpListener {
    type Io = TcpStream;
    const KEEPS_ALIVE: bool = false;

    async fn accept(&mut self) -> TcpStream {
        loop {
            match TcpListener::accept(self).await {
                Ok((stream, _)) => {
                    // An answer leaves in one piece anyway; without this it would only be later.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                Err(error) => pause(&error).await,
            }
        }
    }
}

/// Out of file descriptors, most likely: gives others time to close theirs.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept an api connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// What stands before the routes.
#[derive(Debug)]
struct Door {
    guard: Guard,
    limits: ApiLimits,
}

/// What all connections share, whichever way they come.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) routes: Router,
    pub(super) limits: ApiLimits,
    pub(super) graceful: GracefulShutdown,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Connections {
    /// Serves the port until the node stops.
    pub(super) async fn serve_tcp(&self, tcp: Option<TcpApi>) {
        if let Some(TcpApi { listener, token, .. }) = tcp {
            self.serve(listener, Guard::Tcp(token), self.limits.tcp_connections).await;
        }
    }

    /// Accepts until the node stops, at most `places` connections at a time; more wait in the system's queue, where
    /// nobody is passed over.
    pub(super) async fn serve<S: Source>(&self, mut source: S, guard: Guard, places: usize) {
        let door = Arc::new(Door { guard, limits: self.limits });
        let routes = self.routes.clone().layer(middleware::from_fn_with_state(door, guarded));
        let places = Arc::new(Semaphore::new(places));
        let mut stopping = self.stopping.clone();
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
                (source.accept().await, place)
            };
            tokio::select! {
                biased;
                // A sender that is gone has nothing more to serve, which is the same.
                _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
                (stream, place) = accepted => self.answer(stream, place, &routes, S::KEEPS_ALIVE),
            }
        }
    }

    /// Answers on a connection until it ends.
    fn answer(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        place: OwnedSemaphorePermit,
        routes: &Router,
        keeps_alive: bool,
    ) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(MAX_HEAD_BYTES)
            // A head that comes in one piece may fit into the buffer and be longer.
            .max_header_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .keep_alive(keeps_alive)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes.clone()));
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an api connection ended early");
            }
            drop(place);
        });
    }
}

/// Lets a request in, with a limit to how long its body takes, or says why not.
async fn guarded(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match door.guard.check(&parts) {
        Ok(()) => next.run(Request::from_parts(parts, in_time(body, door.limits.body))).await,
        Err(failure) => {
            tracing::debug!(method = %parts.method, code = failure.error.code, "an api request was refused");
            if !body.is_end_stream() {
                tokio::spawn(timeout(LINGER, read_away(body)));
            }
            failure.into_response()
        }
    }
}

async fn read_away(body: Body) {
    let mut body = Limited::new(body, MAX_BLOB_BYTES);
    while let Some(Ok(_)) = body.frame().await {}
}

/// A body was not there in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not come in time")]
pub(super) struct TooSlow;

/// A body that breaks if it is not all there `limit` after its first byte was wanted.
fn in_time(body: Body, limit: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let pieces = body.into_data_stream();
    Body::from_stream(stream::try_unfold((pieces, None), move |(mut pieces, deadline)| async move {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + limit);
        match timeout_at(deadline, pieces.try_next()).await {
            Ok(Ok(Some(piece))) => Ok(Some((piece, (pieces, Some(deadline))))),
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(axum::BoxError::from(error)),
            Err(_) => Err(TooSlow.into()),
        }
    }))
}
