//! `dms capability`: what this machine offers, and how much of it is free, locked and in use.

use std::process::ExitCode;

use clap::Subcommand;

use super::error::CliError;
use super::{Session, output, small_runtime};

/// Show what this machine offers and how much of it is taken
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Show what is registered, free, locked and allocated (the default)
    Show,
    /// List the live locks: capacity that is promised to bids
    Locks,
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let client = session.client()?;
    let mut view = small_runtime()?.block_on(client.capability())?;
    // What becomes free first comes first.
    view.locks.sort_by_key(|lock| (lock.expires, lock.bid));
    match args.command.unwrap_or(Command::Show) {
        Command::Show => session.out.document(&view, output::capability),
        Command::Locks => session.out.document(&view.locks, |locks| output::locks(locks, output::now())),
    }
    Ok(ExitCode::SUCCESS)
}
