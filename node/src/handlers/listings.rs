//! What the API asks about bids, allocations and contracts: see [`crate::listings`].

use dms_actors::{Answer, Context, Handler, Message};

use crate::commands::CommandError;
use crate::listings::bids::{self, ListBidRequests, ListBids};
use crate::listings::contracts::{
    self, AllocationView, ListAllocations, ListContracts, ShowAllocation, ShowContract,
};
use crate::listings::past;
use crate::node::Node;

impl Handler<ListBidRequests> for Node {
    fn handle(
        &mut self,
        list: ListBidRequests,
        _: &mut Context<'_, Self>,
    ) -> Answer<<ListBidRequests as Message>::Reply> {
        bids::requests(&self.books, &list).into()
    }
}

impl Handler<ListBids> for Node {
    fn handle(&mut self, list: ListBids, _: &mut Context<'_, Self>) -> Answer<<ListBids as Message>::Reply> {
        bids::bids(&self.books, &list, self.now()).into()
    }
}

impl Handler<ListAllocations> for Node {
    fn handle(
        &mut self,
        list: ListAllocations,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<ListAllocations as Message>::Reply> {
        let me = self.me();
        match contracts::allocations_part(&self.books, me, &list.page) {
            Ok(part) => self.answer_from_archive(ctx, move |archive| part.allocations(archive, me)),
            Err(error) => Err(error).into(),
        }
    }
}

impl Handler<ShowAllocation> for Node {
    fn handle(
        &mut self,
        show: ShowAllocation,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<ShowAllocation as Message>::Reply> {
        let me = self.me();
        match contracts::allocation(&self.books, me, &show.id) {
            Err(CommandError::UnknownId { .. }) => {
                self.answer_from_archive(ctx, move |archive| past::allocation(archive, me, &show.id))
            }
            known => {
                let now = self.parts.clock.monotonic();
                known.map(|view| AllocationView { usage: self.monitor.usage(view.id, now), ..view }).into()
            }
        }
    }
}

impl Handler<ListContracts> for Node {
    fn handle(
        &mut self,
        list: ListContracts,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<ListContracts as Message>::Reply> {
        let me = self.me();
        match contracts::contracts_part(&self.books, me, &list.page) {
            Ok(part) => self.answer_from_archive(ctx, move |archive| part.contracts(archive, me)),
            Err(error) => Err(error).into(),
        }
    }
}

impl Handler<ShowContract> for Node {
    fn handle(
        &mut self,
        show: ShowContract,
        ctx: &mut Context<'_, Self>,
    ) -> Answer<<ShowContract as Message>::Reply> {
        let me = self.me();
        match contracts::contract(&self.books, me, &show.id) {
            Err(CommandError::UnknownId { .. }) => {
                self.answer_from_archive(ctx, move |archive| past::contract(archive, me, &show.id))
            }
            known => known.into(),
        }
    }
}
