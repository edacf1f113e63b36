//! Messages and actors own what they hold, and a kind names one type.

use dms_actors::{Actor, Message, WireMessage};

#[derive(Message)]
struct Borrowed<'a>(&'a str);

#[derive(WireMessage)]
#[wire(kind = "example.any")]
struct Any<T>(T);

#[derive(Actor)]
struct Reader<'a>(&'a str);

#[derive(Actor)]
#[actor(mailbox = 0)]
struct Full;

fn main() {}
