//! What watching the machine costs it: processor time of the thread that takes samples.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use dms_node::config::Settings;
use dms_node::monitor::{HostMeter, SystemMeter};

use crate::report::Figure;

/// Samples that are measured.
const SAMPLES: u32 = 40;
/// Between two: long enough that the machine's use is read anew each time, and that caches are as cold as ever.
const PAUSE: Duration = Duration::from_millis(250);
/// What it may cost at the default period, in hundredths of a core.
const BAR_PERCENT: f64 = 0.5;

/// The figure of the meter.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    if !cfg!(target_os = "linux") {
        println!("skipped: monitor_cost (it reads /proc)");
        return Ok(Vec::new());
    }
    let directory = tempfile::tempdir()?;
    let period = Settings::for_data_dir(directory.path()).monitor_period.duration();
    let meter = SystemMeter::new(directory.path());
    // The first opens what the others read.
    meter.sample()?;
    let mut spent = Duration::ZERO;
    let mut longest = Duration::ZERO;
    for _ in 0..SAMPLES {
        pause();
        let (before, began) = (thread_time()?, Instant::now());
        meter.sample()?;
        spent += thread_time()?.saturating_sub(before);
        longest = longest.max(began.elapsed());
    }
    let each = spent / SAMPLES;
    let percent = each.as_secs_f64() / period.as_secs_f64() * 100.0;
    let means = format!(
        "of one core, for a sample every {} s: {} us of processor time each, mean of {SAMPLES}; the longest took {} us",
        period.as_secs(),
        each.as_micros(),
        longest.as_micros()
    );
    let figure = Figure::new("monitor_cost", percent, "%");
    Ok(vec![figure.bar(&format!("at most {BAR_PERCENT} %"), percent <= BAR_PERCENT).means(&means)])
}

#[expect(clippy::disallowed_methods, reason = "the pause between two samples is what is measured over")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// Processor time of this thread so far.
fn thread_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string(Path::new("/proc/thread-self/schedstat"))?;
    let nanos = text.split_whitespace().next().context("no time in schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}
