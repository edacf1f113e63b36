//! A small world made by hand, and what is told of it.

use std::time::Duration;

use dms_messages::{
    Accepted, AllocationId, AllocationState, AttemptId, Bid, BidId, BidRequest, BidRequestId, Contract, Did,
    Document, DocumentId, Job, JobEnd, JobId, JobPhase, Keypair, Millis, Price, Resources, SignOptions,
    Signed, Timestamp,
};
use dms_storage::{Entry, Event, Lock, LockEnd};

use super::*;
use crate::hand_made;
use crate::sim::facts::Channel;

/// Where the wall clocks of these worlds begin.
const BEGIN: u64 = 1_700_000_000_000;

/// Facts in the making.
struct World {
    keys: Vec<Keypair>,
    facts: Vec<Seen>,
    logs: Vec<u64>,
    lives: Vec<u32>,
}

impl World {
    fn new(nodes: usize) -> Self {
        let secret = |node: usize| {
            let mut secret = [7; 32];
            secret[..8].copy_from_slice(&(node as u64).to_le_bytes());
            secret
        };
        let keys = (0..nodes).map(|node| Keypair::from_secret(&secret(node))).collect();
        let mut world = Self { keys, facts: Vec::new(), logs: vec![0; nodes], lives: vec![0; nodes] };
        (0..nodes).for_each(|node| world.start(0, node));
        world
    }

    fn dids(&self) -> Vec<Did> {
        self.keys.iter().map(Keypair::did).collect()
    }

    /// Something happened at a time in milliseconds.
    fn add(&mut self, at: u64, node: NodeIndex, fact: Fact) {
        let (at, wall) = (Duration::from_millis(at), Timestamp(BEGIN + at));
        self.facts.push(Seen { at, wall, node, life: self.lives[node], fact });
    }

    fn start(&mut self, at: u64, node: NodeIndex) {
        self.lives[node] += 1;
        self.add(at, node, Fact::Started { last_event: self.logs[node] });
    }

    fn write(&mut self, at: u64, node: NodeIndex, events: Vec<Event>, is_synced: bool) {
        let entries = events
            .into_iter()
            .map(|event| {
                self.logs[node] += 1;
                (self.logs[node], Entry { at: Timestamp(BEGIN + at), event })
            })
            .collect();
        self.add(at, node, Fact::Written { entries, is_synced });
    }

    fn sign<T: Document>(&self, at: u64, node: NodeIndex, value: T) -> Signed<T> {
        let options = SignOptions {
            network: "test".to_owned(),
            audience: None,
            issued_at: Timestamp(BEGIN + at),
            ttl: Duration::from_secs(60),
            id: DocumentId([5; 16]),
        };
        Signed::sign(value, &self.keys[node], options).unwrap()
    }

    /// A job of `requester` that `provider` runs on the `number`-th try, from its request to the end of its run.
    fn job(&mut self, at: u64, id: u8, number: u32, [requester, provider]: [NodeIndex; 2], ran: u64) {
        let job = Job { id: JobId::from_random([id; 16]), ..hand_made::job(Millis(60_000)) };
        let salt = |kind: u8| {
            let mut bytes = [id; 16];
            bytes[0] = kind;
            bytes[1] = number as u8;
            bytes
        };
        let (did, other) = (self.keys[requester].did(), self.keys[provider].did());
        let resources = Resources { cpu: dms_messages::CpuMillis(500), ..Resources::default() };
        let request = BidRequest {
            id: BidRequestId::from_random(salt(1)),
            job: job.id,
            pod: 0,
            requirement: job.pods[0].requirement.clone(),
            run_time: Millis(60_000),
            max_price: None,
            wanted: 1,
            addresses: vec![],
            credentials: Default::default(),
        };
        let bid = Bid {
            id: BidId::from_random(salt(2)),
            request: request.id,
            resources: resources.clone(),
            price: Price(0),
            score: 1,
            lease: Millis(10_000),
            profile: Default::default(),
        };
        let lock = Lock {
            bid: bid.id,
            request: request.id,
            requester: did,
            job: job.id,
            pod: 0,
            resources: resources.clone(),
            expires: Timestamp(BEGIN + at + 10_000),
        };
        let attempt = AttemptId { job: job.id, pod: 0, number };
        let contract = Contract {
            requester: did,
            provider: other,
            attempt,
            request: request.id,
            bid: bid.id,
            resources,
            price: Price(0),
            pod: job.pods[0].clone(),
            orphan_after: Millis(60_000),
        };
        let allocation = AllocationId::from_random(salt(3));
        let bid = self.sign(at, provider, bid);
        let contract = self.sign(at, requester, contract);
        let accepted = Accepted { attempt, contract: contract.content_id(), allocation };
        let accepted = self.sign(at, provider, accepted);
        if number == 1 {
            self.write(at, requester, vec![Event::JobSubmitted { job: job.clone() }], true);
            self.add(at + 1, requester, Fact::SubmitAnswered { job: job.id });
        }
        let expires = lock.expires;
        let asked = [
            Event::BidRequestSent { request: request.clone(), expires },
            Event::JobMoved { job: job.id, phase: JobPhase::Bidding },
        ];
        self.write(at + 2, requester, asked.to_vec(), false);
        let heard = [
            Event::DocumentSeen { id: DocumentId([5; 16]), until: expires },
            Event::BidRequestReceived { requester: did, request, declined: None },
        ];
        self.write(at + 40, provider, heard.to_vec(), false);
        self.write(at + 41, provider, vec![Event::BidSent { bid: bid.clone(), lock }], true);
        self.write(at + 80, requester, vec![Event::BidReceived { job: job.id, bid }], false);
        let minted =
            Event::AttemptMinted { attempt, provider: other, addresses: vec![], contract: contract.clone() };
        self.write(at + 81, requester, vec![minted], true);
        self.add(at + 120, provider, Fact::Heard { from: requester, by: Channel::Stream, bytes: 900 + ran });
        let taken = Event::AllocationAccepted { allocation, contract, accepted: accepted.clone() };
        self.write(at + 121, provider, vec![taken], true);
        self.write(at + 160, requester, vec![Event::AttemptAccepted { accepted }], false);
        self.add(at + 200, provider, Fact::RunBegan { allocation });
        let running = AllocationState::Running;
        self.write(at + 201, provider, vec![Event::AllocationMoved { allocation, state: running }], false);
        self.add(at + 200 + ran, provider, Fact::RunEnded { allocation });
    }

    fn story(&self) -> Story {
        let mut story = Story::new("seed 42".to_owned(), self.dids());
        self.facts.iter().for_each(|seen| story.see(seen));
        story
    }
}

/// Three nodes: two jobs, of which one loses its first provider; a full disk; a fault; a stop.
fn example() -> World {
    let mut world = World::new(3);
    world.job(1000, 0x11, 1, [0, 1], 4000);
    world.add(5900, 0, Fact::Fault { text: format!("cut off from {}", world.keys[2].did()) });
    world.add(6000, 1, Fact::Crashed);
    world.logs[1] -= 1;
    world.start(9500, 1);
    world.add(9600, 2, Fact::Disk { works: false });
    world.add(9900, 2, Fact::Disk { works: true });
    let job = JobId::from_random([0x11; 16]);
    let attempt = AttemptId { job, pod: 0, number: 1 };
    let reason = "no word\nfrom it".to_owned();
    world.write(10_000, 0, vec![Event::AttemptLost { attempt, reason }], true);
    world.job(10_100, 0x11, 2, [0, 2], 2000);
    world.job(12_500, 0x22, 1, [1, 2], 1000);
    world.write(14_000, 0, vec![Event::JobEnded { job, end: JobEnd::Succeeded }], true);
    let unknown = BidId::from_random([0x77; 16]);
    world.write(14_500, 1, vec![Event::LockEnded { bid: unknown, end: LockEnd::Expired }], false);
    world.write(14_600, 1, vec![], true);
    world.add(15_000, 2, Fact::Stopped);
    world
}

#[test]
fn a_timeline_says_what_happened_in_short_names() {
    let mut story = example().story();
    let attempt = AttemptId { job: JobId::from_random([0x11; 16]), pod: 0, number: 2 };
    let text = format!("{attempt} runs twice");
    let at = Duration::from_millis(15_001);
    story.breach(&Breach { at, node: 2, rule: "started-twice", text });
    let timeline = story.timeline(&Filter::default());
    let table = [
        "seed 42\n!! broken promise",
        ">>       0.000  n0               started for the first time\n",
        "         1.000  n0         1 ●  job j1 \"held\" was handed in: needs 0.5 cores",
        "<-       1.001  n0               a person was told: job j1 is taken\n",
        "         1.002  n0         2 ○  asked for bids, request r1 for job j1: 1 wanted",
        "         1.040  n1         2 ○  n0 asks for bids, request r1 for job j1",
        "         1.041  n1         3 ●  bid b1 to n0 on request r1 for job j1: free; locked 0.5 cores",
        "         1.080  n0         4 ○  bid b1 of n1 for job j1: free",
        "         1.081  n0         5 ●  j1#1 goes to n1: free; bid b1, contract c1\n",
        "         1.121  n1         4 ●  allocation a1 for n0",
        "         1.160  n0         6 ○  j1#1 was accepted by n1 as allocation a1\n",
        "         1.200  n1               the machine began to run a1 (j1#1)\n",
        "         5.200  n1               the machine runs a1 (j1#1) no more, after 4.000 s\n",
        "**       5.900  n0               cut off from n2\n",
        "XX       6.000  n1               lost its power; not synced: event 5\n",
        ">>       9.500  n1.2             started again, life 2, with 4 events; gone: event 5\n",
        "##       9.600  n2               its disk refuses writes\n",
        "##       9.900  n2               its disk works again\n",
        "        10.000  n0         7 ●  j1#1 is lost: no word\\nfrom it\n",
        "        10.300  n2               the machine began to run a2 (j1#2)\n",
        "        12.500  n1.2       5 ●  job j2 \"held\" was handed in",
        "        14.000  n0        13 ●  job j1 succeeded\n",
        "        14.500  n1.2      11 ○  the lock of bid b4 ran out\n",
        "        14.600  n1.2             everything up to event 11 is on disk\n",
        "[]      15.000  n2               stopped in order, everything is on disk\n",
        "!!      15.001  n2               started-twice: j1#2 runs twice\n",
        "\nnot told: 3 deliveries between nodes, 3 signed words remembered\n",
    ];
    let squeezed = |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let whole = squeezed(&timeline);
    let mut rest = whole.as_str();
    for words in table.map(squeezed) {
        let at = rest.find(&words).unwrap_or_else(|| panic!("{words:?} is not next in\n{rest}"));
        rest = &rest[at + words.len()..];
    }
    let layout = [
        "\n>>       9.500  n1.2            started again",
        "\n        12.500  n1.2       5 ●  job j2",
        "\n        12.502  n1.2       6 ○  asked for bids",
    ];
    assert!(layout.iter().all(|line| timeline.contains(line)), "{timeline}");
    assert!(!timeline.contains("did:key") && !timeline.contains("11111111"), "{timeline}");
}

#[test]
fn a_filter_keeps_what_a_reader_of_one_job_or_node_needs() {
    let story = example().story();
    let lines = |job: Option<&str>, node| {
        let timeline = story.timeline(&Filter { job: job.map(str::to_owned), node });
        let (head, body) = timeline.split_once("\n\n").unwrap();
        (head.to_owned(), body.to_owned())
    };
    let (head, second) = lines(Some("j2"), None);
    assert!(head.ends_with("only job j2"), "{head}");
    assert!(second.contains("job j2 ") && !second.contains("j1"), "{second}");
    assert!(second.contains("cut off from n2") && second.contains("lost its power"), "{second}");
    assert!(second.contains("the machine began to run a3 (j2#1)"), "by way of its allocation: {second}");
    let id = JobId::from_random([0x22; 16]).to_string();
    assert_eq!(lines(Some(&id), None).1, second);
    assert_eq!(lines(Some("22"), None).1, second);
    let (head, none) = lines(Some("j9"), None);
    assert!(head.ends_with("no job is called j9") && !none.contains("j1"), "{head}\n{none}");

    let (head, node) = lines(None, Some(2));
    assert!(head.ends_with("only node n2"));
    assert!(node.contains("  n2  ") && !node.contains("  n1.2") && node.contains("cut off"), "{node}");
    let (_, both) = lines(Some("j1"), Some(2));
    assert!(both.contains("j1#2") && !both.contains("j2"), "{both}");
}

#[test]
fn lines_are_bounded_and_the_oldest_go_first() {
    let mut story = Story::new("long".to_owned(), vec![]);
    for number in 0..(lines::KEPT_LINES as u64 + 5) {
        let at = Duration::from_millis(number);
        let fact = Fact::Fault { text: format!("fault {number};") };
        story.see(&Seen { at, wall: Timestamp(0), node: 0, life: 1, fact });
    }
    let timeline = story.timeline(&Filter::default());
    assert!(timeline.contains("\n5 earlier lines were dropped\n"));
    assert!(
        !timeline.contains("fault 4;") && timeline.contains("fault 5;") && timeline.contains("fault 200004;")
    );
    assert!(story.svg().contains("later marks are not drawn"));
}

#[test]
fn two_runs_have_one_digest_and_every_byte_of_a_fact_changes_it() {
    let world = example();
    let (one, other) = (world.story(), example().story());
    assert_eq!(one.digest(), other.digest());
    assert_eq!(one.log(), other.log());
    assert!(one.is_log_whole());
    assert_eq!(first_difference(one.log(), other.log()), None);
    let mut quick = Story::digest_only(world.dids());
    world.facts.iter().for_each(|seen| quick.see(seen));
    assert_eq!(quick.digest(), one.digest(), "with and without a timeline");
    assert_eq!((quick.timeline(&Filter::default()), quick.svg()), (String::new(), String::new()));
    assert!(quick.log().is_empty() && !quick.is_log_whole());

    let id = |byte| AllocationId::from_random([byte; 16]);
    let job = |byte| JobId::from_random([byte; 16]);
    let seen = |nanoseconds, wall, node, life, fact| Seen {
        at: Duration::from_nanos(nanoseconds),
        wall: Timestamp(wall),
        node,
        life,
        fact,
    };
    let moved = |at, job, phase, is_synced, sequence| {
        let entry = Entry { at: Timestamp(at), event: Event::JobMoved { job, phase } };
        seen(1, 1, 1, 1, Fact::Written { entries: vec![(sequence, entry)], is_synced })
    };
    let signed = |at| {
        let bid = Bid {
            id: BidId::from_random([1; 16]),
            request: BidRequestId::from_random([2; 16]),
            resources: Resources::default(),
            price: Price(1),
            score: 1,
            lease: Millis(1),
            profile: Default::default(),
        };
        let event = Event::BidReceived { job: job(1), bid: world.sign(at, 0, bid) };
        let entry = Entry { at: Timestamp(1), event };
        seen(1, 1, 1, 1, Fact::Written { entries: vec![(1, entry)], is_synced: true })
    };
    let fault = |text: &str| seen(1, 1, 1, 1, Fact::Fault { text: text.to_owned() });
    let heard = |from, by, bytes| seen(1, 1, 1, 1, Fact::Heard { from, by, bytes });
    let facts = [
        seen(1, 1, 1, 1, Fact::Crashed),
        seen(2, 1, 1, 1, Fact::Crashed),
        seen(1, 2, 1, 1, Fact::Crashed),
        seen(1, 1, 2, 1, Fact::Crashed),
        seen(1, 1, 1, 2, Fact::Crashed),
        seen(1, 1, 1, 1, Fact::Stopped),
        seen(1, 1, 1, 1, Fact::Started { last_event: 1 }),
        seen(1, 1, 1, 1, Fact::Started { last_event: 2 }),
        seen(1, 1, 1, 1, Fact::Disk { works: true }),
        seen(1, 1, 1, 1, Fact::Disk { works: false }),
        seen(1, 1, 1, 1, Fact::RunBegan { allocation: id(1) }),
        seen(1, 1, 1, 1, Fact::RunBegan { allocation: id(2) }),
        seen(1, 1, 1, 1, Fact::RunEnded { allocation: id(1) }),
        seen(1, 1, 1, 1, Fact::SubmitAnswered { job: job(1) }),
        seen(1, 1, 1, 1, Fact::CancelAnswered { job: job(1) }),
        seen(1, 1, 1, 1, Fact::Written { entries: vec![], is_synced: true }),
        seen(1, 1, 1, 1, Fact::Written { entries: vec![], is_synced: false }),
        moved(1, job(1), JobPhase::Bidding, true, 1),
        moved(2, job(1), JobPhase::Bidding, true, 1),
        moved(1, job(2), JobPhase::Bidding, true, 1),
        moved(1, job(1), JobPhase::Running, true, 1),
        moved(1, job(1), JobPhase::Bidding, false, 1),
        moved(1, job(1), JobPhase::Bidding, true, 2),
        signed(1000),
        signed(2000),
        fault("a"),
        fault("b"),
        fault("a\n1 1 n1 life 1 crashed"),
        heard(1, Channel::Stream, 1),
        heard(2, Channel::Stream, 1),
        heard(1, Channel::Gossip, 1),
        heard(1, Channel::Stream, 2),
    ];
    let digest = |facts: &[&Seen]| {
        let mut story = Story::digest_only(vec![]);
        facts.iter().for_each(|seen| story.see(seen));
        story.digest()
    };
    let mut digests: Vec<_> = facts.iter().map(|fact| digest(&[fact])).collect();
    digests.push(digest(&[]));
    digests.push(digest(&[&facts[0], &facts[1]]));
    digests.push(digest(&[&facts[1], &facts[0]]));
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn the_first_difference_of_two_logs_is_found() {
    let of = |one: &str, other: &str| {
        let found = first_difference(one.as_bytes(), other.as_bytes())?;
        Some((found.line, found.one.unwrap_or_default(), found.other.unwrap_or_default()))
    };
    assert_eq!(of("a\nb\n", "a\nb\n"), None);
    assert_eq!(of("a\nb\n", "a\nc\n"), Some((2, "b".to_owned(), "c".to_owned())));
    assert_eq!(of("a\nb\n", "a\n"), Some((2, "b".to_owned(), String::new())));
}

/// A check that is enough for what we write: tags that open are closed in order, attributes are quoted, and what must
/// be escaped is.
fn check_xml(text: &str) -> Result<usize, String> {
    let mut open: Vec<&str> = Vec::new();
    let mut count = 0;
    let mut rest = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").ok_or("no head")?;
    while let Some(at) = rest.find(['<', '>', '&']) {
        let found = &rest[at..];
        rest = match found.as_bytes()[0] {
            b'>' => return Err(format!("a lone > in {:.60}", &rest)),
            b'&' => {
                let end = found.find(';').ok_or("& without an end")?;
                let is_known = ["&amp", "&lt", "&gt", "&quot", "&apos"].contains(&&found[..end]);
                is_known.then_some(&found[end + 1..]).ok_or(format!("{} is not known", &found[..end]))?
            }
            _ => {
                let end = found.find('>').ok_or("a tag without an end")?;
                let tag = &found[1..end];
                if tag.matches('"').count() % 2 != 0 || tag.contains('<') {
                    return Err(format!("<{tag}>"));
                }
                count += 1;
                let name = tag.split([' ', '/']).find(|part| !part.is_empty()).ok_or("no name")?;
                if tag.starts_with('/') {
                    (open.pop() == Some(name)).then_some(()).ok_or(format!("</{name}> closes nothing"))?;
                } else if !tag.ends_with('/') {
                    open.push(name);
                }
                &found[end + 1..]
            }
        };
    }
    if open.is_empty() { Ok(count) } else { Err(format!("{open:?} are not closed")) }
}

#[test]
fn the_check_of_pictures_finds_what_is_wrong() {
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    for text in ["<a><b></a></b>", "<a>", "<a b=\"></a>", "<a>&</a>", "<a>&nbsp;</a>", "<a>></a>", "</a>"] {
        assert!(check_xml(&format!("{head}{text}")).is_err(), "{text}");
    }
    assert_eq!(check_xml(&format!("{head}<a b=\"c\"><d/>&lt;</a>")), Ok(3));
}

/// A world with many jobs, crashes and faults, for pictures.
fn busy(nodes: usize, jobs: u64) -> Story {
    let mut world = World::new(nodes);
    let mut state = 42_u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let all = nodes as u64;
    for job in 0..jobs {
        let (at, ran) = (2000 + below(170_000), 1000 + below(25_000));
        let pair = [below(all) as usize, below(all) as usize];
        world.job(at, job as u8, 1, pair, ran);
    }
    for _ in 0..(nodes * 20) {
        let (node, at) = (below(all) as usize, below(200_000));
        let by = if below(3) == 0 { Channel::Stream } else { Channel::Gossip };
        let from = if below(4) == 0 { below(all) as usize } else { (node + 1 + below(3) as usize) % nodes };
        let bytes = below(30) * below(3000);
        world.add(at, node, Fact::Heard { from, by, bytes });
    }
    for number in 0..(nodes as u64 / 2) {
        let (node, at) = (below(all) as usize, 20_000 + below(120_000));
        match number % 3 {
            0 => {
                world.add(at, node, Fact::Crashed);
                world.start(at + 1000 + below(20_000), node);
            }
            1 => {
                world.add(at, node, Fact::Disk { works: false });
                world.add(at + 1000 + below(15_000), node, Fact::Disk { works: true });
            }
            _ => {
                let text = format!("cut off from {} & <everybody>", world.keys[below(all) as usize].did());
                world.add(at, node, Fact::Fault { text });
            }
        }
    }
    world.facts.sort_by_key(|seen| seen.at);
    let mut story = world.story();
    let at = Duration::from_millis(163_210);
    let text = "allocated 2 cores + free 1 core is not 4 cores".to_owned();
    story.breach(&Breach { at, node: nodes / 2, rule: "conservation", text });
    story
}

#[test]
fn pictures_of_worlds_of_every_size_are_well_formed() {
    for (nodes, jobs) in [(1, 0), (7, 30), (40, 90), (60, 90), (300, 200)] {
        let story = busy(nodes, jobs);
        let svg = story.svg();
        let shapes = check_xml(&svg).unwrap_or_else(|error| panic!("{nodes} nodes: {error}"));
        assert!(shapes > 20 * nodes.min(10), "{shapes} of {nodes} nodes");
        assert!(
            svg.contains(">seed 42<") && svg.contains("NaN").eq(&false) && !svg.contains("inf"),
            "{nodes}"
        );
        assert!(svg.contains("hatched") && svg.contains("conservation"), "{nodes}");
        assert_eq!(svg, busy(nodes, jobs).svg(), "the same facts are the same picture");
    }
    let mut empty = Story::new("<&\u{0}>".to_owned(), vec![]);
    assert!(check_xml(&empty.svg()).is_ok());
    // Nodes that nobody has announced break nothing.
    let fact = Fact::Heard { from: 9, by: Channel::Stream, bytes: 1 };
    empty.see(&Seen { at: Duration::ZERO, wall: Timestamp(0), node: 8, life: 1, fact });
    assert!(check_xml(&empty.svg()).is_ok());
}
