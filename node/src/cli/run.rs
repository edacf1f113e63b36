//! `dms run`: the node itself, until a signal.

use std::process::ExitCode;
use std::time::Duration;

use dms_messages::{Capability, Did};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use super::error::{CliError, INTERRUPTED};
use super::{Session, output, passphrase};
use crate::api::client::ApiClient;
use crate::config::{Address, ApiPort, EngineKind, Layer, Loaded, LogFormat, Network, Settings, Unheeded};
use crate::identity::Identity;
use crate::swarm_key;

/// How long the node may take to stop after the first signal: its own drain has 10 s, and then it syncs.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What a command says that has started a node and done its own work.
pub(super) const RUNS_ON: &str = "this node runs until it is interrupted; later start it with `dms run`";

/// Run the node until it is stopped
///
/// A node that is onboarded bids for jobs of those it trusts; any node takes jobs from this machine's owner
/// and puts them out to bid. The first SIGINT or SIGTERM lets running work be told and saved, for at most 10
/// seconds; a second one ends at once, which loses nothing that was acknowledged.
#[derive(Debug, clap::Args)]
// Also a part of other commands' arguments.
#[group(skip)]
pub(super) struct Args {
    /// Address to listen on (/ip4/0.0.0.0/tcp/4001); may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<Address>,
    /// Address of a node to dial first; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<Address>,
    /// Let strangers ask this node to run jobs, and ask strangers
    #[arg(long)]
    open: bool,
    /// DID that may ask this node to run jobs, and is asked; may be repeated
    #[arg(long, value_name = "DID")]
    trust: Vec<Did>,
    /// Name of the mesh to join
    #[arg(long, value_name = "NAME")]
    network: Option<Network>,
    /// Keep out whoever has not the mesh's key, which is made if there is none and comes with every invite
    #[arg(long)]
    private: bool,
    /// Serve the API at a port of this machine, too, to whoever has the token (127.0.0.1:7777); it is a file of its
    /// own in the data directory, api.token
    #[arg(long, value_name = "ADDRESS")]
    api_listen: Option<ApiPort>,
    /// Do not look for nodes on the local network
    #[arg(long)]
    no_mdns: bool,
    /// Where the books are kept: rocksdb, or memory, which forgets them at every stop
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineKind>,
    /// Stop as on SIGTERM when standard input ends: a parent that holds the other end of a pipe leaves no
    /// node behind, however it dies
    #[arg(long)]
    stop_on_eof: bool,
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    run_with(args, session, async |_| Ok(None))
}

/// Runs the node, and once it is ready does `then` beside it: that may end it too, by failing or with an exit code.
pub(super) fn run_with(
    args: Args,
    session: &Session,
    then: impl AsyncFnOnce(ApiClient) -> Result<Option<ExitCode>, CliError>,
) -> Result<ExitCode, CliError> {
    session.is_here("run")?;
    let stop_on_eof = args.stop_on_eof;
    let given = |list: Vec<Address>| (!list.is_empty()).then_some(list);
    let flags = Layer {
        listen: given(args.listen),
        bootstrap: given(args.bootstrap),
        open: args.open.then_some(true),
        trust: (!args.trust.is_empty()).then_some(args.trust),
        network: args.network,
        api_listen: args.api_listen,
        mdns: args.no_mdns.then_some(false),
        engine: args.engine,
        ..Layer::default()
    };
    let loaded = session.settings(flags)?;
    start_log(&loaded.settings);
    // A node that only asks needs no onboarding, but every node needs a name.
    let identity = passphrase::open(passphrase::own_key(session)?, session)?;
    if args.private {
        swarm_key::load_or_create(&session.data)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::internal("cannot start", error))?;
    runtime.block_on(serve(loaded, identity, stop_on_eof, session, then))
}

/// Log lines go to standard error; standard output is for the readiness block alone.
fn start_log(settings: &Settings) {
    let filter = EnvFilter::try_new(&settings.log).expect("the settings are checked");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log that nobody reads any more must not take the node down with it.
        .log_internal_errors(false);
    match settings.log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Names the settings that somebody has changed since they were registered: nothing else would.
fn warn_of_unheeded(loaded: &Loaded, registered: Option<&Capability>, session: &Session) {
    for Unheeded { key, setting, registered } in registered.into_iter().flat_map(|it| loaded.unheeded(it)) {
        tracing::warn!(
            key,
            setting,
            registered,
            "a setting is not what is offered: what is registered holds until `{}`",
            session.command("onboard --yes")
        );
    }
}

async fn serve(
    loaded: Loaded,
    identity: Identity,
    stop_on_eof: bool,
    session: &Session,
    then: impl AsyncFnOnce(ApiClient) -> Result<Option<ExitCode>, CliError>,
) -> Result<ExitCode, CliError> {
    let cannot_listen = |error| CliError::internal("cannot listen for signals", error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_listen)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_listen)?;
    let mut input_ended = if stop_on_eof { Some(watch_input()) } else { None };
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, is_ready) = oneshot::channel::<()>();
    let client = ApiClient::new(&loaded.settings.api);
    let out = session.out;
    let node = crate::startup::run(
        loaded.settings.clone(),
        identity,
        async move {
            // Ends when a signal came; a dropped sender means that this task is gone, which is the same.
            let _ = stopped.await;
        },
        move |it| {
            out.ready(&it);
            warn_of_unheeded(&loaded, it.registered.as_ref(), session);
            // Nobody waits any more if a signal came before.
            let _ = ready.send(());
        },
    );
    let mut node = std::pin::pin!(node);
    let then = async move {
        match is_ready.await {
            Ok(()) => then(client).await,
            // The node ends by itself, which says why.
            Err(_) => Ok(None),
        }
    };
    let mut then = std::pin::pin!(then);
    let mut is_done = false;
    let outcome = loop {
        tokio::select! {
            biased;
            ended = &mut node => {
                ended?;
                return Ok(ExitCode::SUCCESS);
            }
            done = &mut then, if !is_done => {
                is_done = true;
                match done {
                    Ok(None) => {}
                    Ok(Some(code)) => break Ok(code),
                    Err(error) => break Err(error),
                }
            }
            _ = interrupt.recv() => break Ok(ExitCode::SUCCESS),
            _ = terminate.recv() => break Ok(ExitCode::SUCCESS),
            // A watcher that is gone watches no more: that too is an end.
            _ = async { input_ended.as_mut().expect("only asked if it is there").await },
                if input_ended.is_some() => break Ok(ExitCode::SUCCESS),
        }
    };
    session.out.note(output::STOPPING);
    // The node may have ended in this very moment; then nobody needs to be told.
    let _ = stop.send(());
    tokio::select! {
        biased;
        ended = &mut node => {
            ended?;
            outcome
        }
        _ = interrupt.recv() => Ok(at_once()),
        _ = terminate.recv() => Ok(at_once()),
        () = tokio::time::sleep(STOP_TIMEOUT) => {
            Err(CliError::failed(format!("the node did not stop within {} s", STOP_TIMEOUT.as_secs())))
        }
    }
}

/// Resolves when standard input ends. On a thread of its own: a read that waits cannot be given up, and the
/// runtime would wait for it at the end.
fn watch_input() -> oneshot::Receiver<()> {
    let (ended, watcher) = oneshot::channel();
    std::thread::spawn(move || {
        // What is written there is nobody's; a broken input is an ended one.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        // Nobody listens any more if the node is stopping already.
        let _ = ended.send(());
    });
    watcher
}

/// Ends the process without waiting for anybody: dropping the runtime would wait for blocking work.
fn at_once() -> ExitCode {
    std::process::exit(i32::from(INTERRUPTED))
}
