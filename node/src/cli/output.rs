//! Prints: every sentence and table that a person reads, and the JSON that programs read.
//!
//! The functions that make text are pure, so that tests see exactly what people see. Whatever a peer or a
//! file may have written is escaped first: no name moves the cursor of somebody's terminal.

mod benchmark;
mod database;
mod graph;
mod listings;
mod preferences;
mod trust;
mod watch;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dms_actors::clock::SystemClock;
use dms_messages::{Capability, CpuInfo, ExecutorKind, JobEnd, JobPhase, NodeId, Resources, Task, Timestamp};
use dms_storage::Lock;
use dms_storage::books::AttemptState;
use serde::Serialize;

pub(super) use self::benchmark::*;
pub(super) use self::database::*;
pub(super) use self::graph::*;
pub(super) use self::listings::*;
pub(super) use self::preferences::*;
pub(super) use self::trust::*;
pub(super) use self::watch::*;
use super::id::{Exported, Listed, Names, NewKey};
use crate::api::types::{JobView, Locked, TaskView};
use crate::commands::{CapabilityView, Explanation, NodeMode, NodeStatus, ReasonGroup, UnreachedBootstrap};
use crate::config::{Loaded, Source};
use crate::host::HostInfo;
use crate::startup::Ready;

/// Longest cell of a table, in characters; the whole text is in `--json` and in `show`.
const MAX_CELL: usize = 48;
/// Peers, nodes and the like that are listed before the rest is only counted.
const MAX_LISTED: usize = 16;
/// What is said when the first signal came.
pub(super) const STOPPING: &str = "stopping: running work is told and saved (once more to end at once)";

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    is_json: bool,
}

impl Output {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// True if standard output is for programs.
    pub(super) fn is_json(self) -> bool {
        self.is_json
    }

    /// Prints a result: as JSON, or as the text that `text` makes of it.
    pub(super) fn document<T: Serialize + ?Sized>(self, value: &T, text: impl FnOnce(&T) -> String) {
        if self.is_json {
            self.json(value);
        } else {
            print(&text(value));
        }
    }

    /// Prints a value as JSON whatever was asked for.
    pub(super) fn json<T: Serialize + ?Sized>(self, value: &T) {
        let mut text = serde_json::to_string_pretty(value).expect("what is printed is plain data");
        text.push('\n');
        print(&text);
    }

    /// Prints a value as one line of JSON: one of many documents.
    pub(super) fn line<T: Serialize + ?Sized>(self, value: &T) {
        let text = serde_json::to_string(value).expect("what is printed is plain data");
        print(&format!("{text}\n"));
    }

    /// Prints a line beside the result, on standard error; programs do not get it.
    pub(super) fn note(self, line: &str) {
        if !self.is_json {
            say(&escaped(line));
        }
    }

    /// Says that the node can be used: a block for people, one line for programs.
    pub(super) fn ready(self, ready: &Ready) {
        if self.is_json {
            let line = serde_json::json!({
                "event": "ready",
                "id": ready.id,
                "addresses": ready.addresses,
                "api": ready.api,
                "api_listen": ready.api_listen.as_ref().map(|(address, _)| address),
                "is_onboarded": ready.is_onboarded,
            });
            print(&format!("{line}\n"));
        } else {
            print(&self::ready(ready));
        }
    }
}

/// Writes to standard output. A reader that went away has seen enough; everything else is told once.
pub(super) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) else { return };
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        IS_READER_GONE.store(true, Ordering::Relaxed);
    } else {
        say(&format!("error: cannot write to standard output: {error}"));
        IS_OUTPUT_LOST.store(true, Ordering::Relaxed);
    }
}

/// True once something could not be written to standard output, though somebody wanted it.
static IS_OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// True once nobody reads standard output any more.
static IS_READER_GONE: AtomicBool = AtomicBool::new(false);

/// Whether there is nobody to go on for: a command that would print for ever ends.
pub(super) fn is_reader_gone() -> bool {
    IS_READER_GONE.load(Ordering::Relaxed) || is_output_lost()
}

/// Whether anything that was printed is lost: then success would be a lie.
pub(super) fn is_output_lost() -> bool {
    IS_OUTPUT_LOST.load(Ordering::Relaxed)
}

/// Writes a line to standard error. Nobody may be listening, and there is nobody else to tell.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The time, for ages.
pub(super) fn now() -> Timestamp {
    SystemClock::shared().now()
}

/// `text` without anything that a terminal would obey: control characters and those that turn the
/// direction of writing are shown by their code.
pub(super) fn escaped(text: &str) -> String {
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_harmful) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut escaped, c| {
        match c {
            c if is_harmful(c) => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
        escaped
    })
}

/// `text` escaped and cut to the width of a cell.
fn cell(text: &str) -> String {
    let text = escaped(text);
    if text.chars().count() <= MAX_CELL {
        text
    } else {
        text.chars().take(MAX_CELL - 1).chain(['…']).collect()
    }
}

/// Columns aligned by their widest cell, two blanks between them, nothing at line ends.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(cells) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        format!("{}\n", line.trim_end())
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Lines of `name  value`, the values aligned.
fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

/// A duration in the one unit that a person would say.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn age(since: Timestamp, now: Timestamp) -> String {
    span(now.saturating_since(since))
}

/// A number of things.
fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// The part of an id that tables show and commands accept.
pub(super) fn short_id(id: &impl fmt::Display) -> String {
    id.to_string().chars().take(8).collect()
}

fn yes(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

fn names_of(id: &NodeId) -> Vec<(&'static str, String)> {
    vec![
        ("DID", id.did.to_string()),
        ("peer id", escaped(&id.peer_id)),
        ("CID", id.cid.to_string()),
        ("UUID", id.uuid.to_string()),
    ]
}

/// `dms status`.
pub(super) fn status(status: &NodeStatus, now: Timestamp) -> String {
    let mode = match &status.mode {
        NodeMode::Serving => "serving".to_owned(),
        NodeMode::Draining => "stopping: nothing new is taken".to_owned(),
        NodeMode::ReadOnly { reason, since, is_retried } => {
            let next = match is_retried {
                true => "it is tried again every few seconds",
                false => "it stays so until the node is restarted (see `dms db check`)",
            };
            format!("read-only for {}: {}; {next}", age(*since, now), escaped(reason))
        }
    };
    let mut lines = names_of(&status.id);
    lines.push(("mode", mode));
    lines.push((
        "onboarded",
        match (status.is_onboarded, status.is_offboarding) {
            (true, true) => "offboarding: no new bids are made, and what runs may end".into(),
            (true, false) => "yes".into(),
            (false, _) => "no: it asks, and offers nothing".into(),
        },
    ));
    if status.is_private {
        lines.push(("private", "yes: only whoever has the mesh's key connects".into()));
    }
    lines.push(("up for", format!("{} (version {})", age(status.started, now), escaped(&status.version))));
    let ended = status.job_count.saturating_sub(status.active_job_count);
    lines.push(("jobs", format!("{} unfinished, {ended} ended of late", status.active_job_count)));
    lines.push((
        "allocations",
        format!("{} running, {} locked", status.active_allocation_count, status.lock_count),
    ));
    lines.push(("events", status.event_count.to_string()));
    lines.push(("mesh", mesh_size(status.mesh_size)));
    if status.difference_count > 0 {
        let times = count(usize::try_from(status.difference_count).unwrap_or(usize::MAX), "time");
        lines.push(("reconciled", format!("{times} a peer's books differed from these, and were mended")));
    }
    if let Some(address) = status.api_listen {
        lines.push(("api over tcp", format!("http://{address}")));
    }
    lines.extend(status.addresses.iter().map(|address| ("address", escaped(address))));
    let mut text = fields(&lines);
    for line in unreached(&status.unreached_bootstraps) {
        text.push_str(&format!("\n{}", escaped(&line)));
    }
    if !status.unreached_bootstraps.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("\n{}\n", count(status.peers.len(), "peer")));
    if !status.peers.is_empty() {
        let row = |peer: &crate::commands::PeerStatus| {
            vec![peer.did.to_string(), yes(peer.is_provider).to_owned(), yes(peer.is_trusted).to_owned()]
        };
        let rows: Vec<_> = status.peers.iter().take(MAX_LISTED).map(row).collect();
        text.push_str(&table(&["DID", "OFFERS", "TRUSTED"], &rows));
        text.push_str(&rest(status.peers.len()));
    }
    text
}

/// A line for each bootstrap peer that does not answer.
pub(super) fn unreached(bootstraps: &[UnreachedBootstrap]) -> Vec<String> {
    let line = |it: &UnreachedBootstrap| match it.reason.contains(&it.address) {
        true => format!("a bootstrap peer is not reached: {}", it.reason),
        false => format!("a bootstrap peer is not reached: {}: {}", it.address, it.reason),
    };
    bootstraps.iter().take(MAX_LISTED).map(line).collect()
}

/// What is said of the entries that were not listed.
fn rest(length: usize) -> String {
    if length > MAX_LISTED {
        format!("… and {} more (all with --json)\n", length - MAX_LISTED)
    } else {
        String::new()
    }
}

/// The amounts under [`RESOURCE_HEAD`].
fn resource_row(name: &str, resources: &Resources, registered: &Resources) -> Vec<String> {
    let mut row = vec![
        name.to_owned(),
        resources.cpu.to_string(),
        resources.memory.to_string(),
        resources.disk.to_string(),
        resources.gpus.len().to_string(),
        resources.ports.len().to_string(),
    ];
    // No column where nothing is counted: what is not limited is not 0.
    if !registered.slots.is_empty() {
        row.push(resources.slots.values().map(|count| u64::from(*count)).sum::<u64>().to_string());
    }
    row
}

/// What [`resource_row`] tells; the last only of a machine whose slots are limited.
const RESOURCE_HEAD: [&str; 7] = ["", "CORES", "MEMORY", "DISK", "GPUS", "PORTS", "SLOTS"];

/// Ports as ranges: `80, 16384-16393`.
fn port_ranges(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *port => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    let texts = ranges.iter().map(
        |(first, last)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        },
    );
    texts.collect::<Vec<_>>().join(", ")
}

/// `dms capability`.
pub(super) fn capability(view: &CapabilityView) -> String {
    let Some(registered) = &view.registered else {
        // A node that was offboarded says the same as one that never was onboarded.
        return "this node offers nothing (see `dms onboard --help`)\n".to_owned();
    };
    let rows = [
        ("registered", &registered.resources),
        ("available", &view.available),
        ("locked", &view.locked),
        ("allocated", &view.allocated),
    ]
    .map(|(name, resources)| resource_row(name, resources, &registered.resources));
    let mut text = table(&RESOURCE_HEAD[..rows[0].len()], &rows);
    text.push('\n');
    if view.offered != view.available {
        let Resources { cpu, memory, disk, .. } = &view.offered;
        let now = format!("{}, {memory} memory, {disk} disk", cpu.cores());
        text.push_str(&format!(
            "offered now: {now}; the machine's owner uses the rest of what is available\n\n"
        ));
    }
    if view.is_offboarding {
        text.push_str("offboarding: no new bids are made, and what runs may end\n\n");
    }
    text.push_str(&fields(&described(registered)));
    if !view.allocations.is_empty() {
        let row = |row: &dms_storage::books::AllocationRow| {
            vec![
                short_id(&row.attempt.job),
                format!("{}/{}", row.attempt.pod, row.task),
                row.requester.short(),
                row.state.to_string(),
                row.resources.to_string(),
            ]
        };
        text.push('\n');
        let rows: Vec<_> = view.allocations.iter().take(MAX_LISTED).map(row).collect();
        text.push_str(&table(&["JOB", "TASK", "FOR", "STATE", "GRANTED"], &rows));
        text.push_str(&rest(view.allocations.len()));
    }
    text
}

/// `dms capability locks`.
pub(super) fn locks(locks: &[Lock], now: Timestamp) -> String {
    if locks.is_empty() {
        return "no locks: nothing is promised to a bid\n".to_owned();
    }
    let row = |lock: &Lock| {
        vec![
            short_id(&lock.bid),
            short_id(&lock.job),
            lock.pod.to_string(),
            short_id(&lock.request),
            lock.requester.short(),
            lock.resources.to_string(),
            span(lock.expires.saturating_since(now)),
        ]
    };
    let rows: Vec<_> = locks.iter().map(row).collect();
    table(&["BID", "JOB", "POD", "REQUEST", "FOR", "LOCKED", "LEASE LEFT"], &rows)
}

/// What was locked by hand.
pub(super) fn locked(locked: &Locked) -> String {
    let lines = [
        ("bid", locked.bid.to_string()),
        ("job", locked.job.to_string()),
        ("locked", locked.resources.to_string()),
        ("per hour", price(locked.price)),
        ("lease", span(locked.lease.duration())),
    ];
    fields(&lines)
}

/// The part of a capability that is only described.
fn described(capability: &Capability) -> Vec<(&'static str, String)> {
    let CpuInfo { architecture, model, cores, clock_mhz, score } = &capability.cpu_info;
    let clock = if *clock_mhz == 0 { String::new() } else { format!(", {clock_mhz} MHz") };
    let score = if *score == 0 { String::new() } else { format!(", score {score}") };
    let cores = count(usize::try_from(*cores).unwrap_or(usize::MAX), "core");
    let processor = format!("{} ({}, {cores}{clock}{score})", escaped(model), escaped(architecture));
    let mut lines = vec![("processor", processor.trim_start().to_owned())];
    lines.extend(speed(capability));
    lines.extend(gpu_lines(&capability.gpus));
    let kind = |kind: &ExecutorKind| match capability.resources.slots.get(kind) {
        Some(count) => format!("{kind} (at most {count} at a time)"),
        None => kind.to_string(),
    };
    let kinds: Vec<_> = capability.executors.iter().map(kind).collect();
    lines.push(("runs", kinds.join(", ")));
    if !capability.resources.ports.is_empty() {
        lines.push(("ports", port_ranges(&capability.resources.ports)));
    }
    if let Some(location) = &capability.location {
        lines.push(("location", escaped(location)));
    }
    if !capability.labels.is_empty() {
        let labels: Vec<_> =
            capability.labels.iter().map(|(key, value)| escaped(&format!("{key}={value}"))).collect();
        lines.push(("labels", labels.join(", ")));
    }
    let prices = capability.prices;
    let price = if prices == dms_messages::PriceList::default() {
        "free".to_owned()
    } else {
        format!(
            "per hour: {} a core, {} a GiB of memory, {} a GiB of disk, {} a GPU, at least {}",
            prices.core_hour, prices.memory_gib_hour, prices.disk_gib_hour, prices.gpu_hour, prices.minimum
        )
    };
    lines.push(("price", price));
    lines
}

/// What this machine has, before `dms onboard` asks.
pub(super) fn machine(host: &HostInfo, data: &Path) -> String {
    let CpuInfo { model, architecture, cores, .. } = &host.cpu_info;
    let mut lines = vec![
        ("this machine", format!("{} ({})", escaped(model), escaped(architecture)).trim_start().to_owned()),
        ("cores", cores.to_string()),
        ("memory", format!("{}, {} free now", host.memory_total, host.memory_available)),
        ("disk", format!("{} free at {}", host.disk_free, escaped(&data.display().to_string()))),
    ];
    lines.extend(host.gpus.iter().enumerate().map(|(place, gpu)| found_gpu(place, gpu)));
    fields(&lines)
}

/// What `dms onboard` would share.
pub(super) fn offer(capability: &Capability, host: &HostInfo, data: &Path) -> String {
    let shared = &capability.resources;
    let rows = [
        vec!["cores".to_owned(), shared.cpu.to_string(), format!("{} in all", host.cpu_info.cores)],
        vec![
            "memory".to_owned(),
            shared.memory.to_string(),
            format!("{} free of {}", host.memory_available, host.memory_total),
        ],
        vec![
            "disk".to_owned(),
            shared.disk.to_string(),
            format!("{} free at {}", host.disk_free, escaped(&data.display().to_string())),
        ],
    ];
    format!("{}\n{}", table(&["", "SHARED", "OF"], &rows), fields(&described(capability)))
}

/// What `dms onboard` did.
#[derive(Debug, Serialize)]
pub(super) struct Onboarded {
    pub(super) id: NodeId,
    pub(super) capability: Capability,
}

/// `dms onboard`.
pub(super) fn onboarded(onboarded: &Onboarded) -> String {
    let mut lines = names_of(&onboarded.id);
    lines.push(("shares", onboarded.capability.resources.to_string()));
    lines.extend(described(&onboarded.capability));
    fields(&lines)
}

/// `dms id show`.
pub(super) fn names(names: &Names) -> String {
    let unknown = || "known while the node runs".to_owned();
    fields(&[
        ("DID", names.did.clone()),
        ("peer id", names.peer_id.clone()),
        ("CID", names.cid.clone().unwrap_or_else(unknown)),
        ("UUID", names.uuid.clone().unwrap_or_else(unknown)),
        ("key", protection(names.is_sealed).to_owned()),
    ])
}

/// How a key is kept.
fn protection(is_sealed: bool) -> &'static str {
    if is_sealed { "under a passphrase" } else { "without a passphrase" }
}

/// Every identity of a data directory.
pub(super) fn identities(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "no identities (`dms onboard` makes the node's, `dms id new` a person's)\n".to_owned();
    }
    let row = |one: &Listed| {
        let did = one.did.map(|did| did.to_string());
        vec![
            one.name.clone().unwrap_or_else(|| "(this node)".to_owned()),
            did.or_else(|| one.error.as_deref().map(escaped)).unwrap_or_default(),
            if one.did.is_some() { protection(one.is_sealed).to_owned() } else { String::new() },
        ]
    };
    table(&["NAME", "DID", "KEY"], &listed.iter().map(row).collect::<Vec<_>>())
}

/// That the node has a new key, with what others believe it by alone where it can be copied.
pub(super) fn rotated(rotated: &NewKey) -> String {
    format!(
        "this node is {} now (it was {})\n\n\
         whoever trusts it is told when the two meet; to tell them before, on their machines:\n\n  \
         dms trust succeed {}\n",
        rotated.new, rotated.old, rotated.succession
    )
}

/// An identity as one line, alone, so that it can be copied.
pub(super) fn exported(exported: &Exported) -> String {
    match &exported.text {
        Some(text) => format!("{text}\n"),
        None => format!("{} was written, under a passphrase\n", exported.did),
    }
}

/// The readiness block of `dms run`.
fn ready(ready: &Ready) -> String {
    let mut lines = vec![("DID", ready.id.did.to_string()), ("peer id", escaped(&ready.id.peer_id))];
    lines.push(("api", escaped(&ready.api.display().to_string())));
    if let Some((address, token)) = &ready.api_listen {
        let token = escaped(&token.display().to_string());
        lines.push(("api over tcp", format!("http://{address} (asks for the token in {token})")));
    }
    lines.push((
        "onboarded",
        if ready.is_onboarded { "yes".into() } else { "no: it asks, and offers nothing".into() },
    ));
    let suffix = format!("/p2p/{}", ready.id.peer_id);
    for address in &ready.addresses {
        let whole = if address.contains("/p2p/") { address.clone() } else { format!("{address}{suffix}") };
        lines.push(("address", escaped(&whole)));
    }
    format!("ready\n{}", fields(&lines))
}

/// A setting with where it came from.
#[derive(Debug, Serialize)]
pub(super) struct ConfigEntry {
    key: &'static str,
    value: Option<toml::Value>,
    source: Source,
    variable: Option<&'static str>,
    doc: &'static str,
}

/// What `dms config show` shows.
pub(super) fn config_entries(loaded: &Loaded) -> Vec<ConfigEntry> {
    let entry = |(key, value, source): (&crate::config::Key, _, _)| ConfigEntry {
        key: key.name,
        value,
        source,
        variable: key.variable,
        doc: key.doc,
    };
    loaded.entries().into_iter().map(entry).collect()
}

/// `dms config show`: a `config.toml` that would set the same.
pub(super) fn config(data: &Path, entries: &[ConfigEntry]) -> String {
    let mut text = format!("# data directory: {}\n", escaped(&data.display().to_string()));
    for entry in entries {
        let variable = entry.variable.map(|variable| format!(" ({variable})")).unwrap_or_default();
        text.push_str(&format!("\n# {}{variable}\n", entry.doc));
        text.push_str(&match &entry.value {
            Some(value) => format!("{} = {}  # {}\n", entry.key, inline(value), entry.source),
            None => format!("# {} =  # not set\n", entry.key),
        });
    }
    text
}

/// A value on one line, in TOML.
fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::Table(table) => {
            // Keys are quoted always: a label's key may be anything.
            let quote = |key: &str| toml::Value::from(key).to_string();
            let pairs: Vec<_> =
                table.iter().map(|(key, value)| format!("{} = {}", quote(key), inline(value))).collect();
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
        value => value.to_string(),
    }
}

/// `dms job ls`.
pub(super) fn jobs(jobs: &[JobView], now: Timestamp) -> String {
    if jobs.is_empty() {
        return "no jobs yet (see `dms job run --help`)\n".to_owned();
    }
    let row = |job: &JobView| {
        vec![
            short_id(&job.id),
            cell(&job.name),
            job.phase.to_string(),
            job.attempt_count.to_string(),
            job.provider.map_or_else(|| "-".to_owned(), |provider| provider.short()),
            age(job.row.job.submitted, now),
            cell(&job.detail),
        ]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    table(&["ID", "NAME", "STATE", "TRIES", "NODE", "AGE", "DETAIL"], &rows)
}

/// `dms job show`.
pub(super) fn job(job: &JobView, now: Timestamp) -> String {
    let detail = escaped(&job.detail);
    let state = match job.phase {
        phase if detail.is_empty() || detail == phase.to_string() => phase.to_string(),
        JobPhase::Bidding => format!("bidding again: try {} was {detail}", job.attempt_count),
        phase => format!("{phase}: {detail}"),
    };
    let mut lines = vec![
        ("id", job.id.to_string()),
        ("name", escaped(&job.name)),
        ("state", state),
        ("submitted", format!("{} ago", age(job.row.job.submitted, now))),
        ("changed", format!("{} ago", age(job.row.moved, now))),
    ];
    if job.row.is_cancel_wanted && !job.is_terminal {
        lines.push(("cancel", "wanted".to_owned()));
    }
    if let Some(code) = job.exit_code {
        lines.push(("exit code", code.to_string()));
    }
    if let Some(pod) = job.row.job.pods.first() {
        let need = &pod.requirement;
        lines.push(("needs", format!("{}, {} memory, {} disk", need.cpu.cores(), need.memory, need.disk)));
        lines.push(("time limit", pod.run_time().to_string()));
        for task in pod.tasks.iter().filter(|_| pod.is_single()) {
            lines.push(("module", task.module.to_string()));
        }
    }
    if let Some(price) = job.row.job.max_price {
        lines.push(("at most", format!("{price} credits per hour")));
    }
    let contents = [("stdout", job.stdout), ("stderr", job.stderr), ("output", job.output)];
    lines.extend(contents.into_iter().filter_map(|(name, cid)| Some((name, cid?.to_string()))));
    if let Some(dropped) = dropped(job) {
        lines.push(("warning", dropped));
    }
    let mut text = fields(&lines);
    text.push_str(&tasks(job));
    if !job.row.attempts.is_empty() {
        let row = |attempt: &dms_storage::books::AttemptRow| {
            vec![
                attempt.id.number.to_string(),
                attempt.provider.short(),
                age(attempt.minted, now),
                attempt.result.as_ref().map_or_else(|| "-".to_owned(), |result| result.wall.to_string()),
                attempt
                    .result
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |result| result.peak_memory.to_string()),
                // Last and whole: it is what the list of attempts is looked at for.
                escaped(&attempt_state(&attempt.state)),
            ]
        };
        let rows: Vec<_> = job.row.attempts.iter().map(row).collect();
        text.push('\n');
        text.push_str(&table(&["TRY", "NODE", "AGE", "RAN", "PEAK MEMORY", "STATE"], &rows));
    }
    text
}

/// The tasks of a job that has several.
fn tasks(job: &JobView) -> String {
    let Some(pod) = job.row.job.pods.first().filter(|_| !job.tasks.is_empty()) else { return String::new() };
    let row = |(view, task): (&TaskView, &Task)| {
        let needs = task.resources.map_or_else(
            || "-".to_owned(),
            |it| format!("{}, {} memory, {} disk", it.cpu.cores(), it.memory, it.disk),
        );
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            cell(&view.name),
            needs,
            task.timeout.to_string(),
            or_none(view.wall.map(|wall| wall.to_string())),
            or_none(view.peak_memory.map(|memory| memory.to_string())),
            or_none(view.exit_code.map(|code| code.to_string())),
            if view.state.is_empty() { "-".to_owned() } else { escaped(&view.state) },
        ]
    };
    let rows: Vec<_> = job.tasks.iter().zip(&pod.tasks).map(row).collect();
    format!(
        "\n{}",
        table(&["TASK", "NEEDS", "TIME LIMIT", "RAN", "PEAK MEMORY", "EXIT CODE", "STATE"], &rows)
    )
}

fn attempt_state(state: &AttemptState) -> String {
    match state {
        AttemptState::Invoked => "waiting for its signature".to_owned(),
        AttemptState::Observed { state } => state.to_string(),
        AttemptState::Refused { reason } => format!("refused: {reason}"),
        AttemptState::Lost { reason } => format!("lost: {reason}"),
    }
}

/// One line per reason.
pub(super) fn reasons(explanation: &Explanation) -> Vec<String> {
    let line = |group: &ReasonGroup| {
        let later = if group.is_later { " (may change)" } else { "" };
        // "5 nodes not asked: …" reads better than "5 nodes: not asked: …".
        let colon = if group.reason.starts_with("not asked") { "" } else { ":" };
        format!("{}{colon} {}{later}", count(group.nodes.len(), "node"), escaped(&group.reason))
    };
    let mut lines: Vec<String> = explanation.groups.iter().map(line).collect();
    if lines.is_empty() {
        lines.push("no node is known that could be asked".to_owned());
    }
    lines
}

/// `dms job explain`.
pub(super) fn explanation(explanation: &Explanation) -> String {
    let stands = match (&explanation.end, explanation.phase) {
        (Some(JobEnd::Failed { failure }), _) => format!("failed: {failure}"),
        (_, JobPhase::Cancelled) => "was cancelled".to_owned(),
        (_, phase @ (JobPhase::Succeeded | JobPhase::Failed)) => phase.to_string(),
        (_, JobPhase::Submitted) => "was submitted".to_owned(),
        (_, phase) => format!("is {phase}"),
    };
    let mut text = format!("job {} {}\n", explanation.job, escaped(&stands));
    for (index, line) in reasons(explanation).iter().enumerate() {
        text.push_str(&format!("  {line}\n"));
        let nodes = explanation.groups.get(index).map(|group| group.nodes.as_slice()).unwrap_or_default();
        for did in nodes.iter().take(MAX_LISTED) {
            text.push_str(&format!("      {did}\n"));
        }
        if nodes.len() > MAX_LISTED {
            text.push_str(&format!("      … and {} more\n", nodes.len() - MAX_LISTED));
        }
    }
    if !explanation.attempts.is_empty() {
        text.push_str("attempts\n");
        for attempt in &explanation.attempts {
            text.push_str(&format!("  {}\n", escaped(attempt)));
        }
    }
    text
}

/// What is said of output that was over the provider's limit.
pub(super) fn dropped(job: &JobView) -> Option<String> {
    let left = job.row.current_attempt()?.results();
    let dropped = left.fold(0_u64, |sum, (_, result)| sum.saturating_add(result.output_dropped));
    (dropped > 0).then(|| {
        format!("{dropped} bytes of output are lost: they were over the limit of the node that ran it")
    })
}

/// The line that a person who follows a job sees when it moves.
pub(super) fn progress(job: &JobView) -> String {
    let node = job.provider.map_or_else(|| "?".to_owned(), |provider| provider.short());
    let detail = escaped(&job.detail);
    let sentence = match job.phase {
        JobPhase::Submitted => "submitted".to_owned(),
        JobPhase::Bidding if detail.is_empty() => "bidding".to_owned(),
        JobPhase::Bidding => format!("bidding again ({detail})"),
        JobPhase::Invoking => format!("won by {node}"),
        JobPhase::Running if detail == "running" || detail.is_empty() => format!("running on {node}"),
        JobPhase::Running => format!("{detail} on {node}"),
        JobPhase::Rescheduling => format!("rescheduling ({detail})"),
        JobPhase::Succeeded => format!("succeeded on {node}"),
        JobPhase::Failed => format!("failed: {detail}"),
        JobPhase::Cancelled => "cancelled".to_owned(),
    };
    if job.attempt_count > 1 { format!("{sentence}, try {}", job.attempt_count) } else { sentence }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::ReasonGroup;
    use dms_messages::{JobId, Keypair};

    #[test]
    fn nothing_that_a_peer_wrote_moves_the_cursor() {
        let table = [
            ("plain text, schön", "plain text, schön"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("two\nlines\ttab\r", "two\\nlines\\ttab\\r"),
            ("abc\u{202e}txt.exe", "abc\\u{202e}txt.exe"),
            ("\u{9b}31m", "\\u{9b}31m"),
        ];
        for (text, shown) in table {
            assert_eq!(escaped(text), shown);
        }
        assert_eq!(cell(&"x".repeat(100)).chars().count(), MAX_CELL);
    }

    #[test]
    fn ports_and_slots_are_told_as_a_person_would() {
        assert_eq!(port_ranges(&BTreeSet::from([80, 82, 83, 84, 65534, 65535])), "80, 82-84, 65534-65535");
        let mut view = CapabilityView {
            registered: Some(Capability { executors: [ExecutorKind::Wasm].into(), ..Capability::default() }),
            ..CapabilityView::default()
        };
        let without = capability(&view);
        assert!(!without.contains("SLOTS") && without.contains("runs       wasm\n"), "{without}");
        let resources = &mut view.registered.as_mut().unwrap().resources;
        (resources.ports, resources.slots) = ((1..=9).collect(), [(ExecutorKind::Wasm, 2)].into());
        let text = capability(&view);
        assert!(text.contains("wasm (at most 2 at a time)\n") && text.contains("  1-9\n"), "{text}");
        assert!(text.contains("registered  0      0 MiB   0 MiB  0     9      2\n"), "{text}");
        assert!(text.contains("available   0      0 MiB   0 MiB  0     0      0\n"), "used up is 0: {text}");
    }

    #[test]
    fn columns_are_aligned_by_characters_and_lines_have_no_blanks_at_their_end() {
        let rows = vec![
            vec!["a".to_owned(), "größer".to_owned(), String::new()],
            vec!["long".to_owned(), "b".to_owned(), "c".to_owned()],
        ];
        assert_eq!(table(&["ID", "N", "X"], &rows), "ID    N       X\na     größer\nlong  b       c\n");
    }

    #[test]
    fn reasons_are_grouped_and_counted() {
        let nodes = |seeds: &[u8]| {
            seeds.iter().map(|seed| Keypair::from_secret(&[*seed; 32]).did()).collect::<Vec<_>>()
        };
        let explanation = Explanation {
            job: JobId::from_random([1; 16]),
            phase: JobPhase::Failed,
            end: Some(JobEnd::Failed { failure: dms_messages::JobFailure::NobodyTookIt { is_final: true } }),
            groups: vec![
                ReasonGroup {
                    reason: "needs 8 GiB memory, have 4 GiB".to_owned(),
                    is_later: false,
                    nodes: nodes(&[1, 2, 3]),
                },
                ReasonGroup { reason: "busy\u{7}".to_owned(), is_later: true, nodes: nodes(&[4]) },
                ReasonGroup {
                    reason: "not asked: enough others were asked".to_owned(),
                    is_later: true,
                    nodes: nodes(&[5, 6]),
                },
            ],
            not_asked_count: 2,
            attempts: vec![],
        };
        let text = self::explanation(&explanation);
        assert!(text.contains(" failed: no node can take it\n") && !text.contains("is failed"), "{text}");
        assert!(text.contains("  3 nodes: needs 8 GiB memory, have 4 GiB\n"), "{text}");
        assert!(text.contains("  1 node: busy\\u{7} (may change)\n"), "{text}");
        assert!(text.contains("  2 nodes not asked: enough others were asked (may change)\n"), "{text}");
    }

    #[test]
    fn a_bootstrap_peer_that_does_not_answer_is_named_with_the_cause_once() {
        let line = |address: &str, reason: &str| {
            unreached(&[UnreachedBootstrap { address: address.to_owned(), reason: reason.to_owned() }])
                .remove(0)
        };
        assert_eq!(
            line("/dns4/x/tcp/1", "no such name"),
            "a bootstrap peer is not reached: /dns4/x/tcp/1: no such name"
        );
        assert_eq!(
            line("/ip4/1/tcp/1", "/ip4/1/tcp/1: refused"),
            "a bootstrap peer is not reached: /ip4/1/tcp/1: refused"
        );
        assert_eq!(unreached(&[]), Vec::<String>::new());
    }

    #[test]
    fn ages_are_said_in_one_unit() {
        let table = [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")];
        for (seconds, text) in table {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn what_config_shows_is_a_config_file() {
        let loaded = crate::config::merge(
            Path::new("/data"),
            crate::config::Layer::from_toml(Path::new("c"), "[labels]\n\"a b\" = \"c\"").unwrap(),
            crate::config::Layer::default(),
            crate::config::Layer::default(),
        );
        let text = config(Path::new("/data"), &config_entries(&loaded));
        let layer = crate::config::Layer::from_toml(Path::new("c"), &text)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(layer.labels.unwrap()["a b"], "c");
    }
}
