//! `dms log`: the event log as lines, with a running node and without one.
//!
//! Every event is printed once and in order. Following is asking again from the event after the last one that was
//! printed; it ends with the node, with Ctrl-C, or when nobody reads any more.

use std::collections::{BTreeSet, VecDeque};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use dms_messages::Millis;

use super::error::{CliError, INTERRUPTED};
use super::listing::checked_id;
use super::{Session, output, small_runtime};
use crate::api::client::ApiClient;
use crate::config::Layer;
use crate::log_lines::LogLine;
use crate::records::{self, LogPage, LogQuery, LogStart, MAX_PAGE_LINES};
use crate::startup::offline::{self, OfflineBooks};

/// Events that are shown if nothing is said: about what a terminal scrolls back.
const DEFAULT_LIMIT: usize = 100;
/// How long the node may think before it says that there is nothing new.
const WAIT: Millis = Millis(10_000);
/// How often it is looked whether a node that broke off has ended, and the pause between two looks.
const ENDING_LOOKS: usize = 20;
const ENDING_PAUSE: Duration = Duration::from_millis(50);

/// Show the event log: everything that happened to this node's books, in words
///
/// One line an event, the oldest first: its number, when it happened, its name, and what happened. Works with
/// a running node and without one. The log is cut from time to time; its newest 50000 events are kept.
///
/// With --json it is a list of events, one a line; with --follow and --json one JSON document a line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with new events until Ctrl-C (exit code 130) or until the node stops (exit code 0)
    #[arg(long, short)]
    follow: bool,
    /// Only the events of this job: its id, or the beginning of it
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Begin with event N; `first` is the first one that is kept [default: the newest events]
    #[arg(long, value_name = "N")]
    from: Option<From>,
    /// How many events at most: the newest ones, or with --from the first ones, after which --follow ends, too
    /// [default: 100, and all with --from]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
struct From(u64);

impl FromStr for From {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "first" => Ok(Self(0)),
            number => number.parse().map(Self).map_err(|_| "neither the number of an event nor `first`"),
        }
    }
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let job = args.job.as_deref().map(checked_id).transpose()?.map(str::to_owned);
    let limit = args.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let newest = if args.from.is_none() { Some(limit.unwrap_or(DEFAULT_LIMIT)) } else { None };
    let shown = Shown {
        newest,
        most: if args.from.is_some() || !args.follow { limit.or(newest) } else { None },
        from: args.from.map_or(0, |From(from)| from),
        job,
    };
    let client = session.client()?;
    small_runtime()?.block_on(async {
        // The books here are not those of a node at a port that somebody named.
        let source = if args.follow || session.port().is_some() || client.is_running().await {
            Source::Node(client)
        } else {
            Source::Disk(offline::read(&session.settings(Layer::default())?.settings)?)
        };
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
            shown = show(&source, &shown, args.follow, session) => shown.map(|()| ExitCode::SUCCESS),
        }
    })
}

/// Which events are to be shown.
#[derive(Debug)]
struct Shown {
    /// Of those that are there, the newest so many; all if none.
    newest: Option<usize>,
    /// So many in all, and then no more.
    most: Option<usize>,
    /// None before this one.
    from: u64,
    job: Option<String>,
}

impl Shown {
    /// The question for the first page.
    fn first_page(&self, is_whole: bool) -> LogQuery {
        LogQuery {
            start: match (&self.job, self.newest) {
                (None, Some(count)) => LogStart::Newest(count),
                (None, None) => LogStart::From(self.from),
                // Which events are a job's is learned from those before, so all are looked at.
                (Some(_), _) => LogStart::From(0),
            },
            limit: MAX_PAGE_LINES,
            job: self.job.clone(),
            bids: BTreeSet::new(),
            allocations: BTreeSet::new(),
            is_whole,
        }
    }
}

/// Who is asked for the log.
#[derive(Debug)]
enum Source {
    /// A running node.
    Node(ApiClient),
    /// The database of one that does not run.
    Disk(OfflineBooks),
}

impl Source {
    async fn page(&self, query: &LogQuery, wait: Millis) -> Result<LogPage, CliError> {
        match self {
            Self::Node(client) => Ok(client.log(query, wait).await?),
            Self::Disk(books) => {
                // Signals are seen between two pages.
                tokio::task::yield_now().await;
                Ok(records::log_page(books.engine(), query)?)
            }
        }
    }

    /// True if the node that was asked runs no more.
    async fn has_ended(&self) -> bool {
        let Self::Node(client) = self else { return false };
        // A killed process does not close all its sockets in the same moment.
        for _ in 0..ENDING_LOOKS {
            if !client.is_running().await {
                return true;
            }
            tokio::time::sleep(ENDING_PAUSE).await;
        }
        false
    }
}

async fn show(source: &Source, shown: &Shown, is_following: bool, session: &Session) -> Result<(), CliError> {
    let mut printer = Printer::new(session, is_following, shown.most);
    let mut query = shown.first_page(session.out.is_json());
    // Of a job, the newest events are known when all were looked at.
    let mut newest = VecDeque::new();
    let is_held_back = shown.job.is_some() && shown.newest.is_some();
    let first = loop {
        let page = source.page(&query, Millis(0)).await?;
        let LogPage { first, is_end, .. } = page;
        for line in query.go_on(page).into_iter().filter(|line| line.sequence >= shown.from) {
            if !is_held_back {
                printer.add(&line);
                continue;
            }
            newest.push_back(line);
            if newest.len() > shown.newest.unwrap_or(usize::MAX) {
                newest.pop_front();
            }
        }
        printer.flush();
        if is_end || printer.is_done() {
            break first;
        }
    };
    newest.iter().for_each(|line| printer.add(line));
    if !is_following {
        return printer.end(first, shown);
    }
    printer.flush();
    while !printer.is_done() {
        match source.page(&query, WAIT).await {
            Ok(page) => {
                let lines = query.go_on(page).into_iter();
                lines.filter(|line| line.sequence >= shown.from).for_each(|line| printer.add(&line));
                printer.flush();
            }
            Err(error) => {
                if !source.has_ended().await {
                    return Err(error);
                }
                if let LogStart::From(next) = query.start {
                    let command = session.command(&format!("log --from {next}"));
                    session.out.note(&format!("the node has stopped; what follows is shown by `{command}`"));
                }
                break;
            }
        }
    }
    Ok(())
}

/// Prints lines as they come: text, one list, or one document a line.
#[derive(Debug)]
struct Printer<'a> {
    session: &'a Session,
    is_following: bool,
    most: usize,
    buffer: String,
    /// The first event that was printed.
    first: Option<u64>,
    count: usize,
}

impl<'a> Printer<'a> {
    fn new(session: &'a Session, is_following: bool, most: Option<usize>) -> Self {
        let most = most.unwrap_or(usize::MAX);
        Self { session, is_following, most, buffer: String::new(), first: None, count: 0 }
    }

    fn add(&mut self, line: &LogLine) {
        if self.is_done() {
            return;
        }
        let is_json = self.session.out.is_json();
        if is_json && !self.is_following {
            self.buffer.push_str(if self.count == 0 { "[\n" } else { ",\n" });
        }
        if is_json {
            self.buffer.push_str(&serde_json::to_string(line).expect("a line is plain data"));
        } else {
            self.buffer.push_str(&output::escaped(&line.to_string()));
        }
        if !is_json || self.is_following {
            self.buffer.push('\n');
        }
        self.first.get_or_insert(line.sequence);
        self.count += 1;
    }

    fn flush(&mut self) {
        output::print(&std::mem::take(&mut self.buffer));
    }

    /// True if no more lines are wanted.
    fn is_done(&self) -> bool {
        self.count >= self.most || output::is_reader_gone()
    }

    /// Ends the list of what was there, and says what is missing before it.
    fn end(mut self, first: u64, shown: &Shown) -> Result<(), CliError> {
        if self.session.out.is_json() {
            self.buffer.push_str(if self.count == 0 { "[]\n" } else { "\n]\n" });
        }
        self.flush();
        match (self.first, &shown.job) {
            (None, Some(job)) => Err(CliError::failed(format!(
                "no event of a job that begins with {job} is in the log, which begins with event {first}"
            ))),
            (None, None) => {
                self.session.out.note("no events");
                Ok(())
            }
            (Some(begun), None) if shown.newest.is_some() && begun > first => {
                let command = self.session.command(&format!("log --from {first} --limit {}", begun - first));
                self.session.out.note(&format!("the newest {}; older ones: {command}", self.count));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
