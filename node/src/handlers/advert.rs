//! `Advert` and `NodeStatus`: what a peer, or somebody that it knows, offers, and how a peer stands.
//! Remembered as notes, outside the books. Both are signed by whom they are about, so it does not matter who
//! passes them on.

use dms_actors::{Answer, Context, Handler};
use dms_messages::{Advert, NodeStatus, Signed};

use crate::node::Node;

impl Handler<Signed<Advert>> for Node {
    fn handle(&mut self, advert: Signed<Advert>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let (issuer, sender) = (advert.issuer(), ctx.sender());
        if issuer != sender && self.knows(sender) {
            // Its own has come with the link; another's comes with the advert, and is looked at for those we know.
            self.parts.gate.show(issuer, &advert.value().credentials);
        }
        if issuer == sender || self.knows(sender) {
            self.note_advert(&advert);
        }
        ().into()
    }
}

impl Node {
    /// Remembers a provider's offer, and where it can be dialled; strangers are noted for explanations alone.
    pub(crate) fn note_advert(&mut self, advert: &Signed<Advert>) {
        let provider = advert.issuer();
        let is_trusted = self.may_provide(provider);
        if provider == self.me() || !self.adverts.take(advert, is_trusted, self.now()) {
            return;
        }
        if is_trusted {
            self.network.remember(provider, advert.value().addresses.clone());
        }
    }

    /// Remembers how a node stands.
    pub(crate) fn note_status(&mut self, status: &Signed<NodeStatus>) {
        let issuer = status.issuer();
        if issuer != self.me() {
            self.statuses.take(status, self.may_provide(issuer), self.now());
        }
    }
}
