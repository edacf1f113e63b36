//! `dms capability`: what this machine offers, how much of it is free, locked and in use, and capacity locked by hand.

mod benchmark;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use dms_messages::{CpuMillis, DiskMib, MemoryMib, Millis};

use super::error::CliError;
use super::job::spec;
use super::listing::checked_id;
use super::{Session, onboard, output, small_runtime};
use crate::api::client::ApiClient;
use crate::api::types::NewLock;
use crate::commands::CapabilityView;
use crate::host::{HostFacts, SystemHost};
use crate::interface::Amounts;

pub(super) use self::benchmark::Compared;

/// Show what this machine offers and how much of it is taken
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is registered, free, locked and allocated (the default)
    Show,
    /// List the live locks: capacity that is promised to bids, the next to end first
    Locks,
    /// Lock what a job needs for this node itself: nobody else gets it while the lease lasts
    Lock {
        /// The job file
        #[arg(value_name = "JOB")]
        file: PathBuf,
        /// How long the lock holds, at most 10m
        #[arg(long, value_name = "TIME", default_value = "60s")]
        lease: Millis,
    },
    /// Let a lock of this node's own go
    Unlock {
        /// The lock's bid, or the beginning of its id
        #[arg(value_name = "BID")]
        bid: String,
    },
    /// Say how much is to be free, beside what is locked and allocated now; what no flag says stays as it is
    Free(Free),
    Benchmark(benchmark::Args),
}

#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = true)]
struct Free {
    /// Cores (2, 0.5 or 500m)
    #[arg(long, value_name = "CORES")]
    cpu: Option<CpuMillis>,
    /// Memory (4GiB)
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<MemoryMib>,
    /// Disk (20GiB)
    #[arg(long, value_name = "AMOUNT")]
    disk: Option<DiskMib>,
}

impl Free {
    /// Checks that this machine has so much beside what is promised, and says what is to be free.
    fn checked(self, session: &Session, now: &CapabilityView) -> Result<Amounts, CliError> {
        let free = Amounts { cpu: self.cpu, memory: self.memory, disk: self.disk, ..Amounts::default() };
        let offered = free.clone().over(&now.available);
        let offered = offered.checked_add(&now.locked).and_then(|sum| sum.checked_add(&now.allocated));
        // The node says what is wrong with the rest.
        if let (Some(registered), Some(offered)) = (&now.registered, offered) {
            onboard::check_amounts(&offered, Some(registered), &SystemHost.facts(&session.data)?)?;
        }
        Ok(free)
    }
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let client = session.client()?;
    small_runtime()?.block_on(async {
        match args.command.unwrap_or(Command::Show) {
            Command::Show => show(&client, session).await?,
            Command::Locks => {
                let mut locks = client.capability().await?.locks;
                locks.sort_by_key(|lock| (lock.expires, lock.bid));
                session.out.document(&locks, |locks| output::locks(locks, output::now()));
            }
            Command::Lock { file, lease } => {
                let spec = spec(&file)?;
                let (run_time, max_price) = (spec.run_time(), spec.max_price);
                let requirement = spec.requirement;
                let locked = client.lock(&NewLock { requirement, run_time, max_price, lease }).await?;
                session.out.document(&locked, output::locked);
                let words = format!("alloc start {} {}", output::short_id(&locked.bid), file.display());
                session.out.note(&format!("start the job on it with `{}`", session.command(&words)));
            }
            Command::Unlock { bid } => {
                let lock = client.unlock(checked_id(&bid)?).await?;
                session.out.document(&lock, |lock| format!("{} is free again\n", lock.resources));
            }
            Command::Free(free) => {
                let free = free.checked(session, &client.capability().await?)?;
                client.set_available(&free).await?;
                show(&client, session).await?;
            }
            Command::Benchmark(args) => return benchmark::run(args, &client, session).await,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn show(client: &ApiClient, session: &Session) -> Result<(), CliError> {
    session.out.document(&client.capability().await?, output::capability);
    Ok(())
}
