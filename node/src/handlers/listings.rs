//! What the API asks about bids, allocations and contracts: see [`crate::listings`].

use dms_actors::{Answer, Context, Handler, Message};

use crate::listings::bids::{self, ListBidRequests, ListBids};
use crate::listings::contracts::{self, ListAllocations, ListContracts, ShowAllocation, ShowContract};
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
        _: &mut Context<'_, Self>,
    ) -> Answer<<ListAllocations as Message>::Reply> {
        contracts::allocations(&self.books, self.me(), &list.page).into()
    }
}

impl Handler<ShowAllocation> for Node {
    fn handle(
        &mut self,
        show: ShowAllocation,
        _: &mut Context<'_, Self>,
    ) -> Answer<<ShowAllocation as Message>::Reply> {
        contracts::allocation(&self.books, self.me(), &show.id).into()
    }
}

impl Handler<ListContracts> for Node {
    fn handle(
        &mut self,
        list: ListContracts,
        _: &mut Context<'_, Self>,
    ) -> Answer<<ListContracts as Message>::Reply> {
        contracts::contracts(&self.books, self.me(), &list.page).into()
    }
}

impl Handler<ShowContract> for Node {
    fn handle(
        &mut self,
        show: ShowContract,
        _: &mut Context<'_, Self>,
    ) -> Answer<<ShowContract as Message>::Reply> {
        contracts::contract(&self.books, self.me(), &show.id).into()
    }
}
