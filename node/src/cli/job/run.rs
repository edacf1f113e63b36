//! `dms job run`: a file or flags, uploaded, handed in, followed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dms_messages::{DiskMib, JobId, Millis, Price};
use serde::Serialize;

use super::follow::{self, Collected, Streams};
use super::{detached, elsewhere, exit_code, files, local};
use crate::api::client::ApiClient;
use crate::api::types::{JobView, NewJob};
use crate::cli::error::{CliError, INTERRUPTED};
use crate::cli::{Session, output};
use crate::config::key_value;
use crate::job_file::{
    Architecture, Attempts, Cpu, JobFile, JobResources, JobSpec, Memory, Name, Ports, TaskSpec, Timeout,
    Uploads, Wanted,
};

/// Run a program on some node of the mesh, and watch it
///
/// The job comes from a YAML or JSON file, from flags, or from both: flags win. What the program writes comes
/// out here as it is written; notes about the job go to standard error. Ctrl-C stops watching, not the job.
/// Of several programs (`tasks`) each line begins with its task's name, and the files of each are in a directory of
/// that name; the exit code is that of the first one that failed.
/// With --json, one document with the job and its whole output is printed when it has ended.
///
/// With --local the same job, of one program, runs on this machine, under the same limits and with the same exit codes, and no
/// node is needed: nothing is bid on, priced, locked or contracted, and what a job file says about that is
/// not looked at. Ctrl-C then ends the program.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Job file, YAML or JSON; paths in it begin at its own directory
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// WebAssembly module to run, binary or text
    #[arg(long, value_name = "FILE")]
    wasm: Option<PathBuf>,
    /// Name for people [default: the module's file name]
    #[arg(long)]
    name: Option<Name>,
    /// Argument for the program; may be repeated
    #[arg(long = "arg", value_name = "ARG", allow_hyphen_values = true)]
    arg: Vec<String>,
    /// Arguments for the program
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
    /// Environment variable for the program; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    env: Vec<(String, String)>,
    /// File for the program's standard input
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Directory that the program sees as /input
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,
    /// Directory for the files that the program writes to /output; files of the same names are replaced
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Cores that it needs (1, 0.5 or 500m) [default: 1]
    #[arg(long, value_name = "CORES")]
    cpu: Option<Cpu>,
    /// Memory that it needs [default: 64MiB]
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<Memory>,
    /// Disk that it needs [default: 64MiB]
    #[arg(long, value_name = "AMOUNT")]
    disk: Option<DiskMib>,
    /// How many ports it needs; which they are, its contract says [default: 0]
    #[arg(long, value_name = "COUNT")]
    ports: Option<Ports>,
    /// Instruction set that the machine must have (x86_64, aarch64) [default: any]
    #[arg(long, value_name = "NAME")]
    architecture: Option<Architecture>,
    /// How long it may run (30s, 5m, 2h) [default: 10m]
    #[arg(long, value_name = "TIME")]
    timeout: Option<Timeout>,
    /// Highest acceptable price, in credits per hour
    #[arg(long, value_name = "CREDITS")]
    max_price: Option<Price>,
    /// How long to go on asking when nobody can take it now [default: 60s]
    #[arg(long, value_name = "TIME")]
    wait: Option<Millis>,
    /// How many bids are wanted [default: 3]
    #[arg(long, value_name = "COUNT")]
    wanted: Option<Wanted>,
    /// How many attempts it may have when nodes are lost [default: 5]
    #[arg(long, value_name = "COUNT")]
    attempts: Option<Attempts>,
    /// Acceptable location; may be repeated [default: anywhere]
    #[arg(long = "location", value_name = "PLACE")]
    locations: Vec<String>,
    /// Label that the machine must carry; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
    /// Hand the job in, print its id, and do not watch
    #[arg(long)]
    detach: bool,
    /// Run it here and now, without a node: nothing is bid on or contracted
    #[arg(long, conflicts_with_all = ["detach", "max_price", "wait", "wanted", "attempts", "locations", "labels"])]
    local: bool,
}

impl Args {
    /// True if no node is to be asked.
    pub(super) fn is_local(&self) -> bool {
        self.local
    }

    /// The file with the flags over it.
    fn spec(self) -> Result<JobSpec, CliError> {
        if self.file.is_none() && self.wasm.is_none() {
            return Err(CliError::usage(
                "nothing to run: name a job file (`dms job run FILE`), or a program (`dms job run --wasm FILE`)",
            ));
        }
        let path = self.file;
        let file = path.as_deref().map(JobFile::read).transpose()?.unwrap_or_default();
        let args: Vec<_> = self.arg.into_iter().chain(self.args).collect();
        let flags = JobFile {
            name: self.name,
            tasks: None,
            wasm: self.wasm,
            args: (!args.is_empty()).then_some(args),
            env: (!self.env.is_empty()).then(|| self.env.into_iter().collect()),
            stdin: self.stdin,
            input: self.input,
            output: self.output,
            resources: JobResources {
                cpu: self.cpu,
                memory: self.memory,
                disk: self.disk,
                ports: self.ports,
                architecture: self.architecture,
                ..JobResources::default()
            },
            timeout: self.timeout,
            max_price: self.max_price,
            wait: self.wait,
            wanted: self.wanted,
            attempts: self.attempts,
            locations: (!self.locations.is_empty()).then(|| self.locations.into_iter().collect()),
            labels: (!self.labels.is_empty()).then(|| self.labels.into_iter().collect()),
        };
        Ok(file.overridden_by(flags).complete(path.as_deref())?)
    }
}

/// What `--json` prints at the end.
#[derive(Debug, Serialize)]
struct Finished<'a> {
    job: &'a JobView,
    #[serde(flatten)]
    output: Collected,
    /// The files written to `--output`.
    files: Vec<String>,
}

/// `--local`: without a node.
pub(super) async fn here(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    if session.api.is_some() {
        return Err(CliError::usage("--local needs no node: say --api or --local, not both"));
    }
    local::run(args.spec()?, session).await
}

pub(super) async fn run(args: Args, client: &ApiClient, session: &Session) -> Result<ExitCode, CliError> {
    let is_detached = args.detach;
    let spec = args.spec()?;
    let directory = spec.output.clone();
    check(&spec)?;
    let id = tokio::select! {
        biased;
        id = submit(client, spec) => id?,
        _ = tokio::signal::ctrl_c() => {
            session.out.note("interrupted before the job was handed in, unless it was in that very moment: see `dms job ls`");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    if is_detached {
        if let Some(directory) = &directory {
            let words = format!("job get {} --output {}", output::short_id(&id), directory.display());
            session
                .out
                .note(&format!("when it has ended, fetch its files with `{}`", session.command(&words)));
        }
        session.out.document(&serde_json::json!({ "job": id }), |_| format!("{id}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    session.out.note(&format!("job {id}"));
    let streams = if session.out.is_json() { Streams::None } else { Streams::Both };
    let Some(view) = follow::to_end(client, session, id, None, streams).await? else {
        return Ok(detached(session, id));
    };
    let files = match &directory {
        Some(directory) => {
            let files = files::download_all(client, &view, directory).await;
            files.map_err(|error| elsewhere(error, id))?
        }
        None => Vec::new(),
    };
    if session.out.is_json() {
        let output = follow::collected(client, &view, None).await?;
        session.out.json(&Finished { job: &view, output, files });
    } else {
        for file in &files {
            let path = directory.as_deref().unwrap_or(Path::new("")).join(file);
            session.out.note(&format!("wrote {}", path.display()));
        }
        let has_files = view.output.is_some() || view.tasks.iter().any(|task| task.output.is_some());
        if directory.is_none() && has_files {
            let words = format!("job get {} --output DIR", output::short_id(&id));
            session.out.note(&format!("the job left files: fetch them with `{}`", session.command(&words)));
        }
        explain(client, session, &view).await;
    }
    Ok(exit_code(&view))
}

/// Refuses what cannot end well, before anything is sent or run.
pub(in crate::cli) fn check(spec: &JobSpec) -> Result<(), CliError> {
    if let Some(directory) = &spec.output {
        files::check_directory(directory).map_err(|error| error.while_doing("output"))?;
    }
    for task in &spec.tasks {
        let disk = task.resources.map_or(spec.requirement.disk, |share| share.disk);
        if let Some(directory) = &task.input {
            files::check_input(directory, disk).map_err(|error| of_task(error, &spec.tasks, task))?;
        }
    }
    Ok(())
}

/// An error of one program; of several it says which.
fn of_task(error: CliError, tasks: &[TaskSpec], task: &TaskSpec) -> CliError {
    if tasks.len() > 1 { error.while_doing(format!("task {}", task.name)) } else { error }
}

/// Uploads what the job names, and hands it in.
async fn submit(client: &ApiClient, spec: JobSpec) -> Result<JobId, CliError> {
    Ok(client.submit(&uploaded(client, spec).await?).await?)
}

/// The job that a file describes, complete.
pub(in crate::cli) fn spec(path: &Path) -> Result<JobSpec, CliError> {
    Ok(JobFile::read(path)?.complete(Some(path))?)
}

/// Uploads what the job names.
pub(in crate::cli) async fn uploaded(client: &ApiClient, spec: JobSpec) -> Result<NewJob, CliError> {
    // Asked first, so that a person without a node does not wait for an upload to fail.
    client.status().await?;
    let mut uploads = Vec::with_capacity(spec.tasks.len());
    for task in &spec.tasks {
        uploads.push(upload(client, task).await.map_err(|error| of_task(error, &spec.tasks, task))?);
    }
    Ok(spec.into_new_job(uploads))
}

/// Uploads what one program is given.
async fn upload(client: &ApiClient, task: &TaskSpec) -> Result<Uploads, CliError> {
    let module = files::upload_file(client, "wasm", &task.wasm).await?;
    let stdin = match &task.stdin {
        Some(path) => Some(files::upload_file(client, "stdin", path).await?),
        None => None,
    };
    let input = match &task.input {
        Some(path) => Some(files::upload_directory(client, path).await?),
        None => None,
    };
    Ok(Uploads { module, stdin, input })
}

/// Why nobody took a job, at once, and where to read more.
async fn explain(client: &ApiClient, session: &Session, job: &JobView) {
    use dms_messages::{JobEnd, JobFailure};
    let is_untaken = |failure: &JobFailure| {
        matches!(failure, JobFailure::NobodyTookIt { .. } | JobFailure::AttemptsExhausted { .. })
    };
    if !matches!(&job.row.end, Some(JobEnd::Failed { failure }) if is_untaken(failure)) {
        return;
    }
    // Without an answer there is still the command to ask again.
    if let Ok(explanation) = client.explain(job.id).await {
        output::reasons(&explanation).iter().for_each(|line| session.out.note(&format!("  {line}")));
    }
    let short = output::short_id(&job.id);
    session.out.note(&format!("more: {}", session.command(&format!("job explain {short}"))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn flags_make_a_whole_job_and_win_over_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("j.yaml");
        std::fs::write(&file, "wasm: a.wasm\nargs: [x]\nname: filed\nresources: {cpu: 2}\n").unwrap();
        let path = file.to_str().unwrap();
        let line = ["x", path, "--cpu", "0.5", "--env", "A=b=c", "--arg=-v", "--", "--top", "10"];
        let spec = Line::try_parse_from(line).unwrap().args.spec().unwrap();
        assert_eq!(spec.name, "filed");
        assert_eq!(spec.tasks[0].wasm, directory.path().join("a.wasm"));
        assert_eq!(spec.tasks[0].args, ["-v", "--top", "10"]);
        assert_eq!(spec.tasks[0].env["A"], "b=c");
        assert_eq!(spec.requirement.cpu.0, 500);
        let nothing = Line::try_parse_from(["x"]).unwrap().args.spec().unwrap_err().to_string();
        assert!(nothing.contains("FILE") && nothing.contains("--wasm"), "{nothing}");
    }

    #[test]
    fn what_is_about_a_mesh_makes_no_sense_locally() {
        let parse = |words: &[&str]| Line::try_parse_from(["x", "j.yaml"].iter().chain(words));
        assert!(parse(&["--local", "--cpu", "2", "--memory", "1GiB", "--timeout", "5s"]).is_ok());
        let table: &[&[&str]] = &[
            &["--detach"],
            &["--max-price", "1"],
            &["--wait", "5s"],
            &["--wanted", "1"],
            &["--attempts", "1"],
            &["--location", "CH"],
            &["--label", "disk=ssd"],
        ];
        for words in table {
            assert!(parse(words).is_ok(), "{words:?}");
            let error = parse(&[&["--local"], *words].concat()).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict, "{words:?}");
        }
    }
}
