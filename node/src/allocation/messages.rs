//! What others say to an allocation's program, and what the actor says of it while it lives.

use dms_actors::{ActorPath, Answer, Context, Did, Handler, Message};
use dms_messages::ability::allocation;
use dms_messages::{AllocationId, AllocationMessage, AllocationRefusal, AllocationUsage, Delivered, Millis};

use super::AllocationActor;
use crate::trust::Gate;

/// What the paths of allocations begin with.
pub const ALLOCATIONS_PATH: &str = "/node/alloc/";

/// Where a live allocation is, within its provider's system.
pub fn path_of(id: AllocationId) -> String {
    format!("{ALLOCATIONS_PATH}{id}")
}

/// Which allocation is, or was, at a path; none if it is no allocation's.
pub fn allocation_at(path: &ActorPath) -> Option<AllocationId> {
    let id: AllocationId = path.as_str().strip_prefix(ALLOCATIONS_PATH)?.parse().ok()?;
    // An id has other spellings, and a path only one.
    (path_of(id) == path.as_str()).then_some(id)
}

/// True if `who` may speak to an allocation of `requester`'s, and see how it stands: this node's owner, who asked for
/// it, and whoever a token lets.
pub(crate) fn may_address(gate: &Gate, me: Did, requester: Did, id: AllocationId, who: Did) -> bool {
    who == me || who == requester || gate.may(who, allocation(id).as_str(), None).is_ok()
}

/// Asks a live allocation what it uses.
#[derive(Debug)]
pub(crate) struct GetUsage;

impl Message for GetUsage {
    type Reply = AllocationUsage;
}

impl Handler<AllocationMessage> for AllocationActor {
    fn handle(
        &mut self,
        message: AllocationMessage,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<AllocationMessage as Message>::Reply> {
        // The gate has asked the same of what came over a link; not every system has one.
        if !self.may_address(ctx.sender()) {
            return Err(AllocationRefusal::NotYours).into();
        }
        let AllocationMessage { content, wants_reply } = message;
        match self.deliver(content, wants_reply) {
            Err(refusal) => Err(refusal).into(),
            Ok(None) => Ok(Delivered { reply: None }).into(),
            Ok(Some(asked)) => {
                let (responder, answer) = Answer::later();
                // As many of these wait as messages do, and the one that the program works on.
                ctx.pipe(asked, |_, reply, _| responder.reply(Ok(Delivered { reply: reply.ok() })));
                answer
            }
        }
    }
}

impl Handler<GetUsage> for AllocationActor {
    fn handle(&mut self, _: GetUsage, _: &mut Context<'_, Self>) -> Answer<AllocationUsage> {
        self.usage().into()
    }
}

impl AllocationActor {
    fn usage(&self) -> AllocationUsage {
        let (stdout, stderr) = self.output_lengths();
        let (messages, waiting_messages) = self.message_counts();
        AllocationUsage { ran: Millis::from(self.ran()), stdout, stderr, messages, waiting_messages }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_allocation_and_other_paths_none() {
        let id = AllocationId::from_random([9; 16]);
        assert_eq!(allocation_at(&path_of(id).parse().unwrap()), Some(id));
        let simple = id.to_string().replace('-', "");
        let others =
            ["/node", "/node/alloc", "/node/alloc/x", "/alloc/1", "/node/allocs/1"].map(str::to_owned);
        let spelled = [format!("{ALLOCATIONS_PATH}{simple}"), format!("/other{}", path_of(id))];
        let below = [format!("{}/x", path_of(id))];
        for path in others.into_iter().chain(spelled).chain(below) {
            assert_eq!(allocation_at(&path.parse().unwrap()), None, "{path}");
        }
    }
}
