//! Bytes that a fuzzer makes of valid frames, given to the decoder and to a link with actors behind it.
//!
//! A few hundred cases run with every test; `FUZZ_SECONDS=600` (`make fuzz`) goes on for that long, with
//! other cases each time. A case that fails is shrunk and printed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::cell::Cell;
use std::time::{Duration, Instant};

use common::wire::*;
use common::*;
use dms_actors::cbor::to_canonical;
use dms_actors::transport::memory::MemoryNetwork;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What may be done to a run of frames.
#[derive(Debug, Clone)]
enum Damage {
    /// One byte becomes another.
    Set(prop::sample::Index, u8),
    /// One bit turns.
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    /// A piece comes again somewhere else.
    Copy(prop::sample::Index, prop::sample::Index, usize),
    /// Nothing follows.
    Cut(prop::sample::Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let place = |at: &prop::sample::Index| at.index(bytes.len());
        match self {
            Self::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Self::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << (bit % 8),
            Self::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = place(at);
                bytes.drain(at..bytes.len().min(at + count));
            }
            Self::Copy(from, to, count) => {
                let (from, to) = (place(from), place(to));
                let piece = bytes[from..bytes.len().min(from + count)].to_vec();
                bytes.splice(to..to, piece);
            }
            Self::Cut(at) => bytes.truncate(place(at)),
        }
    }
}

/// A valid frame that a peer may send; the numbers of words and requests rise with `n`.
fn valid(n: u64, which: u8) -> Vec<u8> {
    let note = to_canonical(&Note(n)).unwrap();
    let options = std::collections::BTreeMap::from([(1, 5000)]);
    match which % 16 {
        0 => ask(n, "test.note/1", &Note(n)),
        1 => ask(n, "test.await/1", &Await),
        2 => ask(n, "test.unheard/1", &Unheard),
        3 => frame(&(WORD, "/nobody", "test.note/1", n, true), &note),
        4 => frame(&(WORD, "/probe", "no kind", n, true), &note),
        5 => frame(&(WORD, "/probe", "test.note/1", n, true, options), &note),
        6 => frame(&(LOOKUP, n, "/probe", "test.note/1"), b""),
        7 => frame(&(WATCH, n, "/probe"), b""),
        8 => frame(&(UNWATCH, n.saturating_sub(3)), b""),
        9 => frame(&(PING,), b""),
        10 => frame(&(WORD, "/probe", "test.bulk/1", n, false), &to_canonical(&Bulk(vec![7; 300])).unwrap()),
        11 => ask(n, "test.panic/1", &Panic),
        12 => frame(&(REFUSED, n, "busy", "x"), b""),
        _ => word(n, &Note(n)),
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, more)| Damage::Insert(at, more)),
        (at(), 1..20usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        (at(), at(), 1..200usize).prop_map(|(from, to, count)| Damage::Copy(from, to, count)),
        at().prop_map(Damage::Cut),
    ]
}

/// Some frames, mostly valid, and what is done to them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let frames = prop::collection::vec(any::<u8>(), 1..40);
    let noise = prop::collection::vec(any::<u8>(), 0..100);
    (frames, prop::collection::vec(damage(), 0..4), noise, 0..10u8).prop_map(
        |(frames, damages, noise, how)| {
            let mut bytes: Vec<u8> = (1..).zip(frames).flat_map(|(n, which)| valid(n, which)).collect();
            for damage in damages {
                damage.apply(&mut bytes);
            }
            if how == 0 { noise } else { bytes }
        },
    )
}

/// Runs `test` for a few hundred cases, or as long as it was asked for.
fn fuzz(test: impl Fn(Vec<u8>)) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let cases = Cell::new(0_u64);
    loop {
        let mut runner =
            TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
        let run = runner.run(&stream(), |bytes| {
            cases.set(cases.get() + 1);
            test(bytes);
            Ok(())
        });
        run.unwrap();
        if end.is_none_or(|end| Instant::now() >= end) {
            println!("{} cases", cases.get());
            return;
        }
    }
}

#[cfg(feature = "testing")]
#[test]
fn the_decoder_takes_whatever_comes() {
    fuzz(|bytes| {
        dms_actors::fuzz::decode(&bytes);
        // As a header of its own, too.
        dms_actors::fuzz::decode(&raw_frame(&bytes[..bytes.len().min(2000)], &bytes));
    });
}

/// The memory of this process in KiB, 0 where that is not said.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[test]
fn a_link_takes_whatever_comes() {
    let network = MemoryNetwork::default();
    let system = member(&network, 1);
    let probe = probe(
        &system,
        &Seen::default(),
        dms_actors::Supervision {
            // Panics are among the cases; the probe comes back at once, however many.
            max_restarts: u32::MAX,
            backoff_min: Duration::ZERO,
            backoff_max: Duration::ZERO,
            ..dms_actors::Supervision::transient()
        },
    );
    let registration = system.register("/probe", &probe).unwrap();
    let _ = registration.accepts::<Note>().accepts::<Panic>().accepts::<Await>().accepts::<Bulk>();
    let evil = Evil::join(&network);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    std::panic::set_hook(Box::new(|info| {
        // The probe's own panics are on purpose; all others are shown.
        if !info.to_string().contains("on purpose") {
            eprintln!("{info}");
        }
    }));
    let before = Cell::new(0);
    let (cases, answered) = (Cell::new(0_u64), Cell::new(0));
    fuzz(|bytes| {
        runtime.block_on(async {
            let pipe = evil.link().await;
            let (mut reader, mut writer) = tokio::io::split(pipe);
            // The link may end in the middle: then there is nobody to write to.
            let write = async {
                let _ = writer.write_all(&bytes).await;
                let _ = writer.shutdown().await;
            };
            let mut answer = Vec::new();
            let read = async {
                let _ = reader.read_to_end(&mut answer).await;
            };
            soon("the link ends", async { tokio::join!(write, read) }).await;
            assert!(answer.len() < 1_000_000);
            answered.set(answered.get() + answer.len());
        });
        cases.set(cases.get() + 1);
        if cases.get() == 200 {
            before.set(memory());
        }
    });
    let _ = std::panic::take_hook();
    // It does not grow with what came: neither buffers nor routes nor watches outlive their link.
    let grown = memory().saturating_sub(before.get());
    assert!(grown < 64 * 1024, "{grown} KiB");
    assert!(probe.is_alive());
    assert!(answered.get() > 0, "not one valid frame was among them");
    runtime.block_on(async {
        let friend = member(&network, 2);
        friend.resolve::<Note>(&address(1, "/probe")).tell(Note(1)).await.unwrap();
        assert!(friend.flush(PATIENCE).await);
        assert_eq!(friend.counters().dead_letters, 0);
        stop(&[&friend, &system]).await;
    });
}
