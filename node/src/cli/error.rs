//! How a command fails: what a person reads, what they can do about it, and the exit code.

use std::error::Error;
use std::process::ExitCode;

use dms_storage::maintenance::{BackupError, RestoreError};
use dms_storage::rows::RowError;
use dms_storage::{EngineError, ReaderError, StoreError};

use super::Session;
use super::output::{escaped, say};
use crate::api::client::ClientError;
use crate::api::server::BindError;
use crate::api::token::{TOKEN_FILE, TokenError};
use crate::benchmark::BenchmarkError;
use crate::config::{ConfigError, MeshError};
use crate::errors::whole;
use crate::host::HostError;
use crate::identity::IdentityError;
use crate::job_file::JobFileError;
use crate::records::RecordsError;
use crate::startup::offline::OfflineError;
use crate::startup::rotation::RotationError;
use crate::startup::{self, StartupError};
use crate::swarm_key::SwarmKeyError;

/// Failed for another reason.
pub(super) const FAILED: u8 = 1;
/// Wrong usage; clap's own code.
pub(super) const USAGE: u8 = 2;
/// The job is malformed, or a file that it names is missing or cannot be sent (`EX_USAGE`).
pub(super) const BAD_JOB: u8 = 64;
/// The books are damaged, or a backup is (`EX_DATAERR`).
pub(super) const DAMAGED: u8 = 65;
/// No node is running, or none can take the job (`EX_UNAVAILABLE`).
pub(super) const UNAVAILABLE: u8 = 69;
/// Internal error (`EX_SOFTWARE`).
pub(super) const INTERNAL: u8 = 70;
/// What was asked for cannot be written here (`EX_CANTCREAT`).
pub(super) const CANNOT_WRITE: u8 = 73;
/// Try again later (`EX_TEMPFAIL`).
pub(super) const LATER: u8 = 75;
/// The configuration or the identity is not usable (`EX_CONFIG`).
pub(super) const CONFIG: u8 = 78;
/// The program ran into its time limit, as `timeout` of coreutils says it.
pub(super) const TIMED_OUT: u8 = 124;
/// Interrupted, as shells say it.
pub(super) const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    JobFile(#[from] JobFileError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("the machine was not measured")]
    Benchmark(#[from] BenchmarkError),
    #[error(transparent)]
    Startup(Box<StartupError>),
    #[error(transparent)]
    Offline(Box<OfflineError>),
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// An error after which this node's own command helps.
    #[error("{error}")]
    Advised {
        #[source]
        error: Box<CliError>,
        advice: &'static str,
        words: String,
    },
    #[error("{message}")]
    Plain { code: u8, message: String },
    #[error("{message}")]
    Caused { code: u8, message: String, source: Box<dyn Error + Send + Sync> },
}

impl From<StartupError> for CliError {
    fn from(error: StartupError) -> Self {
        Self::Startup(Box::new(error))
    }
}

impl From<SwarmKeyError> for CliError {
    fn from(error: SwarmKeyError) -> Self {
        StartupError::from(error).into()
    }
}

impl From<OfflineError> for CliError {
    fn from(error: OfflineError) -> Self {
        Self::Offline(Box::new(error))
    }
}

impl From<RotationError> for CliError {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Startup(error) => Self::Startup(error),
            error @ RotationError::Busy { .. } => Self::later(error.to_string()),
            error @ RotationError::InMemory => Self::Plain { code: CONFIG, message: error.to_string() },
            error => Self::internal("the key was not rotated", error),
        }
    }
}

impl CliError {
    /// What was typed cannot be done.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Plain { code: USAGE, message: message.into() }
    }

    /// It failed.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Plain { code: FAILED, message: message.into() }
    }

    /// It can be done later.
    pub(super) fn later(message: impl Into<String>) -> Self {
        Self::Plain { code: LATER, message: message.into() }
    }

    /// It failed because of `source`.
    pub(super) fn caused(message: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Caused { code: FAILED, message: message.into(), source: Box::new(source) }
    }

    /// Something that should not happen did.
    pub(super) fn internal(message: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Caused { code: INTERNAL, message: message.into(), source: Box::new(source) }
    }

    /// It failed, and `words` is the command that helps on, as `advice` says.
    pub(super) fn advised(self, advice: &'static str, words: String) -> Self {
        Self::Advised { error: Box::new(self), advice, words }
    }

    /// The same with what was meant to be done in front.
    pub(super) fn while_doing(self, message: impl Into<String>) -> Self {
        Self::Caused { code: self.code(), message: message.into(), source: Box::new(self) }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Client(
                ClientError::NotRunning { .. } | ClientError::Unreachable { .. } | ClientError::Socket { .. },
            ) => UNAVAILABLE,
            Self::Client(ClientError::PathTooLong { .. }) => CONFIG,
            Self::Advised { error, .. } => error.code(),
            Self::Client(ClientError::TimedOut) => LATER,
            Self::Client(ClientError::Protocol(_)) => INTERNAL,
            Self::Client(ClientError::Refused(error)) => match error.code.as_str() {
                "busy"
                | "stopping"
                | "timed_out"
                | "too_slow"
                | "too_many_jobs"
                | "allocations_running"
                | "measuring"
                | "declined_now"
                | "not_started"
                | "inbox_full"
                | "no_answer"
                | "answer_lost" => LATER,
                "provider_unreachable" => UNAVAILABLE,
                "ambiguous_id" | "malformed" | "unknown_family" => USAGE,
                "invalid_job" => BAD_JOB,
                "no_token" => CONFIG,
                "internal" => INTERNAL,
                "damaged" => DAMAGED,
                "exists" | "no_space" => CANNOT_WRITE,
                _ => FAILED,
            },
            Self::Config(_) | Self::Mesh(_) | Self::Identity(_) | Self::Token(_) => CONFIG,
            Self::JobFile(_) => BAD_JOB,
            Self::Startup(error) => match **error {
                StartupError::ForeignBooks { .. }
                | StartupError::Identity(_)
                | StartupError::ApiToken(_)
                | StartupError::NoBooks => CONFIG,
                StartupError::Api(BindError::PathTooLong { .. }) => CONFIG,
                StartupError::P2p(ref error) if startup::is_misconfigured(error) => CONFIG,
                _ => FAILED,
            },
            Self::Offline(error) => offline_code(error),
            Self::Records(error) => match error {
                RecordsError::Log(ReaderError::Engine(error))
                | RecordsError::Row(RowError::Engine(error)) => engine_code(error),
                RecordsError::Log(ReaderError::Cut { .. }) => FAILED,
                RecordsError::Log(_) | RecordsError::Row(_) => DAMAGED,
                RecordsError::UnknownFamily(_) | RecordsError::Malformed(_) => USAGE,
            },
            Self::Host(_) | Self::Benchmark(_) => FAILED,
            Self::Plain { code, .. } | Self::Caused { code, .. } => *code,
        }
    }

    /// What a person can do about it.
    fn hint(&self, session: &Session) -> Option<String> {
        match self {
            Self::Client(ClientError::NotRunning { .. }) => {
                Some(format!("start one with `{}`", session.command("run")))
            }
            Self::Client(ClientError::Unreachable { .. }) => Some(
                "is the tunnel open, and does the node serve its API there (`dms run --api-listen`)?"
                    .to_owned(),
            ),
            Self::Client(ClientError::Refused(error)) if error.code == "no_token" => Some(format!(
                "the token of a node is {TOKEN_FILE} in its data directory: name the file, or a copy, with --api-token-file"
            )),
            Self::Token(TokenError::Unusable { .. }) => {
                Some("name the file with the node's token, or a copy of it, with --api-token-file".to_owned())
            }
            Self::Startup(error) => error.hint().map(str::to_owned),
            Self::Identity(IdentityError::Sealed { .. }) => Some(
                "say it at a terminal, or name a file that holds it with --passphrase-file (DMS_PASSPHRASE_FILE)"
                    .to_owned(),
            ),
            Self::Advised { advice, words, .. } => Some(format!("{advice} `{}`", session.command(words))),
            Self::Client(ClientError::Refused(error)) if error.code == "allocations_running" => {
                Some(format!(
                    "let them end with `{}`, or stop them with `{}`",
                    session.command("offboard --wait"),
                    session.command("offboard --force")
                ))
            }
            _ => None,
        }
    }

    /// Tells it on standard error, and gives the exit code.
    pub(super) fn report(self, session: Option<&Session>) -> ExitCode {
        say(&format!("error: {}", escaped(&whole(&self))));
        if let Some(hint) = session.and_then(|session| self.hint(session)) {
            say(&format!("hint: {hint}"));
        }
        ExitCode::from(self.code())
    }
}

fn offline_code(error: &OfflineError) -> u8 {
    match error {
        OfflineError::InUse { .. } => LATER,
        OfflineError::ForeignBackup { .. } | OfflineError::Identity(_) => CONFIG,
        OfflineError::Engine(error)
        | OfflineError::Store(StoreError::Engine(error))
        | OfflineError::Backup(BackupError::Engine(error) | BackupError::Store(StoreError::Engine(error)))
        | OfflineError::Restore(
            RestoreError::Engine(error) | RestoreError::Store(StoreError::Engine(error)),
        ) => engine_code(error),
        // What was read, and does not fit.
        OfflineError::Store(_) | OfflineError::Backup(_) | OfflineError::Restore(_) => DAMAGED,
        OfflineError::InMemory
        | OfflineError::Missing { .. }
        | OfflineError::Directory { .. }
        | OfflineError::Startup(_) => FAILED,
    }
}

fn engine_code(error: &EngineError) -> u8 {
    match error {
        EngineError::AlreadyOpen { .. } => LATER,
        EngineError::Damaged { .. } => DAMAGED,
        EngineError::Exists { .. } | EngineError::NoSpace { .. } => CANNOT_WRITE,
        _ => FAILED,
    }
}
