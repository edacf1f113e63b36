//! `dms onboard`: makes this machine a part of the mesh: an identity, and a share of its capacity.

mod countable;
mod gpus;
mod questions;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use dialoguer::{Confirm, Input};
use dms_messages::{Capability, CpuMillis, DiskMib, MemoryMib, PriceList, Resources};
use tokio::signal::unix::{SignalKind, signal};

use self::countable::{Ports, Slots};
use self::gpus::Gpus;
use self::questions::{PRICES, Question, RESOURCES, is_priced};
use super::error::{CliError, INTERRUPTED};
use super::{Session, measure as measured, output, passphrase};
use crate::api::client::{ApiClient, ClientError};
use crate::benchmark::describe;
use crate::config::{Layer, Settings, key_value};
use crate::host::{HostFacts, HostInfo, SystemHost, default_capability};

/// Offer a share of this machine to the mesh
///
/// Makes the node's identity if there is none, looks at the machine, and registers a sensible share of it:
/// 80 % of the processor, 80 % of the memory that is free now, and half of the free disk, unless the flags
/// say otherwise. At a terminal it asks how much to share, with that as the proposal, and shows a summary before
/// anything is changed. Then it measures how fast the machine is, which takes about 16 seconds and is registered with
/// the rest (see `dms capability benchmark`). Run it again to offer more or less: what no flag says then stays as it was
/// registered, but for prices, which are those of config.toml (or of the answers).
#[derive(Debug, Default, clap::Args)]
pub(super) struct Args {
    /// Do not ask; needed where there is no terminal. Prices are then those of config.toml
    #[arg(long, short)]
    yes: bool,
    /// Cores to share (2, 0.5 or 500m)
    #[arg(long, value_name = "CORES")]
    cpu: Option<CpuMillis>,
    /// Memory to share (4GiB)
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<MemoryMib>,
    /// Disk to share (20GiB)
    #[arg(long, value_name = "AMOUNT")]
    disk: Option<DiskMib>,
    /// Ports that jobs may be given, at most 256 (16384-16393, or 8080,9000-9010); `none` takes them back [default: none]
    #[arg(long, value_name = "PORTS")]
    ports: Option<Ports>,
    /// Most programs at the same time, whatever they need; `none` lifts the limit [default: none]
    #[arg(long, value_name = "COUNT")]
    slots: Option<Slots>,
    /// GPUs to offer (all, none, or numbers as 0,1), of those that were found. They are counted for jobs that ask for
    /// them; programs cannot use one yet [default: none]
    #[arg(long, value_name = "GPUS")]
    gpus: Option<Gpus>,
    /// Do not measure how fast the machine is; what is registered of that stays so
    #[arg(long)]
    skip_benchmark: bool,
    /// Where the machine stands, in words that jobs may ask for (eu-west, CH); an empty one takes it back
    #[arg(long, value_name = "PLACE")]
    location: Option<String>,
    /// A label that jobs may ask for; may be repeated. One without a value is taken back
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    session.is_here("onboard")?;
    let is_sure = args.yes;
    if !is_sure && !is_at_terminal() {
        return Err(CliError::usage(
            "nobody is at a terminal to be asked; say --yes to share without being asked",
        ));
    }
    let settings = session.settings(Layer::default())?.settings;
    let host = SystemHost.facts(&session.data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::internal("cannot start", error))?;
    let books = runtime.block_on(async {
        match ApiClient::new(&settings.api).capability().await {
            Ok(books) => Ok(Some(books)),
            Err(ClientError::NotRunning { .. }) => Ok(None),
            Err(error) => Err(CliError::from(error)),
        }
    })?;
    let running_count = books.as_ref().map(|books| books.allocations.len());
    let registered = match books {
        Some(books) => books.registered,
        None => crate::startup::registered_offline(&settings)?,
    };
    let open: Vec<Question> = unanswered(&args);
    let is_measured = !args.skip_benchmark;
    let mut capability = wanted(args, &settings, &host, registered.as_ref())?;
    if !is_sure {
        // From here on Ctrl-C is an answer: without this it would end the process while the terminal is odd.
        let interrupt = runtime.block_on(async { signal(SignalKind::interrupt()) });
        let mut interrupt =
            interrupt.map_err(|error| CliError::internal("cannot listen for signals", error))?;
        capability.prices = registered.map_or(capability.prices, |registered| registered.prices);
        ask(&mut capability, &open, &host, session, settings.prices)?;
        if runtime.block_on(async { futures::FutureExt::now_or_never(interrupt.recv()).flatten() }).is_some()
        {
            return Err(interrupted());
        }
    }
    if is_measured {
        runtime.block_on(measure("onboard", &mut capability, running_count, &settings, session))?;
    }
    let key = passphrase::own_key(session)?;
    let did = key.did();
    let (id, is_running) = runtime.block_on(async {
        let client = ApiClient::new(&settings.api);
        match client.onboard(&capability).await {
            Ok(()) => Ok((client.status().await?.id, true)),
            Err(ClientError::NotRunning { .. }) => {
                let identity = passphrase::open(key, session)?;
                Ok((crate::startup::onboard_offline(&settings, identity, capability.clone()).await?, false))
            }
            Err(error) => Err(CliError::from(error)),
        }
    })?;
    if id.did != did {
        return Err(CliError::failed(format!("the node at {} has another identity", settings.api.display())));
    }
    session.out.document(&output::Onboarded { id, capability }, output::onboarded);
    if !is_running {
        session.out.note(&format!("next: `{}`", session.command("run")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts into the capability how fast the machine is. On a node that runs so many programs nothing is measured: it would
/// take from them, and they from it.
pub(super) async fn measure(
    command: &str,
    capability: &mut Capability,
    running_count: Option<usize>,
    settings: &Settings,
    session: &Session,
) -> Result<(), CliError> {
    let skipped = |error: CliError| error.advised("leave it out with", format!("{command} --skip-benchmark"));
    let benchmark = match running_count {
        Some(count) if count > 0 => {
            session.out.note(&output::not_measured(count));
            return Ok(());
        }
        Some(_) => {
            let client = ApiClient::new(&settings.api);
            measured::at_node(&client, false, session).await.map_err(skipped)?.after
        }
        None => measured::here(settings, session).await.map_err(skipped)?,
    };
    describe(capability, benchmark);
    Ok(())
}

/// What is offered of this machine if nobody says how much: the sensible share, and what the settings say of it.
pub(super) fn sensible_share(settings: &Settings, session: &Session) -> Result<Capability, CliError> {
    wanted(Args::default(), settings, &SystemHost.facts(&session.data)?, None)
}

/// What is to be offered: what was registered before (or else the sensible share), the settings, then the
/// flags.
fn wanted(
    args: Args,
    settings: &Settings,
    host: &HostInfo,
    registered: Option<&Capability>,
) -> Result<Capability, CliError> {
    let mut capability = default_capability(host);
    let (mut location, mut labels) = (None, Default::default());
    if let Some(registered) = registered {
        capability.resources = registered.resources.clone();
        capability.gpus = registered.gpus.clone();
        if let Some(benchmark) = registered.benchmark {
            describe(&mut capability, benchmark);
        }
        (location, labels) = (registered.location.clone(), registered.labels.clone());
    }
    let resources = &mut capability.resources;
    resources.cpu = args.cpu.unwrap_or(resources.cpu);
    resources.memory = args.memory.unwrap_or(resources.memory);
    resources.disk = args.disk.unwrap_or(resources.disk);
    if let Some(Ports(ports)) = args.ports {
        resources.ports = ports;
    }
    if let Some(gpus) = &args.gpus {
        capability.gpus = gpus.chosen(&host.gpus).map_err(CliError::usage)?;
        resources.gpus = capability.gpus.keys().copied().collect();
    }
    if let Some(Slots(slots)) = args.slots {
        resources.slots = capability.executors.iter().filter_map(|kind| Some((*kind, slots?))).collect();
    }
    check_amounts(resources, registered, host)?;
    capability.prices = settings.prices;
    capability.location = args.location.or_else(|| settings.location.clone()).or(location);
    capability.location = capability.location.filter(|location| !location.is_empty());
    capability.labels = labels;
    capability.labels.extend(settings.labels.clone());
    capability.labels.extend(args.labels);
    capability.labels.retain(|_, value| !value.is_empty());
    capability.check().map_err(CliError::usage)?;
    Ok(capability)
}

/// Checks that this machine has so much to offer, and that it is something. What was registered before may stay so:
/// its disk may be full of what jobs have written since.
pub(super) fn check_amounts(
    offered: &Resources,
    registered: Option<&Capability>,
    host: &HostInfo,
) -> Result<(), CliError> {
    if offered.cpu == CpuMillis(0) || offered.memory == MemoryMib(0) {
        let what = if offered.cpu == CpuMillis(0) { "no processor" } else { "no memory" };
        return Err(CliError::usage(format!(
            "{what} is to be offered: no program runs with nothing; share more, or take the offer back with `{}`",
            "dms offboard"
        )));
    }
    let refused = |amount: String, has: String| {
        Err(CliError::usage(format!("{amount} would be offered in all, and this machine has {has}")))
    };
    let cores = CpuMillis(u64::from(host.cpu_info.cores) * 1000);
    if offered.cpu > cores {
        return refused(format!("{} cores", offered.cpu), cores.to_string());
    }
    if offered.memory > host.memory_total {
        return refused(format!("{} of memory", offered.memory), host.memory_total.to_string());
    }
    let before = registered.map_or(DiskMib(0), |capability| capability.resources.disk);
    if offered.disk > host.disk_free.max(before) {
        return refused(format!("{} of disk", offered.disk), format!("{} free", host.disk_free));
    }
    Ok(())
}

/// The questions that no flag has answered.
fn unanswered(args: &Args) -> Vec<Question> {
    let is_open = |question: &Question| match question {
        Question::Cpu => args.cpu.is_none(),
        Question::Memory => args.memory.is_none(),
        Question::Disk => args.disk.is_none(),
        _ => true,
    };
    RESOURCES.into_iter().filter(is_open).collect()
}

/// True if somebody can be asked: questions go to standard error, the result to standard output.
fn is_at_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// Shows what the machine has, asks what of it is shared, shows the sum of it, and asks again.
fn ask(
    capability: &mut Capability,
    open: &[Question],
    host: &HostInfo,
    session: &Session,
    configured: PriceList,
) -> Result<(), CliError> {
    output::say(&output::machine(host, &session.data));
    for question in open {
        put(*question, host, capability)?;
    }
    let is_for_money = is_priced(&capability.prices);
    if confirm("Ask for credits? (no: it is free)", is_for_money)? {
        for question in PRICES {
            put(question, host, capability)?;
        }
    } else {
        capability.prices = PriceList::default();
    }
    output::say(&format!("\n{}", output::offer(capability, host, &session.data)));
    if capability.prices != configured {
        output::say("these prices hold until `dms onboard --yes` takes those of config.toml\n");
    }
    if confirm("Share this?", false)? { Ok(()) } else { Err(CliError::failed("nothing was changed")) }
}

/// Asks until the answer is possible, each time with the reason why not.
fn put(question: Question, host: &HostInfo, capability: &mut Capability) -> Result<(), CliError> {
    let possible = capability.clone();
    let answer: String = Input::new()
        .with_prompt(question.prompt(host))
        .default(question.proposal(capability))
        .validate_with(|text: &String| question.answer(text, host, &mut possible.clone()))
        .interact_text()
        .map_err(unasked)?;
    question.answer(&answer, host, capability).map_err(CliError::usage)
}

fn confirm(prompt: &str, default: bool) -> Result<bool, CliError> {
    Confirm::new().with_prompt(prompt).default(default).interact().map_err(unasked)
}

/// Why there is no answer.
fn unasked(dialoguer::Error::IO(error): dialoguer::Error) -> CliError {
    // The prompt leaves the terminal as it was while it asked: within a line, and without a cursor.
    let _ = dialoguer::console::Term::stderr().show_cursor();
    output::say("");
    match error.kind() {
        io::ErrorKind::Interrupted => interrupted(),
        _ => CliError::caused("cannot ask", error),
    }
}

fn interrupted() -> CliError {
    CliError::Plain { code: INTERRUPTED, message: "interrupted: nothing was changed".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use dms_messages::{Benchmark, CpuInfo, ExecutorKind, Gpu, GpuId};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn wanted_by(words: &[&str]) -> Result<Capability, CliError> {
        wanted_over(None, words)
    }

    fn wanted_over(registered: Option<&Capability>, words: &[&str]) -> Result<Capability, CliError> {
        let host = HostInfo {
            cpu_info: CpuInfo { cores: 4, ..CpuInfo::default() },
            memory_total: MemoryMib(8192),
            memory_available: MemoryMib(4096),
            disk_free: DiskMib(10_240),
            gpus: vec![Gpu { vendor: "amd".to_owned(), model: "x".to_owned(), memory: MemoryMib(8192) }],
        };
        let args = Line::try_parse_from(["x"].iter().chain(words)).unwrap().args;
        let mut settings = Settings::for_data_dir("/data");
        settings.labels.insert("disk".to_owned(), "hdd".to_owned());
        wanted(args, &settings, &host, registered)
    }

    #[test]
    fn what_no_flag_names_stays_as_it_was_registered_and_none_takes_it_back() {
        let before = wanted_by(&["--ports", "80-81", "--slots", "2", "--cpu", "1"]).unwrap();
        let again = wanted_over(Some(&before), &["--memory", "1GiB"]).unwrap().resources;
        assert_eq!(
            (again.cpu, &again.ports, &again.slots),
            (CpuMillis(1000), &before.resources.ports, &before.resources.slots)
        );
        let less = wanted_over(Some(&before), &["--ports", "none", "--slots", "none"]).unwrap().resources;
        assert!(less.ports.is_empty() && less.slots.is_empty());
    }

    #[test]
    fn gpus_are_offered_by_name_alone_and_a_benchmark_stays() {
        let mut before = wanted_by(&["--gpus", "all"]).unwrap();
        assert_eq!(before.resources.gpus, [GpuId(0)].into());
        assert!(wanted_by(&[]).unwrap().gpus.is_empty(), "not by themselves");
        before.benchmark = Some(Benchmark { cpu_single: 123, ..Benchmark::default() });
        let again = wanted_over(Some(&before), &["--cpu", "1"]).unwrap();
        assert_eq!((&again.gpus, again.benchmark), (&before.gpus, before.benchmark));
        assert_eq!(again.cpu_info.score, 123, "the score is of the same measurement");
        let less = wanted_over(Some(&before), &["--gpus", "none"]).unwrap();
        assert!(less.gpus.is_empty() && less.resources.gpus.is_empty());
        assert!(wanted_by(&["--gpus", "1"]).is_err());
    }

    #[test]
    fn flags_win_and_more_than_there_is_cannot_be_offered() {
        let capability = wanted_by(&["--cpu", "4", "--memory", "6GiB", "--label", "disk=ssd"]).unwrap();
        assert_eq!(capability.resources.cpu, CpuMillis(4000));
        assert_eq!(capability.resources.memory, MemoryMib(6144));
        assert_eq!(capability.labels["disk"], "ssd");
        assert_eq!(wanted_by(&["--location", ""]).unwrap().location, None);
        let counted = wanted_by(&["--ports", "80,82-83", "--slots", "3"]).unwrap().resources;
        assert_eq!((counted.ports, counted.slots), ([80, 82, 83].into(), [(ExecutorKind::Wasm, 3)].into()));
        let too_much = [["--cpu", "4.001"], ["--memory", "9GiB"], ["--disk", "11GiB"]];
        for words in too_much.into_iter().chain([["--cpu", "0"], ["--memory", "0MiB"]]) {
            let error = wanted_by(&words).unwrap_err().to_string();
            let what = words[0].trim_start_matches("--").replace("cpu", "cores");
            let is_named = error.contains(&what) || error.contains("no processor");
            assert!(
                is_named && error.contains("is to be offered") != error.contains("this machine has"),
                "{error}"
            );
        }
    }
}
