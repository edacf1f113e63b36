//! `Advert`: what a peer, or somebody that it knows, offers. Remembered as a note, outside the books. It is
//! signed by the provider itself, so it does not matter who passes it on.

use dms_actors::{Answer, Context, Handler};
use dms_messages::{Advert, Signed};

use crate::node::Node;

impl Handler<Signed<Advert>> for Node {
    fn handle(&mut self, advert: Signed<Advert>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        if advert.issuer() == ctx.sender() || self.trusts(ctx.sender()) {
            self.note_advert(&advert);
        }
        ().into()
    }
}
