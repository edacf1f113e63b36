//! `dms capability benchmark`: measures the machine again, shows what has changed, and registers it.

use std::process::ExitCode;

use dms_messages::Benchmark;
use serde::Serialize;

use crate::api::client::{ApiClient, ClientError};
use crate::benchmark::change::{Change, changes};
use crate::benchmark::describe;
use crate::cli::error::CliError;
use crate::cli::{Session, measure, output, passphrase};
use crate::commands::Benchmarked;
use crate::config::Layer;

/// Measure how fast this machine is, and register that
///
/// Processor (one core and all), memory, disk and WebAssembly, two and a half seconds each, beside what was registered
/// before. A node that runs measures itself; without one the machine is measured here. What else the machine does
/// makes the figures worse: stop it, or look again later.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Args {
    /// Only show it; nothing is registered
    #[arg(long)]
    dry_run: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Compared {
    pub(in crate::cli) before: Option<Benchmark>,
    pub(in crate::cli) after: Benchmark,
    pub(in crate::cli) changes: Vec<Change>,
    pub(in crate::cli) is_registered: bool,
    pub(in crate::cli) running_count: usize,
}

pub(super) async fn run(args: Args, client: &ApiClient, session: &Session) -> Result<ExitCode, CliError> {
    let is_registered = !args.dry_run;
    let measured = match measure::at_node(client, is_registered, session).await {
        Err(CliError::Client(ClientError::NotRunning { .. })) => offline(is_registered, session).await?,
        measured => measured?,
    };
    let Benchmarked { before, after, is_registered, running_count } = measured;
    measure::note_running(running_count, session);
    let changes = changes(before.as_ref(), &after);
    let compared = Compared { before, after, changes, is_registered, running_count };
    session.out.document(&compared, output::compared);
    Ok(ExitCode::SUCCESS)
}

/// Measures where no node runs, and registers it in the books.
async fn offline(is_registered: bool, session: &Session) -> Result<Benchmarked, CliError> {
    let settings = session.settings(Layer::default())?.settings;
    let registered = crate::startup::registered_offline(&settings)?;
    if is_registered && registered.is_none() {
        return Err(CliError::failed(
            "this node offers nothing, so there is nothing to register the benchmark with; `dms onboard` offers the machine, and --dry-run only looks",
        ));
    }
    let before = registered.as_ref().and_then(|registered| registered.benchmark);
    let after = measure::here(&settings, session).await?;
    if let Some(mut capability) = registered.filter(|_| is_registered) {
        describe(&mut capability, after);
        let identity = passphrase::open(passphrase::own_key(session)?, session)?;
        crate::startup::onboard_offline(&settings, identity, capability).await?;
    }
    Ok(Benchmarked { before, after, is_registered, running_count: 0 })
}
