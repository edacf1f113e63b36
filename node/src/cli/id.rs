//! `dms id`: who this node is. Reads the key file; asks the node only for what the books add.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::error::CliError;
use super::{Session, output, small_runtime};
use crate::identity::{Identity, did_document};

/// Show who this node is
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the node's names; its UUID and CID only while it runs
    Show {
        /// Print the W3C DID document instead
        #[arg(long)]
        document: bool,
    },
}

/// The names that are known.
#[derive(Debug, Serialize)]
pub(super) struct Names {
    pub(super) did: String,
    pub(super) peer_id: String,
    pub(super) cid: Option<String>,
    pub(super) uuid: Option<String>,
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let Command::Show { document: is_document } = args.command;
    let did = Identity::load(&session.data)?.did();
    if is_document {
        session.out.json(&did_document(&did));
        return Ok(ExitCode::SUCCESS);
    }
    let client = session.client()?;
    // The key file is enough for the rest, so a node that does not run is no failure.
    let id =
        small_runtime()?.block_on(client.status()).ok().map(|status| status.id).filter(|id| id.did == did);
    let names = Names {
        did: did.to_string(),
        peer_id: did.peer_id(),
        cid: id.as_ref().map(|id| id.cid.to_string()),
        uuid: id.as_ref().map(|id| id.uuid.to_string()),
    };
    session.out.document(&names, output::names);
    Ok(ExitCode::SUCCESS)
}
