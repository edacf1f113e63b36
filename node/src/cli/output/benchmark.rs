//! What a person reads of how fast a machine is, and of its GPUs.

use std::collections::BTreeMap;

use dms_messages::{Capability, Gpu, GpuId, MemoryMib};

use super::{count, escaped, table};
use crate::benchmark::Figure;
use crate::benchmark::change::Change;
use crate::cli::capability::Compared;

/// The lines of a capability that say how fast the machine is; none if it was not measured.
pub(super) fn speed(capability: &Capability) -> Vec<(&'static str, String)> {
    let Some(benchmark) = &capability.benchmark else { return Vec::new() };
    let told = |figures: &[Figure]| {
        let told =
            figures.iter().map(|figure| format!("{} {}", figure.name(), figure.text(figure.of(benchmark))));
        told.collect::<Vec<_>>().join(", ")
    };
    vec![
        ("speed", format!("{} (SHA-256)", told(&[Figure::CpuSingle, Figure::CpuMulti]))),
        ("", told(&[Figure::Memory, Figure::Wasm])),
        ("", told(&[Figure::DiskWrite, Figure::DiskSyncs])),
    ]
}

/// The lines of a capability that say which GPUs are offered.
pub(super) fn gpu_lines(gpus: &BTreeMap<GpuId, Gpu>) -> Vec<(&'static str, String)> {
    gpus.iter().map(|(id, gpu)| ("GPU", gpu_text(usize::from(id.0), gpu))).collect()
}

/// A GPU that was found, and is offered by nobody yet.
pub(super) fn found_gpu(place: usize, gpu: &Gpu) -> (&'static str, String) {
    ("GPU", format!("{} (offered with --gpus {place})", gpu_text(place, gpu)))
}

fn gpu_text(place: usize, gpu: &Gpu) -> String {
    let memory = match gpu.memory {
        MemoryMib(0) => String::new(),
        memory => format!(", {memory}"),
    };
    format!("{place}: {} {}{memory}", escaped(&gpu.vendor), escaped(&gpu.model))
}

/// `dms capability benchmark`.
pub(in crate::cli) fn compared(compared: &Compared) -> String {
    let row = |change: &Change| {
        let before = change.before.map_or_else(|| "-".to_owned(), |before| change.figure.text(before));
        vec![change.figure.name().to_owned(), before, change.figure.text(change.after), change.text()]
    };
    let rows: Vec<_> = compared.changes.iter().map(row).collect();
    let end = if compared.is_registered { "registered" } else { "not registered: this was a dry run" };
    format!("{}\n{end}\n", table(&["", "REGISTERED", "MEASURED", "CHANGE"], &rows))
}

/// That programs ran while the machine was measured.
pub(in crate::cli) fn measured_beside(running: usize) -> String {
    format!(
        "{} ran here meanwhile: the figures are worse than those of an idle machine",
        count(running, "program")
    )
}

/// That a machine is not measured, because of the programs that run on it.
pub(in crate::cli) fn not_measured(running: usize) -> String {
    format!(
        "not measured while {} here: what was measured before stays registered (`dms capability benchmark` measures)",
        if running == 1 { "1 program runs".to_owned() } else { format!("{running} programs run") }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::change::changes;
    use crate::cli::output::fields;
    use dms_messages::Benchmark;

    const FAST: Benchmark = Benchmark {
        cpu_single: 1500,
        cpu_multi: 12_000,
        memory: 20_480,
        disk_write: 900,
        disk_syncs: 1200,
        wasm: 310,
    };

    #[test]
    fn a_capability_says_how_fast_its_machine_is_if_that_was_measured() {
        let mut capability = Capability::default();
        assert!(speed(&capability).is_empty());
        capability.benchmark = Some(FAST);
        assert_eq!(
            fields(&speed(&capability)),
            "speed  one core 1500 MiB/s, all cores 11.7 GiB/s (SHA-256)\n       \
             memory 20.0 GiB/s, wasm 310 M steps/s\n       \
             disk 900 MiB/s, disk syncs 1200 a second\n"
        );
    }

    #[test]
    fn what_has_changed_stands_beside_what_was() {
        let slower = Benchmark { memory: 10_240, disk_write: 0, ..FAST };
        let told = |before: Option<Benchmark>, is_registered| {
            let changes = changes(before.as_ref(), &FAST);
            compared(&Compared { before, after: FAST, changes, is_registered, running_count: 0 })
        };
        let text = told(Some(slower), true);
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert_eq!(line("memory"), "memory      10.0 GiB/s     20.0 GiB/s     +100.0 %");
        assert_eq!(line("one core"), "one core    1500 MiB/s     1500 MiB/s     0 %");
        assert_eq!(line("disk "), "disk        -              900 MiB/s      new");
        assert!(text.ends_with("\nregistered\n"), "{text}");
        assert!(told(None, false).ends_with("\nnot registered: this was a dry run\n"));
    }

    #[test]
    fn a_gpu_is_named_with_its_memory_and_nothing_it_says_moves_the_cursor() {
        let gpu = |model: &str, memory| Gpu {
            vendor: "amd".into(),
            model: model.into(),
            memory: MemoryMib(memory),
        };
        let gpus = BTreeMap::from([(GpuId(0), gpu("RX\u{1b}[2J", 0)), (GpuId(3), gpu("MI300X", 196_608))]);
        let lines: Vec<String> = gpu_lines(&gpus).into_iter().map(|(_, text)| text).collect();
        assert_eq!(lines, ["0: amd RX\\u{1b}[2J", "3: amd MI300X, 192 GiB"]);
        assert_eq!(found_gpu(1, &gpu("a", 1)).1, "1: amd a, 1 MiB (offered with --gpus 1)");
    }
}
