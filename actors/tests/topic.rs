//! Topics: everyone hears, in order, and nobody is slower for it than he chose to be.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{
    Actor, ActorRef, ActorSystem, Answer, Context, DeadLetterReason, Handler, PoolBuilder, Published,
    RegisterError, Slow, Subscribe, SubscribeError, Supervision, Topic, Unsubscribe,
};
use serde::{Deserialize, Serialize};

/// A piece of news.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct News(u64);
dms_actors::wire_message!(News, "test.news", 1);

/// Remembers the news.
struct Reader {
    read: Arc<Mutex<Vec<u64>>>,
}

impl Actor for Reader {
    const MAILBOX: usize = 4;
}

impl Handler<News> for Reader {
    fn handle(&mut self, news: News, _: &mut Context<'_, Self>) -> Answer<()> {
        self.read.lock().unwrap().push(news.0);
        ().into()
    }
}

impl Handler<Do<Self>> for Reader {
    fn handle(&mut self, what: Do<Self>, ctx: &mut Context<'_, Self>) -> Answer<()> {
        what.0(self, ctx);
        ().into()
    }
}

type Read = Arc<Mutex<Vec<u64>>>;

fn reader(system: &ActorSystem) -> (ActorRef<Reader>, Read) {
    let read = Read::default();
    let kept = read.clone();
    (system.spawn(move || Reader { read: kept.clone() }, Supervision::transient()), read)
}

/// Lets the reader stand still until the sender is dropped.
async fn stall(reader: &ActorRef<Reader>) -> tokio::sync::oneshot::Sender<()> {
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let held = Do::new(move |_: &mut Reader, ctx: &mut Context<'_, Reader>| {
        ctx.exclusive(released, |_, _, _| {});
    });
    reader.ask(held).await.unwrap();
    release
}

async fn until_read(read: &Read, expected: &[u64]) {
    until(&format!("{expected:?} is read"), || read.lock().unwrap().len() >= expected.len()).await;
    assert_eq!(*read.lock().unwrap(), expected);
}

fn counts(published: Published) -> (usize, usize) {
    (published.taken, published.lost)
}

#[tokio::test]
async fn everybody_hears_each_publisher_in_order() {
    let system = builder(1).start().unwrap();
    let topic = Topic::new(&system);
    assert_eq!(counts(topic.publish(News(0)).await), (0, 0));
    let readers: Vec<_> = (0..10).map(|_| reader(&system)).collect();
    for (reader, _) in &readers {
        topic.subscribe(reader.recipient(), Slow::Wait).unwrap();
    }
    assert_eq!(topic.subscribers(), 10);
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let topic = topic.clone();
            tokio::spawn(async move {
                for news in 0..100 {
                    assert_eq!(counts(topic.publish(News(1000 * publisher + news)).await), (10, 0));
                }
            })
        })
        .collect();
    for publisher in publishers {
        soon("published", publisher).await.unwrap();
    }
    for (_, read) in &readers {
        until("all is read", || read.lock().unwrap().len() == 400).await;
        for publisher in 0..4 {
            let of_one: Vec<_> =
                read.lock().unwrap().iter().copied().filter(|n| n / 1000 == publisher).collect();
            assert_eq!(of_one, (0..100).map(|news| 1000 * publisher + news).collect::<Vec<_>>());
        }
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn what_a_slow_subscriber_misses_is_counted_and_a_dead_letter() {
    let system = builder(1).start().unwrap();
    let mut dead = system.dead_letters();
    let topic = Topic::new(&system);
    let ((slow, slow_read), (quick, quick_read)) = (reader(&system), reader(&system));
    let subscription = topic.subscribe(slow.recipient(), Slow::Drop).unwrap();
    topic.subscribe(quick.recipient(), Slow::Wait).unwrap();
    let release = stall(&slow).await;
    for news in 0..6 {
        let published = soon("nobody is waited for", topic.publish(News(news))).await;
        assert_eq!(counts(published), if news < 4 { (2, 0) } else { (1, 1) });
    }
    assert_eq!((subscription.lost(), topic.lost()), (2, 2));
    for _ in 0..2 {
        let letter = soon("a dead letter", dead.recv()).await.unwrap();
        assert_eq!(letter.reason, DeadLetterReason::Overrun);
        assert_eq!(letter.type_name, Some(std::any::type_name::<News>()));
    }
    assert!(subscription.is_active());
    drop(release);
    until_read(&slow_read, &[0, 1, 2, 3]).await;
    until_read(&quick_read, &[0, 1, 2, 3, 4, 5]).await;
    topic.publish(News(6)).await;
    until_read(&slow_read, &[0, 1, 2, 3, 6]).await;
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_publisher_feels_a_subscriber_that_is_to_be_waited_for_and_others_do_not() {
    let system = builder(1).start().unwrap();
    let topic = Topic::new(&system);
    let ((slow, slow_read), (quick, quick_read)) = (reader(&system), reader(&system));
    topic.subscribe(slow.recipient(), Slow::Wait).unwrap();
    topic.subscribe(quick.recipient(), Slow::Wait).unwrap();
    let release = stall(&slow).await;
    let publishing = topic.clone();
    let publisher = tokio::spawn(async move {
        for news in 0..6 {
            assert_eq!(counts(publishing.publish(News(news)).await), (2, 0));
        }
    });
    // The other one has what the publisher is stuck with.
    until_read(&quick_read, &[0, 1, 2, 3, 4]).await;
    assert!(!publisher.is_finished());
    drop(release);
    soon("published", publisher).await.unwrap();
    until_read(&slow_read, &[0, 1, 2, 3, 4, 5]).await;
    stop(&[&system]).await;
}

#[tokio::test]
async fn one_actor_that_does_not_wait_between_publishing_keeps_the_order_too() {
    let system = builder(1).start().unwrap();
    let topic = Topic::new(&system);
    let (slow, slow_read) = reader(&system);
    topic.subscribe(slow.recipient(), Slow::Wait).unwrap();
    let publisher = probe(&system, &Seen::default(), Supervision::never());
    let release = stall(&slow).await;
    let publish = move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        for news in 0..50 {
            ctx.pipe(topic.publish(News(news)), |_, published, _| assert_eq!(counts(published), (1, 0)));
        }
    };
    publisher.ask(Do::new(publish)).await.unwrap();
    drop(release);
    until_read(&slow_read, &(0..50).collect::<Vec<_>>()).await;
    stop(&[&system]).await;
}

#[tokio::test]
async fn one_that_is_too_slow_is_unsubscribed_if_it_wished_so() {
    let system = builder(1).start().unwrap();
    let topic = Topic::new(&system);
    let (slow, slow_read) = reader(&system);
    let subscription = topic.subscribe(slow.recipient(), Slow::Unsubscribe).unwrap();
    let release = stall(&slow).await;
    for news in 0..4 {
        assert_eq!(counts(topic.publish(News(news)).await), (1, 0));
    }
    assert_eq!(counts(topic.publish(News(4)).await), (0, 1));
    assert!(!subscription.is_active());
    assert_eq!((topic.subscribers(), topic.lost(), subscription.lost()), (0, 1, 1));
    drop(release);
    assert_eq!(counts(topic.publish(News(5)).await), (0, 0));
    until_read(&slow_read, &[0, 1, 2, 3]).await;
    stop(&[&system]).await;
}

#[tokio::test]
async fn those_who_have_ended_are_removed_by_themselves_and_those_who_restart_are_not() {
    let system = builder(1).start().unwrap();
    let topic = Topic::new(&system);
    let ((ends, _), (restarts, read)) = (reader(&system), reader(&system));
    let ended = topic.subscribe(ends.recipient(), Slow::Wait).unwrap();
    topic.subscribe(restarts.recipient(), Slow::Wait).unwrap();
    // It ends while a publisher waits for it.
    let _release = stall(&ends).await;
    let publishing = topic.clone();
    let publisher = tokio::spawn(async move {
        let mut published = Vec::new();
        for news in 0..5 {
            published.push(counts(publishing.publish(News(news)).await));
        }
        published
    });
    until_read(&read, &[0, 1, 2, 3, 4]).await;
    ends.stop();
    assert_eq!(soon("published", publisher).await.unwrap()[4], (1, 0));
    assert!(!ended.is_active());
    assert_eq!(topic.subscribers(), 1);

    restarts.tell(Do::new(|_: &mut Reader, _| panic!("on purpose"))).await.unwrap();
    assert_eq!(counts(topic.publish(News(5)).await), (1, 0));
    until_read(&read, &[0, 1, 2, 3, 4, 5]).await;
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_cancelled_subscription_frees_the_publisher_that_waits_for_it() {
    let system = builder(1).start().unwrap();
    let topic = Topic::new(&system);
    let (slow, slow_read) = reader(&system);
    let subscription = topic.subscribe(slow.recipient(), Slow::Wait).unwrap();
    let release = stall(&slow).await;
    for news in 0..4 {
        topic.publish(News(news)).await;
    }
    let publishers: Vec<_> = (4..8).map(|news| tokio::spawn(topic.publish(News(news)))).collect();
    tokio::task::yield_now().await;
    subscription.cancel();
    for publisher in publishers {
        assert_eq!(counts(soon("freed", publisher).await.unwrap()), (0, 0));
    }
    assert_eq!(topic.subscribers(), 0);
    drop(release);
    until_read(&slow_read, &[0, 1, 2, 3]).await;
    // Twice, and after the topic has gone, is harmless.
    drop(topic);
    subscription.cancel();
    stop(&[&system]).await;
}

#[tokio::test]
async fn subscribers_are_bounded_and_those_who_have_ended_make_room() {
    let system = builder(1).start().unwrap();
    let topic: Topic<News> = Topic::new(&system);
    let ((stays, _), (ends, _)) = (reader(&system), reader(&system));
    topic.subscribe(ends.recipient(), Slow::Drop).unwrap();
    for _ in 1..1024 {
        topic.subscribe(stays.recipient(), Slow::Drop).unwrap();
    }
    assert!(matches!(topic.subscribe(stays.recipient(), Slow::Drop), Err(SubscribeError::Full)));
    ends.stop();
    ends.closed().await;
    topic.subscribe(stays.recipient(), Slow::Drop).unwrap();
    assert_eq!(topic.subscribers(), 1024);
    stop(&[&system]).await;
}

#[tokio::test]
async fn subscribers_on_other_machines_hear_it_in_order() {
    let network = MemoryNetwork::default();
    let (near, far) = (member(&network, 1), member(&network, 2));
    let (remote, read) = reader(&far);
    let _ = far.register("/reader", &remote).unwrap().accepts::<News>();
    let topic = Topic::new(&near);
    let subscription = topic.subscribe(near.resolve(&address(2, "/reader")), Slow::Wait).unwrap();
    for news in 0..200 {
        // The first also waits for the link.
        assert_eq!(counts(soon("published", topic.publish(News(news))).await), (1, 0));
    }
    until_read(&read, &(0..200).collect::<Vec<_>>()).await;

    // One that nobody waits for, cut off: counted, and subscribed until it is back.
    let lossy = topic.subscribe(near.resolve(&address(2, "/reader")), Slow::Drop).unwrap();
    let gone = topic.subscribe(near.resolve(&address(2, "/reader")), Slow::Unsubscribe).unwrap();
    subscription.cancel();
    network.disconnect(did(1), did(2));
    let noticed = async {
        while topic.publish(News(1000)).await.lost == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("it is noticed", noticed).await;
    assert!(lossy.is_active());
    network.connect(did(1), did(2));
    read.lock().unwrap().clear();
    let back = async {
        while !read.lock().unwrap().contains(&2000) {
            topic.publish(News(2000)).await;
            tokio::task::yield_now().await;
        }
    };
    soon("it is back", back).await;
    assert!(lossy.is_active() && lossy.lost() > 0);
    // Whether it was out of reach or its link was only being opened is a matter of time.
    assert!(!gone.is_active() || gone.lost() > 0);

    // A system without a network says so.
    let alone = builder(3).start().unwrap();
    let nowhere = Topic::new(&alone);
    nowhere.subscribe(alone.resolve(&address(2, "/reader")), Slow::Drop).unwrap();
    assert_eq!(counts(nowhere.publish(News(1)).await), (0, 1));
    nowhere.subscribe(alone.resolve(&address(3, "/nobody")), Slow::Drop).unwrap();
    assert_eq!((counts(nowhere.publish(News(1)).await), nowhere.subscribers()), ((0, 1), 1));
    stop(&[&near, &far, &alone]).await;
}

#[tokio::test]
async fn others_subscribe_themselves_by_path_and_nobody_else() {
    let network = MemoryNetwork::default();
    let (publisher, far) = (member(&network, 1), member(&network, 2));
    let (remote, read) = reader(&far);
    for path in (0..17).map(|n| format!("/reader/{n}")) {
        let _ = far.register(&path, &remote).unwrap().accepts::<News>();
    }
    let topic = Topic::<News>::new(&publisher);
    let open = topic.open(&publisher, "/news", Slow::Wait).unwrap();
    assert!(matches!(topic.open(&publisher, "/news", Slow::Wait), Err(RegisterError::Taken(_))));
    let news = far.resolve::<Subscribe>(&address(1, "/news"));
    let path = |n: usize| format!("/reader/{n}").parse().unwrap();
    // Twice is once.
    for _ in 0..2 {
        assert_eq!(news.ask(Subscribe { path: path(0) }).await.unwrap(), Ok(()));
    }
    assert_eq!(topic.subscribers(), 1);
    for n in 0..50 {
        assert_eq!(counts(topic.publish(News(n)).await), (1, 0));
    }
    until_read(&read, &(0..50).collect::<Vec<_>>()).await;

    // The path is one of the sender's own: the publisher's reader of that path hears nothing.
    let (near, near_read) = reader(&publisher);
    let _ = publisher.register("/reader/1", &near).unwrap().accepts::<News>();
    for n in 1..16 {
        assert_eq!(news.ask(Subscribe { path: path(n) }).await.unwrap(), Ok(()));
    }
    assert_eq!(news.ask(Subscribe { path: path(16) }).await.unwrap(), Err(SubscribeError::TooManyOfPeer));
    assert_eq!(counts(topic.publish(News(50)).await), (16, 0));
    assert_eq!(near_read.lock().unwrap().len(), 0);

    let leave = far.resolve::<Unsubscribe>(&address(1, "/news"));
    assert!(leave.ask(Unsubscribe { path: path(3) }).await.unwrap());
    assert!(!leave.ask(Unsubscribe { path: path(3) }).await.unwrap());
    assert_eq!(topic.subscribers(), 15);
    // A lost connection takes all of the peer's, and of nobody else.
    topic.subscribe(near.recipient(), Slow::Wait).unwrap();
    network.disconnect(did(1), did(2));
    until("they are gone", || topic.subscribers() == 1).await;
    network.connect(did(1), did(2));
    let again = async {
        while !matches!(news.ask(Subscribe { path: path(0) }).await, Ok(Ok(()))) {
            tokio::task::yield_now().await;
        }
    };
    soon("it subscribes again", again).await;
    assert_eq!(topic.subscribers(), 2);
    open.close();
    soon("closed", open.closed()).await;
    assert_eq!(topic.subscribers(), 1);
    assert_eq!(publisher.list().len(), 1);
    stop(&[&publisher, &far]).await;
}

#[tokio::test]
async fn one_ended_worker_of_a_keyed_pool_ends_no_subscription() {
    let system = builder(1).start().unwrap();
    let topic = Topic::new(&system);
    let read = Read::default();
    let kept = read.clone();
    let pool = PoolBuilder::new(4).spawn(&system, move |_| Reader { read: kept.clone() });
    for slow in [Slow::Drop, Slow::Wait] {
        topic.subscribe(pool.recipient_by(|news: &News| news.0), slow).unwrap();
    }
    let gone = pool.worker_for(&0_u64).clone();
    gone.stop();
    gone.closed().await;
    let other = (0..).find(|key: &u64| pool.worker_for(key) != &gone).unwrap();
    assert_eq!(counts(topic.publish(News(0)).await), (0, 2));
    assert_eq!(counts(topic.publish(News(other)).await), (2, 0));
    until_read(&read, &[other, other]).await;
    // It has ended when all of them have.
    pool.stop();
    pool.closed().await;
    assert_eq!(counts(topic.publish(News(other)).await), (0, 0));
    assert_eq!(topic.subscribers(), 0);
    stop(&[&system]).await;
}

#[tokio::test]
async fn what_is_dropped_with_a_subscriber_may_use_the_topic() {
    struct Looks(Topic<News>);
    impl Drop for Looks {
        fn drop(&mut self) {
            self.0.subscribers();
        }
    }

    let system = builder(1).start().unwrap();
    let topic: Topic<News> = Topic::new(&system);
    let (stays, _) = reader(&system);
    let read = Read::default();
    let pool = PoolBuilder::new(1).spawn(&system, move |_| Reader { read: read.clone() });
    let subscribe = || {
        let looks = Looks(topic.clone());
        let recipient = pool.recipient_by(move |news: &News| {
            let _ = &looks;
            news.0
        });
        topic.subscribe(recipient, Slow::Drop).unwrap()
    };
    let (cancelled, _ended) = (subscribe(), subscribe());
    // On threads of their own: under the lock they would never come back.
    let (done_tx, done) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        cancelled.cancel();
        let _ = done_tx.send(());
    });
    soon("cancelled", done).await.unwrap();
    for _ in 1..1024 {
        topic.subscribe(stays.recipient(), Slow::Drop).unwrap();
    }
    pool.stop();
    pool.closed().await;
    let (subscribing, (done_tx, done)) = (topic.clone(), tokio::sync::oneshot::channel());
    std::thread::spawn(move || {
        let _ = done_tx.send(subscribing.subscribe(stays.recipient(), Slow::Drop).is_ok());
    });
    assert!(soon("subscribed", done).await.unwrap());
    assert_eq!(topic.subscribers(), 1024);
    stop(&[&system]).await;
}
