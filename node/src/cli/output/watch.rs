//! `dms status --watch`: one screen of the machine and of what runs on it, for any width and height.
//!
//! Pure: what is seen depends on what was answered, the time, and the size of the terminal alone.

use console::{measure_text_width, truncate_str};
use dms_messages::{CpuMillis, DiskMib, MemoryMib, Resources, Timestamp};
use serde::Serialize;

use super::{age, count, escaped, short_id, span, table};
use crate::capability::headroom::MachineSample;
use crate::commands::{CapabilityView, NodeMode, NodeStatus};
use crate::monitor::{AllocationUsage, MeteredAllocation, NetworkRates, SamplesView};
use crate::time_text::to_the_second;

/// Widest bar, in cells; on a narrow terminal it gets what is left.
const BAR: usize = 30;
/// Shortest bar that still says something.
const MIN_BAR: usize = 5;
/// Below so many columns only what matters most has one.
const NARROW: usize = 64;

/// What is looked at.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cli) struct Watched {
    /// The node.
    pub(in crate::cli) status: NodeStatus,
    /// Its books.
    pub(in crate::cli) capability: CapabilityView,
    /// The machine and what runs on it.
    pub(in crate::cli) samples: SamplesView,
}

/// Processor time as people say it: `1.25 cores`.
pub(in crate::cli) fn cores(cpu: CpuMillis) -> String {
    format!("{}.{:02} cores", cpu.0 / 1000, cpu.0 % 1000 / 10)
}

/// Hundredths of a whole, at most 100; of nothing, nothing.
fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0).min(100)
}

/// A bar of `width` cells.
fn bar(percent: u64, width: usize) -> String {
    let full = usize::try_from(percent).unwrap_or(100).min(100) * width / 100;
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

/// Bytes in the unit that a person would say, with three digits.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match (unit, tenths) {
        (0, _) | (_, 1000..) => format!("{} {}", tenths / 10, UNITS[unit]),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

fn mib(amount: u64) -> String {
    bytes(amount.saturating_mul(1 << 20))
}

fn load(hundredths: u32) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// One line of the machine: a name, a bar, its number, and the rest as far as there is room.
fn gauge(name: &str, part: u64, whole: u64, rest: &str, width: usize) -> String {
    let percent = percent(part, whole);
    let rest_width = measure_text_width(rest);
    let room = width.saturating_sub(name.len().max(7) + rest_width + 11);
    let bar = bar(percent, room.clamp(MIN_BAR, BAR));
    format!("{name:<7}  {bar} {percent:>3} %  {rest}")
}

fn machine(sample: &MachineSample, rates: Option<NetworkRates>, width: usize) -> Vec<String> {
    let MachineSample { cpu, memory, memory_free, memory_own, disk, disk_free, .. } = *sample;
    let is_narrow = width < NARROW;
    let ours = |text: String| if is_narrow { String::new() } else { format!(", this node {text}") };
    let own = percent(sample.cpu_own.0, cpu.0);
    let mut lines = vec![
        gauge(
            "cpu",
            sample.cpu_used.0,
            cpu.0,
            &format!(
                "of {}{}",
                count(usize::try_from(cpu.0 / 1000).unwrap_or(0), "core"),
                ours(format!("{own} %"))
            ),
            width,
        ),
        gauge(
            "memory",
            memory.0.saturating_sub(memory_free.0),
            memory.0,
            &format!("of {}{}", mib(memory.0), ours(mib(memory_own.0))),
            width,
        ),
        gauge("disk", disk.0.saturating_sub(disk_free.0), disk.0, &format!("of {}", mib(disk.0)), width),
    ];
    let mut rest = Vec::new();
    rest.extend(sample.load_hundredths.map(|it| format!("load {}", load(it))));
    rest.extend(sample.temperature.map(|degrees| format!("{degrees} °C")));
    rest.extend(rates.map(|it| format!("net in {}/s, out {}/s", bytes(it.received), bytes(it.sent))));
    lines.push(rest.join("   "));
    lines
}

/// What is registered, and where it is.
fn books(watched: &Watched) -> Vec<String> {
    let Watched { capability, samples, .. } = watched;
    let Some(registered) = &capability.registered else {
        return vec!["offers nothing (not onboarded)".to_owned()];
    };
    let row = |name: &str, it: &Resources| {
        vec![name.to_owned(), it.cpu.to_string(), it.memory.to_string(), it.disk.to_string()]
    };
    let used = samples.allocations.iter().filter_map(|it| it.usage).fold(
        Resources::default(),
        |sum: Resources, usage: AllocationUsage| Resources {
            cpu: CpuMillis(sum.cpu.0.saturating_add(usage.cpu.0)),
            memory: MemoryMib(sum.memory.0.saturating_add(usage.memory.0)),
            disk: DiskMib(sum.disk.0.saturating_add(usage.disk.0)),
            ..sum
        },
    );
    let rows = [
        row("registered", &registered.resources),
        row("free", &samples.offered),
        row("locked", &capability.locked),
        row("allocated", &capability.allocated),
        row("used", &used),
    ];
    let mut lines: Vec<String> =
        table(&["", "CORES", "MEMORY", "DISK"], &rows).lines().map(str::to_owned).collect();
    if samples.offered != capability.available {
        lines.push("less is free than the books have: the machine's owner uses it".to_owned());
    }
    lines
}

fn allocations(list: &[MeteredAllocation], rows: usize, is_narrow: bool) -> Vec<String> {
    if list.is_empty() {
        return vec!["nothing runs here for anybody".to_owned()];
    }
    let row = |it: &MeteredAllocation| {
        let share = |used: String, granted: String| format!("{used}/{granted}");
        let Some(usage) = it.usage else {
            return vec![short_id(&it.id), short_id(&it.attempt.job), "not started".to_owned()];
        };
        let cpu = format!("{}.{:02}", usage.cpu.0 / 1000, usage.cpu.0 % 1000 / 10);
        let run = span(usage.run_time.duration());
        if is_narrow {
            return vec![short_id(&it.id), cpu, mib(usage.memory.0), run];
        }
        vec![
            short_id(&it.id),
            short_id(&it.attempt.job),
            share(cpu, it.granted.cpu.to_string()),
            share(mib(usage.memory.0), mib(it.granted.memory.0)),
            mib(usage.peak_memory.0),
            mib(usage.disk.0),
            run,
        ]
    };
    let head: &[&str] = match is_narrow {
        true => &["ALLOC", "CORES", "MEMORY", "RUNS"],
        false => &["ALLOC", "JOB", "CORES", "MEMORY", "PEAK", "DISK", "RUNS"],
    };
    // The head, and a line for those that have none.
    let room = rows.saturating_sub(1).max(1);
    let shown = if list.len() <= room { list.len() } else { room.saturating_sub(1).max(1) };
    let shown_rows: Vec<_> = list.iter().take(shown).map(row).collect();
    let mut lines: Vec<String> = table(head, &shown_rows).lines().map(str::to_owned).collect();
    if shown < list.len() {
        lines.push(format!("… and {} more (dms alloc ls)", list.len() - shown));
    }
    lines
}

/// The node's part of the screen.
fn node(watched: &Watched, now: Timestamp, is_narrow: bool) -> Vec<String> {
    let status = &watched.status;
    let time = if is_narrow { String::new() } else { format!("  {}", to_the_second(now)) };
    let mode = match &status.mode {
        NodeMode::Serving => "serving",
        NodeMode::Draining => "stopping",
        NodeMode::ReadOnly { .. } => "read-only",
    };
    let name = escaped(&status.id.did.short());
    vec![
        format!("{name}  {mode}, up for {}{time}", age(status.started, now)),
        format!(
            "{}, {}, {}, {}",
            count(status.peers.len(), "peer"),
            count(status.active_job_count, "job"),
            count(status.active_allocation_count, "allocation"),
            count(status.lock_count, "lock"),
        ),
    ]
}

/// The screen: at most `height` lines of at most `width` cells.
pub(in crate::cli) fn watch(watched: &Watched, now: Timestamp, width: usize, height: usize) -> Vec<String> {
    let samples = &watched.samples;
    let mut lines = node(watched, now, width < NARROW);
    lines.push(String::new());
    match samples.samples.first() {
        _ if samples.period.is_none() => lines.push("the machine is not measured".to_owned()),
        None => lines.push("the machine has not said yet how it stands".to_owned()),
        Some(sample) => {
            lines.extend(machine(&sample.machine, samples.rates, width));
            if samples.is_stale {
                lines.push(format!("the machine has said nothing for {}", age(sample.at, now)));
            }
        }
    }
    lines.push(String::new());
    lines.extend(books(watched));
    lines.push(String::new());
    let rows = height.saturating_sub(lines.len());
    lines.extend(allocations(&samples.allocations, rows, width < NARROW));
    if lines.len() > height {
        lines.truncate(height.saturating_sub(1));
        lines.push("… the rest needs more lines".to_owned());
    }
    lines.iter().map(|line| truncate_str(line.trim_end(), width, "…").into_owned()).collect()
}

/// The same in one line, for logs and pipes.
pub(in crate::cli) fn watch_line(watched: &Watched, now: Timestamp) -> String {
    let Watched { status, samples, capability } = watched;
    let mut parts = vec![to_the_second(now)];
    if let Some(sample) = samples.samples.first().filter(|_| !samples.is_stale) {
        let it = &sample.machine;
        parts.push(format!("cpu {} %", percent(it.cpu_used.0, it.cpu.0)));
        parts
            .push(format!("memory {} %", percent(it.memory.0.saturating_sub(it.memory_free.0), it.memory.0)));
        parts.push(format!("disk {} %", percent(it.disk.0.saturating_sub(it.disk_free.0), it.disk.0)));
        parts.extend(it.load_hundredths.map(|it| format!("load {}", load(it))));
        parts.extend(it.temperature.map(|degrees| format!("{degrees} °C")));
    }
    parts.push(count(status.active_job_count, "job"));
    parts.push(count(samples.allocations.len(), "allocation"));
    if capability.registered.is_some() {
        parts.push(format!("free {}", samples.offered));
    }
    format!("{}\n", parts.join(", "))
}

#[cfg(test)]
mod tests;
