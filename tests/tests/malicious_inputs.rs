//! Hand-made malicious inputs, each refused with the right reason, without a panic and without memory that grows by
//! what an input only claims.
//!
//! A family of inputs is a file beside this one: tables, and small generators where one idea gives many inputs.
//! Nothing here is random; what is found by chance belongs to `fuzz_decoders.rs`. One test runs all of them, one
//! after another, because it counts what this program allocates.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "malicious_inputs/addresses.rs"]
mod addresses;
#[path = "malicious_inputs/api.rs"]
mod api;
#[path = "malicious_inputs/archives.rs"]
mod archives;
#[path = "malicious_inputs/carried.rs"]
mod carried;
#[path = "malicious_inputs/cbor.rs"]
mod cbor;
#[path = "malicious_inputs/cose.rs"]
mod cose;
#[path = "malicious_inputs/frames.rs"]
mod frames;
#[path = "malicious_inputs/jobs.rs"]
mod jobs;
#[path = "malicious_inputs/mesh.rs"]
mod mesh;
#[path = "malicious_inputs/names.rs"]
mod names;
#[path = "malicious_inputs/rules.rs"]
mod rules;
#[path = "malicious_inputs/trust.rs"]
mod trust;
#[path = "malicious_inputs/words.rs"]
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What one refusal may allocate, whatever the input claims: buffers of the parsers and the reason's text.
const MEMORY_OF_A_REFUSAL: usize = 192 * 1024;
/// And for each byte that is really there: a byte of CBOR can be a value of 32 bytes in a vector that has just doubled.
const MEMORY_OF_A_BYTE: usize = 100;
/// What all of them together may raise the high-water mark by, over what the inputs themselves take.
const MEMORY_OF_ALL: usize = 16 * 1024 * 1024;
/// How many distinct inputs there are at least.
const LEAST: usize = 500;

/// Whoever reads an input: why it was refused, if it was.
type Decoder = Box<dyn Fn(&[u8]) -> Result<(), String>>;

/// One input that must be refused.
struct Case {
    name: String,
    input: Vec<u8>,
    /// A part of the reason: of the variant with its values, or of the sentence for people.
    reason: String,
    decode: Decoder,
}

/// Inputs for one decoder, with what is distinctive of the reason of each.
struct Table {
    cases: Vec<Case>,
}

impl Table {
    fn new() -> Self {
        Self { cases: Vec::new() }
    }

    /// One more input.
    fn refuse(
        &mut self,
        name: impl Into<String>,
        input: impl Into<Vec<u8>>,
        reason: impl Into<String>,
        decode: impl Fn(&[u8]) -> Result<(), String> + 'static,
    ) {
        let (name, input, reason) = (name.into(), input.into(), reason.into());
        self.cases.push(Case { name, input, reason, decode: Box::new(decode) });
    }

    /// Texts for one decoder, with the reason of each.
    fn texts(&mut self, what: &str, table: &[(&str, &str)], decode: fn(&str) -> Result<(), String>) {
        for (text, reason) in table {
            let name = format!("{what} {}", shown(text));
            self.refuse(name, *text, *reason, move |bytes| decode(std::str::from_utf8(bytes).unwrap()));
        }
    }
}

/// What a family is called, and who adds its inputs.
type Family = (&'static str, fn(&mut Table));

/// A text as a part of a name: its beginning, and how long it is if that is not all of it.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(60).collect();
    if beginning.len() == text.len() {
        format!("{text:?}")
    } else {
        format!("{beginning:?}… ({} bytes)", text.len())
    }
}

/// What was decided, without the value; the error as its variant.
fn judged<T, E: Debug>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| format!("{error:?}"))
}

/// What was decided, without the value; the error with its causes, as people read it.
fn told<T, E: std::error::Error>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    })
}

/// The text of a reason that a library wraps.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn run(case: &Case) -> Result<usize, String> {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let outcome = catch_unwind(AssertUnwindSafe(|| (case.decode)(&case.input)));
    let allocated = ALLOCATED.peak_usage().saturating_sub(before);
    match outcome {
        Err(panic) => return Err(format!("it panics: {}", message(panic.as_ref()))),
        Ok(Ok(())) => return Err("it is accepted".to_owned()),
        Ok(Err(reason)) if !reason.contains(&case.reason) => {
            return Err(format!("it is refused because of\n    {reason}\n  and not of\n    {}", case.reason));
        }
        Ok(Err(_)) => {}
    }
    let most = MEMORY_OF_A_REFUSAL + MEMORY_OF_A_BYTE * case.input.len();
    if allocated > most {
        return Err(format!(
            "{} bytes of input make {allocated} bytes of memory (at most {most})",
            case.input.len()
        ));
    }
    Ok(allocated)
}

/// The most memory that this process has had, in KiB; 0 where the system does not say.
fn high_water_mark() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[test]
fn every_malicious_input_is_refused_with_its_reason_and_memory_stays_flat() {
    let families: [Family; 13] = [
        ("canonical CBOR", cbor::family),
        ("plain words", words::family),
        ("signed documents", cose::family),
        ("signed words that break a rule", rules::family),
        ("names and ids", names::family),
        ("addresses", addresses::family),
        ("tokens and invites as text", carried::family),
        ("chains of tokens", trust::family),
        ("job files and settings", jobs::family),
        ("bodies of the API", api::family),
        ("archives, blobs and proofs", archives::family),
        ("frames of links", frames::family),
        ("gossip and directory", mesh::family),
    ];
    let mut inputs = BTreeSet::new();
    let mut counts = BTreeMap::new();
    let mut failed = Vec::new();
    let mut most = (0, String::new());
    for (family, build) in families {
        let mut table = Table::new();
        build(&mut table);
        let mut names = BTreeSet::new();
        let before = ALLOCATED.current_usage();
        let hwm = high_water_mark();
        for case in &table.cases {
            if !names.insert(&case.name) {
                failed.push(format!("{family}: two inputs are called {}", case.name));
            }
            match run(case) {
                Ok(allocated) if case.input.len() < 4096 && allocated > most.0 => {
                    most = (allocated, format!("{family}: {}", case.name));
                }
                Ok(_) => {}
                Err(why) => failed.push(format!("{family}: {}: {why}", case.name)),
            }
        }
        let kept = ALLOCATED.current_usage().saturating_sub(before);
        assert!(kept < MEMORY_OF_ALL / 4, "{family} leaves {kept} bytes behind");
        let grown = high_water_mark().saturating_sub(hwm) * 1024;
        let longest = table.cases.iter().map(|case| case.input.len()).max().unwrap_or(0);
        let allowed = MEMORY_OF_ALL + MEMORY_OF_A_BYTE * longest;
        assert!(grown <= allowed, "{family} raises the high-water mark by {grown} bytes");
        counts.insert(family, table.cases.len());
        inputs.extend(table.cases.into_iter().map(|case| case.input));
    }
    assert!(
        failed.is_empty(),
        "{} inputs are not refused as they should be:\n{}",
        failed.len(),
        failed.join("\n")
    );
    println!("the most memory for a short input: {} bytes ({})", most.0, most.1);
    let lines: Vec<String> = counts.iter().map(|(family, count)| format!("{count} {family}")).collect();
    let total: usize = counts.values().sum();
    assert!(inputs.len() >= LEAST, "only {} distinct inputs", inputs.len());
    dms_tests::proof(&format!(
        "malicious inputs: {total} cases of {} distinct inputs, each refused with its reason, none with a panic, none \
         with memory for what it only claims ({})",
        inputs.len(),
        lines.join(", ")
    ));
}
