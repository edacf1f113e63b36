//! Methods that cannot be handlers; each is refused with the form that is expected.

use dms_actors::{Actor, Context, Message, handlers};

#[derive(Message)]
#[message(reply = u64)]
struct Ping;

#[derive(Actor)]
struct Pinger;

struct Other;

#[handlers]
impl Pinger {
    #[handler]
    fn no_self(_: Ping) -> u64 {
        1
    }

    #[handler]
    fn nothing() {}

    #[handler]
    fn by_value(self, _: Ping) -> u64 {
        1
    }

    #[handler]
    fn no_message(&mut self) -> u64 {
        1
    }

    #[handler]
    fn borrows(&mut self, _: &Ping) -> u64 {
        1
    }

    #[handler]
    fn anything(&mut self, _: impl Send) -> u64 {
        1
    }

    #[handler]
    fn parameter<M>(&mut self, _: M) -> u64 {
        1
    }

    #[handler]
    fn two(&mut self, _: Ping, _: Other) -> u64 {
        1
    }

    #[handler]
    fn three(&mut self, _: Ping, _: &mut Context<'_, Self>, _: Other) -> u64 {
        1
    }

    #[handler]
    async fn waits(&mut self, _: Ping) -> u64 {
        1
    }
}

fn main() {}
