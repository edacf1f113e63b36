//! `dms alloc send`: says something to a program that runs, here or elsewhere.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use dms_actors::Address;
use dms_messages::{MAX_MESSAGE_LENGTH, MessageContent, Millis};

use crate::allocation::allocation_at;
use crate::api::client::ClientError;
use crate::api::messages::{MessageSent, NewMessage, TEXT_TYPE};
use crate::cli::error::CliError;
use crate::cli::listing::checked_id;
use crate::cli::{Session, small_runtime};

/// Where a message comes from that is not typed.
const STDIN: &str = "-";
/// What bytes are called that are no text, if nobody says.
const BYTES_TYPE: &str = "application/octet-stream";

/// See [`super::Command::Send`].
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The allocation, or the beginning of its id; with --to, the message
    #[arg(value_name = "ID")]
    first: Option<String>,
    /// What is said; - or nothing reads it from standard input
    #[arg(value_name = "MESSAGE")]
    second: Option<String>,
    /// Any node's allocation, by its address: did:key:…/node/alloc/ID
    #[arg(long, value_name = "ADDRESS")]
    to: Option<Address>,
    /// What it is: letters, digits and ._+-/ [default: text/plain, or application/octet-stream if it is no text]
    #[arg(long = "type", value_name = "TEXT")]
    content_type: Option<String>,
    /// Wait for the program's reply, and print it [default: 20 seconds]
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "20",
        value_parser = clap::value_parser!(u64).range(1..=20)
    )]
    wait: Option<u64>,
}

/// The id, its provider if it is not this node's to know, and the words.
type Target = (String, Option<dms_actors::Did>, Option<String>);

impl Args {
    fn target(&self) -> Result<Target, CliError> {
        match (&self.to, &self.first, &self.second) {
            (None, Some(id), message) => Ok((checked_id(id)?.to_owned(), None, message.clone())),
            (None, None, _) => Err(CliError::usage("say to which allocation: its id, or --to ADDRESS")),
            (Some(address), message, None) => {
                let (id, did) = allocation_of(address)?;
                Ok((id, Some(did), message.clone()))
            }
            (Some(_), _, Some(_)) => {
                Err(CliError::usage("--to says to which allocation: there is no ID then"))
            }
        }
    }
}

/// The allocation that an address is of.
pub(super) fn allocation_of(address: &Address) -> Result<(String, dms_actors::Did), CliError> {
    match allocation_at(&address.path) {
        Some(id) => Ok((id.to_string(), address.did)),
        None => Err(CliError::usage(format!(
            "{address} is not an allocation's address: those look like did:key:…/node/alloc/ID"
        ))),
    }
}

pub(super) fn run(args: &Args, session: &Session) -> Result<ExitCode, CliError> {
    let (id, provider, words) = args.target()?;
    let body = match words {
        Some(words) if words != STDIN => words.into_bytes(),
        _ => read_stdin()?,
    };
    let is_text = std::str::from_utf8(&body).is_ok();
    let content_type = args.content_type.as_deref().unwrap_or(if is_text { TEXT_TYPE } else { BYTES_TYPE });
    // Wrong ones are wrong usage, whoever would have refused them.
    MessageContent::new(content_type, body.as_slice()).map_err(|error| CliError::usage(error.to_string()))?;
    let wait = args.wait.map(|seconds| Millis::from(Duration::from_secs(seconds)));
    let message = NewMessage { wait, provider, ..NewMessage::new(content_type, body) };
    let client = session.client()?;
    let sent = small_runtime()?.block_on(client.send_message(&id, &message)).map_err(unrepeatable)?;
    match (&sent.reply, args.wait) {
        (None, Some(_)) => {
            show(session, &sent)?;
            Err(CliError::failed("the message was delivered; the program did not reply, or not in time"))
        }
        _ => {
            show(session, &sent)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What may have been done must not look like what may be tried again: the message would come twice.
fn unrepeatable(error: ClientError) -> CliError {
    match &error {
        ClientError::Refused(refused) if matches!(refused.code.as_str(), "no_answer" | "answer_lost") => {
            CliError::failed(error.to_string())
        }
        _ => error.into(),
    }
}

/// A reply is the program's output: its bytes, as they are.
fn show(session: &Session, sent: &MessageSent) -> Result<(), CliError> {
    if session.out.is_json() {
        session.out.json(sent);
        return Ok(());
    }
    let Some(reply) = &sent.reply else {
        session.out.note("delivered");
        return Ok(());
    };
    let body = reply.body().map_err(|error| CliError::internal("the node's answer holds no reply", error))?;
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&body).and_then(|()| stdout.flush());
    written.map_err(|error| CliError::caused("cannot write to standard output", error))
}

/// One byte more than a message may have is enough to see that it is too long.
fn read_stdin() -> Result<Vec<u8>, CliError> {
    let mut body = Vec::new();
    let most = MAX_MESSAGE_LENGTH as u64 + 1;
    let read = io::stdin().lock().take(most).read_to_end(&mut body);
    read.map_err(|error| CliError::caused("cannot read standard input", error))?;
    Ok(body)
}
