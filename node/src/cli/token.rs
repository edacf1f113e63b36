//! `dms token`: capability tokens, for those who want more than roles.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use dms_actors::clock::SystemClock;
use dms_messages::{Ability, Credentials, Did, Millis, Role, Signed, Token};

use super::error::CliError;
use super::id::read_key;
use super::{Session, output, passphrase, small_runtime};
use crate::config::Layer;
use crate::identity::IdentityName;
use crate::signer::Signer;
use crate::trust::commands::{GrantToken, GrantedToken, TokenView};
use crate::trust::issue;

/// Grant, hand on, inspect and revoke capability tokens
///
/// A token lets its holder do something here (or wherever this node is trusted). It is signed, names who may do what
/// until when, and may allow its holder to let others do the same or less. Abilities are paths: /dms/request/bids is
/// to ask for bids, /dms/request is everything a requester does, / is all.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the tokens that this node has signed, and those that it holds
    Ls,
    /// Let a node do something; it is told, and the token is printed to be carried by hand if need be
    Grant {
        /// The node
        #[arg(value_name = "DID")]
        to: Did,
        /// Sign it with the key of a named identity (`dms id new`) instead of the node's; needs no node, and --expires,
        /// because nobody renews it
        #[arg(long, value_name = "NAME", requires = "expires")]
        by: Option<IdentityName>,
        #[command(flatten)]
        what: What,
    },
    /// Let a node do what this one was let do, or less
    Delegate {
        /// The held token, as `dms token ls` shows it, or its end
        #[arg(value_name = "TOKEN")]
        parent: String,
        /// The node
        #[arg(value_name = "DID")]
        to: Did,
        #[command(flatten)]
        what: What,
    },
    /// Keep tokens that were carried here by hand
    Keep {
        /// What `dms token grant` printed
        #[arg(value_name = "TEXT")]
        text: String,
    },
    /// Show what tokens say; needs no node
    Inspect {
        /// What `dms token grant` printed
        #[arg(value_name = "TEXT")]
        text: String,
    },
    /// Revoke a token that this node has signed; the mesh is told
    Revoke {
        /// The token, as `dms token ls` shows it, or its end
        #[arg(value_name = "TOKEN")]
        id: String,
    },
}

/// What a token says.
#[derive(Debug, clap::Args)]
struct What {
    /// What it allows: member, requester, provider or admin
    #[arg(long = "as", value_name = "ROLE", default_value = "member", conflicts_with = "abilities")]
    role: Role,
    /// What it allows, more exactly (/dms/request/bids); may be repeated
    #[arg(long = "ability", value_name = "PATH")]
    abilities: Vec<Ability>,
    /// Only what is gossiped on this topic (bid-request); may be repeated
    #[arg(long = "topic", value_name = "NAME")]
    topics: Vec<String>,
    /// How many tokens may follow on it [default: 0, for an admin 3]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(0..=7))]
    depth: Option<u8>,
    /// How long it may be used [default: for as long as this node trusts the other; it is renewed, in the place of
    /// what this node has let it do so before]
    #[arg(long, value_name = "TIME")]
    expires: Option<Millis>,
}

impl What {
    fn grant(self, to: Did, parent: Option<String>) -> GrantToken {
        let depth = self.depth.unwrap_or(if self.abilities.is_empty() { self.role.depth() } else { 0 });
        let abilities = match self.abilities.is_empty() {
            true => self.role.abilities(),
            false => self.abilities.into_iter().collect(),
        };
        let topics: BTreeSet<String> = self.topics.into_iter().collect();
        let topics = (!topics.is_empty()).then_some(topics);
        GrantToken { to, abilities, topics, depth, parent, ttl: self.expires }
    }
}

pub(super) fn run(args: Args, session: &Session) -> Result<ExitCode, CliError> {
    let out = session.out;
    if let Command::Inspect { text } = &args.command {
        let tokens = inspect(text)?;
        out.document(&tokens, |tokens| output::token_details(tokens, output::now()));
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Grant { to, by: Some(name), what } = args.command {
        let granted = sign(&name, what.grant(to, None), session)?;
        out.document(&granted, output::granted_by_hand);
        return Ok(ExitCode::SUCCESS);
    }
    let client = session.client()?;
    let runtime = small_runtime()?;
    let grant = |grant: GrantToken| -> Result<(), CliError> {
        let granted = runtime.block_on(client.grant_token(&grant))?;
        out.document(&granted, output::granted);
        Ok(())
    };
    match args.command {
        Command::Ls => {
            let tokens = runtime.block_on(client.tokens())?;
            out.document(&tokens, |tokens| output::tokens(tokens, output::now()));
        }
        Command::Grant { to, by: _, what } => grant(what.grant(to, None))?,
        Command::Delegate { parent, to, what } => grant(what.grant(to, Some(parent)))?,
        Command::Keep { text } => {
            let kept = runtime.block_on(client.keep_tokens(&text))?;
            out.document(&kept, |kept| output::token_details(kept, output::now()));
        }
        Command::Revoke { id } => {
            let revoked = runtime.block_on(client.revoke_token(&id))?;
            out.document(&revoked, |token| format!("{} is revoked, and the mesh is told\n", token.id));
        }
        Command::Inspect { .. } => unreachable!("it needs no node"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Signs a token with a person's key, for whoever trusts that person.
fn sign(name: &IdentityName, grant: GrantToken, session: &Session) -> Result<GrantedToken, CliError> {
    let identity = passphrase::open(read_key(Some(name), session)?, session)?;
    let settings = session.settings(Layer::default())?.settings;
    let signer = Signer::new(Arc::new(identity.keypair), SystemClock::shared(), settings.network.as_str());
    let token = issue::sign_once(&signer, &grant).map_err(CliError::usage)?;
    let text = Credentials::of([&token]).to_string();
    Ok(GrantedToken { token: TokenView::of(&token, true, false), text })
}

fn inspect(text: &str) -> Result<Vec<TokenView>, CliError> {
    let credentials: Credentials = text.parse().map_err(|error| CliError::usage(format!("{error}")))?;
    let read = |bytes: &[u8]| {
        let token = Signed::<Token>::verify_offline(bytes);
        let token = token.map_err(|error| CliError::failed(format!("a token does not hold: {error}")))?;
        Ok(TokenView::of(&token, false, false))
    };
    credentials.iter().map(read).collect()
}
