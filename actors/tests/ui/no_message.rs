//! The handled type is no message.

use dms_actors::{Actor, handlers};

struct Ping;

#[derive(Actor)]
struct Pinger;

#[handlers]
impl Pinger {
    #[handler]
    fn ping(&mut self, _: Ping) {}
}

fn main() {}
