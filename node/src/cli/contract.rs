//! `dms contract`: the terms that were agreed on, and the proof of them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::error::{CliError, FAILED};
use super::listing::{PageArgs, checked_id};
use super::{Session, output, small_runtime};
use crate::proof;

/// See what was agreed on with whom, and prove it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the contracts of both roles, newest first
    #[command(alias = "list")]
    Ls {
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show a contract, or write it to a file that anybody can check
    Show {
        /// The beginning of its CID, or of the id of its bid, its job or its allocation
        #[arg(value_name = "ID")]
        id: String,
        /// Write the signed documents, byte for byte, to this file; a file that is there is not replaced
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check every signature in a contract's file; needs no node and no network
    ///
    /// Exit code 0: both parties have signed, and nothing was changed since. Exit code 1: anything else, also a
    /// contract that only the requester has signed. A contract that has expired is history: it still proves what
    /// was agreed.
    Verify {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    match args.command {
        Command::Ls { page } => {
            let wanted = page.page()?;
            let list = small_runtime()?.block_on(session.client()?.contracts(&wanted))?;
            let empty = || page.empty("contracts", ": nobody has agreed on anything");
            session.out.document(&list, |list| output::contracts(list, output::now(), empty));
            let last = list.last().map(|view| output::short_cid(&view.cid));
            page.note_more(session, list.len(), last, "contract ls");
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { id, out } => show(&id, out.as_deref(), session),
        Command::Verify { file } => verify(&file, session),
    }
}

fn show(id: &str, out: Option<&Path>, session: &Session) -> Result<ExitCode, CliError> {
    let contract = small_runtime()?.block_on(session.client()?.contract(checked_id(id)?))?;
    if let Some(path) = out {
        let file = proof::to_file(&contract.contract_document, contract.accepted_document.as_ref());
        let written = File::options().write(true).create_new(true).open(path);
        written
            .and_then(|mut written| written.write_all(&file).and_then(|()| written.sync_all()))
            .map_err(|error| CliError::caused(format!("cannot write {}", path.display()), error))?;
    }
    session.out.document(&contract, |contract| output::contract(contract, output::now()));
    if let Some(path) = out {
        session.out.note(&format!("wrote {}", path.display()));
        session.out.note(&format!(
            "check it anywhere: dms contract verify {}",
            super::quoted(&path.display().to_string())
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(path: &Path, session: &Session) -> Result<ExitCode, CliError> {
    let failed = |error: io::Error| CliError::caused(format!("cannot read {}", path.display()), error);
    let mut file = Vec::new();
    let most = proof::MAX_FILE_LENGTH as u64 + 1;
    File::open(path).and_then(|opened| opened.take(most).read_to_end(&mut file)).map_err(failed)?;
    let proof = proof::verify(&file, output::now())
        .map_err(|error| CliError::caused(format!("{} proves no contract", path.display()), error))?;
    session.out.document(&proof, |proof| output::proof(proof, output::now()));
    if proof.is_agreed() {
        Ok(ExitCode::SUCCESS)
    } else {
        let message = "only the requester has signed: this proves an offer, not an agreement";
        Err(CliError::Plain { code: FAILED, message: message.to_owned() })
    }
}
