//! `dms job run --local`: the same job on this machine, without a node, a data directory or a mesh.
//!
//! The files are read, checked and bounded as if they were sent, the program runs under the same executor and
//! the same limits, and what it leaves is kept or refused by the same rules. So a job that works here works
//! on a node, and a result from a node can be compared with one from here. Nothing is bid on, priced, locked or
//! contracted, and nothing outlasts the command but the files that were asked for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dms_actors::clock::SystemClock;
use dms_messages::{
    ContentId, FailureCause, FileEntry, FileTree, JobEnd, JobFailure, JobId, MemoryMib, Millis, bounded_text,
};
use serde::Serialize;
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::follow::{self, Collected};
use super::{code, files};
use crate::allocation::state::failure_cause;
use crate::api::types::JobDefaults;
use crate::cli::Session;
use crate::cli::error::{BAD_JOB, CliError, INTERRUPTED};
use crate::config::Settings;
use crate::executors::wasm::WasmExecutor;
use crate::executors::{Execution, Executor, Exit, Limits, Outcome, OutputStream, Workload};
use crate::job_file::{JobSpec, Uploads};

/// How a job that ran here ended, for programs.
#[derive(Debug, Serialize)]
struct Ended {
    /// Its name.
    name: String,
    /// How.
    #[serde(flatten)]
    end: JobEnd,
    /// The program's exit code, if it ended by itself.
    exit_code: Option<i32>,
    /// How long it ran.
    wall: Millis,
    /// Highest memory.
    peak_memory: MemoryMib,
    /// Bytes of output over the limit, which are lost.
    output_dropped: u64,
}

/// What `--json` prints at the end.
#[derive(Debug, Serialize)]
struct Finished {
    local: Ended,
    #[serde(flatten)]
    output: Collected,
    /// The files written to `--output`.
    files: Vec<String>,
}

/// A job with everything it needs at hand.
struct Prepared {
    name: String,
    workload: Workload,
    limits: Limits,
    /// Where its files go in the end.
    directory: Option<PathBuf>,
    /// Holds `/input` and `/output` while it runs; removed when dropped.
    work: TempDir,
}

pub(super) async fn run(spec: JobSpec, session: &Session) -> Result<ExitCode, CliError> {
    let mut interrupts = Interrupts::listen()?;
    let Prepared { name, workload, limits, directory, work } = prepare(spec)?;
    session.out.note("running here");
    let mut transcript = Transcript::new(session.out.is_json());
    let executor = WasmExecutor::new().map_err(|error| CliError::internal("cannot run programs", error))?;
    let outcome = watch(executor.start(workload, limits), &mut interrupts, &mut transcript).await?;
    let Kept { refusal, files } = match &outcome.exit {
        // Somebody who stops a program does not want its half of the files.
        Exit::Stopped => Kept { refusal: None, files: Vec::new() },
        _ => keep(&work.path().join("output"), directory.as_deref())?,
    };
    let end = end(&outcome.exit, refusal);
    let exit_code = match outcome.exit {
        Exit::Code(code) => Some(code),
        _ => None,
    };
    let shell_code = match end {
        JobEnd::Cancelled => INTERRUPTED,
        _ => code(end.phase(), exit_code, Some(&end)),
    };
    if session.out.is_json() {
        let local = Ended {
            name,
            end,
            exit_code,
            wall: Millis::from(outcome.usage.wall),
            peak_memory: MemoryMib(outcome.usage.peak_memory_bytes.div_ceil(1 << 20)),
            output_dropped: outcome.usage.output_dropped_bytes,
        };
        session.out.json(&Finished { local, output: transcript.collected(), files });
    } else {
        for file in &files {
            let path = directory.as_deref().unwrap_or(Path::new("")).join(file);
            session.out.note(&format!("wrote {}", path.display()));
        }
        if outcome.usage.output_dropped_bytes > 0 {
            let dropped = outcome.usage.output_dropped_bytes;
            session.out.note(&format!("{dropped} bytes of output are lost: they were over the limit"));
        }
        session.out.note(&sentence(&end));
    }
    Ok(ExitCode::from(shell_code))
}

/// Reads what the job names and lays out its directories; what a node would refuse is refused.
fn prepare(spec: JobSpec) -> Result<Prepared, CliError> {
    super::run::check(&spec)?;
    let [task] = spec.tasks.as_slice() else {
        let message = "--local runs one program; this job has several, which only a node runs side by side";
        return Err(CliError::usage(message));
    };
    let task = task.clone();
    let module = files::read_named("wasm", &task.wasm)?;
    let stdin = task.stdin.as_deref().map(|path| files::read_named("stdin", path)).transpose()?;
    let work = tempfile::Builder::new()
        .prefix("dms-local-")
        .tempdir()
        .map_err(|error| CliError::caused("cannot make a directory for the job", error))?;
    let make = |name: &str| {
        let path = work.path().join(name);
        std::fs::create_dir(&path)
            .map(|()| path)
            .map_err(|error| CliError::caused("cannot make a directory for the job", error))
    };
    let output = make("output")?;
    let (mut input, mut tree) = (None, None);
    if let Some(directory) = &task.input {
        let path = make("input")?;
        let copied = copy_input(directory, &path)?;
        let blob = copied.to_blob().map_err(|error| CliError::Plain {
            code: BAD_JOB,
            message: format!("{}: {error}", directory.display()),
        })?;
        (input, tree) = (Some(path), Some(ContentId::of_bytes(&blob)));
    }
    let uploads = Uploads {
        module: ContentId::of_bytes(&module),
        stdin: stdin.as_deref().map(ContentId::of_bytes),
        input: tree,
    };
    let requirement = spec.requirement.clone();
    let limits = Limits {
        memory_bytes: requirement.memory.bytes(),
        cpu_millis: requirement.cpu.0,
        disk_bytes: requirement.disk.bytes(),
        timeout: task.timeout.duration(),
        output_bytes: Settings::for_data_dir("").max_output,
    };
    let workload = Workload {
        module: module.into(),
        args: task.args,
        env: task.env.into_iter().collect(),
        stdin: stdin.unwrap_or_default(),
        input,
        output,
        // Nobody could send it any messages.
        inbox: None,
    };
    let (name, directory) = (spec.name.clone(), spec.output.clone());
    check(spec, uploads)?;
    Ok(Prepared { name, workload, limits, directory, work })
}

/// The rules that a node holds a job to.
fn check(spec: JobSpec, uploads: Uploads) -> Result<(), CliError> {
    let now = SystemClock::shared().now();
    // The id is only there to make the job whole; nobody sees it.
    let job =
        spec.into_new_job(vec![uploads]).into_job(JobId::from_random([0; 16]), now, &JobDefaults::default());
    job.check().map_err(|error| CliError::Plain {
        code: BAD_JOB,
        message: format!("the job is not acceptable: {error}"),
    })
}

/// Copies a directory as it would be sent: plain files only.
fn copy_input(from: &Path, to: &Path) -> Result<FileTree, CliError> {
    let mut tree = FileTree::default();
    for (name, path) in files::list(from)? {
        let bytes = files::read(&path)?;
        files::write_below(to, &name, &bytes)?;
        let entry = FileEntry { content: ContentId::of_bytes(&bytes), length: bytes.len() as u64 };
        tree.files.insert(name, entry);
    }
    Ok(tree)
}

/// Takes output as it comes until the program has ended; an interrupt ends it.
async fn watch(
    execution: Execution,
    interrupts: &mut Interrupts,
    transcript: &mut Transcript,
) -> Result<Outcome, CliError> {
    let Execution { mut output, outcome, stop, .. } = execution;
    let mut stop = Some(stop);
    loop {
        tokio::select! {
            biased;
            () = interrupts.next(), if stop.is_some() => {
                // It may have ended in this very moment, and then it has ended by itself.
                stop.take().map(|stop| stop.send(()));
            }
            chunk = output.recv() => match chunk {
                Some(chunk) => transcript.take(chunk.stream, &chunk.bytes)?,
                None => break,
            },
        }
    }
    outcome.await.map_err(|error| CliError::internal("the executor gave no outcome", error))
}

/// What became of the files that a program left.
struct Kept {
    /// Why they cannot be had: the program's own fault.
    refusal: Option<FailureCause>,
    /// Their paths below the directory that was asked for.
    files: Vec<String>,
}

/// Copies what the program left into `directory`, if somebody wants it.
fn keep(output: &Path, directory: Option<&Path>) -> Result<Kept, CliError> {
    let left = files::list(output).and_then(|files| {
        let read = |(name, path): (_, PathBuf)| Ok((name, files::read(&path)?));
        files.into_iter().map(read).collect::<Result<Vec<_>, CliError>>()
    });
    let left = match left {
        Ok(left) => left,
        Err(error) => {
            let refusal = FailureCause::OutputRefused { text: bounded_text(error.to_string()) };
            return Ok(Kept { refusal: Some(refusal), files: Vec::new() });
        }
    };
    let mut files = Vec::with_capacity(left.len());
    if let Some(directory) = directory {
        std::fs::create_dir_all(directory)
            .map_err(|error| CliError::caused(format!("cannot make {}", directory.display()), error))?;
        for (name, bytes) in left {
            files::write_below(directory, &name, &bytes)?;
            files.push(name.to_string());
        }
        files.sort();
    }
    Ok(Kept { refusal: None, files })
}

/// What a node would say of the job in the end.
fn end(exit: &Exit, refusal: Option<FailureCause>) -> JobEnd {
    let cause = match (exit, refusal) {
        (_, Some(cause)) => cause,
        (Exit::Code(0), None) => return JobEnd::Succeeded,
        (Exit::Code(code), None) => FailureCause::ExitCode { code: *code },
        (Exit::Failed(failure), None) => failure_cause(failure.clone()),
        (Exit::Stopped, None) => return JobEnd::Cancelled,
    };
    JobEnd::Failed { failure: JobFailure::Program { cause } }
}

fn sentence(end: &JobEnd) -> String {
    match end {
        JobEnd::Succeeded => "succeeded here".to_owned(),
        JobEnd::Failed { failure } => format!("failed: {failure}"),
        JobEnd::Cancelled => "interrupted: the program was stopped, and its files were dropped".to_owned(),
    }
}

/// Where the program's output goes: through as it comes, or kept for the document.
#[derive(Debug)]
struct Transcript {
    is_kept: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Transcript {
    fn new(is_kept: bool) -> Self {
        Self { is_kept, stdout: Vec::new(), stderr: Vec::new() }
    }

    fn take(&mut self, stream: OutputStream, bytes: &[u8]) -> Result<(), CliError> {
        match (self.is_kept, stream) {
            // Bounded by the executor's `output_bytes`.
            (true, OutputStream::Stdout) => self.stdout.extend_from_slice(bytes),
            (true, OutputStream::Stderr) => self.stderr.extend_from_slice(bytes),
            (false, stream) => follow::pass_on(bytes, stream == OutputStream::Stderr)
                .map_err(|error| CliError::caused("cannot pass the program's output on", error))?,
        }
        Ok(())
    }

    fn collected(&self) -> Collected {
        Collected::of(&self.stdout, &self.stderr)
    }
}

/// The signals by which people and systems end a program.
struct Interrupts([Signal; 3]);

impl Interrupts {
    fn listen() -> Result<Self, CliError> {
        let on = |kind| signal(kind).map_err(|error| CliError::internal("cannot listen for signals", error));
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executors::ExecutionFailure;
    use dms_messages::DiskMib;

    #[test]
    fn the_end_is_what_a_node_would_have_said() {
        let refused = || FailureCause::OutputRefused { text: "a link".to_owned() };
        let failed = |cause| JobEnd::Failed { failure: JobFailure::Program { cause } };
        let granted_bytes = 32 << 20;
        let table = [
            (Exit::Code(0), None, JobEnd::Succeeded, 0),
            (Exit::Code(3), None, failed(FailureCause::ExitCode { code: 3 }), 3),
            (Exit::Code(0), Some(refused()), failed(refused()), 1),
            (Exit::Code(3), Some(refused()), failed(refused()), 1),
            (
                Exit::Failed(ExecutionFailure::DiskExceeded { granted_bytes }),
                None,
                failed(FailureCause::DiskExceeded { granted: DiskMib(32) }),
                1,
            ),
            (Exit::Stopped, None, JobEnd::Cancelled, 1),
        ];
        for (exit, refusal, expected, shell_code) in table {
            let end = end(&exit, refusal);
            assert_eq!(end, expected, "{exit:?}");
            assert_eq!(code(end.phase(), None, Some(&end)), shell_code, "{exit:?}");
        }
    }

    #[test]
    fn what_a_node_refuses_is_refused_here() {
        let directory = tempfile::tempdir().unwrap();
        let text = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(text("a.wasm"), b"\0asm").unwrap();
        std::fs::create_dir(text("in")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", text("in/link")).unwrap();
        let spec = |job: &str| {
            let job = crate::job_file::JobFile::parse(Path::new("j.yaml"), job).unwrap();
            job.complete(None).unwrap()
        };
        let refusal = |job: &str| crate::errors::whole(&prepare(spec(job)).err().unwrap());
        let wasm = text("a.wasm");
        let table = [
            (format!("wasm: {}", text("none.wasm")), "wasm: /"),
            (format!("wasm: {}", text("in")), "not a file"),
            (format!("wasm: {wasm}\ninput: {}", text("in")), "only plain files"),
            (format!("wasm: {wasm}\nstdin: {}", text("none")), "stdin: /"),
            (format!("wasm: {wasm}\nenv: {{A=B: c}}"), "env: "),
        ];
        for (job, expected) in table {
            let refusal = refusal(&job);
            assert!(refusal.contains(expected), "{job}\n{refusal}");
        }
    }
}
