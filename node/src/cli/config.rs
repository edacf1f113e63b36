//! `dms config`: the settings, and where each came from.

use std::process::ExitCode;

use clap::Subcommand;

use super::error::CliError;
use super::{Session, output};
use crate::config::Layer;

/// Show the settings and where each comes from
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every setting with its source (default, file, environment or flag), as a config.toml
    Show,
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let Command::Show = args.command;
    let loaded = session.settings(Layer::default())?;
    let entries = output::config_entries(&loaded);
    session.out.document(&entries, |entries| output::config(&loaded.settings.data, entries));
    Ok(ExitCode::SUCCESS)
}
