//! `dms db`: the database as a whole: checked, rebuilt, backed up, restored, measured, looked into.
//!
//! What only reads asks a running node, and without one the directory itself; what must be alone with the files is
//! refused while a node runs. All work is done by the library.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use dms_storage::maintenance::{self, Part};

use super::error::{CliError, DAMAGED};
use super::{Session, output, small_runtime};
use crate::api::client::ApiClient;
use crate::config::{Layer, Settings};
use crate::records::{self, RowQuery};
use crate::startup::offline::{self, OfflineError};

/// Look after the database: check, back up, restore, rebuild, measure, look into it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the whole database and say what does not fit; changes nothing. The node must be stopped
    ///
    /// The log must have no gap, snapshot and log together must give every row byte by byte, what is archived must be
    /// readable, registered must be available + locked + allocated, and every signature must be good.
    ///
    /// Exit codes: 0 if all of it holds, 65 if something does not, 75 if a node runs.
    Check,
    /// Write every row anew from the snapshot and the log. The node must be stopped
    ///
    /// Mends rows that are missing or changed. What is wrong with the log itself cannot be mended: restore a backup.
    ///
    /// Exit codes: 0 if done, 65 if the log is damaged, 75 if a node runs.
    Rebuild,
    /// Copy the database into a new directory, with a running node or without
    ///
    /// The copy is that of one instant, and is opened and checked before it counts as a backup. Not in it: the key (a
    /// copy of the file `key` in the data directory is yours to keep, apart and safe) and the files of jobs.
    ///
    /// Exit codes: 0 if done, 65 if the books are damaged, 73 if the directory is there already or cannot be
    /// written, 75 if another command works with the database.
    Backup {
        /// The directory to make; it must not be there
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Put a backup in the place of the database. The node must be stopped
    ///
    /// The backup is checked first, file by file; one of a node with another key is refused. The database that was
    /// there is moved aside and kept. What happened after the backup is not in it: other nodes may know of jobs and
    /// contracts that this one then does not.
    ///
    /// Exit codes: 0 if done, 65 if the backup is damaged or none, 75 if a node runs, 78 if it is another node's.
    Restore {
        /// The directory that `dms db backup` made
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Show how large the database is and what is in it, with a running node or without
    Stats,
    /// Show the rows of one family, with a running node or without
    ///
    /// Families: registered, available, locked, locks_by_expiry, allocated, bid_requests_sent,
    /// bid_requests_received, bids_sent, bids_received, jobs, allocations, contracts, contracts_by_peer,
    /// seen_ids, standing, archive, archive_by_time, events, snapshot, meta, notes.
    Query {
        /// The family
        #[arg(value_name = "FAMILY")]
        family: String,
        /// Only rows whose key begins like this: an id, a DID, a CID or the beginning of one, or hexadecimal digits;
        /// in the archive job:ID, allocation:ID, contract:CID
        #[arg(long, value_name = "ID|HEX")]
        prefix: Option<String>,
        /// How many at most
        #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Go on after the row with this key
        #[arg(long, value_name = "HEX")]
        after: Option<String>,
    },
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    match args.command {
        Command::Check => check(session),
        Command::Rebuild => rebuild(session),
        Command::Backup { directory } => backup(&directory, session),
        Command::Restore { directory } => restore(&directory, session),
        Command::Stats => stats(session),
        Command::Query { family, prefix, limit, after } => {
            let is_whole = session.out.is_json();
            let limit = usize::from(limit);
            query(&RowQuery { family, prefix, after, limit, is_whole }, session)
        }
    }
}

/// The client of the node that runs here, if one does, or of the one at the port that somebody named: the books here are
/// not that one's.
fn running(session: &Session) -> Result<Option<ApiClient>, CliError> {
    let client = session.client()?;
    let is_asked = session.port().is_some() || small_runtime()?.block_on(client.is_running());
    Ok(is_asked.then_some(client))
}

/// The settings, if no node runs: `what` needs the files for itself.
pub(super) fn stopped(what: &str, session: &Session) -> Result<Settings, CliError> {
    if let Some(client) = running(session)? {
        let message = format!("a node is running at {}: stop it before you {what}", client.address());
        return Err(CliError::later(message));
    }
    settings(session)
}

fn settings(session: &Session) -> Result<Settings, CliError> {
    Ok(session.settings(Layer::default())?.settings)
}

fn check(session: &Session) -> Result<ExitCode, CliError> {
    let settings = stopped("check its database", session)?;
    let report = offline::check(&settings)?;
    session.out.document(&report, output::db_check);
    if report.is_sound() {
        return Ok(ExitCode::SUCCESS);
    }
    let is_mended_by_rebuild = report.findings.iter().all(|finding| finding.part == Part::Rows);
    let error = CliError::Plain { code: DAMAGED, message: "the books do not hold".to_owned() };
    Err(if is_mended_by_rebuild && report.further_findings == 0 {
        error.advised("the log is sound; write the rows anew with", "db rebuild".to_owned())
    } else {
        error.advised("put a backup in their place with", "db restore DIR".to_owned())
    })
}

fn rebuild(session: &Session) -> Result<ExitCode, CliError> {
    let report = offline::rebuild(&stopped("rebuild its rows", session)?)?;
    session.out.document(&report, output::db_rebuilt);
    Ok(ExitCode::SUCCESS)
}

fn backup(directory: &Path, session: &Session) -> Result<ExitCode, CliError> {
    // The node has a working directory of its own.
    let directory = std::path::absolute(directory)
        .map_err(|error| CliError::usage(format!("{}: {error}", directory.display())))?;
    let report = match running(session)? {
        Some(client) => small_runtime()?.block_on(client.back_up(&directory))?,
        None => offline::back_up(&settings(session)?, &directory, output::now())?,
    };
    session.out.document(&report, output::db_backup);
    session.out.note("not in it: the key and the files of jobs (see `dms db backup --help`)");
    Ok(ExitCode::SUCCESS)
}

fn restore(directory: &Path, session: &Session) -> Result<ExitCode, CliError> {
    let settings = stopped("restore its database", session)?;
    let restored = offline::restore(&settings, directory, output::now())?;
    session.out.document(&restored, |restored| output::db_restored(restored, output::now()));
    if !restored.has_key {
        session
            .out
            .note("the key that these books belong to is not here: put it back before the node starts");
    }
    Ok(ExitCode::SUCCESS)
}

fn stats(session: &Session) -> Result<ExitCode, CliError> {
    let report = match running(session)? {
        Some(client) => small_runtime()?.block_on(client.database())?,
        None => {
            let books = offline::read(&settings(session)?)?;
            maintenance::stats(&**books.engine()).map_err(OfflineError::from)?
        }
    };
    session.out.document(&report, |report| output::db_stats(report, output::now()));
    Ok(ExitCode::SUCCESS)
}

fn query(query: &RowQuery, session: &Session) -> Result<ExitCode, CliError> {
    // A wrong name is wrong without any database, too.
    records::family(&query.family)?;
    let page = match running(session)? {
        Some(client) => small_runtime()?.block_on(client.rows(query))?,
        None => records::row_page(offline::read(&settings(session)?)?.engine(), query)?,
    };
    session.out.document(&page, |page| output::db_rows(page, query));
    if let Some(next) = &page.next {
        let prefix = query.prefix.as_ref().map(|prefix| format!(" --prefix {prefix}")).unwrap_or_default();
        let command = session.command(&format!("db query {}{prefix}", query.family));
        session.out.note(&format!("the first {}; what follows: {command} --after {next}", page.rows.len()));
    }
    Ok(ExitCode::SUCCESS)
}
