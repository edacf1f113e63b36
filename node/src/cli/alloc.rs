//! `dms alloc`: what runs or ran here for others, and elsewhere for this node; and what is said to it.

mod send;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use dms_actors::Address;
use dms_messages::JobId;

use super::error::CliError;
use super::job::{check, spec, uploaded};
use super::listing::{PageArgs, checked_id};
use super::{Session, output, small_runtime};
use crate::api::client::ApiClient;
use crate::job_file::JobSpec;

/// See what runs here, and where the jobs of this node run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the allocations of both roles, newest first
    #[command(alias = "list")]
    Ls {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Start a job on capacity that was locked here with `dms capability lock`, and do not watch
    Start {
        /// The lock's bid, or the beginning of its id
        #[arg(value_name = "BID")]
        bid: String,
        /// The job file
        #[arg(value_name = "JOB")]
        file: PathBuf,
    },
    /// Show how an allocation stands, what it was granted and what it left
    Show {
        /// The allocation, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Ask how an allocation stands now: its provider is asked, wherever it runs
    Status {
        /// The allocation, the beginning of its id, or its address (did:key:…/node/alloc/ID)
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Say something to the program of an allocation, here or wherever a job of this node runs
    Send {
        #[command(flatten)]
        args: send::Args,
    },
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let client = session.client()?;
    match args.command {
        Command::Ls { page } => {
            let wanted = page.page()?;
            let list = small_runtime()?.block_on(client.allocations(&wanted))?;
            let empty = || page.empty("allocations", ": nothing was run here or for this node");
            session.out.document(&list, |list| output::allocations(list, output::now(), empty));
            let last = list.last().map(|view| output::short_id(&view.id));
            page.note_more(session, list.len(), last, "alloc ls");
        }
        Command::Start { bid, file } => {
            let spec = spec(&file)?;
            check(&spec)?;
            let id = small_runtime()?.block_on(start(&client, checked_id(&bid)?, spec))?;
            session.out.document(&serde_json::json!({ "job": id }), |_| format!("{id}\n"));
            session.out.note(&format!(
                "follow it with `{}`",
                session.command(&format!("job logs {} --follow", output::short_id(&id)))
            ));
        }
        Command::Show { id } => {
            let view = small_runtime()?.block_on(client.allocation(checked_id(&id)?))?;
            session.out.document(&view, |view| output::allocation(view, output::now()));
        }
        Command::Status { id } => {
            let (id, provider) = match id.parse::<Address>() {
                Ok(address) => send::allocation_of(&address).map(|(id, did)| (id, Some(did)))?,
                Err(_) => (checked_id(&id)?.to_owned(), None),
            };
            let checked = small_runtime()?.block_on(client.check_allocation(&id, provider))?;
            session.out.document(&checked, |checked| output::checked_allocation(checked, output::now()));
        }
        Command::Send { args } => return send::run(&args, session),
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(client: &ApiClient, bid: &str, spec: JobSpec) -> Result<JobId, CliError> {
    let job = uploaded(client, spec).await?;
    Ok(client.start_locked(bid, job).await?)
}
