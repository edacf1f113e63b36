//! The harness of scenarios over whole nodes: real `dms` processes on loopback, each with its own
//! directory, spoken to through the same command line that people use.
//!
//! Called by the tests beside it. Everything waits for a *state* with a deadline; nothing sleeps and
//! hopes. Whatever a scenario starts is killed when its handle is dropped.

pub mod ear;
pub mod hand_made;
pub mod hostile;
pub mod pair;
pub mod requester;
pub mod sim;
pub mod small_disk;
pub mod sources;
pub mod stage;

use std::fmt;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take: two slow cores that also compile, and then some.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// The setting that has a node bid less while other programs use its machine.
const OWNER_FIRST: &str = "DMS_OWNER_FIRST";
/// Between two looks at a state.
const POLL: Duration = Duration::from_millis(20);

/// The program under test: built beside the tests by the same command.
pub fn dms() -> PathBuf {
    let this = std::env::current_exe().expect("a running program has a path");
    // Programs lie in <target>/<profile>, tests in its `deps`.
    let directory = this.parent().expect("a program lies in a directory");
    let directory = if directory.ends_with("deps") { directory.join("..") } else { directory.to_path_buf() };
    let program = directory.join(format!("dms{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is missing: build the workspace first (make build)", program.display());
    program
}

/// A file of the examples.
pub fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above");
    root.join("examples").join(name).display().to_string()
}

/// Looks until `state` is there; panics with `what` and the last look when it is not in time.
#[track_caller]
pub fn wait_for<T, E: fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(state) => return state,
            Err(last) if start.elapsed() > DEADLINE => panic!("{what} did not come; last: {last:?}"),
            Err(_) => pause(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a state; no test relies on its length"
)]
fn pause() {
    std::thread::sleep(POLL);
}

/// A port of loopback that nobody has now and that nobody is given who asks for any: a node that is started again finds
/// it free, and others find the node.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).expect("it is small");
    // Held for no longer than the question; the next caller asks for the next one.
    (0..1_000)
        .map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("not every port is taken")
}

/// A directory for one node, with a short path: sockets have room for 107 bytes.
#[derive(Debug)]
pub struct Home(tempfile::TempDir);

impl Home {
    /// A new, empty one.
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("dms").tempdir_in("/tmp").expect("a directory can be made"))
    }

    /// Where.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where, as an argument.
    pub fn text(&self) -> &str {
        self.path().to_str().expect("temporary paths are plain")
    }

    /// Runs a command on this directory to its end.
    pub fn dms(&self, arguments: &[&str]) -> Run {
        Run::of(Command::new(dms()).arg("--data").arg(self.path()).args(arguments))
    }

    /// Runs a command with `--json` that must succeed, and reads what it prints.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let run = self.dms(&[arguments, &["--json"]].concat());
        assert!(run.status.success(), "dms {arguments:?}: {run}");
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("dms {arguments:?}: {error}: {run}"))
    }

    /// The DID of the node that lives here, which need not run.
    #[track_caller]
    pub fn did(&self) -> String {
        let shown = self.json(&["id", "show"]);
        shown["did"].as_str().unwrap_or_else(|| panic!("no DID in {shown}")).to_owned()
    }

    /// Registers a machine of this size, whatever it runs on, and however fast that is.
    #[track_caller]
    pub fn onboard(&self, cpu: &str, memory: &str) -> &Self {
        let size = ["--cpu", cpu, "--memory", memory, "--disk", "1GiB"];
        let run = self.dms(&[&["onboard", "--yes", "--skip-benchmark"], &size[..]].concat());
        assert!(run.status.success(), "{run}");
        self
    }

    /// Starts a node on this directory, listening on loopback.
    #[track_caller]
    pub fn start(&self, arguments: &[&str]) -> Node<'_> {
        self.start_under(&[], &[&["--listen", "/ip4/127.0.0.1/tcp/0"], arguments].concat())
    }

    /// Starts a node on this directory that listens where `arguments`, or else its defaults, say. `wrapper` is a
    /// command that makes the node's surroundings and then becomes the command that follows it; it may be empty.
    #[track_caller]
    pub fn start_under(&self, wrapper: &[&str], arguments: &[&str]) -> Node<'_> {
        Node::start(self, self.run_command(wrapper, arguments))
    }

    /// Runs a node on this directory that must end by itself, in time.
    #[track_caller]
    pub fn run_in_vain(&self, arguments: &[&str]) -> Run {
        self.run_in_vain_under(&[], arguments)
    }

    /// The same in surroundings of its own; see [`Home::start_under`].
    #[track_caller]
    pub fn run_in_vain_under(&self, wrapper: &[&str], arguments: &[&str]) -> Run {
        let mut command = self.run_command(wrapper, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Killed(command.spawn().expect("the program can be run"));
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = wait_for("the end of a node that cannot start", || match process.0.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(other),
        });
        // Its few words fit into the pipes.
        let _ = process.0.stdout.take().expect("it is piped").read_to_end(&mut stdout);
        let _ = process.0.stderr.take().expect("it is piped").read_to_end(&mut stderr);
        Run::from(Output { status, stdout, stderr })
    }

    fn run_command(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut command = match wrapper {
            [] => Command::new(dms()),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg(dms());
                command
            }
        };
        command.arg("--data").arg(self.path()).args(["run", "--json"]).args(arguments);
        // What else this machine does, other nodes of the test among it, is no owner's work.
        if std::env::var_os(OWNER_FIRST).is_none() {
            command.env(OWNER_FIRST, "false");
        }
        command
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Run {
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status, stdout: text(stdout), stderr: text(stderr) }
    }
}

impl Run {
    fn of(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).output().expect("the program can be run").into()
    }

    /// The exit code.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr)
    }
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says that a scenario was left out, and why: to whoever watches, and to the log that `make test` repeats.
pub fn skip(what: &str) {
    println!("skipped: {what}");
    append_to_log("DMS_SKIP_LOG", what);
}

/// Adds a line to the file that an environment variable names, if it names one.
fn append_to_log(variable: &str, line: &str) {
    let Some(log) = std::env::var_os(variable) else { return };
    let opened = OpenOptions::new().create(true).append(true).open(log);
    // In one write, so that lines of several test programs do not mix.
    let written = opened.and_then(|mut log| log.write_all(format!("{line}\n").as_bytes()));
    written.unwrap_or_else(|error| panic!("the log named by {variable} cannot be written: {error}"));
}

/// Whether the suites run at full size: `make soak`.
pub fn is_soak() -> bool {
    std::env::var_os("DMS_SOAK").is_some_and(|value| !value.is_empty() && value != "0")
}

/// How much of something a suite does: a little in `make test`, all of it in `make soak`.
pub fn size(small: usize, full: usize) -> usize {
    if is_soak() { full } else { small }
}

/// Says with its counts what a suite has shown: to whoever watches, and to the log that `make test` and `make soak`
/// print at their end.
pub fn proof(what: &str) {
    println!("proof: {what}");
    append_to_log("DMS_PROOF_LOG", what);
}

/// A node that runs; killed when dropped.
#[derive(Debug)]
pub struct Node<'h> {
    home: &'h Home,
    process: Child,
    /// What it said when it was ready.
    pub ready: Value,
    log: Option<JoinHandle<String>>,
}

impl<'h> Node<'h> {
    #[track_caller]
    fn start(home: &'h Home, mut command: Command) -> Self {
        let mut process = command
            .env("DMS_LOG", std::env::var("DMS_TEST_LOG").unwrap_or_else(|_| "info".into()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let stdout = process.stdout.take().expect("it is piped");
        let mut stderr = process.stderr.take().expect("it is piped");
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            // Half a log is better than none.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let (line_tx, line_rx) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = line_tx.send(line);
        });
        let line = line_rx.recv_timeout(DEADLINE).unwrap_or_default();
        match serde_json::from_str(&line) {
            Ok(ready) => Self { home, process, ready, log: Some(log) },
            Err(_) => {
                let _ = process.kill();
                let status = process.wait();
                panic!("the node did not start: {status:?} {line:?}\n{}", log.join().unwrap_or_default());
            }
        }
    }

    /// Its DID.
    pub fn did(&self) -> String {
        self.ready["id"]["did"].as_str().unwrap_or_else(|| panic!("no DID in {}", self.ready)).to_owned()
    }

    /// Where it can be dialled.
    pub fn address(&self) -> String {
        self.ready["addresses"][0]
            .as_str()
            .unwrap_or_else(|| panic!("no address in {}", self.ready))
            .to_owned()
    }

    /// Waits until it has this many peers that offer capacity.
    #[track_caller]
    pub fn wait_for_providers(&self, count: usize) -> &Self {
        wait_for("providers", || {
            let status = self.home.json(&["status"]);
            let peers = status["peers"].as_array().cloned().unwrap_or_default();
            let providers = peers.iter().filter(|peer| peer["is_provider"] == true).count();
            if providers >= count { Ok(()) } else { Err(status) }
        });
        self
    }

    /// Waits until a job is in one of these phases; gives its view.
    #[track_caller]
    pub fn wait_for_job(&self, job: &str, phases: &[&str]) -> Value {
        wait_for(&format!("{phases:?} of job {job}"), || {
            let view = self.home.json(&["job", "show", job]);
            if phases.iter().any(|phase| view["phase"] == *phase) { Ok(view) } else { Err(view) }
        })
    }

    /// Waits until nothing is locked or allocated, and checks that all that is registered is available.
    #[track_caller]
    pub fn wait_until_all_is_free(&self) {
        wait_for("all capacity to be free", || {
            let books = self.home.json(&["capability"]);
            let is_free = books["registered"]["resources"] == books["available"]
                && books["locks"] == serde_json::json!([])
                && books["allocations"] == serde_json::json!([]);
            if is_free { Ok(()) } else { Err(books) }
        });
    }

    /// Its process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal by name (`KILL`, `TERM`, `STOP`).
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "the node is not there to be signalled");
    }

    /// Kills it without warning, and returns what it logged.
    pub fn kill(mut self) -> String {
        self.end()
    }

    /// Asks it to stop and waits for its end.
    #[track_caller]
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = wait_for("the end of the node", || match self.process.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(other),
        });
        (status, self.end())
    }

    fn end(&mut self) -> String {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.log.take().and_then(|log| log.join().ok()).unwrap_or_default()
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        let log = self.end();
        if std::thread::panicking() && !log.is_empty() {
            eprintln!("--- log of {}\n{log}", self.home.path().display());
        }
    }
}

/// Two homes and their nodes: a provider, and a requester that knows it.
#[track_caller]
pub fn pair<'h>(provider: &'h Home, requester: &'h Home) -> (Node<'h>, Node<'h>) {
    let provider = provider.onboard("2", "1GiB").start(&["--open"]);
    let requester = requester.start(&["--open", "--bootstrap", &provider.address()]);
    requester.wait_for_providers(1);
    (provider, requester)
}
