//! `dms join`: comes into the mesh that an invite is to.

use std::process::ExitCode;
use std::time::Duration;

use dms_messages::{Capability, Did, Invite, Role};
use serde::Serialize;
use tokio::time::Instant;

use super::error::{CliError, LATER};
use super::{Session, onboard, output, run as node, small_runtime};
use crate::api::client::{ApiClient, ClientError};
use crate::config::{self, Layer};
use crate::{startup, swarm_key};

/// How long the inviter may take to answer before a person is told; the node goes on trying.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const POLL: Duration = Duration::from_millis(100);

/// Come into the mesh that an invite is to
///
/// Takes the line that `dms invite` printed on another machine, and does all the rest: remembers the mesh and where
/// to find it, makes this machine's identity, measures how fast it is (about 16 seconds) and shares a sensible part of
/// it (unless the invite is a requester's; see `dms onboard`), and waits until the two trust each other. Where no node
/// runs on this machine, one is started here as `dms run` does, with the flags that come last.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The line that `dms invite` printed
    #[arg(value_name = "INVITE")]
    invite: String,
    /// Share nothing of this machine now
    #[arg(long)]
    no_onboard: bool,
    /// Do not measure how fast this machine is
    #[arg(long)]
    skip_benchmark: bool,
    /// Stop the node that was started here once it has joined; `dms run` starts it again
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    node: node::Args,
}

/// What is printed at the end.
#[derive(Debug, Serialize)]
pub(super) struct Joined {
    pub(super) network: String,
    pub(super) inviter: Did,
    pub(super) role: Role,
    pub(super) is_onboarded: bool,
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    session.is_here("join")?;
    let invite: Invite = args.invite.parse().map_err(|error| CliError::usage(format!("{error}")))?;
    let client = session.client()?;
    let status = match small_runtime()?.block_on(client.status()) {
        Ok(status) => Some(status),
        Err(ClientError::NotRunning { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let is_running = status.is_some();
    let settings = session.settings(Layer::default())?;
    let is_onboarded = match status {
        Some(status) => status.is_onboarded,
        None => startup::registered_offline(&settings.settings)?.is_some(),
    };
    let share = if args.no_onboard || invite.role == Role::Requester || is_onboarded {
        None
    } else {
        let mut share = onboard::sensible_share(&settings.settings, session)?;
        if !args.skip_benchmark {
            let running_count = is_running.then_some(0);
            let measured =
                onboard::measure("join INVITE", &mut share, running_count, &settings.settings, session);
            small_runtime()?.block_on(measured)?;
        }
        Some(share)
    };
    // For the next start; a node that runs says by itself if it is in another mesh.
    if !is_running || settings.settings.network.as_str() == invite.network {
        config::remember_mesh(&session.data, &settings, &invite.network, &invite.addresses)?;
    }
    if let Some(key) = invite.pre_shared_key.filter(|_| !is_running) {
        swarm_key::remember(&session.data, key)?;
    }
    let text = args.invite;
    let join = async |client: ApiClient| {
        let joined = come_in(&client, &text, &invite, share).await?;
        session.out.document(&joined, output::joined);
        Ok::<_, CliError>(())
    };
    if is_running {
        small_runtime()?.block_on(join(client))?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_to_stop = args.stop;
    node::run_with(args.node, session, async |client: ApiClient| {
        join(client).await?;
        if !is_to_stop {
            session.out.note(node::RUNS_ON);
        }
        Ok(is_to_stop.then_some(ExitCode::SUCCESS))
    })
}

/// Joins by an invite and, if the machine shares nothing yet, shares this of it.
async fn come_in(
    client: &ApiClient,
    text: &str,
    invite: &Invite,
    share: Option<Capability>,
) -> Result<Joined, CliError> {
    client.begin_join(text).await?;
    let mut is_onboarded = client.status().await?.is_onboarded;
    if let Some(share) = share.filter(|_| !is_onboarded) {
        client.onboard(&share).await?;
        is_onboarded = true;
    }
    let start = Instant::now();
    loop {
        let trust = client.trust().await?;
        let Some(join) = trust.joins.iter().find(|join| join.inviter == invite.inviter) else { break };
        if let Some(reason) = join.refused {
            return Err(CliError::failed(format!("not let in: {reason}")));
        }
        if start.elapsed() > PATIENCE {
            return Err(CliError::Plain {
                code: LATER,
                message: format!(
                    "{} has not answered yet, at {}; this node goes on asking while it runs (`dms trust ls`)",
                    invite.inviter,
                    invite.addresses.join(" or ")
                ),
            });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(Joined { network: invite.network.clone(), inviter: invite.inviter, role: invite.role, is_onboarded })
}
