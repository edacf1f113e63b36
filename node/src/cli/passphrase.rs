//! Opens keys: asks for passphrases at the terminal, or reads them from files that commands are told of.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use dialoguer::Password;
use zeroize::Zeroizing;

use super::error::{CliError, INTERRUPTED};
use super::{Session, output};
use crate::config::Layer;
use crate::identity::{Cost, Identity, IdentityError, Passphrase, SealError, StoredKey, stored_or_new};
use crate::startup::rotation::settle;

/// How often a person may mistype before the command ends.
const TRIES: usize = 3;

/// Where a new passphrase comes from, if a command needs one.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub(super) struct NewPassphrase {
    /// File that holds the new passphrase, readable by its owner alone [default: asked for twice]
    #[arg(long, value_name = "PATH")]
    new_passphrase_file: Option<PathBuf>,
}

/// A key that was opened, and with what.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) identity: Identity,
    /// None if the key is bare.
    pub(super) passphrase: Option<Passphrase>,
}

impl Opened {
    /// The same protection for another key.
    pub(super) fn stored_like(&self, identity: &Identity) -> Result<StoredKey, CliError> {
        match &self.passphrase {
            Some(passphrase) => Ok(sealed(identity, passphrase)?),
            None => Ok(StoredKey::Bare(identity.clone())),
        }
    }
}

/// A key under a passphrase, at the cost that people's keys have.
pub(super) fn sealed(identity: &Identity, passphrase: &Passphrase) -> Result<StoredKey, IdentityError> {
    Ok(StoredKey::sealed(identity, passphrase, Cost::STANDARD)?)
}

/// The node's key; made if there is none.
pub(super) fn own_key(session: &Session) -> Result<StoredKey, CliError> {
    settle(&session.settings(Layer::default())?.settings)?;
    Ok(stored_or_new(&session.data)?)
}

/// Opens a key, which takes a passphrase if it is under one.
pub(super) fn open(key: StoredKey, session: &Session) -> Result<Identity, CliError> {
    open_as_kept(key, session).map(|opened| opened.identity)
}

/// The same, for whoever keeps another key in the same way.
pub(super) fn open_as_kept(key: StoredKey, session: &Session) -> Result<Opened, CliError> {
    let sealed = match key {
        StoredKey::Bare(identity) => return Ok(Opened { identity, passphrase: None }),
        StoredKey::Sealed(sealed) => sealed,
    };
    let opened = |passphrase: Passphrase| {
        let keypair = sealed.open(&passphrase)?;
        Ok(Opened { identity: Identity { keypair }, passphrase: Some(passphrase) })
    };
    if let Some(path) = &session.passphrase_file {
        let passphrase = Passphrase::from_file(path).map_err(IdentityError::from)?;
        return opened(passphrase).map_err(|error: SealError| IdentityError::from(error).into());
    }
    if !is_at_terminal() {
        return Err(IdentityError::Sealed { did: sealed.did() }.into());
    }
    let prompt = format!("Passphrase of {}", sealed.did().short());
    let mut tries = 1;
    loop {
        match opened(ask(&Password::new().with_prompt(&prompt))?) {
            Err(SealError::WrongPassphrase { .. }) if tries < TRIES => {
                output::say("that is not it");
                tries += 1;
            }
            done => return done.map_err(|error| IdentityError::from(error).into()),
        }
    }
}

impl NewPassphrase {
    /// A passphrase that is set anew; `what` says for what.
    pub(super) fn get(&self, what: &str) -> Result<Passphrase, CliError> {
        let passphrase = match &self.new_passphrase_file {
            Some(path) => Passphrase::from_file(path).map_err(IdentityError::from)?,
            None if is_at_terminal() => {
                let question = Password::new()
                    .with_prompt(format!("New passphrase for {what}"))
                    .with_confirmation("Once more", "the two are not the same");
                ask(&question)?
            }
            None => {
                return Err(CliError::usage(
                    "nobody is at a terminal to choose a passphrase; name a file that holds it with \
                     --new-passphrase-file",
                ));
            }
        };
        passphrase.check_new().map_err(IdentityError::from)?;
        Ok(passphrase)
    }
}

/// Asks, without showing what is typed.
fn ask(question: &Password<'_>) -> Result<Passphrase, CliError> {
    let typed = question.clone().report(false).interact().map_err(|dialoguer::Error::IO(error)| {
        // The prompt leaves the terminal as it was while it asked: within a line.
        output::say("");
        match error.kind() {
            io::ErrorKind::Interrupted => {
                CliError::Plain { code: INTERRUPTED, message: "interrupted: nothing was changed".to_owned() }
            }
            _ => CliError::caused("cannot ask for a passphrase", error),
        }
    })?;
    Ok(Passphrase::new(Zeroizing::new(typed)).map_err(IdentityError::from)?)
}

/// True if somebody can be asked: questions go to standard error.
fn is_at_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}
