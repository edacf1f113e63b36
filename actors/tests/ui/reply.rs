//! The handler returns something else than the message is answered with.

use dms_actors::{Actor, Answer, Message, handlers};

#[derive(Message)]
#[message(reply = u64)]
struct Ping;

#[derive(Message)]
#[message(reply = u64)]
struct Later;

#[derive(Actor)]
struct Pinger;

#[handlers]
impl Pinger {
    #[handler]
    fn ping(&mut self, _: Ping) -> String {
        String::new()
    }

    #[handler]
    fn later(&mut self, _: Later) -> Answer<String> {
        Answer::later().1
    }
}

fn main() {}
