//! A reply is a type.

use dms_actors::Message;

#[derive(Message)]
#[message(reply)]
struct Ping;

fn main() {}
