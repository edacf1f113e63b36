//! What others say to an allocation's program, and what the actor says of it while it lives.

use std::time::Duration;

use dms_actors::{Answer, Context, Did, Handler, Message};
use dms_messages::ability::allocation;
use dms_messages::{AllocationId, AllocationMessage, AllocationRefusal, AllocationUsage, Delivered, Millis};

use tokio::time::{Instant, timeout_at};

use super::AllocationActor;
use crate::trust::Gate;

/// How long before the end of an ask it is said that there is no reply: the way back takes time, too.
const MARGIN: Duration = Duration::from_millis(500);

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
                // Said before whoever asked gives up, who would not know then whether it was delivered at all. From then
                // on the program is told that nobody waits.
                let end = ctx.deadline().map(|deadline| {
                    let left = deadline.saturating_duration_since(Instant::now());
                    deadline - MARGIN.min(left / 4)
                });
                let reply = async move {
                    match end {
                        Some(end) => timeout_at(end, asked).await.ok()?.ok(),
                        None => asked.await.ok(),
                    }
                };
                // As many of these wait as messages do, and the one that the program works on.
                ctx.pipe(reply, |_, reply, _| responder.reply(Ok(Delivered { reply })));
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
