//! `dms status`: how the node stands, once or for as long as somebody watches.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use console::Term;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::{CliError, INTERRUPTED};
use super::output::Watched;
use super::{Session, output, small_runtime};
use crate::api::client::ApiClient;

/// What a terminal is taken for that does not say how large it is: rows and columns.
const USUAL_SIZE: (u16, u16) = (24, 80);

/// Show how the node on this data directory stands
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show the machine and what runs on it, again every so many seconds [default: 2]
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    watch: Option<u64>,
}

pub(super) fn run(Args { watch: period }: Args, session: &Session) -> Result<ExitCode, CliError> {
    let client = session.client()?;
    if let Some(period) = period {
        return small_runtime()?.block_on(watch(&client, Duration::from_secs(period), session));
    }
    let status = small_runtime()?.block_on(client.status())?;
    session.out.document(&status, |status| output::status(status, output::now()));
    Ok(ExitCode::SUCCESS)
}

/// Shows the node until somebody interrupts it, or nobody reads any more.
async fn watch(client: &ApiClient, period: Duration, session: &Session) -> Result<ExitCode, CliError> {
    let cannot_listen = |error| CliError::internal("cannot listen for signals", error);
    let on = |kind| signal(kind).map_err(cannot_listen);
    let (mut interrupted, mut ended) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    let mut resized = on(SignalKind::window_change())?;
    // The first answer is waited for before the screen is taken: a node that does not run is said where people read it.
    let mut watched = tokio::select! {
        biased;
        _ = interrupted.recv() => return Ok(ExitCode::from(INTERRUPTED)),
        _ = ended.recv() => return Ok(ExitCode::from(INTERRUPTED)),
        looked = look(client) => looked?,
    };
    let screen = (!session.out.is_json() && std::io::stdout().is_terminal()).then(Screen::take);
    loop {
        match &screen {
            Some(screen) => screen.show(&watched),
            None if session.out.is_json() => session.out.line(&watched),
            None => output::print(&output::watch_line(&watched, output::now())),
        }
        if output::is_reader_gone() {
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(code) = pause(period, [&mut interrupted, &mut ended], &mut resized).await {
            return Ok(code);
        }
        tokio::select! {
            biased;
            _ = interrupted.recv() => return Ok(ExitCode::from(INTERRUPTED)),
            _ = ended.recv() => return Ok(ExitCode::from(INTERRUPTED)),
            // An error leaves the screen on its way out, and is said below what was there before.
            looked = look(client) => watched = looked?,
        }
    }
}

/// Waits for the next look; the code to end with, if somebody ends it. A terminal that changed its size is drawn at once.
async fn pause(
    period: Duration,
    [interrupted, ended]: [&mut Signal; 2],
    resized: &mut Signal,
) -> Option<ExitCode> {
    tokio::select! {
        biased;
        _ = interrupted.recv() => Some(ExitCode::from(INTERRUPTED)),
        _ = ended.recv() => Some(ExitCode::from(INTERRUPTED)),
        _ = resized.recv() => None,
        () = tokio::time::sleep(period) => None,
    }
}

async fn look(client: &ApiClient) -> Result<Watched, CliError> {
    let status = client.status().await?;
    let capability = client.capability().await?;
    let samples = client.samples(1).await?;
    Ok(Watched { status, capability, samples })
}

/// The terminal's other screen, given back when this is dropped.
struct Screen(Term);

impl Screen {
    fn take() -> Self {
        output::print("\x1b[?1049h\x1b[?25l");
        Self(Term::stdout())
    }

    /// Draws over what is there, line by line, so that nothing flickers.
    fn show(&self, watched: &Watched) {
        let (rows, columns) = self.0.size_checked().unwrap_or(USUAL_SIZE);
        let lines = output::watch(watched, output::now(), usize::from(columns), usize::from(rows));
        let drawn: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
        output::print(&format!("\x1b[H{}\x1b[J", drawn.join("\r\n")));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        output::print("\x1b[?25h\x1b[?1049l");
    }
}
