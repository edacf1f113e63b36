//! `dms bid-request`: the requests for bids of this node and of its peers.

use std::process::ExitCode;

use clap::Subcommand;

use super::error::CliError;
use super::listing::{DirectionArgs, PageArgs};
use super::{Session, output, small_runtime};

/// See who asked for capacity, and what was answered
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the requests for bids, newest first; what is over is forgotten after an hour
    #[command(alias = "list")]
    Ls {
        #[command(flatten)]
        direction: DirectionArgs,
        #[command(flatten)]
        page: PageArgs,
    },
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let Command::Ls { direction, page } = args.command;
    let client = session.client()?;
    let wanted = page.page()?;
    let requests = small_runtime()?.block_on(client.bid_requests(direction.direction(), &wanted))?;
    let empty = || page.empty("bid requests", "");
    session.out.document(&requests, |requests| output::bid_requests(requests, output::now(), empty));
    let last = requests.last().map(|request| output::short_id(&request.id));
    let words = format!("bid-request ls{}", direction.flag());
    page.note_more(session, requests.len(), last, &words);
    Ok(ExitCode::SUCCESS)
}
