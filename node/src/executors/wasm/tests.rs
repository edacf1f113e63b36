//! The executor's promises, each with the guest that would break it.

mod messages;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::executors::OutputStream;

/// Longer than any run here takes on a loaded machine; reached only by a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time within which a stop must have taken effect, with room for a loaded machine.
const PROMPTLY: Duration = Duration::from_secs(2);

const HELLO: &str = include_str!("../../../../examples/programs/hello.wat");
const SPIN: &str = include_str!("../../../../examples/programs/spin.wat");
const TRAP: &str = include_str!("../../../../examples/programs/trap.wat");
const GREEDY: &str = include_str!("../../../../examples/programs/greedy.wat");
const WORDCOUNT: &[u8] = include_bytes!("../../../../examples/programs/wordcount.wasm");

const GENEROUS: Limits = Limits {
    memory_bytes: 64 << 20,
    cpu_millis: 1000,
    disk_bytes: 64 << 20,
    timeout: PATIENCE,
    output_bytes: 1 << 20,
};

/// The imports and the memory that most guests here need.
const PRELUDE: &str = r#"
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $set_size (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 4)
  (func $check (param i32) (if (local.get 0) (then (call $proc_exit (local.get 0)))))
  (func $write (param $fd i32) (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (call $check (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
"#;

/// A guest made of [`PRELUDE`], `data` at address 1024 and the body of its start function. Its exit code is
/// the first error number it meets.
fn guest(data: &str, body: &str) -> Vec<u8> {
    format!(
        r#"(module {PRELUDE} (data (i32.const 1024) "{data}")
           (func (export "_start") (local $i i32) (local $n i32) {body}))"#
    )
    .into_bytes()
}

/// A guest that opens `path` under a preopened directory; flags as in WASI.
fn opening(directory: u32, path: &str, open_flags: u32, rights: u64) -> Vec<u8> {
    let length = path.len();
    guest(
        path,
        &format!(
            "(call $check (call $path_open (i32.const {directory}) (i32.const 1) (i32.const 1024)
               (i32.const {length}) (i32.const {open_flags}) (i64.const {rights}) (i64.const {rights})
               (i32.const 0) (i32.const 16)))"
        ),
    )
}

const OUTPUT: u32 = 3;
const INPUT: u32 = 4;
const CREATE: u32 = 1;
const READ: u64 = 2;
const WRITE: u64 = 64;

/// An executor with directories for one guest.
struct Bench {
    executor: WasmExecutor,
    output: TempDir,
    input: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            executor: WasmExecutor::new().unwrap(),
            output: tempfile::tempdir().unwrap(),
            input: tempfile::tempdir().unwrap(),
        }
    }

    fn workload(&self, module: impl AsRef<[u8]>) -> Workload {
        Workload {
            module: module.as_ref().into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: Vec::new(),
            input: Some(self.input.path().into()),
            output: self.output.path().into(),
            inbox: None,
        }
    }

    async fn run(&self, module: impl AsRef<[u8]>, limits: Limits) -> Finished {
        finish(self.executor.start(self.workload(module), limits)).await
    }

    async fn exit(&self, module: impl AsRef<[u8]>, limits: Limits) -> Exit {
        self.run(module, limits).await.outcome.exit
    }
}

struct Finished {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    outcome: Outcome,
}

impl Finished {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Reads all output, then the outcome: in this order, because the output must end first.
async fn finish(execution: Execution) -> Finished {
    let Execution { mut output, outcome, stop, .. } = execution;
    let finished = tokio::time::timeout(PATIENCE, async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(chunk) = output.recv().await {
            assert!(!chunk.bytes.is_empty() && chunk.bytes.len() <= output::CHUNK_BYTES);
            match chunk.stream {
                OutputStream::Stdout => stdout.extend(chunk.bytes),
                OutputStream::Stderr => stderr.extend(chunk.bytes),
            }
        }
        Finished { stdout, stderr, outcome: outcome.await.unwrap() }
    });
    let finished = finished.await.expect("the guest ends");
    drop(stop);
    finished
}

/// Waits until the guest has written something, then stops it and checks how long that takes.
async fn stop_promptly(mut execution: Execution) {
    tokio::time::timeout(PATIENCE, execution.output.recv()).await.unwrap().expect("the guest speaks first");
    stop_now(execution).await;
}

async fn stop_now(execution: Execution) {
    let since = Instant::now();
    execution.stop.send(()).unwrap();
    let outcome = tokio::time::timeout(PATIENCE, execution.outcome).await.unwrap().unwrap();
    assert_eq!(outcome.exit, Exit::Stopped);
    assert!(since.elapsed() < PROMPTLY, "stopping took {:?}", since.elapsed());
}

fn failed(exit: &Exit) -> &ExecutionFailure {
    match exit {
        Exit::Failed(failure) => failure,
        other => panic!("{other:?} is no failure"),
    }
}

#[tokio::test]
async fn hello_is_heard() {
    let bench = Bench::new();
    let finished = bench.run(HELLO, GENEROUS).await;
    assert_eq!(finished.outcome.exit, Exit::Code(0));
    assert_eq!(finished.text(), "hello from the mesh\n");
    assert!(finished.stderr.is_empty());
    assert_eq!(finished.outcome.usage.peak_memory_bytes, 64 << 10);
    assert_eq!(finished.outcome.usage.output_dropped_bytes, 0);
    assert!(finished.outcome.usage.wall > Duration::ZERO);
}

#[tokio::test]
async fn exit_codes_arrive() {
    let bench = Bench::new();
    // Also those that WASI's own `proc_exit` calls a trap.
    for code in [0, 1, 7, 125, 126, 255, -1] {
        let module = guest("", &format!("(call $proc_exit (i32.const {code})) unreachable"));
        assert_eq!(bench.exit(module, GENEROUS).await, Exit::Code(code));
    }
}

#[tokio::test]
async fn traps_are_told_in_one_line() {
    let bench = Bench::new();
    let table: [(&[u8], &str); 4] = [
        (TRAP.as_bytes(), "unreachable"),
        (&guest("", "(drop (i32.div_u (i32.const 1) (local.get $i)))"), "divide by zero"),
        (&guest("", "(drop (i32.load (i32.const -8)))"), "out of bounds"),
        (br#"(module (func $f (export "_start") (call $f) (call $f)))"#, "call stack exhausted"),
    ];
    for (module, expected) in table {
        let exit = bench.exit(module, GENEROUS).await;
        let ExecutionFailure::Trapped(text) = failed(&exit) else { panic!("{exit:?}") };
        assert!(text.contains(expected) && !text.contains('\n'), "{text}");
    }
}

#[tokio::test]
async fn an_endless_loop_meets_its_time_limit() {
    let bench = Bench::new();
    let limit = Duration::from_millis(300);
    let in_start_function = r#"(module (func $f (loop (br 0))) (start $f) (func (export "_start")))"#;
    for module in [SPIN, in_start_function] {
        let outcome = bench.run(module, Limits { timeout: limit, ..GENEROUS }).await.outcome;
        assert_eq!(failed(&outcome.exit), &ExecutionFailure::TimedOut { limit });
        assert!(outcome.usage.wall >= limit && outcome.usage.wall < limit + PROMPTLY, "{outcome:?}");
    }
}

#[tokio::test]
async fn an_endless_loop_can_be_stopped() {
    let bench = Bench::new();
    stop_promptly(bench.executor.start(bench.workload(SPIN), GENEROUS)).await;
}

#[tokio::test]
async fn a_running_guest_shows_what_it_uses() {
    let bench = Bench::new();
    let Execution { mut output, outcome, stop, gauge } = bench.executor.start(bench.workload(SPIN), GENEROUS);
    output.recv().await.expect("the guest speaks first");
    let first = gauge.read();
    assert!(first.memory_bytes > 0 && first.peak_memory_bytes >= first.memory_bytes, "{first:?}");
    let grows = async {
        while gauge.read().cpu < first.cpu + 2 * EPOCH {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, grows).await.expect("it is charged for what it computes");
    stop.send(()).expect("it runs");
    tokio::time::timeout(PATIENCE, outcome).await.unwrap().unwrap();
}

#[tokio::test]
async fn dropping_the_stop_stops() {
    let bench = Bench::new();
    let Execution { mut output, outcome, stop, .. } = bench.executor.start(bench.workload(SPIN), GENEROUS);
    output.recv().await.expect("the guest speaks first");
    drop(stop);
    let outcome = tokio::time::timeout(PATIENCE, outcome).await.unwrap().unwrap();
    assert_eq!(outcome.exit, Exit::Stopped);
}

/// Writes a byte, then sleeps for a minute on the monotonic clock.
fn sleeper() -> Vec<u8> {
    guest(
        "x",
        "(call $write (i32.const 1) (i32.const 1024) (i32.const 1))
         (i32.store (i32.const 2064) (i32.const 1))
         (i64.store (i32.const 2072) (i64.const 60000000000))
         (call $check (call $poll_oneoff (i32.const 2048) (i32.const 4096) (i32.const 1) (i32.const 16)))",
    )
}

#[tokio::test]
async fn a_sleeping_guest_can_be_stopped_and_times_out() {
    let bench = Bench::new();
    stop_promptly(bench.executor.start(bench.workload(sleeper()), GENEROUS)).await;
    let limit = Duration::from_millis(300);
    let outcome = bench.run(sleeper(), Limits { timeout: limit, ..GENEROUS }).await.outcome;
    assert_eq!(failed(&outcome.exit), &ExecutionFailure::TimedOut { limit });
    assert!(outcome.usage.wall < limit + PROMPTLY, "{outcome:?}");
}

#[tokio::test]
async fn a_file_operation_that_hangs_does_not_hold_a_stop_up() {
    let bench = Bench::new();
    let pipe = bench.input.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let path = "pipe";
    let body = format!(
        "(call $write (i32.const 1) (i32.const 1024) (i32.const 4))
         (call $check (call $path_open (i32.const {INPUT}) (i32.const 0) (i32.const 1024) (i32.const {})
           (i32.const 0) (i64.const {READ}) (i64.const 0) (i32.const 0) (i32.const 16)))
         (loop (br 0))",
        path.len()
    );
    stop_promptly(bench.executor.start(bench.workload(guest(path, &body)), GENEROUS)).await;
}

#[tokio::test]
async fn growing_over_the_grant_ends_the_guest() {
    let bench = Bench::new();
    let granted_bytes = 8 << 20;
    let outcome = bench.run(GREEDY, Limits { memory_bytes: granted_bytes, ..GENEROUS }).await.outcome;
    assert_eq!(failed(&outcome.exit), &ExecutionFailure::MemoryExceeded { granted_bytes });
    let peak = outcome.usage.peak_memory_bytes;
    assert!(peak <= granted_bytes && peak > granted_bytes - (2 << 20), "{peak}");
}

#[tokio::test]
async fn initial_memory_over_the_grant_never_starts() {
    let bench = Bench::new();
    let granted_bytes = 1 << 20;
    let limits = Limits { memory_bytes: granted_bytes, ..GENEROUS };
    let one = r#"(module (memory 17) (func (export "_start")))"#;
    let two = r#"(module (memory 9) (memory 8) (func (export "_start")))"#;
    for module in [one, two] {
        let outcome = bench.run(module, limits).await.outcome;
        assert_eq!(failed(&outcome.exit), &ExecutionFailure::MemoryExceeded { granted_bytes });
        assert!(outcome.usage.peak_memory_bytes <= granted_bytes);
    }
    let fits = r#"(module (memory 8) (memory 8) (func (export "_start")))"#;
    assert_eq!(bench.exit(fits, limits).await, Exit::Code(0));
}

#[tokio::test]
async fn a_modules_own_maximum_is_its_own_affair() {
    let module = r#"(module (memory 1 2)
        (func (export "_start") (if (i32.ne (memory.grow (i32.const 5)) (i32.const -1)) (then unreachable))))"#;
    assert_eq!(Bench::new().exit(module, GENEROUS).await, Exit::Code(0));
}

#[tokio::test]
async fn other_resources_are_bounded_too() {
    let bench = Bench::new();
    let memories = "(memory 1)".repeat(guest::MEMORIES_MAX + 1);
    for declaration in ["(table 10000000 funcref)", &"(table 1 funcref)".repeat(40), &memories] {
        let exit = bench.exit(format!(r#"(module {declaration} (func (export "_start")))"#), GENEROUS).await;
        assert!(matches!(failed(&exit), ExecutionFailure::InvalidModule(_)), "{exit:?}");
    }
    // Opens the same file for ever and never closes it.
    fs::write(bench.input.path().join("f"), "x").unwrap();
    let body = format!(
        "(loop $more (call $check (call $path_open (i32.const {INPUT}) (i32.const 0) (i32.const 1024) (i32.const 1)
           (i32.const 0) (i64.const {READ}) (i64.const 0) (i32.const 0) (i32.const 16))) (br $more))"
    );
    let exit = bench.exit(guest("f", &body), GENEROUS).await;
    assert!(
        matches!(failed(&exit), ExecutionFailure::Trapped(text) if text.contains("resource")),
        "{exit:?}"
    );
}

#[tokio::test]
async fn standard_input_is_read_to_its_end() {
    let bench = Bench::new();
    let module = guest(
        "",
        "(loop $more
           (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1000))
           (call $check (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
           (local.set $n (i32.load (i32.const 8)))
           (if (local.get $n) (then
             (call $write (i32.const 2) (i32.const 1024) (local.get $n)) (br $more))))",
    );
    let stdin: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    let workload = Workload { stdin: stdin.clone(), ..bench.workload(module) };
    let finished = finish(bench.executor.start(workload, GENEROUS)).await;
    assert_eq!(finished.outcome.exit, Exit::Code(0));
    assert!(finished.stderr == stdin && finished.stdout.is_empty());
}

#[tokio::test]
async fn arguments_and_environment_are_the_given_ones_and_no_more() {
    let bench = Bench::new();
    let module = guest(
        "",
        "(call $check (call $args_sizes_get (i32.const 16) (i32.const 20)))
         (call $check (call $args_get (i32.const 4096) (i32.const 8192)))
         (call $write (i32.const 1) (i32.const 8192) (i32.load (i32.const 20)))
         (call $check (call $environ_sizes_get (i32.const 16) (i32.const 20)))
         (call $check (call $environ_get (i32.const 4096) (i32.const 8192)))
         (call $write (i32.const 1) (i32.const 8192) (i32.load (i32.const 20)))",
    );
    let workload = Workload {
        args: vec!["one".into(), "two words".into()],
        env: vec![("KEY".into(), "value".into()), ("EMPTY".into(), String::new())],
        ..bench.workload(module)
    };
    let finished = finish(bench.executor.start(workload, GENEROUS)).await;
    assert_eq!(finished.outcome.exit, Exit::Code(0));
    assert_eq!(finished.text(), "program\0one\0two words\0KEY=value\0EMPTY=\0");
}

#[tokio::test]
async fn only_the_two_directories_are_open() {
    let bench = Bench::new();
    // Counts the descriptors above standard error that are preopened directories.
    let module = guest(
        "",
        "(local.set $i (i32.const 3))
         (loop $more
           (if (i32.eqz (call $fd_prestat_get (local.get $i) (i32.const 16)))
             (then (local.set $n (i32.add (local.get $n) (i32.const 1)))))
           (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))
         (call $proc_exit (local.get $n))",
    );
    assert_eq!(bench.exit(&module, GENEROUS).await, Exit::Code(2));
    let workload = Workload { input: None, ..bench.workload(module) };
    assert_eq!(finish(bench.executor.start(workload, GENEROUS)).await.outcome.exit, Exit::Code(1));
}

#[tokio::test]
async fn no_path_leads_out() {
    let bench = Bench::new();
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("secret"), "secret").unwrap();
    for directory in [bench.output.path(), bench.input.path()] {
        fs::write(directory.join("inside"), "x").unwrap();
        symlink("/etc/passwd", directory.join("absolute")).unwrap();
        symlink(secret.path(), directory.join("directory")).unwrap();
        let up = Path::new("..").join(secret.path().file_name().unwrap()).join("secret");
        symlink(&up, directory.join("relative")).unwrap();
        assert!(directory.join(&up).exists(), "the relative link would lead there");
    }
    for directory in [OUTPUT, INPUT] {
        assert_eq!(bench.exit(opening(directory, "inside", 0, READ), GENEROUS).await, Exit::Code(0));
        for path in [
            "/etc/passwd",
            "../",
            "..",
            "../../../../../../etc/passwd",
            "inside/../../../../etc/passwd",
            "absolute",
            "relative",
            "directory/secret",
            "/proc/self/environ",
            "//etc/passwd",
            "./.././../etc/passwd",
        ] {
            let exit = bench.exit(opening(directory, path, 0, READ), GENEROUS).await;
            assert!(matches!(exit, Exit::Code(error) if error > 0), "{path} in {directory}: {exit:?}");
        }
    }
    // Nor may a guest make such a way: an absolute link is refused, a relative one does not open.
    let absolute = guest(
        "/etc/passwdlink",
        &format!(
            "(call $check (call $symlink (i32.const 1024) (i32.const 11) (i32.const {OUTPUT})
               (i32.const 1035) (i32.const 4)))"
        ),
    );
    assert!(matches!(bench.exit(absolute, GENEROUS).await, Exit::Code(error) if error > 0));
    let relative = guest(
        "../../../../../etc/passwdlink",
        &format!(
            "(drop (call $symlink (i32.const 1024) (i32.const 25) (i32.const {OUTPUT})
               (i32.const 1049) (i32.const 4)))
             (call $check (call $path_open (i32.const {OUTPUT}) (i32.const 1) (i32.const 1049) (i32.const 4)
               (i32.const 0) (i64.const {READ}) (i64.const 0) (i32.const 0) (i32.const 16)))"
        ),
    );
    assert!(matches!(bench.exit(relative, GENEROUS).await, Exit::Code(error) if error > 0));
}

#[tokio::test]
async fn output_files_appear_and_input_stays_as_it_is() {
    let bench = Bench::new();
    fs::write(bench.input.path().join("given"), "given").unwrap();
    let body = format!(
        "(call $check (call $path_open (i32.const {OUTPUT}) (i32.const 0) (i32.const 1024) (i32.const 6)
           (i32.const {CREATE}) (i64.const {WRITE}) (i64.const 0) (i32.const 0) (i32.const 16)))
         (call $write (i32.load (i32.const 16)) (i32.const 1024) (i32.const 6))"
    );
    assert_eq!(bench.exit(guest("result", &body), GENEROUS).await, Exit::Code(0));
    assert_eq!(fs::read_to_string(bench.output.path().join("result")).unwrap(), "result");

    let unlink = format!("(call $check (call $unlink (i32.const {INPUT}) (i32.const 1024) (i32.const 5)))");
    for module in [
        opening(INPUT, "new", CREATE, WRITE),
        opening(INPUT, "given", 0, WRITE),
        opening(INPUT, "given", 8, READ),
        guest("given", &unlink),
    ] {
        let exit = bench.exit(module, GENEROUS).await;
        assert!(matches!(exit, Exit::Code(error) if error > 0), "{exit:?}");
    }
    assert_eq!(fs::read_to_string(bench.input.path().join("given")).unwrap(), "given");
    assert_eq!(fs::read_dir(bench.input.path()).unwrap().count(), 1);
}

/// Writes 64 KiB to `descriptor` for ever.
fn endless_writes(descriptor: &str) -> String {
    format!("(loop $more (call $write {descriptor} (i32.const 65536) (i32.const 65536)) (br $more))")
}

#[tokio::test]
async fn endless_output_is_cut_counted_and_costs_nothing() {
    let bench = Bench::new();
    let limits = Limits { output_bytes: 100_000, timeout: Duration::from_millis(500), ..GENEROUS };
    let finished = bench.run(guest("", &endless_writes("(i32.const 1)")), limits).await;
    assert!(matches!(failed(&finished.outcome.exit), ExecutionFailure::TimedOut { .. }));
    assert_eq!(finished.stdout.len(), 100_000);
    assert!(finished.outcome.usage.output_dropped_bytes > 1_000_000, "{:?}", finished.outcome);
}

#[tokio::test]
async fn a_reader_that_lags_slows_the_guest() {
    let bench = Bench::new();
    let limits = Limits { output_bytes: u64::MAX, ..GENEROUS };
    let mut execution =
        bench.executor.start(bench.workload(guest("", &endless_writes("(i32.const 2)"))), limits);
    let full = async {
        while execution.output.len() < OUTPUT_QUEUE_CHUNKS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("the queue fills");
    execution.stop.send(()).unwrap();
    assert_eq!(execution.outcome.await.unwrap().exit, Exit::Stopped);
    let mut chunk_count = 0;
    while execution.output.recv().await.is_some() {
        chunk_count += 1;
    }
    assert_eq!(chunk_count, OUTPUT_QUEUE_CHUNKS);
}

#[tokio::test]
async fn a_reader_that_left_neither_kills_nor_hangs_the_guest() {
    let bench = Bench::new();
    let module = guest(
        "x",
        "(loop $more (call $write (i32.const 1) (i32.const 1024) (i32.const 1))
           (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000))))
         (call $proc_exit (i32.const 5))",
    );
    let Execution { output, outcome, stop, .. } = bench.executor.start(bench.workload(module), GENEROUS);
    drop(output);
    let outcome = tokio::time::timeout(PATIENCE, outcome).await.unwrap().unwrap();
    assert_eq!(outcome.exit, Exit::Code(5));
    drop(stop);
}

#[tokio::test]
async fn disk_over_the_grant_ends_the_guest() {
    let bench = Bench::new();
    let granted_bytes = 1 << 20;
    let limits = Limits { disk_bytes: granted_bytes, timeout: Duration::from_secs(20), ..GENEROUS };
    let open = format!(
        "(call $check (call $path_open (i32.const {OUTPUT}) (i32.const 0) (i32.const 1024) (i32.const 3)
           (i32.const {CREATE}) (i64.const {WRITE}) (i64.const 0) (i32.const 0) (i32.const 16)))"
    );
    let endless = endless_writes("(i32.load (i32.const 16))");
    let hide = format!("(call $check (call $unlink (i32.const {OUTPUT}) (i32.const 1024) (i32.const 3)))");
    let sparse = "(call $check (call $set_size (i32.load (i32.const 16)) (i64.const 1099511627776)))";
    for (case, body) in [
        ("endless", format!("{open} {endless}")),
        ("sparse, then ends by itself", format!("{open} {sparse}")),
        ("sparse, then sleeps in a loop", format!("{open} {sparse} (loop (br 0))")),
        ("deleted and open", format!("{open} {hide} {endless}")),
    ] {
        let exit = bench.exit(guest("big", &body), limits).await;
        assert_eq!(failed(&exit), &ExecutionFailure::DiskExceeded { granted_bytes }, "{case}");
        let _ = fs::remove_file(bench.output.path().join("big"));
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let bench = Bench::new();
    let table: [(&[u8], &str); 9] = [
        (b"", "cannot be run"),
        (b"\x7fELF\x02\x01\x01", "cannot be run"),
        (b"\0asm\x01\0\0\0\xff\xff\xff\xff", "cannot be run"),
        (b"(module", "cannot be run"),
        (br#"(module (import "env" "system" (func)) (func (export "_start")))"#, "env::system"),
        (br#"(module (import "wasi_snapshot_preview1" "fork" (func)) (func (export "_start")))"#, "fork"),
        (b"(module)", "_start"),
        (br#"(module (func (export "_start") (param i32)))"#, "_start"),
        (b"(component)", "run"),
    ];
    for (module, expected) in table {
        let exit = bench.exit(module, GENEROUS).await;
        let failure = failed(&exit);
        assert!(matches!(failure, ExecutionFailure::InvalidModule(_)), "{failure:?}");
        let text = failure.to_string();
        assert!(text.contains(expected) && !text.contains('\n') && text.len() < 1000, "{text}");
    }
}

#[tokio::test]
async fn components_run_too() {
    let component = |body: &str| {
        format!(
            r#"(component
                 (core module $m (func (export "run") (result i32) {body}))
                 (core instance $i (instantiate $m))
                 (func $run (result (result)) (canon lift (core func $i "run")))
                 (instance $cli (export "run" (func $run)))
                 (export "wasi:cli/run@0.2.0" (instance $cli)))"#
        )
    };
    let bench = Bench::new();
    assert_eq!(bench.exit(component("(i32.const 0)"), GENEROUS).await, Exit::Code(0));
    assert_eq!(bench.exit(component("(i32.const 1)"), GENEROUS).await, Exit::Code(1));
    let exit = bench.exit(component("unreachable"), GENEROUS).await;
    assert!(matches!(failed(&exit), ExecutionFailure::Trapped(_)), "{exit:?}");
    let limit = Duration::from_millis(300);
    let exit =
        bench.exit(component("(loop (br 0)) unreachable"), Limits { timeout: limit, ..GENEROUS }).await;
    assert_eq!(failed(&exit), &ExecutionFailure::TimedOut { limit });
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_the_hosts_failure() {
    let bench = Bench::new();
    for workload in [
        Workload { output: bench.output.path().join("gone"), ..bench.workload(HELLO) },
        Workload { input: Some(bench.input.path().join("gone")), ..bench.workload(HELLO) },
    ] {
        let finished = finish(bench.executor.start(workload, GENEROUS)).await;
        assert!(
            matches!(failed(&finished.outcome.exit), ExecutionFailure::Host(_)),
            "{:?}",
            finished.outcome
        );
        assert!(finished.stdout.is_empty());
    }
}

#[tokio::test]
async fn eight_guests_share_one_compilation_and_do_not_wait_for_each_other() {
    let bench = Bench::new();
    let outputs: Vec<_> = (0..8).map(|_| tempfile::tempdir().unwrap()).collect();
    let start = |module: &str, output: &TempDir| {
        let workload = Workload { output: output.path().into(), ..bench.workload(module) };
        bench.executor.start(workload, GENEROUS)
    };
    // Eight that never end, all running at the same time: each has spoken before the first is stopped.
    let mut spinning: Vec<_> = outputs.iter().map(|output| start(SPIN, output)).collect();
    for execution in &mut spinning {
        let chunk = tokio::time::timeout(PATIENCE, execution.output.recv()).await.unwrap().unwrap();
        assert_eq!(chunk.bytes, b"spinning\n");
    }
    assert_eq!(bench.executor.compiled_modules(), 1);
    let hello = finish(start(HELLO, &outputs[0])).await;
    assert_eq!(hello.outcome.exit, Exit::Code(0));
    for execution in spinning {
        stop_now(execution).await;
    }
    assert_eq!(bench.executor.compiled_modules(), 2);
    // A module that is invalid is not tried again either.
    for _ in 0..3 {
        bench.run("nonsense", GENEROUS).await;
    }
    assert_eq!(bench.executor.compiled_modules(), 3);
}

#[tokio::test]
async fn a_small_share_slows_a_guest_down() {
    let bench = Bench::new();
    // A few hundred milliseconds of work.
    let module = guest(
        "",
        "(loop $more (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1)))
           (i32.const 400000000))))",
    );
    assert_eq!(bench.exit(&module, GENEROUS).await, Exit::Code(0));
    // With a thousandth of a core it rests ten seconds after its first ten milliseconds.
    let limit = Duration::from_secs(3);
    let exit = bench.exit(module, Limits { cpu_millis: 1, timeout: limit, ..GENEROUS }).await;
    assert_eq!(failed(&exit), &ExecutionFailure::TimedOut { limit });
    // And a rest is no hiding place from a stop.
    stop_promptly(bench.executor.start(bench.workload(SPIN), Limits { cpu_millis: 1, ..GENEROUS })).await;
}

#[tokio::test]
async fn the_ticker_ends_with_the_executor_and_its_last_guest() {
    let bench = Bench::new();
    let mut execution = bench.executor.start(bench.workload(SPIN), GENEROUS);
    execution.output.recv().await.expect("the guest speaks first");
    let WasmExecutor { engine, preparer, ticker, pulse } = bench.executor;
    drop((engine, preparer, pulse));
    // Still ticking, or this stop would wait for ever.
    stop_now(execution).await;
    let ended = async {
        while !ticker.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the ticker ends");
}

#[test]
fn the_ticker_rests_without_guests_and_ends_without_an_executor() {
    let pulse = Arc::new(Pulse::default());
    let owner = PulseOwner(Arc::clone(&pulse));
    let (first, second) = (PulseGuest::enter(&pulse), PulseGuest::enter(&pulse));
    drop(first);
    assert!(pulse.wait_for_guest(), "one is left");
    let waiting = std::thread::spawn({
        let pulse = Arc::clone(&pulse);
        move || pulse.wait_for_guest()
    });
    drop(owner);
    drop(second);
    // Whether it looked before or after, it must not wait for ever: that is what the join shows.
    let _ = waiting.join().unwrap();
    assert!(!pulse.wait_for_guest(), "nobody will come any more");
}

#[test]
fn a_panic_becomes_a_host_failure() {
    let exit = guarded(|| panic!("told\nwhy {}", 1));
    assert_eq!(exit, Exit::Failed(ExecutionFailure::Host("panic in the executor: told why 1".into())));
}

#[test]
fn messages_are_one_bounded_line() {
    for (text, expected) in [("", ""), ("a\n  b\tc", "a b c"), ("\x1b[31mred\0", "[31mred")] {
        assert_eq!(one_line(text), expected);
    }
    let long = one_line(&"é".repeat(10_000));
    assert_eq!(long.chars().count(), MESSAGE_CHARS_MAX + 1);
}

#[tokio::test]
async fn the_word_count_example_counts() {
    let bench = Bench::new();
    fs::write(bench.input.path().join("a.txt"), "The mesh, the node's mesh.\n").unwrap();
    fs::write(bench.input.path().join("b.txt"), "the END").unwrap();
    let workload = Workload { args: vec!["2".into()], ..bench.workload(WORDCOUNT) };
    let finished = finish(bench.executor.start(workload, GENEROUS)).await;
    assert_eq!(finished.outcome.exit, Exit::Code(0), "{}", String::from_utf8_lossy(&finished.stderr));
    assert_eq!(finished.text(), "7 words, 4 different\n       3  the\n       2  mesh\n");
    let counts = fs::read_to_string(bench.output.path().join("counts.txt")).unwrap();
    assert_eq!(counts, "3\tthe\n2\tmesh\n1\tend\n1\tnode's\n");

    let from_stdin = Workload { input: None, stdin: b"b a b".to_vec(), ..bench.workload(WORDCOUNT) };
    let finished = finish(bench.executor.start(from_stdin, GENEROUS)).await;
    assert_eq!(finished.text(), "3 words, 2 different\n       2  b\n       1  a\n");

    let nothing = Workload { input: None, ..bench.workload(WORDCOUNT) };
    let finished = finish(bench.executor.start(nothing, GENEROUS)).await;
    assert_eq!(finished.outcome.exit, Exit::Code(2));
    let wrong = Workload { args: vec!["many".into()], ..bench.workload(WORDCOUNT) };
    assert_eq!(finish(bench.executor.start(wrong, GENEROUS)).await.outcome.exit, Exit::Code(64));
}
