//! People: parses what they type, asks the API or the library, prints through [`output`].
//!
//! One file per noun, each with its `Args` and a `run`. No work is done here that a program could not ask
//! of the library. Text for people goes to standard output, notes and progress to standard error; with
//! `--json` standard output is exactly one JSON document.

mod alloc;
mod bid;
mod bid_request;
mod capability;
mod config;
mod contract;
mod db;
mod error;
mod graph;
mod id;
mod invite;
mod job;
mod join;
mod listing;
mod log;
mod measure;
mod offboard;
mod onboard;
pub mod output;
mod passphrase;
mod peers;
mod preferences;
mod run;
mod status;
mod token;
mod trust;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand};

use self::error::CliError;
use self::output::Output;
use crate::api::address::{ApiAddress, HttpAddress, is_url};
use crate::api::client::ApiClient;
use crate::api::token::{TOKEN_FILE, Token};
use crate::config::{Layer, Loaded};

/// What every `--help` ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0    done; for `job run` and `job logs --follow`, the program's own exit code
  1    failed for another reason; an id that is not known; a contract that does not hold
  2    wrong usage
  64   the job is malformed, or a file that it names is missing or cannot be sent
  65   the books are damaged, or a backup is
  69   no node is running, no node can take the job, or an allocation's provider cannot be reached
  70   internal error
  73   what was asked for cannot be written here: a job's files (`job get` fetches them again),
       a backup where there is something already, or on a full disk
  75   busy or stopping, a node that runs where it must be stopped, allocations that keep it from
       offboarding, nobody took the job in time, or a program that does not read its messages, or
       not yet: try again later
  78   the configuration or the identity is not usable
  124  the program ran into its time limit
  130  interrupted; a job that was handed in goes on (with --local it is ended)";

/// A node of the DMS mesh: shares this machine, and runs jobs on others.
#[derive(Debug, Parser)]
#[command(name = "dms", version, after_long_help = EXIT_CODES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
struct Global {
    /// Directory of the key, the books, the blobs and config.toml [default: ~/.local/share/dms]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "DMS_DATA",
        value_name = "DIR",
        hide_env_values = true
    )]
    data: Option<PathBuf>,
    /// File that holds the passphrase of the key that is used, readable by its owner alone [default: asked for]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "DMS_PASSPHRASE_FILE",
        value_name = "PATH",
        hide_env_values = true
    )]
    passphrase_file: Option<PathBuf>,
    /// Print one JSON document instead of text (errors stay text on standard error)
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Where the node is asked: the path of its socket, or http://127.0.0.1:PORT [default: api.sock in the data
    /// directory]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "PATH|URL",
        value_parser = OsStringValueParser::new().try_map(ApiAddress::from_os)
    )]
    api: Option<ApiAddress>,
    /// The node's token, where --api is a URL [default: api.token in the data directory]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "DMS_API_TOKEN_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    api_token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Onboard(onboard::Args),
    Offboard(offboard::Args),
    Run(run::Args),
    Invite(invite::Args),
    Join(join::Args),
    Status(status::Args),
    Capability(capability::Args),
    Peers(peers::Args),
    Graph(graph::Args),
    Preferences(preferences::Args),
    Trust(trust::Args),
    Token(token::Args),
    Job(job::Args),
    BidRequest(bid_request::Args),
    Bid(bid::Args),
    Alloc(alloc::Args),
    Contract(contract::Args),
    Log(log::Args),
    Db(db::Args),
    Id(id::Args),
    Config(config::Args),
}

/// What a command works with.
#[derive(Debug)]
struct Session {
    /// The data directory.
    data: PathBuf,
    /// True if somebody said so, by flag or environment: then hints repeat it.
    is_data_chosen: bool,
    /// Where the node is asked, if somebody said so by flag.
    api: Option<ApiAddress>,
    /// The port where it is asked, if `DMS_API` is a URL.
    environment_port: Option<HttpAddress>,
    /// The file of its token, if somebody said so.
    api_token_file: Option<PathBuf>,
    /// Where the passphrase of a key lies, if somebody said so, by flag or environment.
    passphrase_file: Option<PathBuf>,
    /// Where results go.
    out: Output,
}

impl Session {
    /// The settings, with `flags` over them.
    fn settings(&self, flags: Layer) -> Result<Loaded, CliError> {
        let socket = match &self.api {
            Some(ApiAddress::Socket(path)) => Some(path.clone().into()),
            _ => None,
        };
        let flags = Layer { api: socket.or(flags.api.clone()), ..flags };
        Ok(crate::config::load(&self.data, flags)?)
    }

    /// A client of the node on this data directory, or of the one at the port that somebody named.
    fn client(&self) -> Result<ApiClient, CliError> {
        let Some(address) = self.port() else {
            return Ok(ApiClient::new(self.settings(Layer::default())?.settings.api));
        };
        let file = self.api_token_file.clone().unwrap_or_else(|| self.data.join(TOKEN_FILE));
        Ok(ApiClient::over_tcp(address.clone(), Token::load(&file)?))
    }

    /// The port where the node is asked: it may run on another machine, so its data directory is none of ours.
    fn port(&self) -> Option<&HttpAddress> {
        match &self.api {
            Some(ApiAddress::Http(address)) => Some(address),
            Some(ApiAddress::Socket(_)) => None,
            None => self.environment_port.as_ref(),
        }
    }

    /// Refuses what is about this machine, where another node is named.
    fn is_here(&self, command: &str) -> Result<(), CliError> {
        match self.port() {
            Some(address) => Err(CliError::usage(format!(
                "`dms {command}` is about this machine, and the node at {address} may be on another: run it there, without a URL in --api or DMS_API"
            ))),
            None => Ok(()),
        }
    }

    /// A command line for a hint, with the flags that make it mean this node.
    fn command(&self, words: &str) -> String {
        let mut line = format!("dms {words}");
        let mut push = |flag: &str, path: &Path| {
            line.push_str(&format!(" {flag} {}", quoted(&path.display().to_string())));
        };
        if self.is_data_chosen {
            push("--data", &self.data);
        }
        match &self.api {
            Some(ApiAddress::Socket(path)) => push("--api", path),
            Some(ApiAddress::Http(address)) => {
                push("--api", Path::new(&address.to_string()));
                self.api_token_file.iter().for_each(|file| push("--api-token-file", file));
            }
            None => {}
        }
        line
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The program: parses the arguments, runs the command, and says how it went.
pub fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let out = Output::new(global.json);
    let is_data_chosen = global.data.is_some();
    let data = global.data.map_or_else(default_data_dir, Ok).and_then(absolute);
    let session = match data.and_then(|data| Ok((data, port_of_environment()?))) {
        Ok((data, environment_port)) => {
            let Global { api, api_token_file, passphrase_file, .. } = global;
            Session { data, is_data_chosen, api, environment_port, api_token_file, passphrase_file, out }
        }
        Err(error) => return error.report(None),
    };
    // By name alone: a value that is not text is not of ours.
    for name in
        crate::config::unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
    {
        output::say(&format!(
            "warning: the environment variable {} is no setting of dms (see `dms config show`)",
            output::escaped(&name)
        ));
    }
    let result = match command {
        Command::Onboard(args) => onboard::run(args, &session),
        Command::Offboard(args) => offboard::run(args, &session),
        Command::Run(args) => run::run(args, &session),
        Command::Invite(args) => invite::run(args, &session),
        Command::Join(args) => join::run(args, &session),
        Command::Status(args) => status::run(args, &session),
        Command::Capability(args) => capability::run(args, &session),
        Command::Peers(args) => peers::run(args, &session),
        Command::Graph(args) => graph::run(args, &session),
        Command::Preferences(args) => preferences::run(args, &session),
        Command::Trust(args) => trust::run(args, &session),
        Command::Token(args) => token::run(args, &session),
        Command::Job(args) => job::run(args, &session),
        Command::BidRequest(args) => bid_request::run(args, &session),
        Command::Bid(args) => bid::run(args, &session),
        Command::Alloc(args) => alloc::run(args, &session),
        Command::Contract(args) => contract::run(args, &session),
        Command::Log(args) => log::run(args, &session),
        Command::Db(args) => db::run(args, &session),
        Command::Id(args) => id::run(args, &session),
        Command::Config(args) => config::run(args, &session),
    };
    match result {
        Ok(code) if code == ExitCode::SUCCESS && output::is_output_lost() => ExitCode::FAILURE,
        Ok(code) => code,
        Err(error) => error.report(Some(&session)),
    }
}

/// Where a person's programs keep their data, by the XDG rules.
fn default_data_dir() -> Result<PathBuf, CliError> {
    let absolute =
        |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("dms"))
        .ok_or_else(|| CliError::usage("there is no home directory; say where data goes with --data DIR"))
}

/// The port that the environment says to ask; a path there is a setting like others.
fn port_of_environment() -> Result<Option<HttpAddress>, CliError> {
    let url = std::env::var("DMS_API").ok().filter(|text| is_url(text));
    url.map(|url| url.parse())
        .transpose()
        .map_err(|error| CliError::usage(format!("environment variable DMS_API: {error}")))
}

/// A path that stays the same for programs started elsewhere.
fn absolute(path: PathBuf) -> Result<PathBuf, CliError> {
    std::path::absolute(&path).map_err(|error| CliError::usage(format!("--data {}: {error}", path.display())))
}

/// A runtime for a command that asks a few questions.
fn small_runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::internal("cannot start", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_command_is_understood() {
        let table: &[&[&str]] = &[
            &["onboard", "--yes", "--cpu", "2", "--memory", "4GiB", "--disk", "10GiB", "--label", "disk=ssd"],
            &["run", "--listen", "/ip4/127.0.0.1/tcp/0", "--open", "--network", "test", "--json"],
            &["run", "--no-mdns", "--engine", "memory", "--stop-on-eof"],
            &["run", "--api-listen", "127.0.0.1:0"],
            &["status"],
            &["status", "--watch"],
            &["status", "--watch=5", "--json"],
            &["status", "--api", "http://127.0.0.1:7777", "--api-token-file", "/tmp/x/api.token"],
            &["invite", "--as", "provider", "--expires", "24h", "--uses", "3"],
            &["invite", "ls"],
            &["invite", "withdraw", "bafk"],
            &["join", "dms-invite-1-x", "--no-mdns", "--skip-benchmark", "--stop"],
            &["trust", "ls"],
            &["trust", "add", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", "--as", "provider"],
            &["trust", "rm", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"],
            &["token", "ls"],
            &[
                "token",
                "grant",
                "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
                "--ability",
                "/dms/request/bids",
                "--expires",
                "7d",
                "--depth",
                "1",
                "--topic",
                "bid-request",
            ],
            &[
                "token",
                "grant",
                "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
                "--by",
                "alice",
                "--expires",
                "90d",
            ],
            &["token", "delegate", "bafy", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"],
            &["token", "inspect", "dms-token-1-x"],
            &["token", "keep", "dms-token-1-x"],
            &["token", "revoke", "bafy"],
            &["capability"],
            &["capability", "locks"],
            &["capability", "lock", "job.yaml", "--lease", "5m"],
            &["capability", "unlock", "0192"],
            &["capability", "free", "--cpu", "2", "--memory", "1GiB"],
            &["alloc", "start", "0192", "job.yaml"],
            &["capability", "benchmark", "--dry-run", "--json"],
            &["onboard", "--yes", "--skip-benchmark", "--gpus", "0,1"],
            &["peers", "--limit", "5"],
            &["graph"],
            &["graph", "--format", "dot"],
            &["preferences", "show", "--defaults"],
            &["preferences", "set", "-"],
            &["preferences", "test", "job.yaml", "--json"],
            &["bid-request", "ls", "--sent", "--limit", "5", "--after", "0192"],
            &["bid", "ls", "--request", "0192", "--received"],
            &["alloc", "ls", "--json"],
            &["alloc", "show", "0192"],
            &["alloc", "status", "0192", "--json"],
            &["alloc", "send", "0192", "hello", "--type", "text/plain", "--wait"],
            &["alloc", "send", "0192", "-", "--wait=5"],
            &["contract", "ls", "--after", "bafi"],
            &["contract", "show", "0192", "--out", "c.cose"],
            &["contract", "verify", "c.cose"],
            &["offboard", "--wait"],
            &["offboard", "--force"],
            &["job", "run", "job.yaml", "--detach"],
            &["job", "run", "--wasm", "a.wasm", "--env", "A=b", "--", "--top", "10"],
            &["job", "run", "job.yaml", "--local", "--output", "out"],
            &["job", "ls"],
            &["job", "show", "0192"],
            &["job", "logs", "0192", "--follow"],
            &["job", "cancel", "0192"],
            &["job", "explain", "0192"],
            &["job", "get", "0192", "--output", "out"],
            &["log"],
            &["log", "-f", "--job", "0192", "--json"],
            &["log", "--from", "first", "--limit", "1000000"],
            &["log", "--from", "17", "--follow"],
            &["db", "check"],
            &["db", "rebuild", "--json"],
            &["db", "backup", "aside"],
            &["db", "restore", "aside"],
            &["db", "stats"],
            &["id", "show", "--document"],
            &["id", "show", "--identity", "alice"],
            &["id", "ls"],
            &["id", "new", "alice", "--new-passphrase-file", "p"],
            &["id", "new", "alice", "--no-passphrase"],
            &["id", "passphrase", "set", "--new-passphrase-file", "p", "--passphrase-file", "q"],
            &["id", "passphrase", "remove", "--identity", "alice"],
            &["id", "export", "--out", "me.txt"],
            &["id", "import", "me.txt", "--replace"],
            &["id", "rotate", "--keep-old", "old.txt"],
            &["trust", "succeed", "dms-succession-1-x"],
            &["config", "show", "--data", "/tmp/x"],
        ];
        for words in table {
            let line = ["dms"].iter().chain(*words);
            assert!(Cli::try_parse_from(line).is_ok(), "{words:?}");
        }
    }

    #[test]
    fn wrong_values_are_refused_while_parsing() {
        let table: &[&[&str]] = &[
            &["onboard", "--cpu", "many"],
            &["onboard", "--gpus", "fast"],
            &["offboard", "--wait", "--force"],
            &["bid", "ls", "--sent", "--received"],
            &["bid", "ls", "--limit", "0"],
            &["graph", "--format", "svg"],
            &["alloc", "ls", "--limit", "1001"],
            &["contract", "show"],
            &["log", "--limit", "0"],
            &["log", "--from", "-1"],
            &["log", "--from", "last"],
            &["db"],
            &["db", "backup"],
            &["db", "restore"],
            &["status", "--watch=0"],
            &["status", "--watch", "5"],
            &["run", "--listen", "localhost"],
            &["run", "--api-listen", "0.0.0.0:7777"],
            &["run", "--api-listen", "7777"],
            &["status", "--api", "http://192.0.2.7:7777"],
            &["status", "--api", "https://127.0.0.1:7777"],
            &["run", "--trust", "did:web:x"],
            &["invite", "--as", "king"],
            &["invite", "--uses", "0"],
            &["join"],
            &["trust", "add", "did:web:x"],
            &[
                "token",
                "grant",
                "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
                "--ability",
                "dms",
            ],
            &["run", "--engine", "paper"],
            &["id", "new", "../key"],
            &["token", "grant", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", "--by", "alice"],
            &["id", "new", "alice", "--no-passphrase", "--new-passphrase-file", "p"],
            &["id", "passphrase"],
            &["job", "run", "--wasm", "a", "--wanted", "0"],
            &["job", "run", "--wasm", "a", "--env", "novalue"],
            &["job", "run", "--wasm", "a", "--timeout", "soon"],
            &["job", "get", "0192"],
            &["preferences", "set"],
            &["preferences", "test"],
        ];
        for words in table {
            let line = ["dms"].iter().chain(*words);
            assert!(Cli::try_parse_from(line).is_err(), "{words:?}");
        }
    }

    #[test]
    fn hints_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("/data/dms"), "/data/dms");
        assert_eq!(quoted("my data"), "'my data'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
