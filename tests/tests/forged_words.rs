//! Words that are not what they say, not for us, not of now or not new have no effect; honest ones of whoever's clock is
//! half a minute off have theirs.
//!
//! A real node with its real gate is told them on links and hears them by gossip. An effect is whatever is not the same
//! afterwards: an event, a row on disk, a lock, a job, what it knows of a peer; or a word of its own that is neither a
//! refusal nor the very answer that it gave before.

#[path = "forged_words/house.rs"]
mod house;
#[path = "forged_words/story.rs"]
mod story;
#[path = "forged_words/words.rs"]
mod words;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dms_actors::mesh::{Topic, Verdict};
use dms_messages::{
    AllocationState, BidId, ContentId, Credentials, Document, DocumentId, FailureCause, Job, JobId,
    MemoryMib, Millis, RefusedReason, Retry, Revocation, Role, SignOptions, Signed, Token,
};
use dms_node::commands::{ShowJob, SubmitJob};
use dms_node::network;
use dms_storage::schema::Family;
use dms_tests::pair::wait_until;
use dms_tests::{DEADLINE, hand_made, proof};
use serde::{Deserialize, Serialize};

use house::{Look, Voice, key};
use story::{House, Open, SUBJECT, Said, Way, request};
use words::{Draft, MINUTE, NETWORK, Seal, Word, Wrong, signed};

/// Each word in each wrong way, so many times: on links, by gossip, contracts within rightly signed invocations, tokens.
const TOLD: usize = 75;
const GOSSIPED: usize = 30;
const CONTRACTS: usize = 40;
const TOKENS: usize = 25;
/// How often each word of the story is said again, by each of those who do.
const REPEATS: usize = 8;

/// How many of each kind of wrong.
type Counts = BTreeMap<String, usize>;

/// What is looked at before and after words that must have no effect.
struct Watched<'h> {
    house: &'h House,
    before: Look,
    elsewhere: Look,
    heard: Vec<usize>,
}

impl<'h> Watched<'h> {
    async fn new(house: &'h House) -> Self {
        house.settle().await;
        let (before, elsewhere) = (house.subject.look().await, house.other.look().await);
        let heard = house.voices().map(|voice| voice.heard().len()).to_vec();
        Self { house, before, elsewhere, heard }
    }

    /// Panics if anything has changed.
    async fn has_seen_nothing(&self, what: &str) {
        self.house.settle().await;
        let now = self.house.subject.look().await;
        assert!(now == self.before, "{what} had an effect: {}", self.before.difference(&now));
        let now = self.house.other.look().await;
        assert!(now == self.elsewhere, "{what} had an effect elsewhere: {}", self.elsewhere.difference(&now));
        for (voice, known) in self.house.voices().into_iter().zip(&self.heard) {
            let heard = voice.heard();
            let (before, new) = heard.split_at(*known);
            let said = new.iter().find(|(word, bytes)| {
                let is_refusal = matches!(
                    word,
                    Word::Decline | Word::Refused | Word::Release | Word::NotAdmitted
                        // What is said to whoever connects.
                        | Word::Advert | Word::Reconcile | Word::Revocations
                        // What is asked of whoever is connected, however it behaves.
                        | Word::Census | Word::CensusReply
                );
                !is_refusal && !before.iter().any(|known| known == &(*word, bytes.clone()))
            });
            assert!(said.is_none(), "{what} was answered with {:?}", said.map(|(word, _)| word));
        }
    }
}

/// A word that would have an effect: by whom, and what it is.
struct Told<'h> {
    word: Word,
    by: &'h Voice,
    draft: Box<dyn Draft>,
    other: Box<dyn Draft>,
    is_for_one: bool,
}

/// The `number`th of each word, every one of which would have an effect.
fn effective<'h>(house: &'h House, open: &Open, number: usize) -> Vec<Told<'h>> {
    let (requester, provider, me) = (&house.requester, &house.provider, house.subject.did);
    let attempt = open.invoked.value().attempt;
    let refused = || dms_messages::Refused { attempt, reason: RefusedReason::Busy };
    let decline = || dms_messages::Decline {
        request: open.asked.id,
        reason: dms_messages::DeclineReason::NotOnboarded,
        retry: Retry::Final,
    };
    let seal = house.world.seal(&requester.key, Some(me));
    let terms = signed(story::contract(requester.did, &open.held, request(2).job), &seal);
    let invocation = dms_messages::Invocation { bid: open.held.value().id, contract: terms };
    let (contract, allocation) = (open.invoked.content_id(), story::allocation(number));
    let accepted = dms_messages::Accepted { attempt, contract, allocation };
    let state = AllocationState::Running;
    let status = dms_messages::AllocationStatus { attempt, allocation, task: 0, state, result: None };
    let revocation = Revocation { token: ContentId::of_bytes(&number.to_be_bytes()) };
    let one = |word, by, draft: Box<dyn Draft>| Told {
        word,
        by,
        draft,
        other: if word == Word::Decline { Box::new(refused()) } else { Box::new(decline()) },
        is_for_one: !matches!(word, Word::BidRequest | Word::Advert | Word::Revocations),
    };
    vec![
        one(Word::BidRequest, requester, Box::new(request(1_000 + number))),
        one(Word::Invocation, requester, Box::new(invocation)),
        one(Word::Bid, provider, Box::new(story::bid(open.asked.id, 1_000 + number))),
        one(Word::Decline, provider, Box::new(decline())),
        one(Word::Accepted, provider, Box::new(accepted)),
        one(Word::Refused, provider, Box::new(refused())),
        one(Word::AllocationStatus, provider, Box::new(status)),
        one(Word::Advert, provider, Box::new(story::advert(house.world.now().0 + 1))),
        one(Word::Revocations, provider, Box::new(revocation)),
    ]
}

/// The body that carries a document.
fn body(word: Word, document: Vec<u8>) -> Vec<u8> {
    if word == Word::Revocations { story::revocations(document) } else { document }
}

/// Every word, wrong in every way, on the link of whom it says it is from.
async fn tell_wrong_words(house: &House, open: &Open, counts: &mut Counts) {
    let me = house.subject.did;
    for wrong in Wrong::ALL {
        let watched = Watched::new(house).await;
        for number in 0..TOLD {
            for told in effective(house, open, number) {
                if wrong == Wrong::NoAudience && !told.is_for_one {
                    continue;
                }
                let right = house.world.seal(&told.by.key, Some(me));
                let thief = &house.insider.key;
                // Another place of the word each time, whatever its length.
                let place = number * 13;
                let bytes = wrong.done_to(&*told.draft, &*told.other, &right, thief, place);
                told.by.tell(me, told.word, body(told.word, bytes)).await;
                *counts.entry(format!("{wrong:?}")).or_default() += 1;
            }
        }
        watched.has_seen_nothing(&format!("{wrong:?}")).await;
    }
}

/// Right words on the link of another than their issuer, who may speak here, or may not.
async fn tell_as_another(house: &House, open: &Open, counts: &mut Counts) {
    let me = house.subject.did;
    let watched = Watched::new(house).await;
    for number in 0..TOLD / 2 {
        for told in effective(house, open, number) {
            // Whoever has an advert or a revocation may pass it on.
            if matches!(told.word, Word::Advert | Word::Revocations) {
                continue;
            }
            let bytes = told.draft.sign(&house.world.seal(&told.by.key, Some(me)));
            for thief in [&house.insider, &house.stranger] {
                thief.tell(me, told.word, bytes.clone()).await;
                *counts.entry("ByAnother".to_owned()).or_default() += 1;
            }
        }
    }
    watched.has_seen_nothing("a word that another than its issuer brings").await;
}

/// Requests that are to be fresh for longer than their ids are remembered.
async fn tell_long_lived(house: &House, counts: &mut Counts) {
    let (me, requester) = (house.subject.did, &house.requester);
    let watched = Watched::new(house).await;
    for number in 0..TOLD {
        let minutes = 6 + number as u32 * 1_000;
        let seal = Seal { ttl: MINUTE * minutes, ..house.world.seal(&requester.key, Some(me)) };
        requester.tell(me, Word::BidRequest, request(50_000 + number).sign(&seal)).await;
        *counts.entry("LongLived".to_owned()).or_default() += 1;
    }
    watched.has_seen_nothing("a request that lives for long").await;
}

/// What the node has said itself, said back to it.
async fn tell_back(house: &House, counts: &mut Counts) {
    let watched = Watched::new(house).await;
    for voice in [&house.requester, &house.provider] {
        for (word, bytes) in voice.heard() {
            let is_signed = matches!(
                word,
                Word::Advert
                    | Word::BidRequest
                    | Word::Bid
                    | Word::Decline
                    | Word::Invocation
                    | Word::Accepted
                    | Word::Refused
                    | Word::AllocationStatus
            );
            if is_signed {
                for by in [voice, &house.insider] {
                    by.tell(house.subject.did, word, bytes.clone()).await;
                    *counts.entry("ToldBack".to_owned()).or_default() += 1;
                }
            }
        }
    }
    watched.has_seen_nothing("a word of its own").await;
}

/// An invocation as it is written, whatever its contract is.
#[derive(Clone, Serialize, Deserialize)]
struct AnyInvocation {
    bid: BidId,
    #[serde(with = "serde_bytes")]
    contract: Vec<u8>,
}

impl Document for AnyInvocation {
    const KIND: &'static str = "dms.invocation";
    const VERSION: u16 = 1;
}

/// Wrong contracts in rightly signed invocations.
async fn tell_wrong_contracts(house: &House, open: &Open, counts: &mut Counts) {
    let (me, requester) = (house.subject.did, &house.requester);
    let watched = Watched::new(house).await;
    let terms = story::contract(requester.did, &open.held, request(2).job);
    let other = Revocation { token: ContentId::of_bytes(b"token") };
    let right = house.world.seal(&requester.key, Some(me));
    let thief = &house.insider.key;
    for number in 0..CONTRACTS {
        let wrong = Wrong::ALL.map(|wrong| wrong.done_to(&terms, &other, &right, thief, number * 13));
        let anothers = terms.sign(&Seal { by: thief, ..right });
        for contract in wrong.into_iter().chain([anothers]) {
            let invocation = AnyInvocation { bid: open.held.value().id, contract };
            let bytes = invocation.sign(&house.world.seal(&requester.key, Some(me)));
            requester.tell(me, Word::Invocation, bytes).await;
            *counts.entry("Contract".to_owned()).or_default() += 1;
        }
    }
    watched.has_seen_nothing("a wrong contract").await;
}

/// A stranger that shows tokens of others, and tokens that nobody has signed for it.
async fn show_wrong_tokens(house: &House, counts: &mut Counts) {
    let (subject, stranger, thief) = (key(SUBJECT), &house.stranger, &house.insider.key);
    let watched = Watched::new(house).await;
    let token = Token { abilities: Role::Member.abilities(), topics: None, depth: 0, parent: None };
    let other = Revocation { token: ContentId::of_bytes(b"token") };
    let right = house.world.seal(&subject, Some(stranger.did));
    let mut shown: Vec<Credentials> = Vec::new();
    for number in 0..TOKENS {
        let wrong = Wrong::ALL.map(|wrong| wrong.done_to(&token, &other, &right, thief, number * 13));
        // Signed by somebody who may let nobody in.
        let anothers = token.sign(&Seal { by: thief, ..right });
        shown.extend(wrong.into_iter().chain([anothers]).map(|token| story::credentials(&[token])));
        shown.push(house.token.clone());
    }
    let ask = |number: usize, credentials: &Credentials| {
        let request = dms_messages::BidRequest { credentials: credentials.clone(), ..request(number) };
        request.sign(&house.world.seal(&stranger.key, None))
    };
    let gossiped = shown.iter().enumerate().map(|(number, it)| ask(20_000 + number, it)).collect();
    *counts.entry("Token".to_owned()).or_default() += shown.len();
    house::gossip(&house.world, &house.subject, stranger, &story::request_topic(), gossiped).await;
    // And when the link is opened; more often in a while than a node puts up with would end it.
    for (number, credentials) in shown.iter().rev().take(14).enumerate() {
        stranger.show(credentials);
        stranger.tell(house.subject.did, Word::BidRequest, ask(30_000 + number, credentials)).await;
        *counts.entry("Token".to_owned()).or_default() += 1;
    }
    watched.has_seen_nothing("a wrong token").await;
    stranger.show(&Credentials::default());
}

/// Every gossiped word, wrong in every way.
async fn gossip_wrong_words(house: &House, counts: &mut Counts) {
    let (world, me) = (&house.world, &house.subject);
    let thief = &house.insider;
    let other = dms_messages::Decline {
        request: request(0).id,
        reason: dms_messages::DeclineReason::NotOnboarded,
        retry: Retry::Final,
    };
    let drafts = |number: usize| -> Vec<(Topic, &Voice, Box<dyn Draft>)> {
        let asked = dms_messages::BidRequest { credentials: house.token.clone(), ..request(40_000 + number) };
        let revocation = Revocation { token: ContentId::of_bytes(&number.to_le_bytes()) };
        let sequence = world.now().0 + 1;
        vec![
            (story::request_topic(), &house.requester, Box::new(asked)),
            (network::advert_topic(NETWORK), &house.provider, Box::new(story::advert(sequence))),
            (network::status_topic(NETWORK), &house.provider, Box::new(story::node_status(sequence))),
            (network::revocation_topic(NETWORK), &house.provider, Box::new(revocation)),
        ]
    };
    for wrong in Wrong::ALL.into_iter().filter(|wrong| *wrong != Wrong::NoAudience) {
        let watched = Watched::new(house).await;
        for kind in 0..drafts(0).len() {
            let (topic, by, _) = drafts(0).swap_remove(kind);
            let done = |number: usize| {
                let (_, _, draft) = drafts(number).swap_remove(kind);
                wrong.done_to(&*draft, &other, &world.seal(&by.key, None), &thief.key, number * 13)
            };
            let verdicts = house::gossip(world, me, by, &topic, (0..GOSSIPED).map(done).collect()).await;
            assert!(!verdicts.contains(&Verdict::Accept), "{wrong:?} on {topic:?} is passed on");
            *counts.entry(format!("{wrong:?}")).or_default() += GOSSIPED;
        }
        watched.has_seen_nothing(&format!("{wrong:?} by gossip")).await;
    }
    let watched = Watched::new(house).await;
    // Revocations may be passed on by anybody.
    for kind in 0..3 {
        let (topic, by, _) = drafts(0).swap_remove(kind);
        let right = |number: usize| drafts(number).swap_remove(kind).2.sign(&world.seal(&by.key, None));
        let verdicts = house::gossip(world, me, thief, &topic, (0..GOSSIPED).map(right).collect()).await;
        assert!(!verdicts.contains(&Verdict::Accept), "{topic:?} by another is passed on");
        *counts.entry("ByAnother".to_owned()).or_default() += GOSSIPED;
    }
    watched.has_seen_nothing("a word that another than its issuer gossips").await;
}

/// Everything that was said honestly, again: by who said it, by an insider and by a stranger.
async fn replay(house: &House, when: &str, counts: &mut Counts) {
    let watched = Watched::new(house).await;
    let me = house.subject.did;
    for _ in 0..REPEATS {
        for Said { by, way, bytes } in &house.said {
            for voice in [house.voice(*by), &house.insider, &house.stranger] {
                match way {
                    Way::Told(word) => voice.tell(me, *word, bytes.clone()).await,
                    Way::Gossiped => {
                        let topic = story::request_topic();
                        house::gossip(&house.world, &house.subject, voice, &topic, vec![bytes.clone()]).await;
                    }
                }
                *counts.entry(format!("Replayed {when}")).or_default() += 1;
            }
        }
    }
    watched.has_seen_nothing(&format!("a word replayed {when}")).await;
}

/// Everything that was said to one node, at another, which trusts the same peers.
async fn replay_elsewhere(house: &House, counts: &mut Counts) {
    let other = house.other.did;
    for voice in [&house.requester, &house.provider, &house.insider] {
        house.world.network.connect(voice.did, other);
    }
    // What is for everybody may be told to everybody.
    let told =
        |said: &&Said| !matches!(said.way, Way::Gossiped | Way::Told(Word::Advert | Word::Revocations));
    house.settle().await;
    wait_until("its peers", async || (house.other.status().await.peers.len() == 3).then_some(())).await;
    let watched = Watched::new(house).await;
    for _ in 0..REPEATS {
        for Said { by, way, bytes } in house.said.iter().filter(told) {
            let Way::Told(word) = way else { continue };
            for voice in [house.voice(*by), &house.insider] {
                voice.tell(other, *word, bytes.clone()).await;
                *counts.entry("Replayed elsewhere".to_owned()).or_default() += 1;
            }
        }
    }
    house.settle().await;
    house.other.status().await;
    watched.has_seen_nothing("a word replayed elsewhere").await;
}

/// A job of another node's runs here from hand to hand.
async fn a_job_goes_through(house: &House, number: u8) {
    house.subject.executor.may_end.send_replace(true);
    house.world.network.connect(house.subject.did, house.other.did);
    let job = Job { id: dms_messages::JobId::from_random([number; 16]), ..hand_made::job(Millis(10_000)) };
    let other = &house.other.node;
    wait_until("the offer", async || {
        let peers = house.other.status().await.peers;
        peers.iter().any(|peer| peer.did == house.subject.did && peer.is_provider).then_some(())
    })
    .await;
    // It would take its own job.
    let withdrawn = other.ask(dms_node::commands::Offboard { mode: dms_node::commands::OffboardMode::Force });
    withdrawn.timeout(DEADLINE).await.expect("it answers").expect("nothing runs there");
    let id = other.ask(SubmitJob { job }).timeout(DEADLINE).await.expect("it answers").expect("it is sound");
    let row = wait_until("the job's end", async || {
        let row = other.ask(ShowJob { job: id }).timeout(DEADLINE).await.expect("it answers");
        row.ok().filter(|row| row.phase.is_terminal())
    })
    .await;
    assert_eq!(row.end, Some(dms_messages::JobEnd::Succeeded), "{row:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_that_are_wrong_have_no_effect() {
    let began = Instant::now();
    let mut house = House::new().await;
    let open = house.tell().await;
    let mut counts = Counts::new();
    tell_wrong_words(&house, &open, &mut counts).await;
    tell_as_another(&house, &open, &mut counts).await;
    tell_long_lived(&house, &mut counts).await;
    tell_back(&house, &mut counts).await;
    tell_wrong_contracts(&house, &open, &mut counts).await;
    show_wrong_tokens(&house, &mut counts).await;
    gossip_wrong_words(&house, &mut counts).await;
    house.world.clock.advance(Duration::from_secs(1));
    replay(&house, "after a second", &mut counts).await;
    replay_elsewhere(&house, &mut counts).await;

    // What was forged in vain is now said by whom it is from.
    let terms = {
        let bid = story::bid(open.asked.id, 9);
        let bytes = bid.sign(&house.world.seal(&house.provider.key, Some(house.subject.did)));
        house.provider.tell(house.subject.did, Word::Bid, bytes).await;
        let invoked = house.provider.hear_document::<dms_messages::Invocation>(Word::Invocation).await;
        invoked.value().contract.clone()
    };
    house.accept(&terms, 9).await;
    house.settle().await;

    // What is not on disk yet when a node stops is as if it had not been said, and may be said again.
    house.subject.look().await;
    let trusted = [&house.provider, &house.insider].map(|voice| voice.did);
    let trusted = [trusted.as_slice(), &[house.other.did]].concat();
    house.subject = house.world.restart(house.subject, SUBJECT, &trusted).await;
    wait_until("what ran to be ended", async || {
        (house.subject.status().await.active_allocation_count == 0).then_some(())
    })
    .await;
    house.meet().await;
    replay(&house, "after a restart", &mut counts).await;
    house.world.clock.advance(2 * MINUTE);
    replay(&house, "after their end", &mut counts).await;

    a_job_goes_through(&house, 0x77).await;
    let sum: usize = counts.values().sum();
    assert!(sum >= 10_000, "{sum}: {counts:?}");
    let counts: Vec<String> = counts.iter().map(|(wrong, count)| format!("{count} {wrong}")).collect();
    let seconds = began.elapsed().as_secs_f64();
    proof(&format!("words: {sum} that are wrong, 0 effects, in {seconds:.0} s: {}", counts.join(", ")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hushes_a_request_by_taking_its_id() {
    let house = House::new().await;
    let me = house.subject.did;
    let id = DocumentId([0x1d; 16]);
    let ask = async |voice: &Voice, number: usize| {
        let seal = house.world.seal(&voice.key, Some(me));
        let (network, audience) = (seal.network.to_owned(), seal.audience);
        let options = SignOptions { network, audience, issued_at: seal.issued_at, ttl: seal.ttl, id };
        let asked = Signed::sign(request(number), &voice.key, options).expect("it is small");
        voice.tell(me, Word::BidRequest, asked.bytes().to_vec()).await;
        voice.hear_document::<dms_messages::Bid>(Word::Bid).await.value().request
    };
    assert_eq!(ask(&house.insider, 1).await, request(1).id, "whoever is first");
    assert_eq!(ask(&house.requester, 2).await, request(2).id, "and whose id it was");
}

/// Clocks that are up to the skew ahead of the node's or behind it, in turn.
struct Skewed(u64);

impl Skewed {
    /// How a peer of such a clock signs now: for a minute, or for ten seconds, which by the node's clock may be over.
    fn seal<'k>(&mut self, house: &House, voice: &'k Voice) -> Seal<'k> {
        const SKEW_MS: u64 = 30_000;
        self.0 += 1;
        // Both ends first, then everything between them, in an order of which nothing else has the period.
        let ahead_ms = [0, 2 * SKEW_MS].get(self.0 as usize - 1).copied();
        let ahead_ms = ahead_ms.unwrap_or(self.0 * 7919 % (2 * SKEW_MS + 1));
        let right = house.world.seal(&voice.key, Some(house.subject.did));
        let issued_at = words::earlier(right.issued_at, Duration::from_millis(SKEW_MS));
        let issued_at = issued_at.saturating_add(Duration::from_millis(ahead_ms));
        Seal { issued_at, ttl: if self.0.is_multiple_of(2) { MINUTE } else { MINUTE / 6 }, ..right }
    }

    fn gossip_seal<'k>(&mut self, house: &House, voice: &'k Voice) -> Seal<'k> {
        Seal { audience: None, ..self.seal(house, voice) }
    }
}

/// The requester asks, directly and by gossip, invokes, and every program runs to its end.
async fn ask_and_invoke(house: &House, skewed: &mut Skewed) {
    let (me, requester) = (house.subject.did, &house.requester);
    for number in 0..2_000 {
        let asked = request(number);
        requester.tell(me, Word::BidRequest, asked.sign(&skewed.seal(house, requester))).await;
        let bid = requester.hear_document::<dms_messages::Bid>(Word::Bid).await;
        assert_eq!(bid.value().request, asked.id);
        house.release(bid.value().id).await;
    }
    for number in 2_000..2_300 {
        let asked = dms_messages::BidRequest { credentials: house.token.clone(), ..request(number) };
        let said = asked.sign(&skewed.gossip_seal(house, requester));
        let topic = story::request_topic();
        let verdicts = house::gossip(&house.world, &house.subject, requester, &topic, vec![said]).await;
        assert_eq!(verdicts, [Verdict::Accept]);
        let bid = requester.hear_document::<dms_messages::Bid>(Word::Bid).await;
        assert_eq!(bid.value().request, asked.id);
        house.release(bid.value().id).await;
    }
    house.subject.executor.may_end.send_replace(true);
    for number in 2_300..2_500 {
        let asked = request(number);
        requester.tell(me, Word::BidRequest, asked.sign(&skewed.seal(house, requester))).await;
        let bid = requester.hear_document::<dms_messages::Bid>(Word::Bid).await;
        let terms = signed(story::contract(requester.did, &bid, asked.job), &skewed.seal(house, requester));
        let invocation = dms_messages::Invocation { bid: bid.value().id, contract: terms };
        requester.tell(me, Word::Invocation, invocation.sign(&skewed.seal(house, requester))).await;
        requester.hear(Word::Accepted).await;
        loop {
            let status =
                requester.hear_document::<dms_messages::AllocationStatus>(Word::AllocationStatus).await;
            if status.value().state.is_terminal() {
                assert_eq!(status.value().state, AllocationState::Succeeded);
                break;
            }
        }
    }
}

/// The provider answers jobs of the node's in each way, and each answer decides.
async fn answer_jobs(house: &House, skewed: &mut Skewed) {
    let (me, provider) = (house.subject.did, &house.provider);
    for number in 0..300 {
        house.submit(number).await;
        let asked = provider.hear_document::<dms_messages::BidRequest>(Word::BidRequest).await;
        let asked = asked.value().id;
        if number % 3 == 0 {
            let reason = dms_messages::DeclineReason::NotOnboarded;
            let decline = dms_messages::Decline { request: asked, reason, retry: Retry::Final };
            provider.tell(me, Word::Decline, decline.sign(&skewed.seal(house, provider))).await;
        } else {
            let bid = story::bid(asked, number).sign(&skewed.seal(house, provider));
            provider.tell(me, Word::Bid, bid).await;
            let invoked = provider.hear_document::<dms_messages::Invocation>(Word::Invocation).await;
            let contract = invoked.value().contract.clone();
            let (attempt, allocation) = (contract.value().attempt, story::allocation(number));
            if number % 3 == 1 {
                let refused = dms_messages::Refused { attempt, reason: RefusedReason::Busy };
                provider.tell(me, Word::Refused, refused.sign(&skewed.seal(house, provider))).await;
            } else {
                let accepted =
                    dms_messages::Accepted { attempt, contract: contract.content_id(), allocation };
                provider.tell(me, Word::Accepted, accepted.sign(&skewed.seal(house, provider))).await;
                let failed = AllocationState::Failed { cause: FailureCause::NodeRestarted };
                for state in [AllocationState::Running, failed] {
                    let status =
                        dms_messages::AllocationStatus { attempt, allocation, task: 0, state, result: None };
                    let status = status.sign(&skewed.seal(house, provider));
                    provider.tell(me, Word::AllocationStatus, status).await;
                }
                provider.hear(Word::Acknowledge).await;
            }
        }
        wait_until("the end of a job", async || {
            (house.subject.status().await.active_job_count == 0).then_some(())
        })
        .await;
    }
}

/// Answers to what is over or never was: taken, and of no use.
async fn answer_late(house: &House, skewed: &mut Skewed) {
    let (me, provider) = (house.subject.did, &house.provider);
    let let_go = || provider.heard().iter().filter(|(word, _)| *word == Word::Release).count();
    let before = let_go();
    for number in 0..600 {
        let attempt = dms_messages::AttemptId { job: JobId::from_random([9; 16]), pod: 0, number: 1 };
        let (request, allocation) = (request(number).id, story::allocation(number));
        let contract = ContentId::of_bytes(&number.to_be_bytes());
        let reason = dms_messages::DeclineReason::Draining;
        let state = AllocationState::Running;
        let drafts: [(Word, Box<dyn Draft>); 5] = [
            (Word::Bid, Box::new(story::bid(request, 10_000 + number))),
            (Word::Decline, Box::new(dms_messages::Decline { request, reason, retry: Retry::Later })),
            (Word::Accepted, Box::new(dms_messages::Accepted { attempt, contract, allocation })),
            (Word::Refused, Box::new(dms_messages::Refused { attempt, reason: RefusedReason::Draining })),
            (
                Word::AllocationStatus,
                Box::new(dms_messages::AllocationStatus {
                    attempt,
                    allocation,
                    task: 0,
                    state,
                    result: None,
                }),
            ),
        ];
        for (word, draft) in drafts {
            provider.tell(me, word, draft.sign(&skewed.seal(house, provider))).await;
        }
    }
    wait_until("every bid to be let go", async || (let_go() == before + 600).then_some(())).await;
}

/// What the provider says of itself: of each the newest counts.
async fn introduce(house: &House, skewed: &mut Skewed) {
    let (me, provider) = (house.subject.did, &house.provider);
    let now = house.world.now().0;
    let mut statuses = Vec::new();
    for number in 1..=2_000 {
        let mut advert = story::advert(now + number);
        advert.available.memory = MemoryMib(10_000 + number);
        // Void only when the test is over, so that it can be asked for.
        let seal = Seal { ttl: 10 * MINUTE, ..skewed.gossip_seal(house, provider) };
        provider.tell(me, Word::Advert, advert.sign(&seal)).await;
        if number > 500 {
            let mut status = story::node_status(now + number);
            status.available.memory = MemoryMib(20_000 + number);
            let seal = Seal { ttl: 10 * MINUTE, ..skewed.gossip_seal(house, provider) };
            statuses.push(status.sign(&seal));
        }
    }
    let topic = network::status_topic(NETWORK);
    // A source has a pace: a hundred in a second, and a few hundred at once.
    for said in statuses.chunks(300) {
        let verdicts = house::gossip(&house.world, &house.subject, provider, &topic, said.to_vec()).await;
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Accept));
        house.world.clock.advance(Duration::from_secs(3));
    }
    house.settle().await;
    let peers = dms_node::peers::GetPeers { limit: 10 };
    let peers = house.subject.node.ask(peers).timeout(DEADLINE).await.expect("the node answers");
    let view = peers.into_iter().find(|view| view.did == provider.did).expect("it is known");
    let offer = view.advert.map(|advert| advert.available.memory);
    let status = view.status.map(|report| report.status.available.memory);
    assert_eq!((offer, status), (Some(MemoryMib(12_000)), Some(MemoryMib(22_000))));
}

/// The provider takes back tokens of its own.
async fn revoke(house: &House, skewed: &mut Skewed) {
    let (me, provider) = (house.subject.did, &house.provider);
    let before = house.subject.rows(Family::Trust).len();
    for number in 0_u64..200 {
        let revocation = Revocation { token: ContentId::of_bytes(&number.to_be_bytes()) };
        // It holds for as long as its token would.
        let seal = Seal { ttl: 60 * MINUTE, ..skewed.gossip_seal(house, provider) };
        provider.tell(me, Word::Revocations, story::revocations(revocation.sign(&seal))).await;
    }
    wait_until("the revocations on disk", async || {
        (house.subject.rows(Family::Trust).len() == before + 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_whoever_is_half_a_minute_off_are_taken() {
    let began = Instant::now();
    let house = House::new().await;
    let mut skewed = Skewed(0);
    let refused = || house.subject.system.counters().refused_words;
    let before = refused();
    ask_and_invoke(&house, &mut skewed).await;
    answer_jobs(&house, &mut skewed).await;
    answer_late(&house, &mut skewed).await;
    introduce(&house, &mut skewed).await;
    revoke(&house, &mut skewed).await;
    house.settle().await;
    assert_eq!(refused(), before);
    let sum = skewed.0;
    assert!(sum >= 10_000, "{sum}");
    let seconds = began.elapsed().as_secs_f64();
    proof(&format!("words: {sum} by clocks that are up to 30 s off, 0 refused, in {seconds:.0} s"));
}
