//! What the commands that list have in common: how much of a list, which direction, which id.

use super::Session;
use super::error::CliError;
use crate::api::client::is_plain_id;
use crate::listings::{Direction, Page};

/// How much of a list.
#[derive(Debug, clap::Args)]
pub(super) struct PageArgs {
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Go on after this entry: the last one of the page before, or the beginning of its id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

impl PageArgs {
    /// The page that is meant.
    pub(super) fn page(&self) -> Result<Page, CliError> {
        let after = self.after.as_deref().map(checked_id).transpose()?.map(str::to_owned);
        Ok(Page { limit: usize::from(self.limit), after })
    }

    /// What an empty page of `things` says.
    pub(super) fn empty(&self, things: &str, hint: &str) -> String {
        match self.after {
            Some(_) => format!("no older {things}\n"),
            None => format!("no {things} yet{hint}\n"),
        }
    }

    /// Notes under a full page that there may be more after `last`, and the command that goes on.
    pub(super) fn note_more(&self, session: &Session, count: usize, last: Option<String>, words: &str) {
        if let Some(last) = last.filter(|_| count >= usize::from(self.limit)) {
            let command = session.command(words);
            session.out.note(&format!("the newest {count}; older ones: {command} --after {last}"));
        }
    }
}

/// Which direction.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct DirectionArgs {
    /// Only what this node sent
    #[arg(long)]
    sent: bool,
    /// Only what this node received
    #[arg(long)]
    received: bool,
}

impl DirectionArgs {
    pub(super) fn direction(&self) -> Option<Direction> {
        match (self.sent, self.received) {
            (true, _) => Some(Direction::Sent),
            (_, true) => Some(Direction::Received),
            _ => None,
        }
    }

    /// The flag again, for a command that goes on.
    pub(super) fn flag(&self) -> &'static str {
        match self.direction() {
            Some(Direction::Sent) => " --sent",
            Some(Direction::Received) => " --received",
            None => "",
        }
    }
}

/// An id, or the beginning of one, before anybody is asked about it.
pub(super) fn checked_id(text: &str) -> Result<&str, CliError> {
    if is_plain_id(text) {
        Ok(text)
    } else {
        Err(CliError::usage(format!("{text:?} is not an id or the beginning of one")))
    }
}
