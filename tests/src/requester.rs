//! A requester made by hand: a real peer without a node, which says to a provider what a test wants it to.

use std::time::Duration;

use dms_actors::clock::{SharedClock, SystemClock};
use dms_actors::{ActorSystem, Address, AskError, Recipient, SendFailure};
use dms_messages::{
    Accepted, Bid, Did, Document, DocumentId, Keypair, Message, RefusedReason, SignOptions, Signed,
    WireMessage,
};
use dms_p2p::{P2p, P2pConfig};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::ear::{self, Said};
use crate::{DEADLINE, Node};

/// See the module.
pub struct Requester {
    /// Its key.
    pub keypair: Keypair,
    /// Whom it speaks to.
    pub provider: Did,
    clock: SharedClock,
    system: ActorSystem,
    p2p: P2p,
    heard: mpsc::Receiver<Said>,
}

impl std::fmt::Debug for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requester").field("did", &self.keypair.did()).finish_non_exhaustive()
    }
}

impl Requester {
    /// The key of the requester of this seed.
    pub fn key(seed: u8) -> Keypair {
        Keypair::from_secret(&[seed; 32])
    }

    /// A peer that dials `provider`.
    pub async fn new(seed: u8, provider: &Node<'_>) -> Self {
        Self::to(seed, &provider.address(), provider.did().parse().expect("a node's DID")).await
    }

    /// The same, for whoever has only the provider's address and name.
    pub async fn to(seed: u8, address: &str, provider: Did) -> Self {
        let keypair = Self::key(seed);
        let config =
            P2pConfig { bootstrap: vec![address.to_owned()], network: "main".into(), ..P2pConfig::default() };
        let p2p = P2p::start(&keypair, config).await.expect("a peer starts");
        let system = ActorSystem::builder(keypair.did(), "main").transport(p2p.transport()).start();
        let system = system.expect("a system of its own starts");
        let heard = ear::listen(&system);
        Self { keypair, clock: SystemClock::shared(), system, p2p, provider, heard }
    }

    /// A word for the provider, fresh for a minute.
    pub fn sign<T: Document>(&self, value: T) -> Signed<T> {
        let options = SignOptions {
            network: "main".into(),
            audience: Some(self.provider),
            issued_at: self.clock.now(),
            ttl: Duration::from_secs(60),
            id: DocumentId(self.clock.random()),
        };
        Signed::sign(value, &self.keypair, options).expect("it can be signed")
    }

    /// Says a word that the link has to take in time.
    pub async fn tell<M: Message<Reply = ()> + WireMessage>(&self, word: M) {
        let told = tokio::time::timeout(DEADLINE, self.try_tell(word)).await;
        told.expect("the link takes it in time").expect("the link takes it");
    }

    /// Says a word, whatever becomes of it.
    pub async fn try_tell<M: Message<Reply = ()> + WireMessage>(&self, word: M) -> Result<(), SendFailure> {
        let to: Recipient<M> =
            self.system.resolve(&Address::new(self.provider, "/node").expect("a path in form"));
        to.tell(word).await.map_err(|error| error.reason)
    }

    /// Asks whoever is at a path of the provider's, in time.
    ///
    /// # Errors
    /// What became of it.
    pub async fn ask_at<M: Message<Reply: DeserializeOwned> + WireMessage>(
        &self,
        path: &str,
        word: M,
    ) -> Result<M::Reply, AskError<M>> {
        let to: Recipient<M> =
            self.system.resolve(&Address::new(self.provider, path).expect("a path in form"));
        to.ask(word).timeout(DEADLINE).await
    }

    /// The next answer that `pick` takes; others (adverts have no ear here, statuses repeat) are passed over.
    pub async fn hear<T>(&mut self, pick: impl Fn(Said) -> Option<T>) -> T {
        loop {
            let answer = tokio::time::timeout(DEADLINE, self.heard.recv()).await.expect("an answer in time");
            if let Some(picked) = pick(answer.expect("the system lives")) {
                return picked;
            }
        }
    }

    /// Forgets what was said so far: whoever floods is told more than an ear holds.
    pub fn forget_heard(&mut self) {
        while self.heard.try_recv().is_ok() {}
    }

    /// The next bid.
    pub async fn bid(&mut self) -> Signed<Bid> {
        self.hear(|answer| if let Said::Bid(bid) = answer { Some(bid) } else { None }).await
    }

    /// The next refusal of an invocation.
    pub async fn refusal(&mut self) -> RefusedReason {
        self.hear(|answer| if let Said::Refused(refused) = answer { Some(refused.reason) } else { None })
            .await
    }

    /// The next acceptance.
    pub async fn accepted(&mut self) -> Accepted {
        self.hear(|answer| if let Said::Accepted(word) = answer { Some(word) } else { None }).await
    }

    /// Leaves.
    pub async fn stop(self) {
        self.system.stop(DEADLINE).await.expect("nothing holds it");
        self.p2p.shutdown().await;
    }
}
