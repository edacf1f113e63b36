//! When an auction is over, who wins it, and what it refuses.

use std::sync::Arc;

use super::*;
use crate::testing::*;

fn open(asked: &[u8]) -> Auction {
    Auction::open(request(&job()), asked.iter().map(|seed| did(*seed)).collect(), false)
}

#[test]
fn it_is_decided_by_enough_bids_or_by_everybodys_answer() {
    let clock = Arc::new(StillClock::default());
    let bid_of = |seed, price| bid(&request(&job()), price, &signer(seed, &clock));
    let mut auction = open(&[1, 2, 3]);
    assert!(!auction.is_decided());
    assert_eq!(auction.enter(bid_of(1, 5)), BidVerdict::Entered);
    assert!(!auction.is_decided(), "two are wanted");
    assert_eq!(auction.enter(bid_of(2, 4)), BidVerdict::Entered);
    assert!(auction.is_decided());

    let mut auction = open(&[1, 2]);
    auction.decline(did(1), Retry::Final);
    assert!(!auction.is_decided());
    assert_eq!(auction.silent().collect::<Vec<_>>(), [did(2)]);
    assert_eq!(auction.enter(bid_of(2, 4)), BidVerdict::Entered);
    assert!(auction.is_decided(), "everybody has answered");
    assert!(!auction.is_hopeless());

    let mut gossiped = Auction::open(request(&job()), BTreeSet::new(), true);
    gossiped.decline(did(1), Retry::Final);
    assert!(!gossiped.is_decided() && !gossiped.is_hopeless(), "who else may answer is not known");
}

#[test]
fn it_is_hopeless_only_if_everybody_asked_said_no_for_good() {
    let table: [(&[(u8, Retry)], bool); 4] = [
        (&[(1, Retry::Final), (2, Retry::Final)], true),
        (&[(1, Retry::Final), (2, Retry::Later)], false),
        (&[(1, Retry::Final)], false),
        (&[], false),
    ];
    for (answers, is_hopeless) in table {
        let mut auction = open(&[1, 2]);
        answers.iter().for_each(|(seed, retry)| auction.decline(did(*seed), *retry));
        assert_eq!(auction.is_hopeless(), is_hopeless, "{answers:?}");
    }
}

#[test]
fn the_cheapest_then_the_best_fit_wins_and_the_rest_is_let_go() {
    let clock = Arc::new(StillClock::default());
    let mut auction = open(&[1, 2, 3]);
    for (seed, price) in [(1, 9), (2, 4), (3, 7)] {
        auction.enter(bid(&request(&job()), price, &signer(seed, &clock)));
    }
    let (winner, others) = auction.close(std::time::Duration::from_secs(9));
    assert_eq!(winner.unwrap().issuer(), did(2));
    assert_eq!(others.iter().map(|bid| bid.value().price.0).collect::<Vec<_>>(), [7, 9]);
    let (none, others) = open(&[1]).close(std::time::Duration::ZERO);
    assert!(none.is_none() && others.is_empty());
}

#[test]
fn the_last_choice_wins_and_is_enough_only_if_nobody_else_bids() {
    let clock = Arc::new(StillClock::default());
    let bid_of = |seed, price| bid(&request(&job()), price, &signer(seed, &clock));
    let mut auction = open(&[1, 2, 3]).with_last_choice(BTreeSet::from([did(1), did(2)]));
    auction.enter(bid_of(1, 1));
    auction.enter(bid_of(2, 2));
    assert!(!auction.is_decided(), "two are wanted, and these two come last");
    let (winner, _) = auction.clone().close(std::time::Duration::ZERO);
    assert_eq!(winner.unwrap().issuer(), did(1));
    auction.enter(bid_of(3, 9));
    assert!(auction.is_decided(), "everybody has answered");
    let (winner, others) = auction.close(std::time::Duration::ZERO);
    assert_eq!((winner.unwrap().issuer(), others.len()), (did(3), 2));
}

#[test]
fn a_bid_whose_lease_is_over_does_not_win() {
    let clock = Arc::new(StillClock::default());
    let mut auction = open(&[1]);
    auction.enter(bid(&request(&job()), 9, &signer(1, &clock)));
    let (winner, others) = auction.close(std::time::Duration::from_secs(10));
    assert!(winner.is_none());
    assert_eq!(others.len(), 1, "and is let go all the same");
}

#[test]
fn bids_that_cannot_be_taken_are_named() {
    let clock = Arc::new(StillClock::default());
    let bidder = signer(1, &clock);
    let mut auction = open(&[1, 2]);
    let mut smaller = request(&job());
    smaller.requirement.memory.0 -= 1;
    assert!(
        matches!(auction.enter(bid(&smaller, 1, &bidder)), BidVerdict::NotAcceptable(why) if why.to_string().contains("less"))
    );
    let first = bid(&request(&job()), 1, &bidder);
    assert_eq!(auction.enter(first.clone()), BidVerdict::Entered);
    assert_eq!(auction.enter(first), BidVerdict::Repeated);
    assert_eq!(auction.enter(bid(&request(&job()), 1, &bidder)), BidVerdict::Surplus, "one bid a bidder");
    let mut limited = request(&job());
    limited.max_price = Some(dms_messages::Price(3));
    let mut auction = Auction::open(limited.clone(), BTreeSet::new(), true);
    assert!(
        matches!(auction.enter(bid(&limited, 4, &bidder)), BidVerdict::NotAcceptable(why) if why.to_string().contains("price"))
    );
}

#[test]
fn a_flood_of_bids_is_bounded() {
    let clock = Arc::new(StillClock::default());
    let mut wide = request(&job());
    wide.wanted = 200;
    let mut auction = Auction::open(wide.clone(), BTreeSet::new(), true);
    let entered = (1..=100u8)
        .filter(|seed| auction.enter(bid(&wide, 1, &signer(*seed, &clock))) == BidVerdict::Entered)
        .count();
    assert_eq!(entered, MAX_BIDS);
}
