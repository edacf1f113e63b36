//! Settings: what a person may set, where each value came from, and the check in between.
//!
//! The form on disk (`config.toml` in the data directory) and the checked form ([`Settings`]) are two
//! types. Sources, weakest first: defaults, file, environment (`DMS_*`), flags. [`crate::cli`] loads,
//! [`crate::startup`] uses. An unknown key or a value out of range is refused with its place, never
//! replaced by a default.

mod mesh;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dms_messages::{Capability, CpuMillis, Did, DiskMib, MemoryMib, Millis, PriceList};
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::address::is_url;
use crate::benchmark::FIGURE_TIME;

pub use self::mesh::{MeshError, remember_mesh};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "config.toml";
/// Largest file that is read: far more than every key with every list full.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Longest network name: it is a part of every gossip topic.
const MAX_NETWORK_LENGTH: usize = 32;
/// Most output that is kept of one stream: a stream is one blob, and blobs have this limit.
const MAX_OUTPUT: MemoryMib = MemoryMib(16);
/// Shortest and longest lease of a lock: below, no invocation arrives in time; above, a vanished requester
/// blocks the machine.
const LEASE_RANGE: (Millis, Millis) = (Millis(500), Millis(300_000));
/// Shortest and longest time after which an orphaned allocation is stopped.
/// How long history is kept: an hour, so that nothing is forgotten while people still look at it, to ten years.
const HISTORY_RANGE: (Millis, Millis) = (Millis(3_600_000), Millis(3650 * DAY));
/// Milliseconds of a day.
const DAY: u64 = 24 * 3_600_000;
const ORPHAN_RANGE: (Millis, Millis) = (Millis(1000), Millis(24 * 3_600_000));
/// Shortest and longest auction.
const AUCTION_RANGE: (Millis, Millis) = (Millis(50), Millis(60_000));
/// Shortest and longest time between two samples: below, it costs more than it says; above, nobody is served by it.
const MONITOR_RANGE: (Millis, Millis) = (Millis(1000), Millis(60_000));
/// Shortest and longest time for which one figure of the benchmark is measured.
const BENCHMARK_RANGE: (Millis, Millis) = (Millis(1), Millis(60_000));
/// Most entries of any list.
const MAX_ITEMS: usize = 64;

/// A key that can be set: its names, its default, and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The name in the file.
    pub name: &'static str,
    /// The environment variable, if there is one.
    pub variable: Option<&'static str>,
    /// What it means, with its unit and range.
    pub doc: &'static str,
}

/// Every key, in the order in which `dms config show` prints them.
pub const KEYS: &[Key] = &[
    Key {
        name: "network",
        variable: Some("DMS_NETWORK"),
        doc: "Name of the mesh to join: 1 to 32 lower-case letters, digits or dashes.",
    },
    Key {
        name: "listen",
        variable: Some("DMS_LISTEN"),
        doc: "Multiaddrs to listen on; port 0 lets the system choose. Separated by commas in the environment.",
    },
    Key {
        name: "bootstrap",
        variable: Some("DMS_BOOTSTRAP"),
        doc: "Multiaddrs of nodes to dial first. Separated by commas in the environment.",
    },
    Key {
        name: "mdns",
        variable: Some("DMS_MDNS"),
        doc: "Whether nodes on the local network are looked for. It only finds: who is found is a stranger as any other.",
    },
    Key { name: "api", variable: Some("DMS_API"), doc: "Path of the API's Unix socket, at most 107 bytes." },
    Key {
        name: "api_listen",
        variable: Some("DMS_API_LISTEN"),
        doc: "Address of this machine alone, with a port (127.0.0.1:7777; 0 lets the system choose), where the API is served beside its socket, to whoever has the token in api.token. Nothing is served there by default.",
    },
    Key { name: "open", variable: Some("DMS_OPEN"), doc: "Whether strangers may ask this node to run jobs." },
    Key {
        name: "trust",
        variable: Some("DMS_TRUST"),
        doc: "DIDs that may ask this node to run jobs. Separated by commas in the environment.",
    },
    Key {
        name: "lease",
        variable: Some("DMS_LEASE"),
        doc: "How long the lock behind a bid holds: 500ms to 5m.",
    },
    Key {
        name: "orphan_after",
        variable: Some("DMS_ORPHAN_AFTER"),
        doc: "How long an allocation goes on without a word from its requester: 1s to 24h.",
    },
    Key {
        name: "auction",
        variable: Some("DMS_AUCTION"),
        doc: "How long bids are collected for a job: 50ms to 60s.",
    },
    Key {
        name: "max_output",
        variable: Some("DMS_MAX_OUTPUT"),
        doc: "How much of standard output and of standard error is kept of a job, each: 1MiB to 16MiB.",
    },
    Key {
        name: "blobs_max_mib",
        variable: Some("DMS_BLOBS_MAX_MIB"),
        doc: "How much disk modules, inputs and outputs may take, in MiB: at least 64.",
    },
    Key {
        name: "keep_history",
        variable: Some("DMS_KEEP_HISTORY"),
        doc: "How long jobs, allocations and contracts that are over are kept, counted from when they began: 1h to 3650d.",
    },
    Key {
        name: "monitor_period",
        variable: Some("DMS_MONITOR_PERIOD"),
        doc: "How often the machine and what runs on it are measured: 1s to 60s.",
    },
    Key {
        name: "owner_first",
        variable: Some("DMS_OWNER_FIRST"),
        doc: "Whether fewer bids are made, or none, while other programs of this machine use what is offered. What runs goes on.",
    },
    Key {
        name: "owner_reserve_cpu",
        variable: Some("DMS_OWNER_RESERVE_CPU"),
        doc: "Cores that bids leave free for the machine's owner, whatever is registered: 0.5.",
    },
    Key {
        name: "owner_reserve_memory",
        variable: Some("DMS_OWNER_RESERVE_MEMORY"),
        doc: "Memory that bids leave free for the machine's owner, whatever is registered: 512MiB.",
    },
    Key {
        name: "owner_reserve_disk",
        variable: Some("DMS_OWNER_RESERVE_DISK"),
        doc: "Disk that bids leave free for the machine's owner where the data directory is: 10GiB.",
    },
    Key {
        name: "engine",
        variable: Some("DMS_ENGINE"),
        doc: "Where the books are kept: rocksdb, or memory, which forgets them at every stop: for trials and measurements.",
    },
    Key {
        name: "benchmark_time",
        variable: Some("DMS_BENCHMARK_TIME"),
        doc: "How long each of the six figures of the benchmark is measured: 1ms to 60s. Below the default they are less the same from one time to the next.",
    },
    Key {
        name: "prices",
        variable: None,
        doc: "Table of prices in credits per hour: core_hour, memory_gib_hour, disk_gib_hour, gpu_hour, minimum. Registered by `dms onboard`: a change holds from the next one on.",
    },
    Key {
        name: "labels",
        variable: Some("DMS_LABELS"),
        doc: "Table of free labels that jobs may ask for. In the environment: key=value, separated by commas. Registered by `dms onboard`: a change holds from the next one on.",
    },
    Key {
        name: "location",
        variable: Some("DMS_LOCATION"),
        doc: "Where the machine stands, in words that jobs may ask for (eu-west, CH). Registered by `dms onboard`: a change holds from the next one on.",
    },
    Key {
        name: "log",
        variable: Some("DMS_LOG"),
        doc: "What is logged: a level (error, warn, info, debug, trace) or a list of target=level.",
    },
    Key { name: "log_format", variable: Some("DMS_LOG_FORMAT"), doc: "How log lines look: text or json." },
];

/// Why settings cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file breaks a rule.
    #[error("{}:{line}:{column}: {}{problem}", path.display(), prefix(key))]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// The key, if the place belongs to one (`prices.core_hour`).
        key: String,
        /// Which rule.
        problem: String,
    },
    /// An environment variable breaks a rule.
    #[error("environment variable {variable}: {problem}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// Which rule.
        problem: String,
    },
}

/// A key as the beginning of a sentence.
fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The file.
    File,
    /// The environment.
    Environment,
    /// A flag.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Where the books are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// In the data directory, synced.
    #[default]
    Rocksdb,
    /// In memory: a restart knows nothing of jobs, allocations or what was onboarded. For trials and
    /// measurements.
    Memory,
}

/// The checked settings of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The directory that holds the key, the books and the blobs.
    pub data: PathBuf,
    /// The mesh. Default `main`.
    pub network: String,
    /// Multiaddrs to listen on. Default QUIC and TCP on every interface, each on any free port.
    pub listen: Vec<String>,
    /// Multiaddrs to dial first. Default none.
    pub bootstrap: Vec<String>,
    /// True if nodes on the local network are looked for. Default true.
    pub mdns: bool,
    /// The API's socket. Default `api.sock` in the data directory.
    pub api: PathBuf,
    /// Where the API is served over TCP. Default nowhere.
    pub api_listen: Option<SocketAddr>,
    /// True if strangers may ask. Default false.
    pub open: bool,
    /// Who may ask. Default nobody but this node itself.
    pub trust: Vec<Did>,
    /// How long the lock behind a bid holds. Default 10 s.
    pub lease: Millis,
    /// How long an allocation goes on without its requester. Default 60 s.
    pub orphan_after: Millis,
    /// How long bids are collected. Default 2 s.
    pub auction: Millis,
    /// Bytes kept of each output stream. Default 1 MiB.
    pub max_output: u64,
    /// Disk for blobs, in MiB. Default 4096.
    pub blobs_max_mib: u64,
    /// How long what is over is kept. Default 30 days.
    pub keep_history: Millis,
    /// How often the machine is measured. Default 5 s.
    pub monitor_period: Millis,
    /// True if bids shrink while the machine's owner uses it. Default true.
    pub owner_first: bool,
    /// Processor that bids leave free for the owner, whatever is registered. Default none.
    pub owner_reserve_cpu: CpuMillis,
    /// Memory that bids leave free for the owner, whatever is registered. Default none.
    pub owner_reserve_memory: MemoryMib,
    /// Disk that bids leave free for the owner, whatever is registered. Default none.
    pub owner_reserve_disk: DiskMib,
    /// Where the books are kept. Default RocksDB.
    pub engine: EngineKind,
    /// How long each figure of the benchmark is measured. Default 2 s.
    pub benchmark_time: Millis,
    /// Prices of what is offered. Default free.
    pub prices: PriceList,
    /// Labels of what is offered. Default none.
    pub labels: BTreeMap<String, String>,
    /// Where the machine stands. Default unsaid.
    pub location: Option<String>,
    /// What is logged. Default `info,libp2p_swarm=warn`.
    pub log: String,
    /// How log lines look. Default text.
    pub log_format: LogFormat,
}

impl Settings {
    /// The defaults: a node on one laptop, with everything under `data`.
    pub fn for_data_dir(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self {
            network: "main".to_owned(),
            listen: vec!["/ip4/0.0.0.0/udp/0/quic-v1".to_owned(), "/ip4/0.0.0.0/tcp/0".to_owned()],
            bootstrap: Vec::new(),
            mdns: true,
            api: data.join("api.sock"),
            api_listen: None,
            open: false,
            trust: Vec::new(),
            lease: Millis(10_000),
            orphan_after: Millis(60_000),
            auction: Millis(2000),
            max_output: 1024 * 1024,
            blobs_max_mib: 4096,
            keep_history: Millis(30 * DAY),
            monitor_period: Millis(5000),
            owner_first: true,
            owner_reserve_cpu: CpuMillis(0),
            owner_reserve_memory: MemoryMib(0),
            owner_reserve_disk: DiskMib(0),
            engine: EngineKind::Rocksdb,
            benchmark_time: Millis::from(FIGURE_TIME),
            prices: PriceList::default(),
            labels: BTreeMap::new(),
            location: None,
            log: "info,libp2p_swarm=warn".to_owned(),
            log_format: LogFormat::Text,
            data,
        }
    }
}

/// Settings together with where each came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Where each key's value came from, by its name in [`KEYS`].
    pub sources: BTreeMap<&'static str, Source>,
}

/// A setting that is registered by `dms onboard`, and was changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheeded {
    /// The key's name.
    pub key: &'static str,
    /// What the settings say.
    pub setting: String,
    /// What is registered, and holds.
    pub registered: String,
}

impl Loaded {
    /// What somebody has set and what is registered otherwise: it takes effect with the next `dms onboard` alone.
    pub fn unheeded(&self, registered: &Capability) -> Vec<Unheeded> {
        let settings = &self.settings;
        let prices = |prices: &PriceList| {
            format!(
                "core_hour {}, memory_gib_hour {}, disk_gib_hour {}, gpu_hour {}, minimum {}",
                prices.core_hour,
                prices.memory_gib_hour,
                prices.disk_gib_hour,
                prices.gpu_hour,
                prices.minimum
            )
        };
        let labels = |labels: &BTreeMap<String, String>| {
            let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            if pairs.is_empty() { "none".to_owned() } else { pairs.join(", ") }
        };
        let is_set = |key: &str| self.sources.get(key).is_some_and(|source| *source != Source::Default);
        let mut unheeded = Vec::new();
        let mut compare = |key: &'static str, is_same: bool, setting: String, registered: String| {
            if is_set(key) && !is_same {
                unheeded.push(Unheeded { key, setting, registered });
            }
        };
        compare(
            "prices",
            settings.prices == registered.prices,
            prices(&settings.prices),
            prices(&registered.prices),
        );
        // Flags of `dms onboard` may have added more.
        let has_all = settings.labels.iter().all(|(key, value)| registered.labels.get(key) == Some(value));
        compare("labels", has_all, labels(&settings.labels), labels(&registered.labels));
        let location = |location: &Option<String>| location.clone().unwrap_or_else(|| "none".to_owned());
        compare(
            "location",
            settings.location == registered.location,
            location(&settings.location),
            location(&registered.location),
        );
        unheeded
    }

    /// Every key with its value in the form of the file, and where that came from.
    pub fn entries(&self) -> Vec<(&'static Key, Option<toml::Value>, Source)> {
        KEYS.iter()
            .map(|key| {
                let source = self.sources.get(key.name).copied().unwrap_or(Source::Default);
                (key, self.settings.value(key.name), source)
            })
            .collect()
    }
}

impl Settings {
    /// The value of a key in the form of the file; none if it is not set.
    fn value(&self, key: &str) -> Option<toml::Value> {
        let list = |items: &[String]| toml::Value::from(items.to_vec());
        let integer = |number: u64| toml::Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let compact = |amount: String| toml::Value::from(amount.replace(' ', ""));
        Some(match key {
            "network" => self.network.clone().into(),
            "listen" => list(&self.listen),
            "bootstrap" => list(&self.bootstrap),
            "mdns" => self.mdns.into(),
            "api" => self.api.display().to_string().into(),
            "api_listen" => self.api_listen?.to_string().into(),
            "open" => self.open.into(),
            "trust" => list(&self.trust.iter().map(Did::to_string).collect::<Vec<_>>()),
            "lease" => compact(self.lease.to_string()),
            "orphan_after" => compact(self.orphan_after.to_string()),
            "auction" => compact(self.auction.to_string()),
            "max_output" => compact(MemoryMib(self.max_output >> 20).to_string()),
            "blobs_max_mib" => integer(self.blobs_max_mib),
            "keep_history" if self.keep_history.0.is_multiple_of(DAY) => {
                format!("{}d", self.keep_history.0 / DAY).into()
            }
            "keep_history" => compact(self.keep_history.to_string()),
            "monitor_period" => compact(self.monitor_period.to_string()),
            "owner_first" => self.owner_first.into(),
            "owner_reserve_cpu" => self.owner_reserve_cpu.to_string().into(),
            "owner_reserve_memory" => compact(self.owner_reserve_memory.to_string()),
            "owner_reserve_disk" => compact(self.owner_reserve_disk.to_string()),
            "engine" => match self.engine {
                EngineKind::Rocksdb => "rocksdb".into(),
                EngineKind::Memory => "memory".into(),
            },
            "benchmark_time" => compact(self.benchmark_time.to_string()),
            "prices" => {
                let price = |price: dms_messages::Price| toml::Value::from(price.to_string());
                let table = [
                    ("core_hour", self.prices.core_hour),
                    ("memory_gib_hour", self.prices.memory_gib_hour),
                    ("disk_gib_hour", self.prices.disk_gib_hour),
                    ("gpu_hour", self.prices.gpu_hour),
                    ("minimum", self.prices.minimum),
                ];
                toml::Value::Table(
                    table.into_iter().map(|(name, value)| (name.to_owned(), price(value))).collect(),
                )
            }
            "labels" => toml::Value::Table(
                self.labels.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect(),
            ),
            "location" => self.location.clone()?.into(),
            "log" => self.log.clone().into(),
            "log_format" => match self.log_format {
                LogFormat::Text => "text".into(),
                LogFormat::Json => "json".into(),
            },
            _ => return None,
        })
    }
}

/// What one source sets. The form of the file, and of the flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layer {
    /// See [`KEYS`], as for all fields.
    #[serde(deserialize_with = "text::<_, Network>")]
    pub network: Option<Network>,
    /// Multiaddrs.
    #[serde(deserialize_with = "list::<_, Address>")]
    pub listen: Option<Vec<Address>>,
    /// Multiaddrs.
    #[serde(deserialize_with = "list::<_, Address>")]
    pub bootstrap: Option<Vec<Address>>,
    /// Yes or no.
    pub mdns: Option<bool>,
    /// A path; relative to the data directory if it is in the file.
    #[serde(deserialize_with = "text::<_, SocketPath>")]
    pub api: Option<SocketPath>,
    /// An address of this machine.
    #[serde(deserialize_with = "text::<_, ApiPort>")]
    pub api_listen: Option<ApiPort>,
    /// Yes or no.
    pub open: Option<bool>,
    /// DIDs.
    #[serde(deserialize_with = "list::<_, Did>")]
    pub trust: Option<Vec<Did>>,
    /// A duration.
    #[serde(deserialize_with = "text::<_, Lease>")]
    pub lease: Option<Lease>,
    /// A duration.
    #[serde(deserialize_with = "text::<_, OrphanAfter>")]
    pub orphan_after: Option<OrphanAfter>,
    /// A duration.
    #[serde(deserialize_with = "text::<_, AuctionTime>")]
    pub auction: Option<AuctionTime>,
    /// An amount.
    #[serde(deserialize_with = "text::<_, MaxOutput>")]
    pub max_output: Option<MaxOutput>,
    /// A number.
    #[serde(deserialize_with = "blobs_max_mib")]
    pub blobs_max_mib: Option<u64>,
    /// A duration.
    #[serde(deserialize_with = "text::<_, KeepHistory>")]
    pub keep_history: Option<KeepHistory>,
    /// A duration.
    #[serde(deserialize_with = "text::<_, MonitorPeriod>")]
    pub monitor_period: Option<MonitorPeriod>,
    /// Yes or no.
    pub owner_first: Option<bool>,
    /// An amount.
    #[serde(deserialize_with = "text::<_, CpuMillis>")]
    pub owner_reserve_cpu: Option<CpuMillis>,
    /// An amount.
    #[serde(deserialize_with = "text::<_, MemoryMib>")]
    pub owner_reserve_memory: Option<MemoryMib>,
    /// An amount.
    #[serde(deserialize_with = "text::<_, DiskMib>")]
    pub owner_reserve_disk: Option<DiskMib>,
    /// `rocksdb` or `memory`.
    pub engine: Option<EngineKind>,
    /// A duration.
    #[serde(deserialize_with = "text::<_, BenchmarkTime>")]
    pub benchmark_time: Option<BenchmarkTime>,
    /// A table.
    pub prices: Option<PriceTable>,
    /// A table.
    #[serde(deserialize_with = "labels")]
    pub labels: Option<BTreeMap<String, String>>,
    /// A text.
    #[serde(deserialize_with = "text::<_, Location>")]
    pub location: Option<Location>,
    /// A filter.
    #[serde(deserialize_with = "text::<_, LogFilter>")]
    pub log: Option<LogFilter>,
    /// `text` or `json`.
    pub log_format: Option<LogFormat>,
}

/// Prices as a person writes them: text or whole numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriceTable {
    #[serde(deserialize_with = "text::<_, dms_messages::Price>")]
    core_hour: Option<dms_messages::Price>,
    #[serde(deserialize_with = "text::<_, dms_messages::Price>")]
    memory_gib_hour: Option<dms_messages::Price>,
    #[serde(deserialize_with = "text::<_, dms_messages::Price>")]
    disk_gib_hour: Option<dms_messages::Price>,
    #[serde(deserialize_with = "text::<_, dms_messages::Price>")]
    gpu_hour: Option<dms_messages::Price>,
    #[serde(deserialize_with = "text::<_, dms_messages::Price>")]
    minimum: Option<dms_messages::Price>,
}

impl PriceTable {
    fn checked(&self) -> PriceList {
        PriceList {
            core_hour: self.core_hour.unwrap_or_default(),
            memory_gib_hour: self.memory_gib_hour.unwrap_or_default(),
            disk_gib_hour: self.disk_gib_hour.unwrap_or_default(),
            gpu_hour: self.gpu_hour.unwrap_or_default(),
            minimum: self.minimum.unwrap_or_default(),
        }
    }
}

/// Declares a value that is checked when it is read from text.
macro_rules! checked {
    ($(#[$doc:meta])* $name:ident($inner:ty), $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name($inner);

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let check: fn(&str) -> Result<$inner, String> = $check;
                check(text).map(Self)
            }
        }
    };
}

checked!(
/// The name of a mesh.
Network(String), |text| {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > MAX_NETWORK_LENGTH || !text.chars().all(is_plain) {
        return Err(format!("{text:?} is not 1 to {MAX_NETWORK_LENGTH} lower-case letters, digits or dashes"));
    }
    Ok(text.to_owned())
});
checked!(
/// A multiaddr. Its form is judged once more by the network, which knows every protocol.
Address(String), |text| {
    if text.starts_with('/') && !text.contains(char::is_whitespace) && text.len() <= 256 {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a multiaddr (they look like /ip4/192.0.2.7/tcp/4001)"))
    }
});
checked!(
/// The path of the API's socket.
SocketPath(PathBuf), |text| match is_url(text) {
    true => Err(format!("{text:?} is no path of a socket (a port is served with api_listen, and asked with --api)")),
    false => Ok(PathBuf::from(text)),
});

impl From<PathBuf> for SocketPath {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

checked!(
/// Where the API is served over TCP.
ApiPort(SocketAddr), |text| match text.parse::<SocketAddr>() {
    Ok(address) if address.ip().is_loopback() => Ok(address),
    Ok(_) => Err(format!(
        "{text:?} could be reached from other machines, and nothing is encrypted on the way: it must be an address of this machine alone (127.0.0.1:7777); reach it from another through a tunnel (ssh -L)"
    )),
    Err(_) => Err(format!("{text:?} is not an address with a port (127.0.0.1:7777)")),
});
checked!(
    /// How long a lock holds.
    Lease(Millis), |text| ranged(text, LEASE_RANGE));
checked!(
    /// How long an allocation goes on without its requester.
    OrphanAfter(Millis), |text| ranged(text, ORPHAN_RANGE));
checked!(
    /// How long what is over is kept.
    KeepHistory(Millis), |text| {
    let time: Millis = text.parse().map_err(|error: dms_messages::UnitError| error.to_string())?;
    match (HISTORY_RANGE.0..=HISTORY_RANGE.1).contains(&time) {
        true => Ok(time),
        false => Err("must be 1 h to 3650 d".to_owned()),
    }
});
checked!(
    /// How often the machine is measured.
    MonitorPeriod(Millis), |text| ranged(text, MONITOR_RANGE));
checked!(
    /// How long bids are collected.
    AuctionTime(Millis), |text| ranged(text, AUCTION_RANGE));
checked!(
    /// How long a figure of the benchmark is measured.
    BenchmarkTime(Millis), |text| ranged(text, BENCHMARK_RANGE));
checked!(
/// Bytes kept of a stream.
MaxOutput(u64), |text| {
    let amount: MemoryMib = text.parse().map_err(|error: dms_messages::UnitError| error.to_string())?;
    if amount == MemoryMib(0) || amount > MAX_OUTPUT {
        return Err(format!("must be 1 MiB to {MAX_OUTPUT}"));
    }
    Ok(amount.bytes())
});
checked!(
    /// Where the machine stands.
    Location(String), |text| short_text(text).map(str::to_owned));
checked!(
/// What is logged.
LogFilter(String), |text| {
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("{text:?} is not a log filter: {error}"))
});

/// A duration within a range, both ends included.
fn ranged(text: &str, (least, most): (Millis, Millis)) -> Result<Millis, String> {
    let millis: Millis = text.parse().map_err(|error: dms_messages::UnitError| error.to_string())?;
    if millis < least || millis > most {
        return Err(format!("must be {least} to {most}"));
    }
    Ok(millis)
}

/// A text that may travel in an advert.
fn short_text(text: &str) -> Result<&str, String> {
    if text.is_empty() || text.len() > dms_messages::MAX_TEXT_LENGTH || text.chars().any(char::is_control) {
        return Err(format!(
            "must be 1 to {} bytes without control characters",
            dms_messages::MAX_TEXT_LENGTH
        ));
    }
    Ok(text)
}

/// Reads a value that is written as text, or as a number where that is the same text.
fn text<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct Visitor<T>(std::marker::PhantomData<T>);
    impl<T: FromStr<Err: fmt::Display>> serde::de::Visitor<'_> for Visitor<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }
        fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }
    }
    deserializer.deserialize_any(Visitor(std::marker::PhantomData)).map(Some)
}

/// Reads a list of texts.
fn list<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    checked_list(texts.iter().map(String::as_str)).map(Some).map_err(serde::de::Error::custom)
}

fn checked_list<'a, T: FromStr<Err: fmt::Display>>(
    texts: impl Iterator<Item = &'a str>,
) -> Result<Vec<T>, String> {
    let items: Vec<T> = texts
        .take(MAX_ITEMS + 1)
        .map(|text| text.parse().map_err(|error: T::Err| error.to_string()))
        .collect::<Result<_, _>>()?;
    if items.len() > MAX_ITEMS { Err(format!("more than {MAX_ITEMS} entries")) } else { Ok(items) }
}

fn blobs_max_mib<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    checked_blobs(u64::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

fn checked_blobs(mib: u64) -> Result<u64, String> {
    if mib < 64 { Err("must be at least 64 (MiB)".to_owned()) } else { Ok(mib) }
}

fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let labels = BTreeMap::<String, String>::deserialize(deserializer)?;
    checked_labels(labels).map(Some).map_err(serde::de::Error::custom)
}

fn checked_labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    if labels.len() > MAX_ITEMS {
        return Err(format!("more than {MAX_ITEMS} labels"));
    }
    labels.iter().try_for_each(|(key, value)| short_text(key).and(short_text(value)).map(drop))?;
    Ok(labels)
}

impl Layer {
    /// Reads the file's text; `path` is only for messages.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let broken = |key: String, error: &toml::de::Error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            // The first line says what is wrong; what follows would repeat the place.
            let problem = error.message().lines().next().unwrap_or_default().to_owned();
            ConfigError::File { path: path.to_path_buf(), line, column, key, problem }
        };
        let deserializer = toml::Deserializer::parse(text).map_err(|error| broken(String::new(), &error))?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let path = error.path().to_string();
            broken(path.trim_matches(['.', '?']).to_owned(), error.inner())
        })
    }

    /// Reads the file if there is one.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_path_buf(), source };
        match crate::files::read_text(path, MAX_FILE_BYTES) {
            Ok(text) => Self::from_toml(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// Reads the environment through `get`, so that tests have their own.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        fn one<T: FromStr<Err: fmt::Display>>(
            get: &impl Fn(&str) -> Option<String>,
            variable: &'static str,
        ) -> Result<Option<T>, ConfigError> {
            get(variable)
                .map(|text| text.trim().parse().map_err(|error: T::Err| broken(variable, error)))
                .transpose()
        }
        fn many<T: FromStr<Err: fmt::Display>>(
            get: &impl Fn(&str) -> Option<String>,
            variable: &'static str,
        ) -> Result<Option<Vec<T>>, ConfigError> {
            get(variable)
                .map(|text| {
                    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                    checked_list(items).map_err(|problem| broken(variable, problem))
                })
                .transpose()
        }
        fn broken(variable: &'static str, problem: impl fmt::Display) -> ConfigError {
            ConfigError::Environment { variable, problem: problem.to_string() }
        }
        let labels = get("DMS_LABELS")
            .map(|text| {
                let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
                let labels = pairs.map(key_value).collect::<Result<_, _>>().and_then(checked_labels);
                labels.map_err(|problem| broken("DMS_LABELS", problem))
            })
            .transpose()?;
        let blobs_max_mib = one::<u64>(&get, "DMS_BLOBS_MAX_MIB")?
            .map(|mib| checked_blobs(mib).map_err(|problem| broken("DMS_BLOBS_MAX_MIB", problem)))
            .transpose()?;
        Ok(Self {
            network: one(&get, "DMS_NETWORK")?,
            listen: many(&get, "DMS_LISTEN")?,
            bootstrap: many(&get, "DMS_BOOTSTRAP")?,
            mdns: one(&get, "DMS_MDNS")?,
            // A URL says whom commands ask, not where a node's socket is.
            api: one(&|variable: &str| get(variable).filter(|text| !is_url(text)), "DMS_API")?,
            api_listen: one(&get, "DMS_API_LISTEN")?,
            open: one(&get, "DMS_OPEN")?,
            trust: many(&get, "DMS_TRUST")?,
            lease: one(&get, "DMS_LEASE")?,
            orphan_after: one(&get, "DMS_ORPHAN_AFTER")?,
            auction: one(&get, "DMS_AUCTION")?,
            max_output: one(&get, "DMS_MAX_OUTPUT")?,
            blobs_max_mib,
            keep_history: one(&get, "DMS_KEEP_HISTORY")?,
            monitor_period: one(&get, "DMS_MONITOR_PERIOD")?,
            owner_first: one(&get, "DMS_OWNER_FIRST")?,
            owner_reserve_cpu: one(&get, "DMS_OWNER_RESERVE_CPU")?,
            owner_reserve_memory: one(&get, "DMS_OWNER_RESERVE_MEMORY")?,
            owner_reserve_disk: one(&get, "DMS_OWNER_RESERVE_DISK")?,
            engine: one(&get, "DMS_ENGINE")?,
            benchmark_time: one(&get, "DMS_BENCHMARK_TIME")?,
            prices: None,
            labels,
            location: one(&get, "DMS_LOCATION")?,
            log: one(&get, "DMS_LOG")?,
            log_format: one(&get, "DMS_LOG_FORMAT")?,
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is neither text nor json")),
        }
    }
}

impl FromStr for EngineKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "rocksdb" => Ok(Self::Rocksdb),
            "memory" => Ok(Self::Memory),
            _ => Err(format!("{text:?} is neither rocksdb nor memory")),
        }
    }
}

/// Splits `key=value`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not key=value")),
    }
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Variables that begin like ours and are not of a node: where the data lies, and what tests and measurements use.
const OTHER_VARIABLES: [&str; 12] = [
    "DMS_DATA",
    "DMS_API_TOKEN_FILE",
    "DMS_PASSPHRASE_FILE",
    "DMS_TEST_LOG",
    "DMS_SKIP_LOG",
    "DMS_PROOF_LOG",
    "DMS_BENCH_LOG",
    "DMS_SOAK",
    "DMS_SEED",
    "DMS_FAILPOINT",
    "DMS_STORAGE_CRASH_DIRECTORY",
    "DMS_STORAGE_REFUSED_DIRECTORY",
];

/// The variables of `names` that begin like ours and mean nothing to anybody: mistyped, most likely.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let is_known =
        |name: &str| OTHER_VARIABLES.contains(&name) || KEYS.iter().any(|key| key.variable == Some(name));
    let mut unknown: Vec<String> =
        names.filter(|name| name.starts_with("DMS_") && !is_known(name)).take(MAX_ITEMS).collect();
    unknown.sort();
    unknown
}

/// Loads everything: defaults for `data`, its file, the environment, then `flags`.
pub fn load(data: &Path, flags: Layer) -> Result<Loaded, ConfigError> {
    let file = Layer::from_file(&data.join(FILE_NAME))?;
    // A variable that is not text is as good as a wrong value, but no key of ours holds such a thing.
    let environment = Layer::from_environment(|variable| std::env::var(variable).ok())?;
    Ok(merge(data, file, environment, flags))
}

/// Joins the sources, the later ones winning.
pub fn merge(data: &Path, mut file: Layer, environment: Layer, flags: Layer) -> Loaded {
    // A relative path in the file means the same from wherever the program is started.
    file.api = file.api.map(|SocketPath(api)| SocketPath(data.join(api)));
    let mut settings = Settings::for_data_dir(data);
    let mut sources: BTreeMap<&'static str, Source> =
        KEYS.iter().map(|key| (key.name, Source::Default)).collect();
    for (source, layer) in [(Source::File, file), (Source::Environment, environment), (Source::Flag, flags)] {
        let mut set = |name: &'static str| sources.insert(name, source);
        macro_rules! take {
            ($field:ident, $convert:expr) => {
                if let Some(value) = layer.$field {
                    settings.$field = ($convert)(value);
                    set(stringify!($field));
                }
            };
        }
        let addresses = |list: Vec<Address>| list.into_iter().map(|address| address.0).collect();
        take!(network, |value: Network| value.0);
        take!(listen, addresses);
        take!(bootstrap, addresses);
        take!(mdns, |value| value);
        take!(api, |value: SocketPath| value.0);
        take!(api_listen, |value: ApiPort| Some(value.0));
        take!(open, |value| value);
        take!(trust, |value| value);
        take!(lease, |value: Lease| value.0);
        take!(orphan_after, |value: OrphanAfter| value.0);
        take!(auction, |value: AuctionTime| value.0);
        take!(max_output, |value: MaxOutput| value.0);
        take!(blobs_max_mib, |value| value);
        take!(keep_history, |value: KeepHistory| value.0);
        take!(monitor_period, |value: MonitorPeriod| value.0);
        take!(owner_first, |value| value);
        take!(owner_reserve_cpu, |value| value);
        take!(owner_reserve_memory, |value| value);
        take!(owner_reserve_disk, |value| value);
        take!(engine, |value| value);
        take!(benchmark_time, |value: BenchmarkTime| value.0);
        take!(prices, |value: PriceTable| value.checked());
        take!(labels, |value| value);
        take!(location, |value: Location| Some(value.0));
        take!(log, |value: LogFilter| value.0);
        take!(log_format, |value| value);
    }
    Loaded { settings, sources }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_messages::Price;

    fn parse(text: &str) -> Result<Layer, ConfigError> {
        Layer::from_toml(Path::new("config.toml"), text)
    }

    #[test]
    fn a_wrong_file_is_refused_with_line_and_key() {
        let table: &[(&str, &str)] = &[
            ("colour = 1\n", "config.toml:1:1: colour: unknown field `colour`"),
            ("network = \"main\"\nlease = \"soon\"\n", "config.toml:2:9: lease: \"soon\" is not a duration"),
            ("\n\nlease = \"1h\"", "config.toml:3:9: lease: must be 500 ms to 300 s"),
            ("network = \"My Net\"", "config.toml:1:11: network: \"My Net\" is not 1 to 32"),
            ("open = \"yes\"", "config.toml:1:8: open: invalid type: string \"yes\", expected a boolean"),
            ("listen = [\"localhost:80\"]", "config.toml:1:10: listen: \"localhost:80\" is not a multiaddr"),
            ("trust = [\"did:web:x\"]", "config.toml:1:9: trust: not a did:key"),
            ("max_output = \"1GiB\"", "config.toml:1:14: max_output: must be 1 MiB to 16 MiB"),
            ("blobs_max_mib = 1", "config.toml:1:17: blobs_max_mib: must be at least 64"),
            (
                "[prices]\ncore_hour = \"cheap\"",
                "config.toml:2:13: prices.core_hour: \"cheap\" is not a price",
            ),
            ("[prices]\nhour = 1", "config.toml:2:1: prices.hour: unknown field `hour`"),
            (
                "api = \"http://127.0.0.1:7777\"",
                "config.toml:1:7: api: \"http://127.0.0.1:7777\" is no path of a",
            ),
            ("api_listen = 7777", "config.toml:1:14: api_listen: \"7777\" is not an address with a port"),
            ("api_listen = \"localhost:7777\"", "config.toml:1:14: api_listen: \"localhost:7777\" is not an"),
            (
                "api_listen = \"0.0.0.0:7777\"",
                "config.toml:1:14: api_listen: \"0.0.0.0:7777\" could be reached",
            ),
            ("api_listen = \"[::]:7777\"", "config.toml:1:14: api_listen: \"[::]:7777\" could be reached"),
            (
                "api_listen = \"192.168.1.2:7777\"",
                "config.toml:1:14: api_listen: \"192.168.1.2:7777\" could be",
            ),
            ("log = \"a=b=c\"", "config.toml:1:7: log: \"a=b=c\" is not a log filter"),
            ("monitor_period = \"1ms\"", "config.toml:1:18: monitor_period: must be 1 s to 60 s"),
            (
                "owner_first = \"no\"",
                "config.toml:1:15: owner_first: invalid type: string \"no\", expected a boolean",
            ),
            ("owner_reserve_memory = \"lots\"", "config.toml:1:24: owner_reserve_memory: \"lots\" is not"),
            ("engine = \"paper\"", "config.toml:1:10: engine: unknown variant `paper`"),
            ("mdns = 1", "config.toml:1:8: mdns: invalid type: integer `1`, expected a boolean"),
            ("log_format = \"xml\"", "config.toml:1:14: log_format: unknown variant `xml`"),
            ("network = \"a\"\nnetwork = \"b\"", "config.toml:2:1: duplicate key"),
            ("network = ", "config.toml:1:11: "),
        ];
        for (text, expected) in table {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}\n  gave     {error}\n  expected {expected}");
        }
    }

    #[test]
    fn later_sources_win_and_are_named() {
        let file =
            parse("network = \"filed\"\nlease = \"5s\"\napi = \"run/api\"\n[prices]\ncore_hour = 0.5\n")
                .unwrap();
        let environment = |variable: &str| match variable {
            "DMS_LEASE" => Some("6s".to_owned()),
            "DMS_TRUST" => Some(String::new()),
            "DMS_LABELS" => Some("disk=ssd, room=2".to_owned()),
            "DMS_LISTEN" => Some("/ip4/127.0.0.1/tcp/1,/ip4/127.0.0.1/tcp/2".to_owned()),
            _ => None,
        };
        let environment = Layer::from_environment(environment).unwrap();
        let flags = Layer { listen: Some(vec!["/ip4/127.0.0.1/tcp/3".parse().unwrap()]), ..Layer::default() };
        let loaded = merge(Path::new("/data"), file, environment, flags);
        assert_eq!(loaded.settings.network, "filed");
        assert_eq!(loaded.settings.lease, Millis(6000));
        assert_eq!(loaded.settings.listen, ["/ip4/127.0.0.1/tcp/3"]);
        assert_eq!(loaded.settings.api, Path::new("/data/run/api"));
        assert_eq!(loaded.settings.prices.core_hour, Price(500_000));
        assert_eq!(loaded.settings.labels["room"], "2");
        let sources = [
            ("network", Source::File),
            ("lease", Source::Environment),
            ("trust", Source::Environment),
            ("listen", Source::Flag),
            ("auction", Source::Default),
        ];
        for (key, source) in sources {
            assert_eq!(loaded.sources[key], source, "{key}");
        }
    }

    #[test]
    fn a_wrong_variable_is_refused_by_name() {
        let table = [
            ("DMS_LEASE", "soon", "environment variable DMS_LEASE: \"soon\" is not a duration"),
            (
                "DMS_ENGINE",
                "paper",
                "environment variable DMS_ENGINE: \"paper\" is neither rocksdb nor memory",
            ),
            (
                "DMS_API_LISTEN",
                "0.0.0.0:7777",
                "environment variable DMS_API_LISTEN: \"0.0.0.0:7777\" could be",
            ),
            ("DMS_OPEN", "maybe", "environment variable DMS_OPEN: "),
            ("DMS_LABELS", "x", "environment variable DMS_LABELS: \"x\" is not key=value"),
            ("DMS_BLOBS_MAX_MIB", "3", "environment variable DMS_BLOBS_MAX_MIB: must be at least 64"),
        ];
        for (variable, value, expected) in table {
            let error =
                Layer::from_environment(|name| (name == variable).then(|| value.to_owned())).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_variable_that_means_nothing_is_named() {
        let names = ["DMS_LISTNE", "DMS_LEASE", "DMS_DATA", "DMS_TEST_LOG", "PATH", "DMS_"];
        let unknown = unknown_variables(names.into_iter().map(str::to_owned));
        assert_eq!(unknown, ["DMS_", "DMS_LISTNE"]);
    }

    #[test]
    fn settings_that_were_changed_after_onboarding_are_named_with_both_values() {
        let load =
            |text: &str| merge(Path::new("/data"), parse(text).unwrap(), Layer::default(), Layer::default());
        let mut registered = Capability { location: Some("CH".to_owned()), ..Capability::default() };
        registered.labels.insert("disk".to_owned(), "ssd".to_owned());
        registered.labels.insert("flag".to_owned(), "1".to_owned());
        let keys = |text: &str| {
            let unheeded = load(text).unheeded(&registered);
            unheeded.into_iter().map(|it| it.key).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(keys(""), none, "what nobody has set takes nothing back");
        assert_eq!(keys("location = \"CH\"\n[labels]\ndisk = \"ssd\""), none);
        assert_eq!(keys("[prices]\ncore_hour = 0"), none);
        assert_eq!(keys("location = \"DE\""), ["location"]);
        assert_eq!(keys("[labels]\ndisk = \"hdd\""), ["labels"]);
        let unheeded = load("[prices]\ncore_hour = 0.5").unheeded(&registered);
        assert!(unheeded[0].setting.starts_with("core_hour 0.5, "), "{unheeded:?}");
        assert!(unheeded[0].registered.starts_with("core_hour 0, "), "{unheeded:?}");
    }

    #[test]
    fn what_is_shown_can_be_read_back_and_no_key_is_forgotten() {
        let file = parse("location = \"CH\"\napi_listen = \"[::1]:7777\"\n[labels]\na = \"b\"").unwrap();
        let loaded = merge(Path::new("/data"), file, Layer::default(), Layer::default());
        let entries = loaded.entries();
        assert_eq!(entries.len(), KEYS.len());
        let table: toml::Table = entries
            .into_iter()
            .map(|(key, value, _)| {
                (key.name.to_owned(), value.unwrap_or_else(|| panic!("{} has no value", key.name)))
            })
            .collect();
        let again = parse(&toml::to_string(&table).unwrap()).unwrap();
        let again = merge(Path::new("/data"), again, Layer::default(), Layer::default());
        assert_eq!(again.settings, loaded.settings);
        assert!(again.sources.values().all(|source| *source == Source::File));
    }
}
