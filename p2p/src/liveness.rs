//! Pings: libp2p only reports missed ones, so closing a silent connection is decided here.
//!
//! With the default timing a peer that vanishes without a word is found within about a minute: one
//! ping that times out, and one whose stream is not even opened any more.

use libp2p::ping;

use crate::config::Timing;

/// The behaviour.
pub(crate) fn behaviour(timing: &Timing) -> ping::Behaviour {
    ping::Behaviour::new(
        ping::Config::new().with_interval(timing.ping_interval).with_timeout(timing.ping_timeout),
    )
}

/// True if the connection of this ping must be closed: two pings in a row were missed. libp2p keeps the
/// first miss to itself, so the first that it reports is the second.
pub(crate) fn is_dead(event: &ping::Event) -> bool {
    match &event.result {
        // A peer without ping is not dead; TCP will tell.
        Ok(_) | Err(ping::Failure::Unsupported) => false,
        Err(ping::Failure::Timeout | ping::Failure::Other { .. }) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;
    use libp2p::swarm::ConnectionId;
    use std::time::Duration;

    #[test]
    fn a_reported_miss_is_the_second_and_a_peer_without_ping_stays() {
        let broken = ping::Failure::Other { error: "the stream broke".into() };
        let table = [
            (Ok(Duration::ZERO), false),
            (Err(ping::Failure::Unsupported), false),
            (Err(ping::Failure::Timeout), true),
            (Err(broken), true),
        ];
        for (result, expected) in table {
            let event =
                ping::Event { peer: test_peer(1), connection: ConnectionId::new_unchecked(1), result };
            assert_eq!(is_dead(&event), expected, "{event:?}");
        }
    }
}
