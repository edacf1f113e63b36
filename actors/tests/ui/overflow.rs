//! An overflow policy that there is not.

use dms_actors::Actor;

#[derive(Actor)]
#[actor(mailbox = 64, overflow = DropNewest)]
struct Pinger;

fn main() {}
