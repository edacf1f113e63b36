//! `dms capability`: what this machine offers, and how much of it is free, locked and in use.

mod benchmark;

use std::process::ExitCode;

use clap::Subcommand;

use super::error::CliError;
use super::{Session, output, small_runtime};

pub(super) use self::benchmark::Compared;

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
    Benchmark(benchmark::Args),
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let command = args.command.unwrap_or(Command::Show);
    if let Command::Benchmark(args) = command {
        return benchmark::run(args, session);
    }
    let client = session.client()?;
    let view = small_runtime()?.block_on(client.capability())?;
    match command {
        Command::Locks => session.out.document(&view.locks, |locks| output::locks(locks, output::now())),
        _ => session.out.document(&view, output::capability),
    }
    Ok(ExitCode::SUCCESS)
}
