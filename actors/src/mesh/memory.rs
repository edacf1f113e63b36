//! A mesh inside one process, for tests and simulations: what one member publishes, every other
//! member that listens hears exactly once, unless it lags.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::{Gossip, GossipId, MAX_GOSSIP_LENGTH, Mesh, PublishError, Topic, Verdict};
use crate::Did;
use crate::runtime::lock;

/// Messages that wait for a member; later ones are dropped, as gossip does.
const HEARD: usize = 1024;
/// Verdicts kept for tests, the latest ones.
const VERDICTS: usize = 4096;

/// A mesh inside this process. Cloning it gives another handle to the same mesh.
#[derive(Clone, Default)]
pub struct MemoryMesh(Arc<Mutex<Hub>>);

#[derive(Default)]
struct Hub {
    members: BTreeMap<Did, Listener>,
    published: u64,
    verdicts: VecDeque<(Did, GossipId, Verdict)>,
}

struct Listener {
    topics: BTreeSet<Topic>,
    heard: mpsc::Sender<Gossip>,
}

impl MemoryMesh {
    /// The mesh as `did` sees it; one who joins again replaces itself.
    pub fn member(&self, did: Did) -> Arc<MemoryMember> {
        let (heard, gossip) = mpsc::channel(HEARD);
        lock(&self.0).members.insert(did, Listener { topics: BTreeSet::new(), heard });
        Arc::new(MemoryMember { mesh: self.clone(), me: did, gossip: Mutex::new(Some(gossip)) })
    }

    /// Takes a member out.
    pub fn kill(&self, did: Did) {
        lock(&self.0).members.remove(&did);
    }

    /// The latest verdicts, oldest first: who gave which on what.
    pub fn verdicts(&self) -> Vec<(Did, GossipId, Verdict)> {
        lock(&self.0).verdicts.iter().cloned().collect()
    }
}

impl fmt::Debug for MemoryMesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryMesh").field("members", &lock(&self.0).members.len()).finish()
    }
}

/// One member of a [`MemoryMesh`].
pub struct MemoryMember {
    mesh: MemoryMesh,
    me: Did,
    gossip: Mutex<Option<mpsc::Receiver<Gossip>>>,
}

impl fmt::Debug for MemoryMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryMember").field("me", &self.me).finish_non_exhaustive()
    }
}

impl MemoryMember {
    fn publish_now(&self, topic: &Topic, body: &[u8]) -> Result<(), PublishError> {
        if body.len() > MAX_GOSSIP_LENGTH {
            return Err(PublishError::TooLong(body.len()));
        }
        let mut hub = lock(&self.mesh.0);
        if !hub.members.contains_key(&self.me) {
            return Err(PublishError::Closed);
        }
        hub.published += 1;
        let gossip = Gossip {
            id: GossipId(hub.published.to_be_bytes().to_vec()),
            topic: topic.clone(),
            source: self.me,
            forwarder: self.me,
            body: body.to_vec(),
        };
        let mut listeners = 0;
        let mut heard = 0;
        for (did, listener) in &hub.members {
            if *did != self.me && listener.topics.contains(topic) {
                listeners += 1;
                heard += u32::from(listener.heard.try_send(gossip.clone()).is_ok());
            }
        }
        match (listeners, heard) {
            (0, _) => Err(PublishError::NobodyListens),
            (_, 0) => Err(PublishError::Busy),
            _ => Ok(()),
        }
    }
}

impl Mesh for MemoryMember {
    fn publish(&self, topic: Topic, body: Vec<u8>) -> BoxFuture<'static, Result<(), PublishError>> {
        let published = self.publish_now(&topic, &body);
        Box::pin(async move { published })
    }

    fn subscribe(&self, topic: Topic) -> BoxFuture<'static, Result<(), PublishError>> {
        let subscribed = match lock(&self.mesh.0).members.get_mut(&self.me) {
            Some(listener) => {
                listener.topics.insert(topic);
                Ok(())
            }
            None => Err(PublishError::Closed),
        };
        Box::pin(async move { subscribed })
    }

    fn verdict(&self, id: GossipId, _forwarder: Did, verdict: Verdict) {
        let mut hub = lock(&self.mesh.0);
        if hub.verdicts.len() >= VERDICTS {
            hub.verdicts.pop_front();
        }
        hub.verdicts.push_back((self.me, id, verdict));
    }

    fn take_gossip(&self) -> Option<mpsc::Receiver<Gossip>> {
        lock(&self.gossip).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;

    #[tokio::test]
    async fn what_one_publishes_every_other_listener_hears_once() {
        let mesh = MemoryMesh::default();
        let dids = [1, 2, 3].map(|n| Keypair::from_secret(&[n; 32]).did());
        let [a, b, c] = dids.map(|did| mesh.member(did));
        let topic = Topic("/dms/test/jobs".into());
        assert_eq!(a.publish(topic.clone(), vec![1]).await, Err(PublishError::NobodyListens));
        a.subscribe(topic.clone()).await.unwrap();
        b.subscribe(topic.clone()).await.unwrap();
        a.publish(topic.clone(), vec![2]).await.unwrap();
        let too_long = vec![0; MAX_GOSSIP_LENGTH + 1];
        assert_eq!(a.publish(topic, too_long).await, Err(PublishError::TooLong(MAX_GOSSIP_LENGTH + 1)));
        let [mut at_a, mut at_b, mut at_c] = [&a, &b, &c].map(|member| member.take_gossip().unwrap());
        let heard = at_b.try_recv().unwrap();
        assert_eq!((heard.source, heard.body), (dids[0], vec![2]));
        assert!(at_a.try_recv().is_err() && at_b.try_recv().is_err() && at_c.try_recv().is_err());
        b.verdict(heard.id.clone(), dids[0], Verdict::Accept);
        assert_eq!(mesh.verdicts(), [(dids[1], heard.id, Verdict::Accept)]);
        assert!(b.take_gossip().is_none());
    }
}
