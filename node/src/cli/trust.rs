//! `dms trust`: whom this node trusts by name, and whom it lets in.

use std::process::ExitCode;

use clap::Subcommand;
use dms_messages::{Ability, Did, Role};

use super::error::CliError;
use super::{Session, output, small_runtime};
use crate::trust::commands::TrustPeer;

/// Say whom this node trusts
///
/// Trust counts one way: whom this node trusts may ask it for bids, or bid on its jobs, or both; whether the other
/// trusts this node is for its owner to say. `dms invite` and `dms join` set up both sides at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List whom this node trusts, whom it lets in, and which meshes it wants to come into
    Ls,
    /// Trust a node by name
    Add {
        /// The node
        #[arg(value_name = "DID")]
        did: Did,
        /// What it may do: member (ask for bids, and bid), requester (ask), provider (bid), or admin (all)
        #[arg(long = "as", value_name = "ROLE", default_value = "member", conflicts_with = "abilities")]
        role: Role,
        /// What it may do, more exactly (/dms/request/bids); may be repeated
        #[arg(long = "ability", value_name = "PATH")]
        abilities: Vec<Ability>,
        /// How many tokens may follow on its word: 0, and it speaks for itself alone; 1, and it may let others in
        #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=8))]
        depth: u8,
    },
    /// Trust a node no longer, and revoke the tokens that it got here
    Rm {
        /// The node
        #[arg(value_name = "DID")]
        did: Did,
    },
    /// Take it by hand that a node has a new key: whoever trusts the old one trusts the new one as far
    ///
    /// A node that has a new key says so by itself when the two meet. Do this only for a text that you got from its
    /// owner: it proves that the old key signed it, which a thief of that key can do, too.
    Succeed {
        /// What `dms id rotate` printed
        #[arg(value_name = "TEXT")]
        text: String,
    },
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let client = session.client()?;
    let runtime = small_runtime()?;
    match args.command {
        Command::Ls => {
            let trust = runtime.block_on(client.trust())?;
            session.out.document(&trust, |trust| output::trust(trust, output::now()));
        }
        Command::Add { did, role, abilities, depth } => {
            let abilities =
                if abilities.is_empty() { role.abilities() } else { abilities.into_iter().collect() };
            let trust = TrustPeer { did, abilities, depth };
            runtime.block_on(client.trust_peer(&trust))?;
            session.out.document(&trust, output::trusted);
        }
        Command::Succeed { text } => {
            let view = runtime.block_on(client.succeed_peer(&text))?;
            session.out.document(&view, output::succeeded);
        }
        Command::Rm { did } => {
            runtime.block_on(client.distrust_peer(did))?;
            session.out.document(&did, |did| format!("{did} is not trusted any more\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
