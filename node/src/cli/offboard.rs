//! `dms offboard`: takes this machine's capacity back from the mesh.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::error::{CliError, INTERRUPTED};
use super::{Session, output, small_runtime};
use crate::api::client::{ApiClient, ClientError};
use crate::commands::OffboardMode;
use crate::config::Layer;

/// Between two looks at how much still runs: nobody notices a fifth of a second.
const POLL: Duration = Duration::from_millis(200);

/// Stop offering this machine to the mesh
///
/// New requests are declined at once. While anything runs here it is refused (exit code 75), unless --wait or
/// --force says what shall become of it. The node goes on and can hand in jobs; `dms onboard` offers the machine
/// again, and calls off an offboarding that still waits. Works on a node that does not run, too.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct Args {
    /// Let what runs end, and what was bid be taken, but make no new bids; Ctrl-C stops only the watching
    #[arg(long)]
    wait: bool,
    /// Stop what runs; its requesters are told why, and run it elsewhere
    #[arg(long)]
    force: bool,
}

/// What is printed at the end.
#[derive(Debug, Serialize)]
struct Done {
    is_withdrawn: bool,
    is_running: bool,
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let mode = match (args.wait, args.force) {
        (true, _) => OffboardMode::Wait,
        (_, true) => OffboardMode::Force,
        _ => OffboardMode::AtOnce,
    };
    let client = session.client()?;
    let is_running = small_runtime()?.block_on(async {
        match client.offboard(mode).await {
            Ok(progress) if progress.is_withdrawn => Ok(Some(true)),
            Ok(_) => watch(&client, session).await.map(|is_done| is_done.then_some(true)),
            Err(ClientError::NotRunning { .. }) => {
                let settings = session.settings(Layer::default())?.settings;
                match crate::startup::offboard_offline(&settings).await? {
                    true => Ok(Some(false)),
                    false => Err(CliError::failed("this node offers nothing")),
                }
            }
            Err(error) => Err(error.into()),
        }
    })?;
    let Some(is_running) = is_running else {
        if session.out.is_json() {
            session.out.json(&Done { is_withdrawn: false, is_running: true });
        }
        session.out.note("not watched any more; the node makes no new bids and withdraws when nothing runs");
        session.out.note(&format!("to offer the machine again: {}", session.command("onboard")));
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let done = Done { is_withdrawn: true, is_running };
    session.out.document(&done, |_| "offboarded: this node offers nothing any more\n".to_owned());
    Ok(ExitCode::SUCCESS)
}

/// Looks until nothing is registered any more; false if a person had enough.
async fn watch(client: &ApiClient, session: &Session) -> Result<bool, CliError> {
    let mut last = None;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let books = client.capability().await?;
        if books.registered.is_none() {
            return Ok(true);
        }
        if !books.is_offboarding {
            return Err(CliError::failed(
                "the offboarding was called off: the machine was onboarded again, or the node restarted",
            ));
        }
        let left = (books.allocations.len(), books.locks.len());
        if last.replace(left) != Some(left) {
            session.out.note(&output::waiting_for(left.0, left.1));
        }
        tokio::select! {
            biased;
            _ = &mut interrupt => return Ok(false),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}
