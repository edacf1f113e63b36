//! `dms peers`: who this node knows.

use std::process::ExitCode;

use super::error::CliError;
use super::{Session, output, small_runtime};

/// List the nodes that this one is connected to or has heard of, and what they offer
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many at most; connected ones come first
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let client = session.client()?;
    let (peers, unreached) = small_runtime()?.block_on(async {
        let peers = client.peers(usize::from(args.limit)).await?;
        Ok::<_, CliError>((peers, client.status().await?.unreached_bootstraps))
    })?;
    session.out.document(&peers, |peers| output::peers(peers));
    output::unreached(&unreached).iter().for_each(|line| session.out.note(line));
    if peers.len() >= usize::from(args.limit) {
        session.out.note(&format!("there may be more: --limit {}", (args.limit * 2).min(1000)));
    }
    Ok(ExitCode::SUCCESS)
}
