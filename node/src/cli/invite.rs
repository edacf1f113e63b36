//! `dms invite`: lets another machine into the mesh, with one line of text.

use std::num::NonZeroU16;
use std::process::ExitCode;

use clap::Subcommand;
use dms_messages::{Millis, Role};

use super::error::CliError;
use super::{Session, output, run as node, small_runtime};
use crate::api::client::{ApiClient, ClientError};
use crate::trust::commands::{InviteMade, MakeInvite};

/// Let another machine into the mesh
///
/// Prints one line, and the same as a QR code, that the other machine takes with `dms join`: it then finds this
/// one, trusts it and is trusted by it. Whoever has the line may use it, until it is used up or expires; `dms invite
/// ls` shows who did. Where no node runs on this machine, one is started here as `dms run` does, with the flags that
/// come last, so that there is somebody to join.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// What the other machine may do: member (ask for bids, and bid), requester (ask), provider (bid), or admin (all,
    /// and let others in)
    #[arg(long = "as", value_name = "ROLE", default_value = "member")]
    role: Role,
    /// How long the line can be used
    #[arg(long, value_name = "TIME", default_value = "24h")]
    expires: Millis,
    /// How many machines may use it
    #[arg(long, value_name = "COUNT", default_value = "1")]
    uses: NonZeroU16,
    #[command(flatten)]
    node: node::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the invites, and whom each has let in
    Ls,
    /// Take an invite back; whoever has used it stays (see `dms trust rm`)
    Withdraw {
        /// The invite, as `dms invite ls` shows it, or its end
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let client = session.client()?;
    match args.command {
        Some(Command::Ls) => {
            let invites = small_runtime()?.block_on(client.invites())?;
            session.out.document(&invites, |invites| output::invites(invites, output::now()));
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Withdraw { id }) => {
            let ended = small_runtime()?.block_on(client.end_invite(&id))?;
            session.out.document(&ended, |_| "withdrawn: nobody comes in by it any more\n".to_owned());
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    let make = MakeInvite { role: args.role, uses: args.uses.get(), ttl: args.expires };
    match small_runtime()?.block_on(client.make_invite(&make)) {
        Ok(made) => show(&made, session),
        Err(ClientError::NotRunning { .. }) => {
            return node::run_with(args.node, session, async |client: ApiClient| {
                show(&client.make_invite(&make).await?, session);
                session.out.note(node::RUNS_ON);
                Ok(None)
            });
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn show(made: &InviteMade, session: &Session) {
    session.out.document(made, |made| output::invite(made, output::now()));
    if made.addresses.is_empty() {
        session.out.note("this node listens nowhere that another machine can reach: see --listen");
    }
}
