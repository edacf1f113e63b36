//! What the tests share: quick configurations, and waiting with a deadline.

use std::future::Future;
use std::time::Duration;

use dms_actors::transport::{Pipe, TransportEvent};
use dms_actors::{Did, Keypair};
use dms_p2p::{P2p, P2pConfig, P2pStatus, Timing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Longer than anything here takes on a loaded machine; a test that hits it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A peer on a free port, with periods short enough for tests.
pub(crate) fn config() -> P2pConfig {
    P2pConfig {
        network: "test".to_owned(),
        timing: Timing {
            dial_timeout: Duration::from_secs(3),
            gossip_heartbeat: Duration::from_millis(100),
            redial_initial: Duration::from_millis(50),
            redial_max: Duration::from_secs(1),
            ..Timing::default()
        },
        ..P2pConfig::default()
    }
}

/// The same, which dials `peer` first.
pub(crate) fn config_to(peer: &P2p) -> P2pConfig {
    P2pConfig { bootstrap: peer.listen_addresses(), ..config() }
}

/// A key of its own for every seed.
pub(crate) fn key(seed: u8) -> Keypair {
    Keypair::from_secret(&[seed; 32])
}

/// Starts a peer.
pub(crate) async fn start(seed: u8, config: P2pConfig) -> P2p {
    within("start", P2p::start(&key(seed), config)).await.expect("the peer starts")
}

/// The result of `future`, or a failed test that says what it waited for.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(result) => result,
        Err(_) => panic!("still waiting for: {what}"),
    }
}

/// Waits until the peer's status is as wanted.
pub(crate) async fn until(what: &str, peer: &P2p, is_wanted: impl Fn(&P2pStatus) -> bool) {
    let mut status = peer.watch_status();
    let found = tokio::time::timeout(DEADLINE, status.wait_for(|status| is_wanted(status))).await;
    assert!(matches!(found, Ok(Ok(_))), "still waiting for: {what}; the status is {:?}", peer.status());
}

/// Waits until both are connected.
pub(crate) async fn until_connected(a: &P2p, b: &P2p) {
    until("the first to be connected", a, |status| status.connected_peers.contains(&b.did())).await;
    until("the second to be connected", b, |status| status.connected_peers.contains(&a.did())).await;
}

/// A peer's events, one kind at a time.
pub(crate) struct Events(mpsc::Receiver<TransportEvent>);

impl Events {
    pub(crate) fn of(peer: &P2p) -> Self {
        Self(peer.transport().take_events().expect("taken once"))
    }

    async fn next(&mut self, what: &str) -> TransportEvent {
        within(what, self.0.recv()).await.expect("the peer still runs")
    }

    pub(crate) async fn up(&mut self, peer: Did) {
        let event = self.next("up").await;
        assert!(matches!(event, TransportEvent::Up(who) if who == peer), "{event:?}");
    }

    pub(crate) async fn down(&mut self, peer: Did) {
        let event = self.next("down").await;
        assert!(matches!(event, TransportEvent::Down(who) if who == peer), "{event:?}");
    }

    pub(crate) async fn opened(&mut self, from: Did, of: &str) -> Pipe {
        match self.next("a stream").await {
            TransportEvent::Opened { peer, protocol, pipe } => {
                assert_eq!((peer, protocol), (from, of));
                pipe
            }
            event => panic!("{event:?} is no stream"),
        }
    }

    /// Echoes every stream that is opened from now on, each in its own task.
    pub(crate) fn echo(mut self) {
        tokio::spawn(async move {
            while let Some(event) = self.0.recv().await {
                if let TransportEvent::Opened { pipe, .. } = event {
                    tokio::spawn(echo(pipe));
                }
            }
        });
    }
}

/// Sends everything back until the other side has ended.
pub(crate) async fn echo(pipe: Pipe) {
    let (mut reader, mut writer) = tokio::io::split(pipe);
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
    let _ = writer.shutdown().await;
}

/// Sends `bytes`, ends, and returns what comes back.
pub(crate) async fn exchange(pipe: Pipe, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let (mut reader, mut writer) = tokio::io::split(pipe);
    let sending = async move {
        writer.write_all(&bytes).await?;
        writer.shutdown().await
    };
    let receiving = async move {
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await.map(|_| back)
    };
    let (sent, received) = tokio::join!(sending, receiving);
    sent.and(received)
}
