//! Two processes, one that serves and one that loads it; both end with this one.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::Over;
use crate::process::Process;
use crate::rounds::Sample;

/// How long a pair may take: a server that does not start, or a load that hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// One measurement.
pub(super) fn measure(stack: &str, over: Over, figure: &str) -> anyhow::Result<Sample> {
    let what = || format!("{figure} of {stack} over {}", over.name());
    let program = std::env::current_exe().context("this program has no path")?;
    let start = |arguments: &[&str]| Process::start(program.as_os_str(), arguments);
    let deadline = Instant::now() + DEADLINE;
    let server = start(&["serve", stack, over.name()])?;
    let address = server.line(deadline).context("the server gave no address").with_context(what)?;
    let client = start(&["load", stack, over.name(), figure, &address])?;
    let mut line = client.line(deadline).with_context(what)?;
    if line == "pending" {
        drop(server);
        line = client.line(deadline).with_context(what)?;
    }
    client.sample(&line).with_context(what)
}
