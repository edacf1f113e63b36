//! What can be said once.

use dms_actors::{Actor, Message};

#[derive(Message)]
#[message(reply = u64, reply = u32)]
struct Ping;

#[derive(Actor)]
#[actor(mailbox = 1)]
#[actor(mailbox = 2)]
struct Pinger;

fn main() {}
