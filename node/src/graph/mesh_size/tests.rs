//! The program alone, over graphs of a thousand vertices in virtual time: words are late and lost, clocks differ,
//! vertices leave and lie.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dms_actors::clock::Timestamp;
use dms_messages::Keypair;

use super::super::edge::{Micros, PerMillion};
use super::super::sketch::rank;
use super::*;

/// Wall clocks of different vertices differ by so much at most: the skew that the mesh accepts.
const SKEW: Duration = Duration::from_secs(30);
/// What words take at least, and how much longer they may.
const DELAY: Duration = Duration::from_millis(40);
const JITTER: Duration = Duration::from_millis(20);
/// A beginning of an epoch, so that a world's first one is whole.
const START: u64 = 1_700_000_100_000;

/// A vertex by its number.
type Index = usize;

/// What happens to a vertex.
enum Happening {
    Tick,
    Word(Index, CensusWord),
}

/// Vertices, edges, and words on their way.
struct World {
    now: Duration,
    dids: Vec<Did>,
    indices: BTreeMap<Did, Index>,
    /// None has left.
    vertices: Vec<Option<MeshSize>>,
    skews: Vec<Duration>,
    on_the_way: BinaryHeap<Reverse<(Duration, u64, Index)>>,
    happenings: BTreeMap<u64, Happening>,
    count: u64,
    seed: u64,
    /// One in so many words is lost.
    lose_one_in: u64,
    /// Says other keys than it has heard of.
    liar: Option<(Index, Vec<[u8; 32]>)>,
    said: u64,
    said_keys: u64,
}

/// The DID of a vertex; no secret is needed.
fn did_of(index: Index) -> Did {
    let mut secret = [0x6d; 32];
    secret[..8].copy_from_slice(&(index as u64).to_be_bytes());
    Keypair::from_secret(&secret).did()
}

impl World {
    fn new(seed: u64, edges: &[(Index, Index)], lose_one_in: u64) -> Self {
        let count = edges.iter().map(|(a, b)| a.max(b) + 1).max().unwrap_or(1);
        let dids: Vec<Did> = (0..count).map(did_of).collect();
        let mut world = Self {
            now: Duration::ZERO,
            vertices: dids.iter().map(|did| Some(MeshSize::new(*did))).collect(),
            indices: dids.iter().copied().zip(0..).collect(),
            dids,
            skews: vec![],
            on_the_way: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            count: 0,
            seed,
            lose_one_in,
            liar: None,
            said: 0,
            said_keys: 0,
        };
        for (a, b) in edges {
            for (one, other) in [(*a, *b), (*b, *a)] {
                let did = world.dids[other];
                world.vertex(one).connect(did, true, Duration::ZERO);
            }
        }
        for index in 0..count {
            let skew = world.draw_duration(SKEW);
            world.skews.push(skew);
            let first = world.draw_duration(TICK);
            world.happens(first, index, Happening::Tick);
        }
        world
    }

    fn vertex(&mut self, index: Index) -> &mut MeshSize {
        self.vertices[index].as_mut().expect("it is there")
    }

    fn draw(&mut self) -> u64 {
        self.count += 1;
        let hash = Sha256::new().chain_update(self.seed.to_be_bytes()).chain_update(self.count.to_be_bytes());
        u64::from_be_bytes(hash.finalize()[..8].try_into().unwrap())
    }

    fn draw_duration(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.draw() % u64::try_from(most.as_nanos()).unwrap())
    }

    fn happens(&mut self, after: Duration, to: Index, happening: Happening) {
        self.count += 1;
        self.on_the_way.push(Reverse((self.now + after, self.count, to)));
        self.happenings.insert(self.count, happening);
    }

    fn moment(&mut self, of: Index) -> Moment {
        let mut chance = [0; 16];
        chance[..8].copy_from_slice(&self.draw().to_be_bytes());
        let wall = Timestamp(START).saturating_add(self.now + self.skews[of]);
        Moment { now: self.now, wall, chance }
    }

    /// Goes on until an instant.
    fn run_until(&mut self, until: Duration) {
        while let Some(Reverse((at, number, to))) = self.on_the_way.peek().copied()
            && at <= until
        {
            self.on_the_way.pop();
            self.now = at;
            let happening = self.happenings.remove(&number).unwrap();
            if self.vertices[to].is_none() {
                continue;
            }
            let moment = self.moment(to);
            let said = match happening {
                Happening::Tick => {
                    self.happens(TICK, to, Happening::Tick);
                    self.vertex(to).step(&moment, Vec::new())
                }
                Happening::Word(from, word) => {
                    let from = self.dids[from];
                    self.vertex(to).step(&moment, vec![(from, word)])
                }
            };
            self.send(to, said);
        }
        self.now = until;
    }

    fn send(&mut self, from: Index, mut said: Outbox<CensusWord>) {
        if let Some((liar, keys)) = &self.liar
            && *liar == from
        {
            for (_, word) in &mut said {
                let (CensusWord::Ask(Census { sample, .. }) | CensusWord::Reply(CensusReply { sample, .. })) =
                    word;
                *sample = Sample::of(keys.iter().copied());
            }
        }
        for (to, word) in said {
            let to = self.indices[&to];
            self.said += 1;
            let (CensusWord::Ask(Census { sample, .. }) | CensusWord::Reply(CensusReply { sample, .. })) =
                &word;
            self.said_keys += sample.keys().len() as u64;
            if self.lose_one_in > 0 && self.draw().is_multiple_of(self.lose_one_in) {
                continue;
            }
            let delay = DELAY + self.draw_duration(JITTER);
            self.happens(delay, to, Happening::Word(from, word));
        }
    }

    fn leave(&mut self, index: Index) {
        self.vertices[index] = None;
        let (did, now) = (self.dids[index], self.now);
        self.vertices.iter_mut().flatten().for_each(|vertex| vertex.disconnect(did, now));
    }

    /// What everybody who is there and honest estimates.
    fn estimates(&self) -> Vec<u64> {
        let liar = self.liar.as_ref().map(|(liar, _)| *liar);
        let honest = self.vertices.iter().enumerate().filter(|(index, _)| Some(*index) != liar);
        honest.filter_map(|(_, vertex)| Some(vertex.as_ref()?.estimate())).collect()
    }

    /// Panics unless everybody is within a quarter of how many there are.
    #[track_caller]
    fn assert_close(&self, what: &str) {
        let estimates = self.estimates();
        let truth = self.vertices.iter().flatten().count() as u64;
        let (least, most) = (*estimates.iter().min().unwrap(), *estimates.iter().max().unwrap());
        assert!(
            least * 4 >= truth * 3 && most * 4 <= truth * 5,
            "{what}: {truth} are there, and they estimate {least} to {most}"
        );
    }
}

/// Everybody knows those beside it, and the next but one; one in two has a chord somewhere. Nobody has more than
/// eight edges.
fn small_world(count: usize) -> Vec<(Index, Index)> {
    let ring = (0..count).flat_map(|at| [(at, (at + 1) % count), (at, (at + 2) % count)]);
    let mut degrees = vec![4; count];
    let mut edges: Vec<_> = ring.collect();
    for at in (0..count).step_by(2) {
        let hash = Sha256::digest((at as u64).to_be_bytes());
        let to = usize::try_from(u32::from_be_bytes(hash[..4].try_into().unwrap())).unwrap() % count;
        if to != at && degrees[at] < 8 && degrees[to] < 8 {
            edges.push((at, to));
            degrees[at] += 1;
            degrees[to] += 1;
        }
    }
    edges
}

/// Streets and avenues: everybody has two to four neighbours, and the way across is long.
fn grid(width: usize, height: usize) -> Vec<(Index, Index)> {
    let across = (0..height).flat_map(|y| (1..width).map(move |x| (y * width + x - 1, y * width + x)));
    let down = (1..height).flat_map(|y| (0..width).map(move |x| ((y - 1) * width + x, y * width + x)));
    across.chain(down).collect()
}

fn everybody(count: usize) -> Vec<(Index, Index)> {
    (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn everybody_is_within_a_quarter_of_the_truth_at_100_and_at_1000() {
    let line: Vec<_> = (1..100).map(|at| (at - 1, at)).collect();
    let star: Vec<_> = (1..100).map(|at| (0, at)).collect();
    let table = [
        ("100, each with each", everybody(100), 0),
        ("a line of 100", line.clone(), 0),
        ("a line of 100, with loss", line, 20),
        ("a star of 100, with loss", star, 20),
        ("a small world of 100, with loss", small_world(100), 20),
        ("a small world of 1,000", small_world(1_000), 0),
        ("a small world of 1,000, with loss", small_world(1_000), 20),
        ("a grid of 1,000, with loss", grid(25, 40), 20),
    ];
    for (name, edges, lose_one_in) in table {
        let mut world = World::new(7, &edges, lose_one_in);
        for minutes in [4, 9, 11, 14] {
            world.run_until(minutes * MINUTE);
            world.assert_close(&format!("{name}, after {minutes} min"));
        }
        // What it costs, in words and keys, of each vertex in a minute.
        let vertices = world.dids.len() as u64;
        let (words, keys) = (world.said / vertices / 14, world.said_keys / vertices / 14);
        assert!(words < 1_000 && keys < 5_000, "{name}: {words} words, {keys} keys");
    }
}

#[test]
fn whoever_has_left_is_forgotten_within_two_epochs() {
    let mut world = World::new(3, &small_world(100), 20);
    world.run_until(7 * MINUTE);
    world.assert_close("all of them");
    // Every other one leaves; those beside each other but one keep the ring.
    (1..100).step_by(2).for_each(|index| world.leave(index));
    world.run_until(7 * MINUTE + 2 * EPOCH + MINUTE);
    world.assert_close("half of them");
}

#[test]
fn whoever_comes_is_told_at_once_and_whoever_is_alone_counts_itself() {
    let mut edges = small_world(100);
    let mut world = World::new(5, &edges, 0);
    world.run_until(8 * MINUTE);
    edges.push((0, 100));
    let mut larger = World::new(5, &edges, 0);
    larger.vertex(0).disconnect(did_of(100), Duration::ZERO);
    larger.vertex(100).disconnect(did_of(0), Duration::ZERO);
    larger.run_until(8 * MINUTE);
    assert_eq!(larger.vertex(100).estimate(), 1, "nobody is there");
    let now = larger.now;
    larger.vertex(0).connect(did_of(100), true, now);
    larger.vertex(100).connect(did_of(0), true, now);
    larger.run_until(8 * MINUTE + Duration::from_secs(5));
    assert!(larger.vertex(100).estimate() >= 99, "{}", larger.vertex(100).estimate());
    let now = larger.now;
    larger.vertex(100).disconnect(did_of(0), now);
    assert_eq!(larger.vertex(100).estimate(), 1, "nobody is there any more");
}

#[test]
fn a_round_trip_is_what_words_take_and_reliability_what_is_not_lost() {
    let mut world = World::new(11, &small_world(100), 20);
    world.run_until(30 * MINUTE);
    let (mut measured, mut sum) = (0, 0);
    for vertex in world.vertices.iter().flatten() {
        for (did, edge) in vertex.edges() {
            assert_eq!(vertex.edge(did), Some(edge));
            let Micros(trip) = edge.round_trip.expect("everybody was asked");
            // 40 to 60 ms either way.
            assert!((80_000..=120_000).contains(&trip), "{trip} us");
            assert!(edge.deviation < Some(Micros(25_000)), "{edge:?}");
            assert_eq!(edge.bandwidth, None, "nothing was fetched");
            let PerMillion(share) = edge.reliability.expect("everybody was asked");
            assert!(share > 400_000, "{share} of a million");
            measured += 1;
            sum += u64::from(share);
        }
    }
    // Either of two words in twenty.
    let mean = sum / measured;
    assert!((870_000..=935_000).contains(&mean), "{mean} of a million were answered");
}

/// The keys of the least ranks that a liar finds among so many in each of these epochs.
fn forged(tries: u64, epochs: std::ops::RangeInclusive<u64>) -> Vec<[u8; 32]> {
    let epochs: Vec<u64> = epochs.collect();
    let mut best: Vec<BTreeMap<u64, [u8; 32]>> = vec![BTreeMap::new(); epochs.len()];
    for number in 0..tries {
        let mut key = [0xee; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        for (epoch, best) in epochs.iter().zip(&mut best) {
            best.insert(rank(*epoch, &key), key);
            if best.len() > MAX_SAMPLE / epochs.len() {
                best.pop_last();
            }
        }
    }
    best.iter().flat_map(|best| best.values().copied()).collect()
}

#[test]
fn a_liar_makes_the_mesh_no_larger_than_its_keys_and_never_smaller() {
    let first = START / u64::try_from(EPOCH.as_millis()).unwrap();
    // Keys that it has only made up are as many as they are.
    let mut world = World::new(13, &small_world(100), 0);
    world.liar = Some((50, forged(MAX_SAMPLE as u64, first..=first)));
    world.run_until(9 * MINUTE);
    for estimate in world.estimates() {
        assert!((100..=450).contains(&estimate), "{estimate} of 100 nodes and 256 keys");
    }
    // It works for two epochs to look like a hundred thousand.
    let tries = 100_000;
    world.liar = Some((50, forged(tries, first + 2..=first + 3)));
    world.run_until(14 * MINUTE);
    for estimate in world.estimates() {
        assert!(estimate >= 100, "{estimate}: smaller than it is");
        assert!(estimate <= tries * 5 / 4, "{estimate}: more than it has worked for");
        let paced_for = paced_for(99, estimate);
        assert_eq!(paced_for, estimate.min(1_600), "what follows from it is bounded");
    }
    // It is silent, or kept out: two epochs later nobody remembers.
    world.leave(50);
    world.run_until(14 * MINUTE + 2 * EPOCH + MINUTE);
    world.assert_close("after the liar");
}

#[test]
fn whoever_withholds_what_it_knows_is_passed_by() {
    let mut world = World::new(17, &small_world(100), 0);
    world.liar = Some((50, Vec::new()));
    world.run_until(4 * MINUTE);
    assert_eq!(world.estimates(), [99; 99]);
}

#[test]
fn hearsay_counts_for_no_more_than_so_many_times_what_was_heard() {
    let table = [
        // Heard of, estimated, paced for.
        (0, 1, 1),
        (0, u64::MAX, 16),
        (4, 3, 4),
        (4, 50, 50),
        (4, 1_000, 80),
        (1_000, 900, 1_000),
        (1_000, u64::MAX, 3_000),
        (4_096, u64::MAX, 4_096),
    ];
    for (heard, estimate, paced) in table {
        assert_eq!(paced_for(heard, estimate), paced, "{heard} heard of, {estimate} estimated");
    }
}

fn moment(now: Duration) -> Moment {
    Moment { now, wall: Timestamp(START).saturating_add(now), chance: [1; 16] }
}

fn ask(question: u64, epoch: u64, keys: impl IntoIterator<Item = [u8; 32]>) -> CensusWord {
    CensusWord::Ask(Census { question, epoch, digest: 0, sample: Sample::of(keys) })
}

#[test]
fn a_flood_of_questions_is_answered_at_a_pace_and_strangers_learn_nothing() {
    let epoch = START / u64::try_from(EPOCH.as_millis()).unwrap();
    let mut vertex = MeshSize::new(did_of(0));
    let (friend, stranger) = (did_of(1), did_of(2));
    vertex.connect(friend, true, Duration::ZERO);
    vertex.connect(stranger, false, Duration::ZERO);
    let flood = |from: Did| (0..1_000).map(|number| (from, ask(number, epoch, [[7; 32]]))).collect();
    let said = vertex.step(&moment(Duration::ZERO), flood(friend));
    assert_eq!(said.len(), 20);
    assert_eq!(vertex.estimate(), 2, "itself and the key of the friend's");
    let said = vertex.step(&moment(Duration::from_secs(10)), flood(friend));
    assert_eq!(said.len(), 20, "and in the next ten seconds as many");
    let asked = vec![(stranger, ask(1, epoch, [[8; 32]])), (did_of(9), ask(1, epoch, [[9; 32]]))];
    let said = vertex.step(&moment(Duration::from_secs(11)), asked);
    let nothing = CensusReply { question: 1, epoch, digest: 0, sample: Sample::default() };
    assert_eq!(said, [(stranger, CensusWord::Reply(nothing))], "and whoever is not connected none");
    assert_eq!(vertex.estimate(), 2, "a stranger's keys do not count");
    assert_eq!(vertex.neighbours(), [friend]);
    // Words of another time.
    for far in [0, epoch - 2, epoch + 2, u64::MAX] {
        vertex.step(&moment(Duration::from_secs(25)), vec![(friend, ask(2, far, [[9; 32]]))]);
    }
    assert_eq!((vertex.estimate(), vertex.sketches.len()), (2, 1));
}

#[test]
fn an_answer_that_was_not_asked_for_says_nothing() {
    let epoch = START / u64::try_from(EPOCH.as_millis()).unwrap();
    let peer = did_of(1);
    let mut vertex = MeshSize::new(did_of(0));
    vertex.connect(peer, true, Duration::ZERO);
    let said = vertex.step(&moment(Duration::ZERO), Vec::new());
    let [(to, CensusWord::Ask(census))] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!((*to, census.epoch), (peer, epoch));
    let reply = |question| {
        let sample = Sample::of([[7; 32]]);
        vec![(peer, CensusWord::Reply(CensusReply { question, epoch, digest: 0, sample }))]
    };
    let later = moment(Duration::from_millis(70));
    vertex.step(&later, reply(census.question ^ 1));
    assert_eq!((vertex.estimate(), vertex.edge(peer).unwrap().round_trip), (1, None));
    for _ in 0..2 {
        vertex.step(&later, reply(census.question));
        let edge = vertex.edge(peer).unwrap();
        assert_eq!((vertex.estimate(), edge.round_trip, edge.asked), (2, Some(Micros(70_000)), 1));
    }
    // Nobody answers any more: it is asked less and less, and left alone for eight minutes at most.
    let asked: Vec<u64> = (1..3_600)
        .filter(|second| !vertex.step(&moment(Duration::from_secs(*second)), Vec::new()).is_empty())
        .collect();
    let pauses: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted() && pauses.last() == Some(&480), "{pauses:?}");
    assert!(vertex.edge(peer).unwrap().reliability < Some(PerMillion(600_000)));
}

#[test]
fn edges_are_kept_for_an_hour_and_are_bounded() {
    let mut vertex = MeshSize::new(did_of(0));
    vertex.connect(did_of(0), true, Duration::ZERO);
    assert_eq!(vertex.edges().count(), 0, "no edge to itself");
    for index in 1..=MAX_EDGES {
        vertex.connect(did_of(index), true, Duration::ZERO);
    }
    vertex.connect(did_of(9_999), true, Duration::ZERO);
    assert_eq!((vertex.edges().count(), vertex.edge(did_of(9_999))), (MAX_EDGES, None));
    vertex.disconnect(did_of(1), Duration::from_secs(1));
    vertex.connect(did_of(9_999), true, Duration::from_secs(2));
    assert_eq!((vertex.edge(did_of(1)), vertex.edges().count()), (None, MAX_EDGES));
    vertex.disconnect(did_of(2), Duration::from_secs(3));
    vertex.prune(Duration::from_secs(3) + KEEP_EDGE - Duration::from_secs(1));
    assert!(vertex.edge(did_of(2)).is_some() && !vertex.neighbours().contains(&did_of(2)));
    vertex.prune(Duration::from_secs(3) + KEEP_EDGE);
    assert_eq!((vertex.edge(did_of(2)), vertex.edges().count()), (None, MAX_EDGES - 1));
    vertex.carried(did_of(3), 1 << 20, Duration::from_secs(1));
    assert!(vertex.edge(did_of(3)).unwrap().bandwidth.is_some());
}
