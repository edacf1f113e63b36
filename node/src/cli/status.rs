//! `dms status`: how the node stands.

use std::process::ExitCode;

use super::error::CliError;
use super::{Session, output, small_runtime};

/// Show how the node on this data directory stands
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(Args {}: Args, session: &Session) -> Result<ExitCode, CliError> {
    let client = session.client()?;
    let status = small_runtime()?.block_on(client.status())?;
    session.out.document(&status, |status| output::status(status, output::now()));
    Ok(ExitCode::SUCCESS)
}
