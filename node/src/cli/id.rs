//! `dms id`: who this node is, and who uses this machine. Works on key files; asks the node only for what the books add.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use dms_messages::Did;
use serde::Serialize;

use super::error::{CANNOT_WRITE, CliError};
use super::passphrase::{self, NewPassphrase};
use super::{Session, db, output, small_runtime};
use crate::config::Layer;
use crate::files::{read_text, write_new};
use crate::identity::{
    Cost, Identity, IdentityError, IdentityName, KeyFile, SealedKey, StoredKey, did_document, named,
};
use crate::startup::{offline, rotation};

/// Longest file that is looked at for an exported identity, which is one line.
const MAX_EXPORT_BYTES: u64 = 4096;

/// Show and keep identities: the node's, and people's
///
/// A key is all that an identity is: whoever has it is that node, or that person. The node's lies in the data
/// directory; further ones have names, and sign tokens (`dms token grant --by NAME`). A key under a passphrase is asked
/// for whenever it is used; `--passphrase-file` names a file that answers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Which identity is meant.
#[derive(Debug, clap::Args)]
struct Whose {
    /// A named identity instead of the node's
    #[arg(long, value_name = "NAME")]
    identity: Option<IdentityName>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the node's names; its UUID and CID only while it runs
    Show {
        /// Print the W3C DID document instead
        #[arg(long)]
        document: bool,
        #[command(flatten)]
        whose: Whose,
    },
    /// List the identities of this data directory
    Ls,
    /// Make an identity with a name: a person's, beside the node's
    New {
        /// Its name here; others know the DID alone
        #[arg(value_name = "NAME")]
        name: IdentityName,
        /// Keep its key without a passphrase: whoever reads the file is that person
        #[arg(long, conflicts_with = "new_passphrase_file")]
        no_passphrase: bool,
        #[command(flatten)]
        new: NewPassphrase,
    },
    /// Put a key under a passphrase, change it, or take it away
    Passphrase {
        #[command(subcommand)]
        change: PassphraseChange,
    },
    /// Print the identity as one line for a password manager, always under a passphrase
    ///
    /// A key that is under a passphrase is printed under the same one. Whoever has both the line and the passphrase is
    /// that node: it is the only copy that helps when a disk is lost. The books are not in it (`dms db backup`).
    Export {
        /// File to write to instead, readable by its owner alone; it must not be there yet
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        new: NewPassphrase,
    },
    /// Take up an exported identity, under its passphrase
    ///
    /// Never run one identity on two machines at a time: their peers could not tell them apart, and the books of both
    /// would be wrong.
    Import {
        /// File with the line that `dms id export` printed
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Put it in the place of another identity, whose key is gone then
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        whose: Whose,
    },

    /// Give this node a new key, for which the old one signs
    ///
    /// The node has another DID from then on. Whoever trusted the old one is told when the two meet, and trusts the new
    /// one as far; who is to know it before is told by hand (`dms trust succeed`). A key is rotated as a precaution.
    /// One that was stolen lets the thief sign as well: then every peer must say `dms trust rm`, and trust the new DID
    /// by hand. Everything that was agreed by the old name has to be over. Earlier backups of the books are of the old
    /// name: make a new one.
    Rotate {
        /// Export the old key to this file before, under a passphrase; otherwise nobody has it any more
        #[arg(long, value_name = "FILE")]
        keep_old: Option<PathBuf>,
        #[command(flatten)]
        new: NewPassphrase,
    },
}

#[derive(Debug, Subcommand)]
enum PassphraseChange {
    /// Put the key under a passphrase, or under another
    Set {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        new: NewPassphrase,
    },
    /// Keep the key without one
    Remove {
        #[command(flatten)]
        whose: Whose,
    },
}

/// The names that are known.
#[derive(Debug, Serialize)]
pub(super) struct Names {
    pub(super) did: String,
    pub(super) peer_id: String,
    pub(super) cid: Option<String>,
    pub(super) uuid: Option<String>,
    /// True if the key is under a passphrase.
    pub(super) is_sealed: bool,
}

/// One of the identities of a data directory.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    /// None for the node's.
    pub(super) name: Option<String>,
    /// None if the key file cannot be read.
    pub(super) did: Option<Did>,
    pub(super) is_sealed: bool,
    /// Why it cannot be read.
    pub(super) error: Option<String>,
}

/// An identity that was exported.
#[derive(Debug, Serialize)]
pub(super) struct Exported {
    pub(super) did: Did,
    /// None if it was written to a file.
    pub(super) text: Option<String>,
}

/// A key that was made or changed.
#[derive(Debug, Serialize)]
pub(super) struct Kept {
    pub(super) did: Did,
    pub(super) is_sealed: bool,
}

/// A key that took the place of another.
#[derive(Debug, Serialize)]
pub(super) struct NewKey {
    pub(super) old: Did,
    pub(super) new: Did,
    /// For whoever is to know it at once.
    pub(super) succession: String,
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    match args.command {
        Command::Show { document, whose } => show(document, &whose, session)?,
        Command::Ls => list(session)?,
        Command::New { name, no_passphrase, new } => make(&name, (!no_passphrase).then_some(new), session)?,
        Command::Passphrase { change: PassphraseChange::Set { whose, new } } => {
            change_passphrase(&whose, Some(new), session)?;
        }
        Command::Passphrase { change: PassphraseChange::Remove { whose } } => {
            change_passphrase(&whose, None, session)?;
        }
        Command::Export { out, whose, new } => export(out.as_deref(), &whose, &new, session)?,
        Command::Import { file, replace, whose } => import(&file, replace, &whose, session)?,
        Command::Rotate { keep_old, new } => rotate(keep_old.as_deref(), &new, session)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Whose {
    fn file(&self, session: &Session) -> KeyFile {
        KeyFile::of(&session.data, self.identity.as_ref())
    }

    /// The key; without one it says how to make it.
    fn key(&self, session: &Session) -> Result<StoredKey, CliError> {
        read_key(self.identity.as_ref(), session)
    }

    /// For sentences.
    fn text(&self) -> String {
        self.identity.as_ref().map_or_else(|| "this node".to_owned(), |name| format!("`{name}`"))
    }
}

/// The key of the node, or of a name; without one it says how to make it.
pub(super) fn read_key(name: Option<&IdentityName>, session: &Session) -> Result<StoredKey, CliError> {
    if name.is_none() {
        rotation::settle(&session.settings(Layer::default())?.settings)?;
    }
    match (KeyFile::of(&session.data, name).read(), name) {
        (Err(IdentityError::Missing { .. }), Some(name)) => {
            let error = CliError::failed(format!("there is no identity `{name}` here"));
            Err(error.advised("make it with", format!("id new {name}")))
        }
        (read, _) => Ok(read?),
    }
}

fn show(is_document: bool, whose: &Whose, session: &Session) -> Result<(), CliError> {
    let key = whose.key(session)?;
    let did = key.did();
    if is_document {
        session.out.json(&did_document(&did));
        return Ok(());
    }
    let client = session.client()?;
    // The key file is enough for the rest, so a node that does not run is no failure.
    let id =
        small_runtime()?.block_on(client.status()).ok().map(|status| status.id).filter(|id| id.did == did);
    let names = Names {
        did: did.to_string(),
        peer_id: did.peer_id(),
        cid: id.as_ref().map(|id| id.cid.to_string()),
        uuid: id.as_ref().map(|id| id.uuid.to_string()),
        is_sealed: matches!(key, StoredKey::Sealed(_)),
    };
    session.out.document(&names, output::names);
    Ok(())
}

fn list(session: &Session) -> Result<(), CliError> {
    let names = std::iter::once(None).chain(named(&session.data)?.into_iter().map(Some));
    let listed = names.filter_map(|name| {
        let (did, is_sealed, error) = match KeyFile::of(&session.data, name.as_ref()).read() {
            Ok(key) => (Some(key.did()), matches!(key, StoredKey::Sealed(_)), None),
            Err(IdentityError::Missing { .. }) => return None,
            Err(error) => (None, false, Some(error.to_string())),
        };
        Some(Listed { name: name.map(|name| name.to_string()), did, is_sealed, error })
    });
    session.out.document(&listed.collect::<Vec<_>>(), |listed| output::identities(listed));
    Ok(())
}

fn make(name: &IdentityName, new: Option<NewPassphrase>, session: &Session) -> Result<(), CliError> {
    let file = KeyFile::of_name(&session.data, name);
    // Before anybody thinks of a passphrase.
    if file.path().exists() {
        return Err(IdentityError::AlreadyExists { path: file.path() }.into());
    }
    let identity = Identity::generate()?;
    let key = match new {
        Some(new) => passphrase::sealed(&identity, &new.get(&format!("`{name}`"))?)?,
        None => StoredKey::Bare(identity),
    };
    file.create(&key)?;
    let kept = Kept { did: key.did(), is_sealed: matches!(key, StoredKey::Sealed(_)) };
    session.out.document(&kept, |kept| format!("`{name}` is {}\n", kept.did));
    Ok(())
}

fn change_passphrase(whose: &Whose, new: Option<NewPassphrase>, session: &Session) -> Result<(), CliError> {
    let opened = passphrase::open(whose.key(session)?, session)?;
    let key = match new {
        Some(new) => passphrase::sealed(&opened, &new.get(&whose.text())?)?,
        None => StoredKey::Bare(opened),
    };
    whose.file(session).replace(&key)?;
    let kept = Kept { did: key.did(), is_sealed: matches!(key, StoredKey::Sealed(_)) };
    session.out.document(&kept, |kept| match kept.is_sealed {
        true => format!("the key of {} is under the new passphrase\n", kept.did),
        false => format!("the key of {} is under no passphrase\n", kept.did),
    });
    Ok(())
}

fn export(out: Option<&Path>, whose: &Whose, new: &NewPassphrase, session: &Session) -> Result<(), CliError> {
    let key = for_export(whose.key(session)?, new, session)?;
    let text = write_export(&key, out)?;
    let exported = Exported { did: key.did(), text };
    session.out.document(&exported, output::exported);
    Ok(())
}

/// What is exported of a key: under its own passphrase, or under one that is chosen now.
fn for_export(key: StoredKey, new: &NewPassphrase, session: &Session) -> Result<SealedKey, CliError> {
    match key {
        StoredKey::Sealed(key) => {
            session.out.note("exported under the passphrase that the key has here");
            Ok(key)
        }
        StoredKey::Bare(identity) => {
            let passphrase = new.get("what is exported")?;
            let key = SealedKey::seal(&identity.keypair, &passphrase, Cost::STANDARD);
            Ok(key.map_err(IdentityError::from)?)
        }
    }
}

/// Writes an exported key to a new file, or gives its text.
fn write_export(key: &SealedKey, out: Option<&Path>) -> Result<Option<String>, CliError> {
    let Some(path) = out else { return Ok(Some(key.to_string())) };
    write_new(path, format!("{key}\n").as_bytes()).map_err(|error| {
        let message = format!("{} cannot be written", path.display());
        CliError::Caused { code: CANNOT_WRITE, message, source: Box::new(error) }
    })?;
    Ok(None)
}

fn import(path: &Path, is_to_replace: bool, whose: &Whose, session: &Session) -> Result<(), CliError> {
    let text = read_text(path, MAX_EXPORT_BYTES)
        .map_err(|error| CliError::caused(format!("{} cannot be read", path.display()), error))?;
    let key: SealedKey = text.parse().map_err(|error| CliError::usage(format!("{error}")))?;
    let did = key.did();
    let key = StoredKey::Sealed(key);
    // A line that nobody can open takes no key's place.
    passphrase::open(key.clone(), session)?;
    // Named keys belong to no books and to no running node.
    let _held = match &whose.identity {
        Some(_) => None,
        None => Some(offline::hold_for_key(&session.settings(Layer::default())?.settings, did)?),
    };
    let file = whose.file(session);
    match file.read() {
        Err(IdentityError::Missing { .. }) => file.create(&key)?,
        Ok(known) if known.did() == did => file.replace(&key)?,
        Ok(_) | Err(IdentityError::Corrupt { .. }) if is_to_replace => file.replace(&key)?,
        Ok(other) => {
            return Err(CliError::failed(format!(
                "there is another identity here, {}; --replace puts {did} in its place, and its key is gone then \
                 (export it before)",
                other.did()
            )));
        }
        Err(error) => return Err(error.into()),
    }
    let kept = Kept { did, is_sealed: true };
    session
        .out
        .document(&kept, |kept| format!("{} is {} now, under its passphrase\n", whose.text(), kept.did));
    Ok(())
}

fn rotate(keep_old: Option<&Path>, new: &NewPassphrase, session: &Session) -> Result<(), CliError> {
    let settings = db::stopped("rotate its key", session)?;
    let key = read_key(None, session)?;
    let opened = passphrase::open_as_kept(key.clone(), session)?;
    if let Some(path) = keep_old {
        write_export(&for_export(key, new, session)?, Some(path))?;
    }
    let next = Identity::generate()?;
    let stored = opened.stored_like(&next)?;
    let rotated = small_runtime()?.block_on(rotation::rotate(&settings, &opened.identity, &next, &stored))?;
    let succession = rotated.successions.to_string();
    let rotated = NewKey { old: rotated.old, new: rotated.new, succession };
    session.out.document(&rotated, output::rotated);
    Ok(())
}
