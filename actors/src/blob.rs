//! Fetches and serves one content by its identifier, over a stream of its own.
//!
//! Whoever holds a [`ContentId`] can ask any peer for it: what arrives is checked against the
//! identifier, so the peer need not be trusted for it. Modules, inputs, outputs and logs travel this
//! way; words do not. More than [`MAX_BLOB_LENGTH`] is refused, and memory grows only with what has
//! arrived, never with what is claimed.
//!
//! ```text
//! request   u8 length of the identifier, the identifier (binary CID)
//! answer    u8 status: 0 found, 1 not found, 2 not allowed, 3 busy
//!           if found: u32 BE length, the bytes
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::debug;

use crate::Did;
use crate::identity::ContentId;
use crate::runtime::{Workers, lock};
use crate::transport::{BLOB_PROTOCOL, OpenError, Pipe, Transport};

/// Longest blob in bytes: a large WASM module fits, and 16 at once fit into memory.
pub const MAX_BLOB_LENGTH: u64 = 16 * 1024 * 1024;
/// How long either side waits for the next bytes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the dial may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Blobs served at once: each may hold [`MAX_BLOB_LENGTH`] in memory.
const MAX_SERVES: usize = 16;
/// Blobs served to one peer at once, so that no peer takes all.
const MAX_SERVES_PER_PEER: usize = 4;
/// Bytes read or written at a time.
const CHUNK: usize = 64 * 1024;
/// Longest binary identifier of the supported form, with room to spare.
const MAX_ID_LENGTH: usize = 64;

const FOUND: u8 = 0;
const NOT_FOUND: u8 = 1;
const NOT_ALLOWED: u8 = 2;
const BUSY: u8 = 3;

/// Why a source gives no blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobRefusal {
    /// It is not here.
    #[error("not found")]
    NotFound,
    /// This peer may not have it.
    #[error("not allowed")]
    NotAllowed,
    /// Too many are being served; asking again later may help.
    #[error("busy")]
    Busy,
}

/// Where served blobs come from.
pub trait BlobSource: Send + Sync + 'static {
    /// The bytes of `id` for `peer`. It may read a disk: an [`ActorSystem`](crate::ActorSystem) calls
    /// it on a thread for blocking work.
    fn open(&self, peer: Did, id: &ContentId) -> Result<Vec<u8>, BlobRefusal>;
}

/// Why a blob could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No stream to the peer.
    #[error("no stream to the peer")]
    Open(#[source] OpenError),
    /// The peer does not give it.
    #[error("the peer does not give the blob")]
    Refused(#[source] BlobRefusal),
    /// Longer than the caller allows.
    #[error("a blob of {length} bytes is too long (at most {limit})")]
    TooLong {
        /// The length the peer says it has.
        length: u64,
        /// The most the caller allows, at most [`MAX_BLOB_LENGTH`].
        limit: u64,
    },
    /// The bytes are not what the identifier names: the peer is faulty or lies.
    #[error("the bytes are not those of the identifier")]
    WrongContent,
    /// The answer is none of the protocol.
    #[error("the answer has the unknown status {0}")]
    UnknownStatus(u8),
    /// Nothing arrived for 10 seconds.
    #[error("the peer sends nothing")]
    Idle,
    /// The stream broke.
    #[error("the stream broke")]
    Pipe(#[source] io::Error),
}

/// Fetches the content `id` from `peer`, at most `max_length` bytes, and verifies it.
pub async fn fetch(
    transport: &dyn Transport,
    peer: Did,
    id: ContentId,
    max_length: u64,
) -> Result<Vec<u8>, FetchError> {
    let limit = max_length.min(MAX_BLOB_LENGTH);
    let opened = timeout(OPEN_TIMEOUT, transport.open(peer, BLOB_PROTOCOL)).await;
    let mut pipe = opened.map_err(|_| FetchError::Idle)?.map_err(FetchError::Open)?;
    let id_bytes = id.to_bytes();
    let id_length = u8::try_from(id_bytes.len()).expect("a supported identifier has 36 bytes");
    let request = [&[id_length], &id_bytes[..]].concat();
    unless_idle(async {
        pipe.write_all(&request).await?;
        pipe.flush().await
    })
    .await?;
    match unless_idle(pipe.read_u8()).await? {
        FOUND => {}
        NOT_FOUND => return Err(FetchError::Refused(BlobRefusal::NotFound)),
        NOT_ALLOWED => return Err(FetchError::Refused(BlobRefusal::NotAllowed)),
        BUSY => return Err(FetchError::Refused(BlobRefusal::Busy)),
        status => return Err(FetchError::UnknownStatus(status)),
    }
    let length = u64::from(unless_idle(pipe.read_u32()).await?);
    if length > limit {
        return Err(FetchError::TooLong { length, limit });
    }
    let length = usize::try_from(length).expect("at most 16 MiB");
    let mut bytes = Vec::with_capacity(length.min(CHUNK));
    let mut chunk = vec![0; length.min(CHUNK)];
    while bytes.len() < length {
        let wanted = chunk.len().min(length - bytes.len());
        match unless_idle(pipe.read(&mut chunk[..wanted])).await? {
            0 => return Err(FetchError::Pipe(io::ErrorKind::UnexpectedEof.into())),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
    if id.is_of(&bytes) { Ok(bytes) } else { Err(FetchError::WrongContent) }
}

async fn unless_idle<T>(step: impl Future<Output = io::Result<T>>) -> Result<T, FetchError> {
    timeout(IDLE_TIMEOUT, step).await.map_err(|_| FetchError::Idle)?.map_err(FetchError::Pipe)
}

/// Answers one request. `source` is called in this task; one that reads a slow disk should be served
/// by an [`ActorSystem`](crate::ActorSystem) instead.
///
/// Errors: the stream broke, the peer stood still, or its request was malformed.
pub async fn serve(mut pipe: Pipe, peer: Did, source: &dyn BlobSource) -> Result<(), FetchError> {
    let answer = match read_request(&mut pipe).await? {
        Some(id) => source.open(peer, &id),
        None => Err(BlobRefusal::NotFound),
    };
    write_answer(&mut pipe, answer).await
}

/// Reads which content is asked for; `None` if it is no identifier that can be served.
async fn read_request(pipe: &mut Pipe) -> Result<Option<ContentId>, FetchError> {
    let length = usize::from(unless_idle(pipe.read_u8()).await?);
    if length > MAX_ID_LENGTH {
        return Ok(None);
    }
    let mut id = vec![0; length];
    unless_idle(pipe.read_exact(&mut id)).await?;
    Ok(ContentId::from_bytes(&id).ok())
}

async fn write_answer(pipe: &mut Pipe, answer: Result<Vec<u8>, BlobRefusal>) -> Result<(), FetchError> {
    // A blob that is too long for the protocol cannot be had this way.
    let answer = answer.and_then(|bytes| {
        let length = u32::try_from(bytes.len()).ok().filter(|length| u64::from(*length) <= MAX_BLOB_LENGTH);
        Ok((length.ok_or(BlobRefusal::NotFound)?, bytes))
    });
    let (head, bytes) = match answer {
        Ok((length, bytes)) => ([&[FOUND][..], &length.to_be_bytes()].concat(), bytes),
        Err(BlobRefusal::NotFound) => (vec![NOT_FOUND], Vec::new()),
        Err(BlobRefusal::NotAllowed) => (vec![NOT_ALLOWED], Vec::new()),
        Err(BlobRefusal::Busy) => (vec![BUSY], Vec::new()),
    };
    unless_idle(pipe.write_all(&head)).await?;
    for chunk in bytes.chunks(CHUNK) {
        unless_idle(pipe.write_all(chunk)).await?;
    }
    unless_idle(async {
        pipe.flush().await?;
        pipe.shutdown().await
    })
    .await
}

/// Serves the requests of all peers of a system, within bounds.
pub(crate) struct BlobServer {
    source: Option<Arc<dyn BlobSource>>,
    workers: Workers,
    slots: Arc<Semaphore>,
    peers: Arc<Mutex<BTreeMap<Did, usize>>>,
}

impl BlobServer {
    pub(crate) fn new(source: Option<Arc<dyn BlobSource>>, workers: Workers) -> Self {
        Self { source, workers, slots: Arc::new(Semaphore::new(MAX_SERVES)), peers: Arc::default() }
    }

    /// Answers one request; `Busy` when a bound is reached.
    pub(crate) fn serve(&self, mut pipe: Pipe, peer: Did) -> impl Future<Output = ()> + Send + use<> {
        // Taken before the future runs, so that a burst cannot pass the bound.
        let turn = Turn::take(self, peer);
        let (source, workers) = (self.source.clone(), self.workers.clone());
        async move {
            let served = async {
                let Some(_turn) = turn else {
                    // Not worth reading the request of.
                    return write_answer(&mut pipe, Err(BlobRefusal::Busy)).await;
                };
                let id = read_request(&mut pipe).await?;
                let answer = match (source, id) {
                    (Some(source), Some(id)) => {
                        let opened = workers.run(move || source.open(peer, &id)).await;
                        // A source that panics has said so in the log.
                        opened.unwrap_or(Err(BlobRefusal::NotFound))
                    }
                    _ => Err(BlobRefusal::NotFound),
                };
                write_answer(&mut pipe, answer).await
            };
            if let Err(error) = served.await {
                debug!(%error, "a blob was not served");
            }
        }
    }
}

impl fmt::Debug for BlobServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobServer").field("free", &self.slots.available_permits()).finish_non_exhaustive()
    }
}

/// The right to be served one blob.
struct Turn {
    peer: Did,
    peers: Arc<Mutex<BTreeMap<Did, usize>>>,
    _slot: OwnedSemaphorePermit,
}

impl Turn {
    fn take(server: &BlobServer, peer: Did) -> Option<Self> {
        let slot = server.slots.clone().try_acquire_owned().ok()?;
        let mut peers = lock(&server.peers);
        let count = peers.entry(peer).or_insert(0);
        if *count >= MAX_SERVES_PER_PEER {
            return None;
        }
        *count += 1;
        Some(Self { peer, peers: server.peers.clone(), _slot: slot })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut peers = lock(&self.peers);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}
