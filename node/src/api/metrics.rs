//! What is counted and measured, in the text format of Prometheus (0.0.4): `GET /metrics`.
//!
//! Made anew from one answer of the Node for each question, so that the sums in it hold: nothing is registered
//! anywhere, and several nodes in one process do not mix. Names begin with `dms_`, units are base units (seconds,
//! bytes, cores). Labels have few values: states, reasons, dimensions; no peer and no job ever is one, and an allocation
//! only while it lives, of the first `MAX_ALLOCATIONS`.

use dms_messages::Resources;
use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};

use crate::capability::headroom::MachineSample;
use crate::commands::NodeMode;
use crate::monitor::{Measurements, MeteredAllocation, SamplesView};

/// What the answer says that it is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Live allocations that have lines of their own; of the others only their number is said.
const MAX_ALLOCATIONS: usize = 64;

/// One page of metrics while it is written.
struct Page(Registry);

/// A label of one metric, and its values with a number each.
type Labelled<'a> = (&'a str, Vec<(String, f64)>);

impl Page {
    fn add(&self, metric: impl Collector + 'static) -> prometheus::Result<()> {
        self.0.register(Box::new(metric))
    }

    /// What goes up and down.
    fn gauge(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        let metric = prometheus::Gauge::new(name, help)?;
        metric.set(value);
        self.add(metric)
    }

    /// What only counts up.
    fn counter(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let metric = prometheus::Counter::new(name, help)?;
        metric.inc_by(value as f64);
        self.add(metric)
    }

    fn gauges(&self, name: &str, help: &str, (label, values): Labelled<'_>) -> prometheus::Result<()> {
        let metric = GaugeVec::new(Opts::new(name, help), &[label])?;
        for (of, value) in values {
            metric.get_metric_with_label_values(&[&of])?.set(value);
        }
        self.add(metric)
    }

    fn counters(&self, name: &str, help: &str, (label, values): Labelled<'_>) -> prometheus::Result<()> {
        let metric = CounterVec::new(Opts::new(name, help), &[label])?;
        for (of, value) in values {
            metric.get_metric_with_label_values(&[&of])?.inc_by(value);
        }
        self.add(metric)
    }

    fn node(&self, measured: &Measurements) -> prometheus::Result<()> {
        let Measurements { status, counters, .. } = measured;
        let version = vec![(status.version.clone(), 1.0)];
        self.gauges("dms_build_info", "The program's version.", ("version", version))?;
        let started = status.started.0 as f64 / 1000.0;
        self.gauge("dms_start_time_seconds", "When the node was started, in Unix time.", started)?;
        let serving = if status.mode == NodeMode::Serving { 1.0 } else { 0.0 };
        self.gauge("dms_serving", "1 while the node takes work, 0 while it stops or is read-only.", serving)?;
        let providers = status.peers.iter().filter(|peer| peer.is_provider).count();
        let roles = [("provider", providers), ("other", status.peers.len() - providers)];
        let roles = roles.into_iter().map(|(role, count)| (role.to_owned(), count as f64)).collect();
        self.gauges("dms_peers", "Connected peers, by whether they offer capacity.", ("role", roles))?;
        self.counter("dms_events_total", "Events in the log since the books began.", status.event_count)?;
        let help = "Differences between a peer's books and ours that were mended.";
        self.counter("dms_reconciled_differences_total", help, status.difference_count)?;
        let queues = [
            ("node_mailbox", status.waiting_messages),
            ("node_steps", measured.waiting_steps),
            ("commits", measured.commits.map_or(0, |commits| commits.queued)),
            ("words_to_peers", measured.waiting_words),
        ];
        let queues = queues.into_iter().map(|(queue, depth)| (queue.to_owned(), depth as f64)).collect();
        self.gauges("dms_queue_depth", "What waits, by queue.", ("queue", queues))?;
        if let Some(commits) = measured.commits {
            let help = "Commits that are on disk, since the books were opened.";
            self.counter("dms_commits_total", help, commits.commits)?;
            self.counter("dms_commit_writes_total", "Writes that carried them.", commits.writes)?;
        }
        let refused = [
            ("busy", counters.busy_words),
            ("too_long", counters.too_long_words),
            ("other", counters.refused_words.saturating_sub(counters.busy_words + counters.too_long_words)),
        ];
        let refused = refused.into_iter().map(|(reason, count)| (reason.to_owned(), count as f64)).collect();
        self.counters("dms_refused_words_total", "Words of peers that were refused.", ("reason", refused))?;
        let closed = [
            ("malformed", counters.malformed_frames),
            ("credit", counters.credit_overruns),
            ("silent", counters.silent_links),
        ];
        let closed = closed.into_iter().map(|(reason, count)| (reason.to_owned(), count as f64)).collect();
        self.counters("dms_closed_links_total", "Links closed for what a peer did.", ("reason", closed))?;
        let help = "Pauses in reading from peers that were too quick.";
        self.counter("dms_throttled_reads_total", help, counters.throttled_reads)?;
        self.counter("dms_dead_letters_total", "Messages that nobody took.", counters.dead_letters)
    }

    fn market(&self, measured: &Measurements) -> prometheus::Result<()> {
        let tally = &measured.tally;
        self.counter("dms_bids_total", "Bids said, since the start.", tally.bids())?;
        let declines = tally.declines().iter().map(|(code, count)| ((*code).to_owned(), *count as f64));
        let help = "Requests declined, since the start; busy_owner is for the machine's owner.";
        self.counters("dms_declines_total", help, ("reason", declines.collect()))?;
        self.gauge("dms_locks", "Live locks behind bids.", measured.capability.locks.len() as f64)?;
        let counted = |counts: &std::collections::BTreeMap<String, u64>| {
            counts.iter().map(|(name, count)| (name.clone(), *count as f64)).collect()
        };
        let help = "Jobs of this node in memory, by phase.";
        self.gauges("dms_jobs", help, ("phase", counted(&measured.jobs)))?;
        let help = "Allocations of this machine in memory, by state.";
        self.gauges("dms_allocations", help, ("state", counted(&measured.allocations)))
    }

    /// The books, in which registered = available + locked + allocated; and what may be promised of the available.
    fn books(&self, measured: &Measurements) -> prometheus::Result<()> {
        let books = &measured.capability;
        let nothing = Resources::default();
        let registered = books.registered.as_ref().map_or(&nothing, |capability| &capability.resources);
        let states = [
            ("registered", registered),
            ("available", &books.available),
            ("locked", &books.locked),
            ("allocated", &books.allocated),
            ("offered", &measured.samples.offered),
        ];
        type Amount = fn(&Resources) -> f64;
        let dimensions: [(&str, &str, Amount); 5] = [
            ("dms_capability_cpu_cores", "Cores", |it| it.cpu.0 as f64 / 1000.0),
            ("dms_capability_memory_bytes", "Memory", |it| it.memory.bytes() as f64),
            ("dms_capability_disk_bytes", "Disk", |it| it.disk.bytes() as f64),
            ("dms_capability_gpus", "GPUs", |it| it.gpus.len() as f64),
            ("dms_capability_ports", "Ports", |it| it.ports.len() as f64),
        ];
        for (name, what, amount) in dimensions {
            let help = format!(
                "{what} by state: registered = available + locked + allocated; offered is what of the available the machine's owner leaves."
            );
            let values = states.map(|(state, resources)| (state.to_owned(), amount(resources)));
            self.gauges(name, &help, ("state", values.to_vec()))?;
        }
        Ok(())
    }

    fn machine(&self, samples: &SamplesView) -> prometheus::Result<()> {
        let stale = if samples.is_stale { 1.0 } else { 0.0 };
        self.gauge("dms_machine_stale", "1 while the machine is not sampled.", stale)?;
        let Some(sample) = samples.samples.first().filter(|_| !samples.is_stale) else { return Ok(()) };
        let at = sample.at.0 as f64 / 1000.0;
        self.gauge("dms_machine_sample_time_seconds", "When it was sampled last, in Unix time.", at)?;
        let MachineSample { cpu, cpu_used, cpu_own, load_hundredths, temperature, .. } = sample.machine;
        let cores = |millis: dms_messages::CpuMillis| millis.0 as f64 / 1000.0;
        self.gauge("dms_machine_cpu_cores", "Logical cores of the machine.", cores(cpu))?;
        let help = "Cores in use, by anybody, since the sample before.";
        self.gauge("dms_machine_cpu_used_cores", help, cores(cpu_used))?;
        let help = "Cores that this process used, its programs among it.";
        self.gauge("dms_process_cpu_used_cores", help, cores(cpu_own))?;
        let machine = sample.machine;
        let bytes = [
            ("dms_machine_memory_bytes", "Memory of the machine.", machine.memory.bytes()),
            (
                "dms_machine_memory_free_bytes",
                "Memory free, caches counted as free.",
                machine.memory_free.bytes(),
            ),
            ("dms_process_memory_bytes", "Memory that this process holds.", machine.memory_own.bytes()),
            ("dms_machine_disk_bytes", "Disk where the data directory is.", machine.disk.bytes()),
            ("dms_machine_disk_free_bytes", "Disk free there.", machine.disk_free.bytes()),
        ];
        bytes.into_iter().try_for_each(|(name, help, value)| self.gauge(name, help, value as f64))?;
        if let Some(load) = load_hundredths {
            let help = "Tasks that ran or waited, on average over a minute.";
            self.gauge("dms_machine_load1", help, f64::from(load) / 100.0)?;
        }
        if let Some(degrees) = temperature {
            let help = "The hottest part that is measured.";
            self.gauge("dms_machine_temperature_celsius", help, f64::from(degrees))?;
        }
        let help = "Bytes that came over the machine's interfaces.";
        self.counter("dms_machine_received_bytes_total", help, machine.received_bytes)?;
        let help = "Bytes that left over the machine's interfaces.";
        self.counter("dms_machine_sent_bytes_total", help, machine.sent_bytes)
    }

    fn allocations(&self, samples: &SamplesView) -> prometheus::Result<()> {
        let metered = samples.allocations.iter().filter_map(|it| Some((it, it.usage?)));
        let metered: Vec<_> = metered.take(MAX_ALLOCATIONS).collect();
        let of = |amount: fn(&crate::monitor::AllocationUsage) -> f64| {
            let value = |(it, usage): &(&MeteredAllocation, _)| (it.id.to_string(), amount(usage));
            ("allocation", metered.iter().map(value).collect())
        };
        let help = "Processor time that a live allocation has used.";
        self.counters("dms_allocation_cpu_seconds_total", help, of(|it| it.cpu_time.0 as f64 / 1000.0))?;
        let help = "Memory that a live allocation has.";
        self.gauges("dms_allocation_memory_bytes", help, of(|it| it.memory.bytes() as f64))?;
        let help = "The most memory that a live allocation had.";
        self.gauges("dms_allocation_memory_peak_bytes", help, of(|it| it.peak_memory.bytes() as f64))?;
        let help = "What a live allocation has written.";
        self.gauges("dms_allocation_disk_bytes", help, of(|it| it.disk.bytes() as f64))?;
        let help = "For how long a live allocation runs.";
        self.gauges("dms_allocation_run_seconds", help, of(|it| it.run_time.0 as f64 / 1000.0))
    }
}

/// The page.
///
/// # Errors
/// If a name or a label breaks a rule of the format, which a test excludes.
pub fn text(measured: &Measurements) -> prometheus::Result<String> {
    let page = Page(Registry::new());
    page.node(measured)?;
    page.market(measured)?;
    page.books(measured)?;
    page.machine(&measured.samples)?;
    page.allocations(&measured.samples)?;
    TextEncoder::new().encode_to_string(&page.0.gather())
}
