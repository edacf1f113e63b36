//! `dms job`: hands in jobs, follows them, fetches what they left.
//!
//! | file | does |
//! |---|---|
//! | `run` | `job run`: a file or flags, uploaded, handed in, followed |
//! | `local` | `job run --local`: the same job on this machine, without a node |
//! | `follow` | watches a job to its end, and passes its output through exactly once |
//! | `files` | directories to file trees and back |

mod files;
mod follow;
mod local;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use dms_messages::{FailureCause, JobEnd, JobFailure, JobId, JobPhase};
use serde::Serialize;

use self::follow::{Follower, Streams};
pub(super) use self::run::{check, spec, uploaded};
use super::error::{CliError, FAILED, LATER, TIMED_OUT, UNAVAILABLE, USAGE};
use super::{Session, output, small_runtime};
use crate::api::client::{ApiClient, ClientError};
use crate::api::types::JobView;

/// Run jobs on the mesh and see what became of them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Args>),
    /// List the jobs of this node, newest first
    #[command(alias = "list")]
    Ls {
        /// How many at most
        #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Show how a job stands, and its attempts
    Show {
        /// The job, or the beginning of its id
        #[arg(value_name = "JOB")]
        job: String,
    },
    /// Print what a job has written so far
    Logs {
        /// The job, or the beginning of its id
        #[arg(value_name = "JOB")]
        job: String,
        /// Print only what this task has written, without its name before each line
        #[arg(long, value_name = "NAME")]
        task: Option<String>,
        /// Go on until the job ends, and exit as the program did
        #[arg(long, short)]
        follow: bool,
        /// Print only standard error, and print it to standard output
        #[arg(long)]
        stderr: bool,
    },
    /// End a job
    Cancel {
        /// The job, or the beginning of its id
        #[arg(value_name = "JOB")]
        job: String,
    },
    /// Say why each node did or did not take a job
    Explain {
        /// The job, or the beginning of its id
        #[arg(value_name = "JOB")]
        job: String,
    },
    /// Write the files that a job left in /output into a directory
    Get {
        /// The job, or the beginning of its id
        #[arg(value_name = "JOB")]
        job: String,
        /// The directory, made if it is missing; files of the same names are replaced
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
    },
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let args = match args.command {
        // Before anything of a node is looked at: there may be none, nor a directory for one.
        Command::Run(args) if args.is_local() => {
            return small_runtime()?.block_on(run::here(*args, session));
        }
        _ => args,
    };
    let client = session.client()?;
    small_runtime()?.block_on(async {
        match args.command {
            Command::Run(args) => run::run(*args, &client, session).await,
            Command::Ls { limit } => {
                let jobs = client.jobs(usize::from(limit)).await?;
                session.out.document(&jobs, |jobs| output::jobs(jobs, output::now()));
                Ok(ExitCode::SUCCESS)
            }
            Command::Show { job } => {
                let job = client.job(find(&client, &job).await?).await?;
                session.out.document(&job, |job| output::job(job, output::now()));
                Ok(ExitCode::SUCCESS)
            }
            Command::Logs { job, task, follow, stderr } => {
                let id = find(&client, &job).await?;
                let task = match task {
                    Some(name) => Some(task_index(&client.job(id).await?, &name)?),
                    None => None,
                };
                let streams = if stderr { Streams::StderrToStdout } else { Streams::Both };
                logs(&client, session, id, task, follow, streams).await
            }
            Command::Cancel { job } => {
                let id = find(&client, &job).await?;
                client.cancel(id).await?;
                session
                    .out
                    .document(&serde_json::json!({ "job": id }), |_| format!("job {id} will be ended\n"));
                Ok(ExitCode::SUCCESS)
            }
            Command::Explain { job } => {
                let explanation = client.explain(find(&client, &job).await?).await?;
                session.out.document(&explanation, output::explanation);
                Ok(ExitCode::SUCCESS)
            }
            Command::Get { job, output } => {
                let job = client.job(find(&client, &job).await?).await?;
                get(&client, session, &job, &output).await
            }
        }
    })
}

/// The job that a person means: a whole id, or the only one that begins so.
async fn find(client: &ApiClient, text: &str) -> Result<JobId, CliError> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let is_prefix = !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if !is_prefix {
        return Err(CliError::usage(format!("{text:?} is not a job id or the beginning of one")));
    }
    match client.find_job(&text.to_ascii_lowercase()).await {
        Ok(job) => Ok(job.id),
        Err(ClientError::Refused(error)) if error.code == "unknown_job" => {
            Err(CliError::failed(format!("no job of this node begins with {text}")))
        }
        Err(ClientError::Refused(error)) if error.code == "ambiguous_id" => Err(CliError::Plain {
            code: USAGE,
            message: format!("several jobs begin with {text}; give more of the id"),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Which task of a job has this name.
fn task_index(job: &JobView, name: &str) -> Result<usize, CliError> {
    let tasks = job.row.job.pods.first().map(|pod| pod.tasks.as_slice()).unwrap_or_default();
    tasks.iter().position(|task| task.name == name).ok_or_else(|| {
        let names: Vec<String> = tasks.iter().map(|task| output::escaped(&task.name)).collect();
        CliError::usage(format!("the job has no task {name:?}; it has {}", names.join(", ")))
    })
}

/// `dms job logs`.
async fn logs(
    client: &ApiClient,
    session: &Session,
    id: JobId,
    task: Option<usize>,
    is_following: bool,
    streams: Streams,
) -> Result<ExitCode, CliError> {
    if session.out.is_json() {
        let view = if is_following {
            follow::to_end(client, session, id, task, Streams::None).await?
        } else {
            Some(client.job(id).await?)
        };
        let Some(view) = view else { return Ok(detached(session, id)) };
        let text = follow::collected(client, &view, task).await?;
        session.out.json(&text);
        return Ok(if is_following { exit_code(&view) } else { ExitCode::SUCCESS });
    }
    if !is_following {
        let mut follower = Follower::new(client, session, id, task, streams);
        follower.catch_up().await?;
        return Ok(ExitCode::SUCCESS);
    }
    match follow::to_end(client, session, id, task, streams).await? {
        Some(view) => Ok(exit_code(&view)),
        None => Ok(detached(session, id)),
    }
}

/// What is said when a person stops watching.
fn detached(session: &Session, id: JobId) -> ExitCode {
    if session.out.is_json() {
        session.out.json(&serde_json::json!({ "job": id, "detached": true }));
    }
    let short = output::short_id(&id);
    let command = |words: String| session.command(&words);
    session.out.note("detached; the job goes on");
    session.out.note(&format!("watch it again: {}", command(format!("job logs {short} --follow"))));
    session.out.note(&format!("end it:         {}", command(format!("job cancel {short}"))));
    ExitCode::from(super::error::INTERRUPTED)
}

/// What `dms job get` did.
#[derive(Debug, Serialize)]
struct Got {
    job: JobId,
    directory: PathBuf,
    files: Vec<String>,
}

/// `dms job get`.
async fn get(
    client: &ApiClient,
    session: &Session,
    job: &JobView,
    directory: &std::path::Path,
) -> Result<ExitCode, CliError> {
    if !job.is_terminal {
        let message = format!("the job is {}; its files can be had when it has ended", job.phase);
        return Err(CliError::Plain { code: LATER, message });
    }
    let files =
        files::download_all(client, job, directory).await.map_err(|error| elsewhere(error, job.id))?;
    let got = Got { job: job.id, directory: directory.to_path_buf(), files };
    session.out.document(&got, |got| {
        if got.files.is_empty() {
            return "the job left no files\n".to_owned();
        }
        got.files
            .iter()
            .map(|file| format!("{}\n", output::escaped(&directory.join(file).display().to_string())))
            .collect()
    });
    Ok(ExitCode::SUCCESS)
}

/// An error while a job's files are written, with the command that fetches them into another place.
fn elsewhere(error: CliError, job: JobId) -> CliError {
    let words = format!("job get {} --output OTHER", output::short_id(&job));
    error.advised("the job's files are kept: fetch them into another directory with", words)
}

/// The exit code of a job that has ended.
fn exit_code(job: &JobView) -> ExitCode {
    ExitCode::from(code(job.phase, job.exit_code, job.row.end.as_ref()))
}

fn code(phase: JobPhase, exit_code: Option<i32>, end: Option<&JobEnd>) -> u8 {
    if let Some(JobEnd::Failed { failure }) = end {
        return match failure {
            JobFailure::NobodyTookIt { is_final: true } | JobFailure::AttemptsExhausted { .. } => UNAVAILABLE,
            JobFailure::NobodyTookIt { is_final: false } | JobFailure::NotItsTurn => LATER,
            JobFailure::Program { cause: FailureCause::TimedOut { .. } } => TIMED_OUT,
            // What does not fit into the one byte that a shell sees must not look like success.
            JobFailure::Program { cause: FailureCause::ExitCode { code } } => {
                u8::try_from(*code).ok().filter(|code| *code != 0).unwrap_or(FAILED)
            }
            _ => FAILED,
        };
    }
    match (phase, exit_code) {
        (JobPhase::Succeeded, _) => 0,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_messages::{Millis, StopCause};

    #[test]
    fn a_shell_sees_the_programs_code_or_why_there_is_none() {
        let failed = |failure| Some(JobEnd::Failed { failure });
        let program = |cause| failed(JobFailure::Program { cause });
        let table = [
            (Some(JobEnd::Succeeded), 0),
            (program(FailureCause::ExitCode { code: 3 }), 3),
            (program(FailureCause::ExitCode { code: 256 }), FAILED),
            (program(FailureCause::ExitCode { code: -1 }), FAILED),
            (program(FailureCause::TimedOut { limit: Millis(1) }), TIMED_OUT),
            (program(FailureCause::Trapped { text: "unreachable".to_owned() }), FAILED),
            (failed(JobFailure::NobodyTookIt { is_final: true }), UNAVAILABLE),
            (failed(JobFailure::NobodyTookIt { is_final: false }), LATER),
            (failed(JobFailure::NotItsTurn), LATER),
            (failed(JobFailure::Stopped { cause: StopCause::Orphaned }), FAILED),
            (Some(JobEnd::Cancelled), FAILED),
        ];
        for (end, expected) in table {
            let phase = end.as_ref().map_or(JobPhase::Running, JobEnd::phase);
            assert_eq!(code(phase, None, end.as_ref()), expected, "{end:?}");
        }
    }
}
