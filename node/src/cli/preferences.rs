//! `dms preferences`: by what the node chooses, shown, set and tried.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::error::CliError;
use super::{Session, output, small_runtime};
use crate::job_file::JobFile;
use crate::orchestrator::preferences::MAX_TEXT;
use crate::preferences::{DEFAULTS, PreferencesView, Subject, TestPreferences};

/// Choose who runs your jobs, for whom this machine works, and at what price
///
/// Preferences are a TOML file: `dms preferences show --defaults` prints one with every key. They are kept in the books
/// and hold from the next job and the next request on, without a restart.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the preferences that hold
    Show {
        /// Show every key with its default instead: a file to begin with
        #[arg(long)]
        defaults: bool,
    },
    /// Set the preferences to those in a file, and show what changes
    Set {
        /// The file (TOML), or - for standard input; an empty one brings the defaults back
        #[arg(value_name = "FILE|-")]
        file: PathBuf,
    },
    /// Show how each known node would be judged for a job, rule by rule; nobody is asked
    Test {
        /// A job file, or the id of a job, or the beginning of it
        #[arg(value_name = "JOB")]
        job: String,
    },
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    match args.command {
        Command::Show { defaults: true } => {
            let defaults = PreferencesView { text: DEFAULTS.to_owned(), problem: None };
            session.out.document(&defaults, |view| view.text.clone());
        }
        Command::Show { defaults: false } => {
            let view = small_runtime()?.block_on(session.client()?.preferences())?;
            session.out.document(&view, output::preferences);
        }
        Command::Set { file } => {
            let text = read(&file)?;
            let changes = small_runtime()?.block_on(session.client()?.set_preferences(&text))?;
            session.out.document(&changes, |changes| output::preference_changes(changes));
        }
        Command::Test { job } => {
            let test = TestPreferences { subject: subject(&job)? };
            let tested = small_runtime()?.block_on(session.client()?.test_preferences(&test))?;
            session.out.document(&tested, output::preferences_test);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The text of a file, or of standard input.
fn read(file: &Path) -> Result<String, CliError> {
    let path = if file == Path::new("-") { Path::new("/dev/stdin") } else { file };
    crate::files::read_text(path, MAX_TEXT as u64)
        .map_err(|error| CliError::caused(format!("cannot read the preferences {}", file.display()), error))
}

/// The pod of a job file, or the job of this id.
fn subject(job: &str) -> Result<Subject, CliError> {
    let path = Path::new(job);
    if !path.exists() {
        return Ok(Subject::Job { id: job.to_owned() });
    }
    let spec = JobFile::read(path)?.complete(Some(path))?;
    let (run_time, max_price) = (spec.run_time(), spec.max_price);
    Ok(Subject::Pod { requirement: spec.requirement, run_time, max_price })
}
