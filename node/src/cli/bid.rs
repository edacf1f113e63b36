//! `dms bid`: the bids of this node and of its peers, and what became of them.

use std::process::ExitCode;

use clap::Subcommand;

use super::error::CliError;
use super::listing::{DirectionArgs, PageArgs, checked_id};
use super::{Session, output, small_runtime};

/// See who offered capacity at what price, and what became of it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the bids, newest first; what is over is forgotten after an hour
    #[command(alias = "list")]
    Ls {
        /// Only those on one request (its id, or the beginning of it), with whoever declined it
        #[arg(long, value_name = "ID")]
        request: Option<String>,
        #[command(flatten)]
        direction: DirectionArgs,
        #[command(flatten)]
        page: PageArgs,
    },
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let Command::Ls { request, direction, page } = args.command;
    let request = request.as_deref().map(checked_id).transpose()?;
    let client = session.client()?;
    let wanted = page.page()?;
    let list = small_runtime()?.block_on(client.bids(direction.direction(), request, &wanted))?;
    let empty = || match request {
        Some(_) => "no bids on this request\n".to_owned(),
        None => page.empty("bids", ""),
    };
    session.out.document(&list, |list| output::bids(list, output::now(), empty));
    let last = list.bids.last().map(|bid| output::short_id(&bid.id));
    let request = request.map(|id| format!(" --request {id}")).unwrap_or_default();
    let words = format!("bid ls{request}{}", direction.flag());
    page.note_more(session, list.bids.len(), last, &words);
    Ok(ExitCode::SUCCESS)
}
