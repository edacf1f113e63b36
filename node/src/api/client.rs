//! The API's client: the routes of [`super::types`] as typed calls over the Unix socket, or a port.
//!
//! For the CLI, tests and other programs in Rust. One connection per call: nothing is kept between calls,
//! so a node that was restarted meanwhile is no special case.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dms_messages::{Capability, ContentId, Did, JobId, Millis, OutputStream};
use dms_storage::Lock;
use dms_storage::maintenance::{BackupReport, StatsReport};
use futures::future::{Either, select};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::http::response::Parts;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::address::{ApiAddress, HttpAddress};
use super::messages::{MessageSent, NewMessage};
use super::server::MAX_SOCKET_PATH;
use super::token::Token;
use super::types::{
    ApiError, BlobStored, JobCreated, JobView, Locked, NewBackup, NewJob, NewLock, StartLockedJob,
};
use super::{ATTEMPT_HEADER, OFFSET_HEADER};
use crate::allocation::route::CheckedAllocation;
use crate::commands::{Benchmarked, CapabilityView, Explanation, NodeStatus, OffboardMode, Offboarded};
use crate::graph::view::GraphView;
use crate::interface::Amounts;
use crate::listings::bids::{BidList, BidRequestView};
use crate::listings::contracts::{AllocationView, ContractDocuments, ContractView};
use crate::listings::{Direction, Page};
use crate::monitor::SamplesView;
use crate::peers::PeerView;
use crate::preferences::{Change, PreferencesTest, PreferencesView, SetPreferences, TestPreferences};
use crate::records::{LogPage, LogQuery, LogStart, RowPage, RowQuery};
use crate::trust::commands::{
    BeginJoin, GrantToken, GrantedToken, InviteMade, InviteView, KeepTokens, MakeInvite, SucceedPeer,
    SuccessionView, TokenView, TrustPeer, TrustView,
};

/// How long one call may take: the server gives up on the Node after 10 s, and 16 MiB take less than a second.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The same where a port may be the end of a tunnel: the server waits 60 s for a body.
const TCP_CALL_TIMEOUT: Duration = Duration::from_secs(90);
/// Largest answer: a thousand jobs, each with the answers of many nodes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Longest name or key in a question, in bytes: the longest keys have 69 bytes, two digits each.
const MAX_QUERY_WORD: usize = 256;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error("no node is running at {}", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// Nobody listens at the port. Whether a node runs is not known by that: it may be on another machine.
    #[error("no node can be reached at {address}")]
    Unreachable {
        /// The port.
        address: HttpAddress,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path of the socket does not fit into a socket's address.
    #[error(
        "the API socket's path has {length} bytes and at most {MAX_SOCKET_PATH} are possible; choose a shorter one with --api: {}",
        socket.display()
    )]
    PathTooLong {
        /// The socket.
        socket: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The socket cannot be used.
    #[error("cannot use the node's socket {}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node refuses.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The node did not answer in time: unknown whether it did what was asked.
    #[error("the node did not answer in time")]
    TimedOut,
    /// What answers is not a node of this version.
    #[error("the node's answer cannot be understood: {0}")]
    Protocol(String),
}

/// A piece of live output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The number of the attempt it is of; when it changes, output begins again.
    pub attempt: Option<u32>,
    /// Where the piece begins.
    pub offset: u64,
    /// The bytes; empty if there is nothing new.
    pub bytes: Bytes,
}

/// A node's API.
#[derive(Debug, Clone)]
pub struct ApiClient {
    address: ApiAddress,
    /// Shown at a port.
    token: Option<Token>,
}

impl ApiClient {
    /// A client of the node that listens at `socket`. Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { address: ApiAddress::Socket(socket.into()), token: None }
    }

    /// A client of the node that serves its API at this port to whoever has the token. Nothing is opened yet.
    pub fn over_tcp(address: HttpAddress, token: Token) -> Self {
        Self { address: ApiAddress::Http(address), token: Some(token) }
    }

    /// Where the node is asked.
    pub fn address(&self) -> &ApiAddress {
        &self.address
    }

    /// How the node stands.
    pub async fn status(&self) -> Result<NodeStatus, ClientError> {
        self.get("/v1/status").await
    }

    /// The capability books.
    pub async fn capability(&self) -> Result<CapabilityView, ClientError> {
        self.get("/v1/capability").await
    }

    /// Has the node measure its machine, and register that. Takes as long as it takes.
    pub async fn benchmark(&self, is_registered: bool) -> Result<Benchmarked, ClientError> {
        let path = format!("/v1/capability/benchmark?dry_run={}", !is_registered);
        parse(&self.exchange(Method::POST, &path, None).await?.1)
    }

    /// Registers what this machine offers.
    pub async fn onboard(&self, capability: &Capability) -> Result<(), ClientError> {
        self.call(Method::POST, "/v1/onboard", Some(json(capability)?)).await.map(drop)
    }

    /// Withdraws what this machine offers; with a mode that waits, ask the books how far it is.
    pub async fn offboard(&self, mode: OffboardMode) -> Result<Offboarded, ClientError> {
        let mode = match mode {
            OffboardMode::AtOnce => "at_once",
            OffboardMode::Wait => "wait",
            OffboardMode::Force => "force",
        };
        parse(&self.call(Method::POST, &format!("/v1/offboard?mode={mode}"), None).await?.1)
    }

    /// Says how much is to be free beside what is promised.
    pub async fn set_available(&self, available: &Amounts) -> Result<(), ClientError> {
        self.call(Method::POST, "/v1/capability/available", Some(json(available)?)).await.map(drop)
    }

    /// Locks capacity for the node itself.
    pub async fn lock(&self, lock: &NewLock) -> Result<Locked, ClientError> {
        parse(&self.call(Method::POST, "/v1/locks", Some(json(lock)?)).await?.1)
    }

    /// Lets a lock of the node's own go.
    pub async fn unlock(&self, bid: &str) -> Result<Lock, ClientError> {
        parse(&self.call(Method::DELETE, &format!("/v1/locks/{}", plain_id(bid)?), None).await?.1)
    }

    /// Starts a job on capacity that is locked.
    pub async fn start_locked(&self, bid: &str, job: NewJob) -> Result<JobId, ClientError> {
        let path = format!("/v1/locks/{}/start", plain_id(bid)?);
        let (_, bytes) = self.call(Method::POST, &path, Some(json(&StartLockedJob { job })?)).await?;
        Ok(parse::<JobCreated>(&bytes)?.job)
    }

    /// By what the node chooses.
    pub async fn preferences(&self) -> Result<PreferencesView, ClientError> {
        self.get("/v1/preferences").await
    }

    /// Sets by what the node chooses, and says what changes.
    pub async fn set_preferences(&self, text: &str) -> Result<Vec<Change>, ClientError> {
        let set = SetPreferences { text: text.to_owned() };
        parse(&self.call(Method::POST, "/v1/preferences", Some(json(&set)?)).await?.1)
    }

    /// How each known node would be judged.
    pub async fn test_preferences(&self, test: &TestPreferences) -> Result<PreferencesTest, ClientError> {
        parse(&self.call(Method::POST, "/v1/preferences/test", Some(json(test)?)).await?.1)
    }

    /// The peers, connected ones first, at most `limit`.
    pub async fn peers(&self, limit: usize) -> Result<Vec<PeerView>, ClientError> {
        self.get(&format!("/v1/peers?limit={limit}")).await
    }

    /// The node's neighbours and the edges to them, as far as they were measured.
    pub async fn graph(&self) -> Result<GraphView, ClientError> {
        self.get("/v1/graph").await
    }

    /// Whom the node trusts, and whom it lets in.
    pub async fn trust(&self) -> Result<TrustView, ClientError> {
        self.get("/v1/trust").await
    }

    /// Trusts somebody by name.
    pub async fn trust_peer(&self, trust: &TrustPeer) -> Result<(), ClientError> {
        self.call(Method::POST, "/v1/trust", Some(json(trust)?)).await.map(drop)
    }

    /// Takes it that somebody has a new key.
    pub async fn succeed_peer(&self, text: &str) -> Result<SuccessionView, ClientError> {
        let succeed = SucceedPeer { text: text.to_owned() };
        parse(&self.call(Method::POST, "/v1/succession", Some(json(&succeed)?)).await?.1)
    }

    /// Trusts somebody no longer.
    pub async fn distrust_peer(&self, did: Did) -> Result<(), ClientError> {
        self.call(Method::DELETE, &format!("/v1/trust/{did}"), None).await.map(drop)
    }

    /// The tokens that are kept.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.get("/v1/tokens").await
    }

    /// Signs a token.
    pub async fn grant_token(&self, grant: &GrantToken) -> Result<GrantedToken, ClientError> {
        parse(&self.call(Method::POST, "/v1/tokens", Some(json(grant)?)).await?.1)
    }

    /// Keeps tokens that were carried here.
    pub async fn keep_tokens(&self, text: &str) -> Result<Vec<TokenView>, ClientError> {
        let keep = KeepTokens { text: text.to_owned() };
        parse(&self.call(Method::POST, "/v1/tokens/keep", Some(json(&keep)?)).await?.1)
    }

    /// Revokes a token.
    pub async fn revoke_token(&self, id: &str) -> Result<TokenView, ClientError> {
        parse(&self.call(Method::DELETE, &format!("/v1/tokens/{}", plain_id(id)?), None).await?.1)
    }

    /// The invites.
    pub async fn invites(&self) -> Result<Vec<InviteView>, ClientError> {
        self.get("/v1/invites").await
    }

    /// Makes an invite.
    pub async fn make_invite(&self, make: &MakeInvite) -> Result<InviteMade, ClientError> {
        parse(&self.call(Method::POST, "/v1/invites", Some(json(make)?)).await?.1)
    }

    /// Withdraws an invite.
    pub async fn end_invite(&self, id: &str) -> Result<InviteView, ClientError> {
        parse(&self.call(Method::DELETE, &format!("/v1/invites/{}", plain_id(id)?), None).await?.1)
    }

    /// Comes into a mesh.
    pub async fn begin_join(&self, invite: &str) -> Result<(), ClientError> {
        let join = BeginJoin { invite: invite.to_owned() };
        self.call(Method::POST, "/v1/join", Some(json(&join)?)).await.map(drop)
    }

    /// Requests for bids, newest first.
    pub async fn bid_requests(
        &self,
        direction: Option<Direction>,
        page: &Page,
    ) -> Result<Vec<BidRequestView>, ClientError> {
        self.get(&format!("/v1/bid-requests?{}{}", paged(page)?, directed(direction))).await
    }

    /// Bids, newest first; on one request only, with its declines, if `request` (an id or its beginning) is
    /// given.
    pub async fn bids(
        &self,
        direction: Option<Direction>,
        request: Option<&str>,
        page: &Page,
    ) -> Result<BidList, ClientError> {
        let request = match request {
            Some(id) => format!("&request={}", plain_id(id)?),
            None => String::new(),
        };
        self.get(&format!("/v1/bids?{}{}{request}", paged(page)?, directed(direction))).await
    }

    /// How the machine and the live allocations stand, with at most `limit` samples of the past.
    pub async fn samples(&self, limit: usize) -> Result<SamplesView, ClientError> {
        self.get(&format!("/v1/samples?limit={limit}")).await
    }

    /// Allocations, newest first.
    pub async fn allocations(&self, page: &Page) -> Result<Vec<AllocationView>, ClientError> {
        self.get(&format!("/v1/allocations?{}", paged(page)?)).await
    }

    /// The allocation with this id, or beginning of one.
    pub async fn allocation(&self, id: &str) -> Result<AllocationView, ClientError> {
        self.get(&format!("/v1/allocations/{}", plain_id(id)?)).await
    }

    /// Says something to the program of the allocation with this id, or beginning of one.
    pub async fn send_message(&self, id: &str, message: &NewMessage) -> Result<MessageSent, ClientError> {
        let path = format!("/v1/allocations/{}/messages", plain_id(id)?);
        parse(&self.call(Method::POST, &path, Some(json(message)?)).await?.1)
    }

    /// How the allocation with this id, or beginning of one, stands now, as its provider says; `provider` is named if
    /// this node is neither its provider nor its requester.
    pub async fn check_allocation(
        &self,
        id: &str,
        provider: Option<Did>,
    ) -> Result<CheckedAllocation, ClientError> {
        let provider = provider.map(|did| format!("?provider={did}")).unwrap_or_default();
        self.get(&format!("/v1/allocations/{}/status{provider}", plain_id(id)?)).await
    }

    /// Contracts, newest first.
    pub async fn contracts(&self, page: &Page) -> Result<Vec<ContractView>, ClientError> {
        self.get(&format!("/v1/contracts?{}", paged(page)?)).await
    }

    /// The contract with this CID, or beginning of one, or of its bid's, job's or allocation's id. Its
    /// documents are verified again here.
    pub async fn contract(&self, id: &str) -> Result<ContractDocuments, ClientError> {
        self.get(&format!("/v1/contracts/{}", plain_id(id)?)).await
    }

    /// A page of the event log; if there is nothing in it, after `wait` (at most 10 s) or when the node stops.
    pub async fn log(&self, query: &LogQuery, wait: Millis) -> Result<LogPage, ClientError> {
        let LogQuery { start, limit, job, bids, allocations, is_whole } = query;
        let start = match start {
            LogStart::From(event) => format!("from={event}"),
            LogStart::Newest(count) => format!("newest={count}"),
        };
        let job = match job {
            Some(id) => format!("&job={}", plain_id(id)?),
            None => String::new(),
        };
        let (bids, allocations) = (listed("bids", bids), listed("allocations", allocations));
        let wait = wait.0;
        self.get(&format!(
            "/v1/log?{start}&limit={limit}&wait={wait}&whole={is_whole}{job}{bids}{allocations}"
        ))
        .await
    }

    /// What is in the database, and how large it is.
    pub async fn database(&self) -> Result<StatsReport, ClientError> {
        self.get("/v1/db/stats").await
    }

    /// A page of a family's rows.
    pub async fn rows(&self, query: &RowQuery) -> Result<RowPage, ClientError> {
        let RowQuery { family, prefix, after, limit, is_whole } = query;
        // A family is a plain word, and so is a key, but for the colons of a DID and of an archived kind.
        let plain = |text: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:".contains(&byte);
            match text.len() <= MAX_QUERY_WORD && text.bytes().all(is_plain) {
                true => Ok(text.to_owned()),
                false => {
                    let message =
                        format!("{:?} is no name and no key", text.chars().take(64).collect::<String>());
                    Err(ClientError::Refused(ApiError { code: "malformed".to_owned(), message }))
                }
            }
        };
        let mut path = format!("/v1/db/rows/{}?limit={limit}&whole={is_whole}", plain(family)?);
        for (name, text) in [("prefix", prefix), ("after", after)] {
            if let Some(text) = text {
                path.push_str(&format!("&{name}={}", plain(text)?));
            }
        }
        self.get(&path).await
    }

    /// Copies the database into `directory`, which the node makes and which must not be there; an absolute path.
    /// Takes as long as it takes.
    pub async fn back_up(&self, directory: &Path) -> Result<BackupReport, ClientError> {
        let body = json(&NewBackup { directory: directory.to_path_buf() })?;
        parse(&self.exchange(Method::POST, "/v1/db/backup", Some(body)).await?.1)
    }

    /// True if somebody listens at the socket, or the port.
    pub async fn is_running(&self) -> bool {
        match &self.address {
            ApiAddress::Socket(path) => UnixStream::connect(path).await.is_ok(),
            ApiAddress::Http(address) => TcpStream::connect(address.target()).await.is_ok(),
        }
    }

    /// Stores a blob, at most 16 MiB.
    pub async fn put_blob(&self, bytes: impl Into<Bytes>) -> Result<BlobStored, ClientError> {
        let bytes = bytes.into();
        let expected = ContentId::of_bytes(&bytes);
        let body = ("application/octet-stream", bytes);
        let stored: BlobStored = parse(&self.call(Method::PUT, "/v1/blobs", Some(body)).await?.1)?;
        if stored.cid != expected {
            return Err(ClientError::Protocol("a blob was stored under another identifier".to_owned()));
        }
        Ok(stored)
    }

    /// A stored blob; its content is checked.
    pub async fn blob(&self, cid: &ContentId) -> Result<Bytes, ClientError> {
        let (_, bytes) = self.call(Method::GET, &format!("/v1/blobs/{cid}"), None).await?;
        if cid.is_of(&bytes) {
            Ok(bytes)
        } else {
            Err(ClientError::Protocol(format!("blob {cid} is damaged")))
        }
    }

    /// Hands in a job; it is on disk when this returns.
    pub async fn submit(&self, job: &NewJob) -> Result<JobId, ClientError> {
        let (_, bytes) = self.call(Method::POST, "/v1/jobs", Some(json(job)?)).await?;
        Ok(parse::<JobCreated>(&bytes)?.job)
    }

    /// The newest jobs, newest first, at most `limit`.
    pub async fn jobs(&self, limit: usize) -> Result<Vec<JobView>, ClientError> {
        self.get(&format!("/v1/jobs?limit={limit}")).await
    }

    /// How the one job stands whose id begins so.
    pub async fn find_job(&self, beginning: &str) -> Result<JobView, ClientError> {
        self.get(&format!("/v1/jobs/{beginning}")).await
    }

    /// How a job stands.
    pub async fn job(&self, id: JobId) -> Result<JobView, ClientError> {
        self.get(&format!("/v1/jobs/{id}")).await
    }

    /// Live output of a task of a job's newest attempt, from `offset` on.
    pub async fn output(
        &self,
        id: JobId,
        task: u16,
        stream: OutputStream,
        offset: u64,
    ) -> Result<Output, ClientError> {
        let stream = match stream {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        };
        let task = if task == 0 { String::new() } else { format!("&task={task}") };
        let path = format!("/v1/jobs/{id}/output?stream={stream}&offset={offset}{task}");
        let (parts, bytes) = self.call(Method::GET, &path, None).await?;
        let number = |name: &str| -> Result<Option<u64>, ClientError> {
            let Some(value) = parts.headers.get(name) else { return Ok(None) };
            let number = value.to_str().ok().and_then(|text| text.parse().ok());
            number.map(Some).ok_or_else(|| ClientError::Protocol(format!("header {name} is not a number")))
        };
        let attempt = number(ATTEMPT_HEADER)?.map(u32::try_from).transpose();
        Ok(Output {
            attempt: attempt
                .map_err(|_| ClientError::Protocol("an attempt's number is too large".to_owned()))?,
            offset: number(OFFSET_HEADER)?.unwrap_or(offset),
            bytes,
        })
    }

    /// Why each node did or did not take a job.
    pub async fn explain(&self, id: JobId) -> Result<Explanation, ClientError> {
        self.get(&format!("/v1/jobs/{id}/explain")).await
    }

    /// Wants a job ended.
    pub async fn cancel(&self, id: JobId) -> Result<(), ClientError> {
        self.call(Method::POST, &format!("/v1/jobs/{id}/cancel"), None).await.map(drop)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(&self.call(Method::GET, path, None).await?.1)
    }

    /// One request and its answer, both whole.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<(Parts, Bytes), ClientError> {
        let exchange = self.exchange(method, path, body);
        let patience = match self.address {
            ApiAddress::Socket(_) => CALL_TIMEOUT,
            ApiAddress::Http(_) => TCP_CALL_TIMEOUT,
        };
        tokio::time::timeout(patience, exchange).await.map_err(|_| ClientError::TimedOut)?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<(Parts, Bytes), ClientError> {
        let authority = match &self.address {
            ApiAddress::Socket(_) => "dms".to_owned(),
            ApiAddress::Http(address) => address.authority(),
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, authority);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.bearer().as_str());
        }
        let body = match body {
            Some((content_type, bytes)) => {
                request = request.header(CONTENT_TYPE, content_type);
                Full::new(bytes)
            }
            None => Full::default(),
        };
        let request = request.body(body).map_err(|error| ClientError::Protocol(error.to_string()))?;
        match &self.address {
            ApiAddress::Socket(socket) => ask(open_socket(socket).await?, request).await,
            ApiAddress::Http(address) => {
                let stream = TcpStream::connect(address.target()).await;
                let unreachable = |source| ClientError::Unreachable { address: address.clone(), source };
                ask(stream.map_err(unreachable)?, request).await
            }
        }
    }
}

async fn open_socket(socket: &Path) -> Result<UnixStream, ClientError> {
    let length = socket.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(ClientError::PathTooLong { socket: socket.to_path_buf(), length });
    }
    UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ClientError::NotRunning { socket: socket.to_path_buf() }
        }
        _ => ClientError::Socket { socket: socket.to_path_buf(), source },
    })
}

/// Asks on a connection, and closes it.
async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(Parts, Bytes), ClientError> {
    let broken = |error: hyper::Error| ClientError::Protocol(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = std::pin::pin!(async {
        let (parts, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let bytes = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| {
            ClientError::Protocol(match error.downcast_ref::<LengthLimitError>() {
                Some(_) => format!("more than {MAX_ANSWER_BYTES} bytes"),
                None => error.to_string(),
            })
        })?;
        Ok::<_, ClientError>((parts, bytes.to_bytes()))
    });
    // The connection moves the bytes; it is dropped, and so closed, once the answer is whole.
    let (parts, bytes) = match select(answer, std::pin::pin!(connection)).await {
        Either::Left((answer, _)) => answer?,
        Either::Right((_, answer)) => answer.await?,
    };
    if parts.status.is_success() {
        return Ok((parts, bytes));
    }
    match serde_json::from_slice::<ApiError>(&bytes) {
        Ok(error) => Err(ClientError::Refused(error)),
        Err(_) => Err(ClientError::Protocol(format!("status {}", parts.status.as_u16()))),
    }
}

/// An id, or the beginning of one, as it may stand in a path.
fn plain_id(text: &str) -> Result<&str, ClientError> {
    if is_plain_id(text) {
        Ok(text)
    } else {
        let message =
            format!("{:?} is no id and not the beginning of one", text.chars().take(64).collect::<String>());
        Err(ClientError::Refused(ApiError { code: "malformed".to_owned(), message }))
    }
}

/// True if `text` has nothing in it that no id has.
pub(crate) fn is_plain_id(text: &str) -> bool {
    // The longest are CIDs, of about 60 characters.
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn paged(page: &Page) -> Result<String, ClientError> {
    Ok(match &page.after {
        Some(after) => format!("limit={}&after={}", page.limit, plain_id(after)?),
        None => format!("limit={}", page.limit),
    })
}

/// A list of ids as a part of a query; nothing if it is empty.
fn listed<T: std::fmt::Display>(name: &str, ids: &BTreeSet<T>) -> String {
    let ids: Vec<String> = ids.iter().map(T::to_string).collect();
    if ids.is_empty() { String::new() } else { format!("&{name}={}", ids.join(",")) }
}

fn directed(direction: Option<Direction>) -> String {
    direction.map(|direction| format!("&direction={direction}")).unwrap_or_default()
}

fn json(value: &impl Serialize) -> Result<(&'static str, Bytes), ClientError> {
    let bytes = serde_json::to_vec(value).map_err(|error| ClientError::Protocol(error.to_string()))?;
    Ok(("application/json", bytes.into()))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| ClientError::Protocol(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::{get, put};

    async fn stub(router: Router) -> (tempfile::TempDir, ApiClient) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (directory, ApiClient::new(path))
    }

    #[tokio::test]
    async fn a_missing_and_a_dead_socket_both_mean_that_no_node_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let client = ApiClient::new(&path);
        assert!(matches!(client.status().await, Err(ClientError::NotRunning { .. })));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(client.status().await, Err(ClientError::NotRunning { .. })));
    }

    #[tokio::test]
    async fn refusals_are_typed_and_nonsense_is_not_believed() {
        let refusal = || async {
            (StatusCode::NOT_FOUND, r#"{"code":"unknown_job","message":"no job is known here"}"#)
        };
        let router = Router::new()
            .route("/v1/status", get(|| async { "not json" }))
            .route("/v1/capability", get(|| async { (StatusCode::BAD_GATEWAY, "<html>") }))
            .route("/v1/jobs/{id}", get(refusal))
            .route("/v1/blobs/{cid}", get(|| async { "other bytes" }))
            .route(
                "/v1/blobs",
                put(|| async { axum::Json(BlobStored { cid: ContentId::of_bytes(b"other"), length: 5 }) }),
            );
        let (_directory, client) = stub(router).await;
        assert!(matches!(client.status().await, Err(ClientError::Protocol(_))));
        assert!(matches!(client.capability().await, Err(ClientError::Protocol(_))));
        let refused = client.job(JobId::from_random([1; 16])).await;
        assert!(matches!(refused, Err(ClientError::Refused(ApiError { code, .. })) if code == "unknown_job"));
        assert!(matches!(client.blob(&ContentId::of_bytes(b"these")).await, Err(ClientError::Protocol(_))));
        assert!(matches!(client.put_blob("these").await, Err(ClientError::Protocol(_))));
    }

    #[tokio::test]
    async fn output_comes_with_its_attempt_and_offset() {
        let router = Router::new().route(
            "/v1/jobs/{id}/output",
            get(|| async { ([("dms-attempt", "2"), ("dms-offset", "5")], "more") }),
        );
        let (_directory, client) = stub(router).await;
        let piece = client.output(JobId::from_random([1; 16]), 0, OutputStream::Stdout, 9).await.unwrap();
        assert_eq!(piece, Output { attempt: Some(2), offset: 5, bytes: "more".into() });
    }

    #[tokio::test]
    async fn lists_are_asked_for_by_page_direction_and_plain_ids_only() {
        let echo = |uri: axum::http::Uri| async move {
            let error = ApiError { code: "echo".to_owned(), message: uri.to_string() };
            (StatusCode::NOT_FOUND, axum::Json(error))
        };
        let (_directory, client) = stub(Router::new().fallback(echo)).await;
        let asked = |result: Result<(), ClientError>| match result {
            Err(ClientError::Refused(error)) => error.message,
            other => panic!("{other:?}"),
        };
        let first = Page { limit: 5, after: None };
        let next = Page { limit: 5, after: Some("0192".to_owned()) };
        let received = Some(Direction::Received);
        assert_eq!(asked(client.peers(7).await.map(drop)), "/v1/peers?limit=7");
        let requests = client.bid_requests(received, &next).await;
        assert_eq!(asked(requests.map(drop)), "/v1/bid-requests?limit=5&after=0192&direction=received");
        let bids = client.bids(Some(Direction::Sent), Some("ab"), &first).await;
        assert_eq!(asked(bids.map(drop)), "/v1/bids?limit=5&direction=sent&request=ab");
        assert_eq!(asked(client.allocations(&first).await.map(drop)), "/v1/allocations?limit=5");
        assert_eq!(asked(client.allocation("ab").await.map(drop)), "/v1/allocations/ab");
        assert_eq!(asked(client.contracts(&first).await.map(drop)), "/v1/contracts?limit=5");
        assert_eq!(asked(client.contract("bafi").await.map(drop)), "/v1/contracts/bafi");
        let offboard = client.offboard(OffboardMode::AtOnce).await;
        assert_eq!(asked(offboard.map(drop)), "/v1/offboard?mode=at_once");
        for text in ["", "a/b", "a?b", "a b", "\r\n", &"a".repeat(129)] {
            let refused = client.contract(text).await;
            assert!(
                matches!(refused, Err(ClientError::Refused(error)) if error.code == "malformed"),
                "{text}"
            );
        }
    }
}
