//! Somebody has a new key: said by the new one on every link-up, or carried here by hand.
//!
//! Checked and followed by pure code ([`crate::trust::succession`]); recorded once. Whoever has a token of the old key's
//! asks the new one for a fresh one.

use dms_actors::{Answer, Context, Did, Handler, Message};
use dms_messages::{Renew, Successions};
use dms_storage::books::TrustEvent;

use crate::commands::CommandError;
use crate::node::Node;
use crate::trust::commands::{SucceedPeer, SuccessionView};
use crate::trust::conduct::Offence;
use crate::trust::succession::{Lineage, SuccessionError, follow};
use crate::word::{Addressed, Word};

impl Node {
    /// On link-up: which keys this node had, so that whoever trusted one of them knows it.
    pub(crate) fn greet_by_name(&mut self, peer: Did, ctx: &mut Context<'_, Self>) {
        let successions = Successions::of(self.books.trust().lineage(self.me()));
        if !successions.successions.is_empty() {
            self.say(ctx, vec![Addressed::new(peer, Word::Successions(successions))]);
        }
    }

    fn read_lineage(&self, word: &Successions) -> Result<Lineage, SuccessionError> {
        Lineage::verify(word, self.parts.network.system.network(), self.now())
    }

    /// What is to be recorded of a lineage.
    fn follow(&self, lineage: &Lineage) -> Result<Vec<TrustEvent>, SuccessionError> {
        let given = self.parts.gate.with_authority(|authority| authority.given().clone());
        follow(lineage, self.books.trust(), &given, self.me())
    }

    /// Asks whoever has a new key for tokens by it, if this node held some by the old one.
    fn renew_from(&mut self, peer: Did, ctx: &mut Context<'_, Self>) {
        if self.due_issuers().contains(&peer) {
            self.say(ctx, vec![Addressed::new(peer, Word::Renew(Renew {}))]);
        }
    }
}

impl Handler<Successions> for Node {
    fn handle(&mut self, word: Successions, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let speaker = ctx.sender();
        // To read it takes a signature for each key that there was: for strangers as rarely as they are answered.
        if !self.knows(speaker) && !self.stranger_answers.take() {
            self.parts.gate.note(speaker, Offence::TooFast);
            return ().into();
        }
        let lineage = self.read_lineage(&word);
        let lineage = lineage.and_then(|lineage| lineage.said_by(speaker).map(|()| lineage));
        let followed = lineage.and_then(|lineage| Ok((self.follow(&lineage)?, lineage)));
        match followed {
            // Heard before; every link-up says it again.
            Ok((changes, _)) if changes.is_empty() => {}
            Ok((changes, lineage)) => self.change_trust(ctx, changes, move |node, outcome, ctx| {
                if outcome.is_ok() {
                    let old = lineage.old().map(|old| old.to_string());
                    tracing::info!(peer = %speaker, old, "it has a new key, and is trusted as before");
                    node.renew_from(speaker, ctx);
                }
            }),
            // A stranger's past is nobody's business.
            Err(SuccessionError::Nobody) => self.parts.gate.note(speaker, Offence::NotAllowed),
            Err(error @ (SuccessionError::Twice(_) | SuccessionError::Own)) => {
                tracing::warn!(peer = %speaker, %error, "a new key does not count: two have the old one, or lie");
            }
            Err(error) => tracing::info!(peer = %speaker, %error, "a new key does not count"),
        }
        ().into()
    }
}

impl Handler<SucceedPeer> for Node {
    fn handle(
        &mut self,
        SucceedPeer { text }: SucceedPeer,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<SucceedPeer as Message>::Reply> {
        let invalid = |error: &dyn std::error::Error| CommandError::InvalidTrust(error.to_string());
        let word = text.parse::<Successions>().map_err(|error| invalid(&error));
        let followed = word.and_then(|word| {
            let lineage = self.read_lineage(&word).map_err(|error| invalid(&error))?;
            let changes = self.follow(&lineage).map_err(|error| invalid(&error))?;
            let ends = lineage.old().zip(lineage.new_name());
            let (old, new) = ends.ok_or_else(|| invalid(&SuccessionError::Broken))?;
            Ok((changes, SuccessionView { old, new }))
        });
        match followed {
            Err(error) => Err(error).into(),
            Ok((changes, view)) if changes.is_empty() => Ok(view).into(),
            Ok((changes, view)) => self.change_as_owner(changes, ctx, move |node, ctx| {
                node.renew_from(view.new, ctx);
                view
            }),
        }
    }
}
