//! The demo: a real mesh does real work before one's eyes. `make demo` builds and runs it.
//!
//! One requester and three providers are started as `dms` processes of their own, on loopback, with fresh
//! identities in a fresh directory. One picture is cut into tiles; every tile is a job that is put out to bid
//! and run by whoever won it. The tiles are put together, the whole picture is made once more on this machine
//! alone (`dms job run --local`), and the two files have to be the same, byte for byte.
//!
//! | file | does |
//! |---|---|
//! | `plan` | what is rendered, by whom, at which price |
//! | `home` | the directory of a run, and the caretaker that removes it whatever happens |
//! | `process` | one child process: started, waited for, ended |
//! | `mesh` | the four nodes: onboarded, started, joined, stopped |
//! | `tiles` | hands the tiles in, watches them, brings them home; kills a provider if asked to |
//! | `alone` | the same picture without a mesh |
//! | `picture` | pixels in, PNG out |
//! | `progress` | what is seen while it runs |
//! | `report` | the table at the end |

mod alone;
mod home;
mod mesh;
mod picture;
mod plan;
mod process;
mod progress;
mod report;
mod tiles;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::home::Home;
use self::mesh::Mesh;
use self::plan::{Grid, Plan, Size};
use self::progress::Progress;

/// How long the nodes may take to stop by themselves; with nothing left to do they need far less.
const STOP_TIME: Duration = Duration::from_secs(5);

/// What was asked for cannot be done; clap's own code.
const WRONG_USAGE: u8 = 2;

/// What every `--help` ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0    every tile was rendered, and the picture is the one that this machine makes alone
  1    failed; the last lines of each node's log are printed
  2    wrong usage
  130  interrupted (Ctrl-C, SIGTERM or SIGHUP); everything is stopped and removed, a second time at once";

/// Renders a picture on a mesh of four nodes on this machine, and proves that it is right
#[derive(Debug, Parser)]
#[command(name = "demo", after_help = EXIT_CODES, max_term_width = 100)]
struct Args {
    /// Kill one provider half-way, while it runs a tile
    #[arg(long)]
    kill: bool,
    /// Keep the nodes' directories and logs, and say where they are
    #[arg(long)]
    keep: bool,
    /// Size of the picture in pixels
    #[arg(long, value_name = "WxH", default_value = "720x480")]
    size: Size,
    /// Rays per pixel
    #[arg(long, default_value_t = 36, value_parser = clap::value_parser!(u32).range(1..=4096))]
    samples: u32,
    /// Columns and rows of tiles; each tile is a job
    #[arg(long, value_name = "CxR", default_value = "6x4")]
    grid: Grid,
    /// Where the picture goes [default: demo/picture.png in the target directory]
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// The dms program [default: the one built beside this one]
    #[arg(long, value_name = "FILE")]
    dms: Option<PathBuf>,
    /// Outlives the demo and removes this directory.
    #[arg(long, hide = true, value_name = "DIR")]
    caretaker: Option<PathBuf>,
}

/// What a run needs to know.
struct Setup {
    plan: Plan,
    dms: PathBuf,
    picture: PathBuf,
    is_killing: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(directory) = &args.caretaker {
        home::take_care(directory);
        return ExitCode::SUCCESS;
    }
    match demo(args).await {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: Args) -> anyhow::Result<ExitCode> {
    // First of all: from here on, nothing that ends this program leaves anything behind.
    let mut signals = Signals::listen()?;
    let plan = match Plan::new(args.size, args.samples, args.grid).and_then(|plan| checked(plan, &args)) {
        Ok(plan) => plan,
        Err(problem) => {
            say(&format!("error: {problem}"));
            return Ok(ExitCode::from(WRONG_USAGE));
        }
    };
    let setup = setup(plan, &args)?;
    let home = Home::make(args.keep).context("cannot make a directory for the nodes")?;
    let mut mesh = Mesh::new(&home, &setup.dms);
    let progress = Progress::new(&setup.plan);
    let outcome = tokio::select! {
        biased;
        name = signals.next() => Err(name),
        outcome = run(&setup, &home, &mut mesh, &progress) => Ok(outcome),
    };
    progress.end();
    let code = match outcome {
        Ok(Ok(report)) => {
            print(&report);
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            print(&mesh.log_tails());
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
        Err(signal) => {
            say(&format!("{signal}: stopping the nodes (once more to end them at once)"));
            ExitCode::from(130)
        }
    };
    tokio::select! {
        biased;
        _ = signals.next() => mesh.kill(),
        () = mesh.stop(STOP_TIME) => {}
    }
    drop(mesh);
    if args.keep {
        print(&format!("kept: {}\n", home.path().display()));
    }
    drop(home);
    Ok(code)
}

/// The plan, if the picture that was asked for by name can be written in the end: rendering it takes a while.
fn checked(plan: Plan, args: &Args) -> Result<Plan, String> {
    let Some(path) = &args.picture else { return Ok(plan) };
    let wrong = |problem: &str| Err(format!("--picture {}: {problem}", path.display()));
    if path.is_dir() {
        return wrong("it is a directory; name a file");
    }
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) if !parent.is_dir() => wrong("its directory is not there"),
        _ => Ok(plan),
    }
}

fn setup(plan: Plan, args: &Args) -> anyhow::Result<Setup> {
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    // <target>/<profile>/examples/demo
    let profile = own.parent().and_then(Path::parent).context("this program lies in no target directory")?;
    let dms = args.dms.clone().unwrap_or_else(|| profile.join("dms"));
    anyhow::ensure!(dms.is_file(), "{} is missing: build the workspace first (make build)", dms.display());
    let target = profile.parent().unwrap_or(profile);
    let picture = args.picture.clone().unwrap_or_else(|| target.join("demo/picture.png"));
    Ok(Setup { plan, dms, picture: std::path::absolute(picture)?, is_killing: args.kill })
}

/// The demo itself; gives what is printed at the end.
async fn run(setup: &Setup, home: &Home, mesh: &mut Mesh<'_>, progress: &Progress) -> anyhow::Result<String> {
    let plan = &setup.plan;
    mesh.start(progress).await?;
    let rendered = tiles::render(plan, mesh, progress, setup.is_killing).await?;
    let (alone, alone_time) = alone::render(plan, home, &setup.dms, progress).await?;
    let png = rendered.picture.png()?;
    anyhow::ensure!(
        png == alone.png()?,
        "the picture from the mesh is not the one that this machine makes alone"
    );
    picture::save(&setup.picture, &png)
        .with_context(|| format!("cannot write {}", setup.picture.display()))?;
    Ok(report::whole(&report::Facts {
        nodes: &mesh.facts(),
        tiles: &rendered.tiles,
        mesh_time: rendered.time,
        alone_time,
        killed: rendered.killed.as_ref(),
        picture: &setup.picture,
        bytes: png.len(),
    }))
}

/// The signals by which people and systems end a program.
struct Signals([(Signal, &'static str); 3]);

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let on = |kind, name| -> anyhow::Result<_> { Ok((signal(kind)?, name)) };
        Ok(Self([
            on(SignalKind::interrupt(), "interrupted")?,
            on(SignalKind::terminate(), "terminated")?,
            on(SignalKind::hangup(), "hung up")?,
        ]))
    }

    /// Which one came.
    async fn next(&mut self) -> &'static str {
        let [(interrupt, interrupted), (terminate, terminated), (hangup, hung_up)] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => interrupted,
            _ = terminate.recv() => terminated,
            _ = hangup.recv() => hung_up,
        }
    }
}

/// Prints; nobody may be reading any more, and then there is nobody to tell.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Says something beside the result.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
