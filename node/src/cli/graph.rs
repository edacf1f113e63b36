//! `dms graph`: this node's neighbours and what was measured of the ways to them.

use std::process::ExitCode;

use super::error::CliError;
use super::{Session, output, small_runtime};

/// Show the neighbours of this node, how far and how reliable each is, and how large the mesh is
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As a table, as JSON (like --json), or as a graph for Graphviz
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Dot,
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    if session.out.is_json() && args.format == Format::Dot {
        return Err(CliError::usage("--json is not --format dot: say one of them".to_owned()));
    }
    let client = session.client()?;
    let graph = small_runtime()?.block_on(client.graph())?;
    match args.format {
        Format::Text => session.out.document(&graph, output::graph),
        Format::Json => session.out.json(&graph),
        Format::Dot => output::print(&output::dot(&graph)),
    }
    Ok(ExitCode::SUCCESS)
}
