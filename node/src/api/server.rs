//! The API's server: a Unix socket and, on request, a port; one route per question, one message to the Node actor each.
//!
//! [`crate::startup`] binds it before the node is called ready (a second node on the same socket then
//! stops at once) and serves it until the node is stopped. It decides nothing and keeps nothing. Who may
//! use it is decided before any route: at the socket by its mode, 0600 (a peer of another user is turned away), at the
//! port by the token, and everywhere by what no web page can leave out.

mod benchmark;
mod connections;
mod guard;
mod interface;
mod listings;
mod messages;
mod monitor;
mod preferences;
mod records;
mod trust;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use dms_actors::clock::SharedClock;
use dms_actors::{ActorRef, AskError, Handler, Message, SendFailure};
use dms_messages::{Capability, ContentId, JobId, OutputStream, Retry};
use dms_storage::Engine;
use hyper_util::server::graceful::GracefulShutdown;
use serde::Deserialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use self::connections::{ApiLimits, TcpApi};
use self::connections::{Connections, TooSlow};
use self::guard::Guard;
use self::listings::LimitQuery;
use super::types::{ApiError, BlobStored, JobCreated, JobDefaults, JobView, NewJob};
use super::{ATTEMPT_HEADER, MAX_BLOB_BYTES, MAX_JSON_BYTES, OFFSET_HEADER};
use crate::blobs::BlobStore;
use crate::commands::{
    CancelJob, CommandError, ExplainJob, FindJob, GetCapability, GetStatus, ListJobs, Offboard, OffboardMode,
    Onboard, OutputPiece, ReadOutput, ShowJob, SubmitJob,
};
use crate::node::Node;

/// Longest path of a Unix socket on Linux, in bytes (108 with the closing zero).
pub const MAX_SOCKET_PATH: usize = 107;
/// How long the Node actor may take to answer: many commits to disk, few enough seconds that a person
/// learns of a node that hangs.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Open connections at the socket: every `dms job run` that follows a job uses one at a time, for a moment.
const MAX_CONNECTIONS: usize = 128;
/// Requests in the works; more get `busy` at once. Well under the Node's mailbox.
const MAX_REQUESTS: usize = 64;
/// Blobs in memory at once, 16 MiB each; more wait.
const MAX_BLOBS_IN_MEMORY: usize = 4;
/// Requests that wait for new events at once: a quarter of all, so that the others are still answered.
const MAX_FOLLOWERS: usize = 16;

/// What the routes work with.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// The Node actor.
    pub node: ActorRef<Node>,
    /// The books on disk, for reading only.
    pub engine: Arc<dyn Engine>,
    /// Modules, inputs and outputs.
    pub blobs: Arc<BlobStore>,
    /// Time and chance, for new jobs.
    pub clock: SharedClock,
    /// What a job gets where it does not say.
    pub defaults: JobDefaults,
}

/// Why there is no socket, or no port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The path does not fit into a socket's address.
    #[error(
        "the API socket's path has {length} bytes and at most {MAX_SOCKET_PATH} are possible; choose a shorter one with --api: {}",
        path.display()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Another node serves this socket.
    #[error("a node is already running at {}", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something that is no socket is in the way; it is left alone.
    #[error("{} is there and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot open the API socket {}", path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Other machines could reach the port.
    #[error(
        "the API is not served at {address}: what is said there is not encrypted, so it must be an address of this machine alone (127.0.0.1)"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses the port.
    #[error("cannot serve the API at {address}")]
    Port {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A bound socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct ApiListener {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's file, as we made it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    owner: u32,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Only our own: another node may have come since, if somebody removed ours by hand.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl ApiListener {
    /// Binds the socket at `path`, mode 0600; the directory is made (0700) if it is missing, and the file
    /// of a node that is gone is replaced. Needs a tokio context.
    pub async fn bind(path: &Path) -> Result<Self, BindError> {
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(BindError::PathTooLong { path: path.to_path_buf(), length });
        }
        let failed = |source| BindError::System { path: path.to_path_buf(), source };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        }
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(BindError::NotASocket { path: path.to_path_buf() });
            }
            Ok(_) => match UnixStream::connect(path).await {
                Ok(_) => return Err(BindError::InUse { path: path.to_path_buf() }),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            },
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
        let file = SocketFile { path: path.to_path_buf(), owner: metadata.uid(), inode: metadata.ino() };
        Ok(Self { listener, file })
    }

    /// Where it is bound.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

/// Serves the API until `shutdown` ends; requests in the works are answered first. The socket's file is
/// gone, and the port free, when this returns.
pub async fn serve(
    socket: ApiListener,
    tcp: Option<TcpApi>,
    state: ApiState,
    limits: ApiLimits,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(false);
    let shutdown = async move {
        shutdown.await;
        stop.send_replace(true);
    };
    let tcp_address = tcp.as_ref().map(TcpApi::address);
    let routes = router(state, tcp_address, stopping.clone());
    let connections = Connections { routes, limits, graceful: GracefulShutdown::new(), stopping };
    let at_socket = connections.serve(socket, Guard::Socket, MAX_CONNECTIONS);
    futures::join!(shutdown, at_socket, connections.serve_tcp(tcp));
    connections.graceful.shutdown().await;
}

/// The routes with the bounds that all of them share.
#[derive(Debug, Clone)]
struct Shared {
    state: ApiState,
    /// The port that the API is served at, too.
    tcp_address: Option<SocketAddr>,
    requests: Arc<Semaphore>,
    blobs_in_memory: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    /// True once the node stops.
    stopping: watch::Receiver<bool>,
}

fn router(state: ApiState, tcp_address: Option<SocketAddr>, stopping: watch::Receiver<bool>) -> Router {
    let shared = Shared {
        state,
        tcp_address,
        requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
        blobs_in_memory: Arc::new(Semaphore::new(MAX_BLOBS_IN_MEMORY)),
        followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
        // One at a time: two would only stand in each other's way.
        backups: Arc::new(Semaphore::new(1)),
        stopping,
    };
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/capability", get(capability))
        .route("/v1/onboard", post(onboard))
        .route("/v1/offboard", post(offboard))
        .route("/v1/blobs", put(put_blob))
        .route("/v1/blobs/{cid}", get(get_blob))
        .route("/v1/jobs", post(submit_job).get(list_jobs))
        .route("/v1/jobs/{id}", get(show_job))
        .route("/v1/jobs/{id}/output", get(read_output))
        .route("/v1/jobs/{id}/explain", get(explain_job))
        .route("/v1/jobs/{id}/cancel", post(cancel_job));
    let router = benchmark::routes(monitor::routes(interface::routes(messages::routes(router))));
    let router = preferences::routes(router);
    trust::routes(records::routes(listings::routes(router)))
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "no_such_route", "there is no such route"))
        .method_not_allowed_fallback(async || {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", "this route has no such method")
        })
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .layer(middleware::from_fn_with_state(shared.clone(), bounded))
        .with_state(shared)
}

/// Lets only so many requests in at once.
async fn bounded(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    match shared.requests.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many requests at once").into_response()
        }
    }
}

/// A request that is not fulfilled.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    error: ApiError,
}

impl Failure {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, error: ApiError { code: code.to_owned(), message: message.into() } }
    }

    fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.error)).into_response()
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let (status, code) = match &error {
            CommandError::UnknownId { noun, .. } => {
                let code = format!("unknown_{}", noun.code());
                return Self::new(StatusCode::NOT_FOUND, &code, error.to_string());
            }
            CommandError::AmbiguousId { .. } => (StatusCode::CONFLICT, "ambiguous_id"),
            CommandError::TooFarBack { .. } => (StatusCode::CONFLICT, "too_far_back"),
            CommandError::NotOnboarded | CommandError::NothingOffered => {
                (StatusCode::CONFLICT, "not_onboarded")
            }
            CommandError::AllocationsRunning { .. } => (StatusCode::CONFLICT, "allocations_running"),
            CommandError::InvalidJob(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_job"),
            CommandError::InvalidCapability(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_capability"),
            CommandError::UnknownJob(_) => (StatusCode::NOT_FOUND, "unknown_job"),
            CommandError::JobEnded(_) => (StatusCode::CONFLICT, "job_ended"),
            CommandError::JobKnown(_) => (StatusCode::CONFLICT, "job_known"),
            CommandError::Archive(_) => (StatusCode::INTERNAL_SERVER_ERROR, "archive_unreadable"),
            CommandError::TooManyJobs { .. } => (StatusCode::CONFLICT, "too_many_jobs"),
            CommandError::InvalidPreferences(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_preferences"),
            CommandError::InvalidTrust(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_trust"),
            CommandError::Declined(reason) => match reason.retry() {
                Retry::Later => (StatusCode::SERVICE_UNAVAILABLE, "declined_now"),
                Retry::Final => (StatusCode::CONFLICT, "declined"),
            },
            CommandError::BeyondLock(_) => (StatusCode::CONFLICT, "beyond_lock"),
            CommandError::Refused(_) => (StatusCode::CONFLICT, "refused"),
            CommandError::Measuring => (StatusCode::SERVICE_UNAVAILABLE, "measuring"),
            CommandError::NotMeasured(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not_measured"),
            CommandError::Draining => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            CommandError::ReadOnly(_) => (StatusCode::SERVICE_UNAVAILABLE, "read_only"),
            CommandError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl<M> From<AskError<M>> for Failure {
    fn from(error: AskError<M>) -> Self {
        let code = match &error {
            AskError::NotSent { reason: SendFailure::Full, .. } => "busy",
            AskError::TimedOut => "timed_out",
            _ => "stopping",
        };
        let message = match code {
            "busy" => "the node is busy".to_owned(),
            "stopping" => "the node is stopping".to_owned(),
            _ => error.to_string(),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        if is_caused_by::<TooSlow>(&rejection) {
            return too_slow();
        }
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(MAX_JSON_BYTES),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::malformed("content-type must be application/json"),
            _ => Self::malformed(rejection.body_text()),
        }
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::malformed(rejection.body_text())
    }
}

fn too_large(limit: usize) -> Failure {
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body has more than {limit} bytes"))
}

fn too_slow() -> Failure {
    Failure::new(StatusCode::REQUEST_TIMEOUT, "too_slow", TooSlow.to_string())
}

/// True if such an error lies beneath `error`.
fn is_caused_by<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<E>())
}

/// A trouble with the blob store, told with everything beneath it.
fn blob_failure(error: &(dyn std::error::Error + 'static)) -> Failure {
    tracing::warn!(error, "the blob store failed");
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "blob_store", crate::errors::whole(error))
}

impl Shared {
    async fn ask<M: Message>(&self, message: M) -> Result<M::Reply, Failure>
    where
        Node: Handler<M>,
    {
        Ok(self.state.node.ask(message).timeout(ASK_TIMEOUT).await?)
    }

    /// Runs blocking work on the blob store off the event loop.
    async fn with_blobs<R: Send + 'static>(
        &self,
        work: impl FnOnce(&BlobStore) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let blobs = self.state.blobs.clone();
        self.blocking(move || work(&blobs)).await
    }

    /// Runs blocking work off the event loop.
    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Failure> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the store panicked"))
    }

    async fn blob_slot(&self) -> OwnedSemaphorePermit {
        self.blobs_in_memory.clone().acquire_owned().await.expect("the semaphore is never closed")
    }
}

/// Reads an identifier of a path.
fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: Result<UrlPath<String>, PathRejection>,
) -> Result<T, Failure> {
    let UrlPath(text) = text?;
    text.parse().map_err(|error: T::Err| Failure::malformed(error.to_string()))
}

async fn status(State(shared): State<Shared>) -> Result<Response, Failure> {
    let mut status = shared.ask(GetStatus).await?;
    status.task_count = Handle::current().metrics().num_alive_tasks();
    status.api_listen = shared.tcp_address;
    Ok(Json(status).into_response())
}

async fn capability(State(shared): State<Shared>) -> Result<Response, Failure> {
    Ok(Json(shared.ask(GetCapability).await?).into_response())
}

async fn onboard(
    State(shared): State<Shared>,
    body: Result<Json<Capability>, JsonRejection>,
) -> Result<StatusCode, Failure> {
    let Json(capability) = body?;
    shared.ask(Onboard { capability }).await??;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OffboardQuery {
    #[serde(default)]
    mode: OffboardMode,
}

async fn offboard(
    State(shared): State<Shared>,
    query: Result<Query<OffboardQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(OffboardQuery { mode }) = query?;
    let progress = shared.ask(Offboard { mode }).await??;
    let status = if progress.is_withdrawn { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(progress)).into_response())
}

async fn put_blob(State(shared): State<Shared>, request: Request) -> Result<Response, Failure> {
    let _slot = shared.blob_slot().await;
    let bytes = axum::body::to_bytes(request.into_body(), MAX_BLOB_BYTES).await.map_err(|error| {
        if is_caused_by::<http_body_util::LengthLimitError>(&error) {
            too_large(MAX_BLOB_BYTES)
        } else if is_caused_by::<TooSlow>(&error) {
            too_slow()
        } else {
            Failure::malformed("the body ended early")
        }
    })?;
    let length = bytes.len() as u64;
    let cid =
        shared.with_blobs(move |blobs| blobs.put(&bytes).map_err(|error| blob_failure(&error))).await??;
    Ok(Json(BlobStored { cid, length }).into_response())
}

async fn get_blob(
    State(shared): State<Shared>,
    cid: Result<UrlPath<String>, PathRejection>,
) -> Result<Response, Failure> {
    let cid: ContentId = parsed(cid)?;
    let _slot = shared.blob_slot().await;
    let bytes =
        shared.with_blobs(move |blobs| blobs.get(&cid).map_err(|error| blob_failure(&error))).await??;
    match bytes {
        Some(bytes) => Ok(raw(bytes)),
        None => {
            Err(Failure::new(StatusCode::NOT_FOUND, "unknown_blob", format!("no blob {cid} is kept here")))
        }
    }
}

/// Raw bytes as an answer.
fn raw(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], Body::from(bytes)).into_response()
}

async fn submit_job(
    State(shared): State<Shared>,
    body: Result<Json<NewJob>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(job) = body?;
    check_contents(&shared, &job).await?;
    let id = JobId::from_random(shared.state.clock.random());
    let job = job.into_job(id, shared.state.clock.now(), &shared.state.defaults);
    let job = shared.ask(SubmitJob { job }).await??;
    Ok((StatusCode::CREATED, Json(JobCreated { job })).into_response())
}

/// Refuses a job whose contents are not here, or do not fit into its disk.
async fn check_contents(shared: &Shared, job: &NewJob) -> Result<(), Failure> {
    let blobs = shared.state.blobs.clone();
    let tasks = job.pods.iter().flat_map(|pod| &pod.tasks);
    let needed: Vec<ContentId> = tasks.flat_map(|task| task.blobs().chain(task.input)).collect();
    let missing =
        tokio::task::spawn_blocking(move || needed.into_iter().find(|id| !blobs.contains(id))).await;
    if let Ok(Some(id)) = missing {
        let message = format!("{id} is not stored here; store it first with PUT /v1/blobs");
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_blob", message));
    }
    let blobs = shared.state.blobs.clone();
    let inputs = job.pods.iter().flat_map(|pod| pod.tasks.iter().map(|task| (task.input, task.disk_of(pod))));
    let inputs: Vec<_> = inputs.filter_map(|(input, disk)| Some((input?, disk))).collect();
    let too_large = tokio::task::spawn_blocking(move || {
        inputs.into_iter().find_map(|(input, disk)| {
            let length = blobs.input_length(&input)?;
            (length > disk.bytes()).then(|| {
                format!("the job is not acceptable: its input of {length} bytes is larger than the {disk} of disk that it asks for")
            })
        })
    })
    .await;
    if let Ok(Some(message)) = too_large {
        return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_job", message));
    }
    Ok(())
}

async fn list_jobs(
    State(shared): State<Shared>,
    query: Result<Query<LimitQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    let jobs = shared.ask(ListJobs { limit: query.limit() }).await??;
    let jobs: Vec<JobView> = jobs.into_iter().map(JobView::of).collect();
    Ok(Json(jobs).into_response())
}

async fn show_job(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
) -> Result<Response, Failure> {
    let UrlPath(id) = id?;
    // A whole id in any of its spellings, or the beginning of one.
    let row = match id.parse() {
        Ok(job) => shared.ask(ShowJob { job }).await??,
        Err(_) => shared.ask(FindJob { id }).await??,
    };
    Ok(Json(JobView::of(row)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputQuery {
    #[serde(default)]
    task: u16,
    stream: OutputStream,
    #[serde(default)]
    offset: u64,
}

async fn read_output(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
    query: Result<Query<OutputQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(OutputQuery { task, stream, offset }) = query?;
    let OutputPiece { attempt, offset, bytes } =
        shared.ask(ReadOutput { job: parsed(id)?, task, stream, offset }).await??;
    let mut response = raw(bytes);
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static(OFFSET_HEADER), offset.into());
    if let Some(attempt) = attempt {
        headers.insert(HeaderName::from_static(ATTEMPT_HEADER), attempt.number.into());
    }
    Ok(response)
}

async fn explain_job(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
) -> Result<Response, Failure> {
    Ok(Json(shared.ask(ExplainJob { job: parsed(id)? }).await??).into_response())
}

async fn cancel_job(
    State(shared): State<Shared>,
    id: Result<UrlPath<String>, PathRejection>,
) -> Result<StatusCode, Failure> {
    shared.ask(CancelJob { job: parsed(id)? }).await??;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use dms_messages::{DeclineReason, RefusedReason};

    use super::*;
    use crate::listings::Noun;

    #[tokio::test]
    async fn a_socket_is_its_owners_and_a_live_one_is_never_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/api.sock");
        let listener = ApiListener::bind(&path).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert!(matches!(ApiListener::bind(&path).await, Err(BindError::InUse { .. })));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_node_is_replaced_and_other_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        // A listener of the standard library leaves its file behind, as a killed process does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(ApiListener::bind(&path).await.unwrap());
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(ApiListener::bind(&path).await, Err(BindError::NotASocket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_refused_with_the_limit() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(MAX_SOCKET_PATH)));
        let error = ApiListener::bind(&path).await.unwrap_err();
        assert!(matches!(error, BindError::PathTooLong { length: 112, .. }));
        assert!(error.to_string().contains("at most 107"));
    }

    #[test]
    fn every_refusal_has_the_status_its_caller_acts_on() {
        let job = JobId::from_random([1; 16]);
        let table = [
            (CommandError::UnknownJob(job), 404, "unknown_job"),
            (CommandError::JobEnded(job), 409, "job_ended"),
            (CommandError::JobKnown(job), 409, "job_known"),
            (CommandError::Archive("a checksum".to_owned()), 500, "archive_unreadable"),
            (CommandError::TooManyJobs { limit: 3 }, 409, "too_many_jobs"),
            (CommandError::InvalidCapability("no".to_owned()), 422, "invalid_capability"),
            (
                CommandError::UnknownId { noun: Noun::BidRequest, id: "ab".to_owned() },
                404,
                "unknown_bid_request",
            ),
            (CommandError::AmbiguousId { noun: Noun::Contract, id: "ab".to_owned() }, 409, "ambiguous_id"),
            (
                CommandError::TooFarBack { noun: Noun::Allocation, id: "ab".to_owned(), limit: 5 },
                409,
                "too_far_back",
            ),
            (CommandError::InvalidTrust("no".to_owned()), 422, "invalid_trust"),
            (CommandError::NotOnboarded, 409, "not_onboarded"),
            (CommandError::AllocationsRunning { count: 1, named: Vec::new() }, 409, "allocations_running"),
            (CommandError::Declined(DeclineReason::NotOnboarded), 409, "declined"),
            (CommandError::Declined(DeclineReason::LockShare), 503, "declined_now"),
            (CommandError::Refused(RefusedReason::LeaseEnded), 409, "refused"),
            (CommandError::Measuring, 503, "measuring"),
            (CommandError::NotMeasured("no".to_owned()), 500, "not_measured"),
            (CommandError::Draining, 503, "stopping"),
            (CommandError::ReadOnly("disk full".to_owned()), 503, "read_only"),
            (CommandError::Busy, 503, "busy"),
        ];
        for (error, status, code) in table {
            let failure = Failure::from(error);
            assert_eq!((failure.status.as_u16(), failure.error.code.as_str()), (status, code));
        }
    }
}
