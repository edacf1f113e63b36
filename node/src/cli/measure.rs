//! Measures the machine for the commands that register it: by the node that runs, or else by this process.
//!
//! A node that runs measures itself, so that it is the process of the jobs that is measured; without one this process
//! does, on a thread for work that blocks, with a bar at a terminal. Ctrl-C ends the measuring here, and only the
//! waiting for a node.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use dms_messages::Benchmark;
use indicatif::{ProgressBar, ProgressStyle};

use super::error::{CliError, INTERRUPTED};
use super::{Session, output};
use crate::api::client::ApiClient;
use crate::benchmark::{self, BenchmarkError, Figure, LOOKS, StopFlag, SystemMachine};
use crate::commands::Benchmarked;
use crate::config::Settings;

/// How often the clock of the bar moves on.
const TICK: Duration = Duration::from_millis(100);

/// Measures the machine that this runs on.
pub(super) async fn here(settings: &Settings, session: &Session) -> Result<Benchmark, CliError> {
    let machine = SystemMachine::new(&settings.data, settings.benchmark_time.duration());
    let bar = bar(session, "{msg:<11} [{bar:24}] {pos}/{len}", Figure::ALL.len() as u64 * u64::from(LOOKS));
    let stop = StopFlag::default();
    let (wished, shown) = (stop.clone(), bar.clone());
    let measuring = tokio::task::spawn_blocking(move || {
        let begins = |figure: Figure, done: u32| {
            shown.set_message(figure.name());
            shown.set_position(u64::from(done));
        };
        benchmark::measure(&machine, &wished, begins)
    });
    let mut measuring = std::pin::pin!(measuring);
    let measured = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {
            // It ends with its run: then nothing of it is left.
            stop.set();
            measuring.await
        }
        measured = &mut measuring => measured,
    };
    bar.finish_and_clear();
    match measured.map_err(|error| CliError::internal("measuring failed", error))? {
        Ok(benchmark) => Ok(benchmark),
        Err(BenchmarkError::Stopped) => Err(interrupted("interrupted: nothing was changed")),
        Err(error) => Err(error.into()),
    }
}

/// Has the node measure the machine that it runs on.
pub(super) async fn at_node(
    client: &ApiClient,
    is_registered: bool,
    session: &Session,
) -> Result<Benchmarked, CliError> {
    let bar = bar(session, "the node measures its machine {spinner} {elapsed}", 1);
    let measured = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => None,
        measured = client.benchmark(is_registered) => Some(measured),
    };
    bar.finish_and_clear();
    match (measured, is_registered) {
        (Some(measured), _) => Ok(measured?),
        (None, true) => Err(interrupted("not waited for any more; the node measures on, and registers it")),
        (None, false) => Err(interrupted("interrupted: nothing was changed")),
    }
}

fn interrupted(message: &str) -> CliError {
    CliError::Plain { code: INTERRUPTED, message: message.to_owned() }
}

/// What a person at a terminal sees of the work; nobody else sees anything.
fn bar(session: &Session, template: &str, length: u64) -> ProgressBar {
    if session.out.is_json() || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the template is ours");
    let bar = ProgressBar::new(length).with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}

/// Says that programs run here, which is why the figures are worse than they might be.
pub(super) fn note_running(count: usize, session: &Session) {
    if count > 0 {
        session.out.note(&output::measured_beside(count));
    }
}
