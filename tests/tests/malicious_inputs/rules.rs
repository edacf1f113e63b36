//! Documents that are rightly signed and rightly formed, around values that break a rule of their type.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::*;
use dms_tests::hostile::{Parts, context, words};

use super::{Table, judged};

/// One more value of a word, signed by hand because nobody's own code signs it.
fn add<T: Document>(table: &mut Table, name: &str, reason: &str, value: T) {
    let name = format!("{}: {name}", T::KIND);
    table.refuse(name, Parts::of(&value).seal(), reason, |bytes| {
        judged(Signed::<T>::verify(bytes, &context()))
    });
}

fn long() -> String {
    "x".repeat(MAX_TEXT_LENGTH + 1)
}

/// The inputs.
pub(super) fn family(table: &mut Table) {
    bids(table);
    requests(table);
    contracts(table);
    reports(table);
    introductions(table);
    tokens(table);
}

/// Amounts that cannot be, with the reason.
fn broken_resources() -> Vec<(&'static str, Resources, &'static str)> {
    let base = words::resources;
    vec![
        ("257 ports", Resources { ports: (1..=257).collect(), ..base() }, "more than 256 ports"),
        (
            "all ports",
            Resources { ports: (1..=u16::MAX).take(5_000).collect(), ..base() },
            "more than 256 ports",
        ),
        ("port 0", Resources { ports: BTreeSet::from([0, 80]), ..base() }, "port 0 is no port"),
        ("65 GPUs", Resources { gpus: (0..65).map(GpuId).collect(), ..base() }, "more than 64 GPUs"),
        (
            "a slot of nothing",
            Resources { slots: BTreeMap::from([(ExecutorKind::Wasm, 0)]), ..base() },
            "0 slots",
        ),
    ]
}

fn bids(table: &mut Table) {
    for score in [1001, u16::MAX] {
        add(
            table,
            &format!("a score of {score}"),
            "a score is between 0 and 1000",
            Bid { score, ..words::bid() },
        );
    }
    add(table, "no lease", "a bid without a lease", Bid { lease: Millis(0), ..words::bid() });
    for (name, resources, reason) in broken_resources() {
        add(table, name, reason, Bid { resources, ..words::bid() });
    }
    for (name, profile, reason) in broken_profiles() {
        add(table, name, reason, Bid { profile, ..words::bid() });
    }
}

/// Machines that cannot be, with the reason.
fn broken_profiles() -> Vec<(&'static str, Profile, &'static str)> {
    let long = "x".repeat(MAX_PROFILE_TEXT + 1);
    let labels = (0..=MAX_PROFILE_LABELS).map(|n| (n.to_string(), String::new())).collect();
    let nothing = Profile::default;
    vec![
        ("17 labels", Profile { labels, ..nothing() }, "more than 16 labels"),
        ("a long label", Profile { labels: [(long.clone(), "x".into())].into(), ..nothing() }, "64 bytes"),
        ("a long value", Profile { labels: [("x".into(), long.clone())].into(), ..nothing() }, "64 bytes"),
        ("a long location", Profile { location: Some(long), ..nothing() }, "64 bytes"),
        ("more than all taken", Profile { load: Some(1001), ..nothing() }, "1000 thousandths"),
    ]
}

fn requests(table: &mut Table) {
    let request = words::bid_request;
    for wanted in [0, 65, u16::MAX] {
        let reason = "between 1 and 64 bids can be wanted";
        add(table, &format!("{wanted} bids wanted"), reason, BidRequest { wanted, ..request() });
    }
    let address = "/ip4/10.0.0.1/tcp/1".to_owned();
    for count in [9, 64, 1000] {
        let addresses = vec![address.clone(); count];
        add(
            table,
            &format!("{count} addresses"),
            "more than 8 addresses",
            BidRequest { addresses, ..request() },
        );
    }
    let addresses = vec![long()];
    add(
        table,
        "an address without an end",
        "address is longer than 512",
        BidRequest { addresses, ..request() },
    );
    let need = words::requirement;
    let gpu = GpuRequirement::default;
    let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let many =
        |count: usize| (0..count).map(|n| (format!("k{n}"), String::new())).collect::<BTreeMap<_, _>>();
    let needs = [
        ("no cpu", Requirement { cpu: CpuMillis(0), ..need() }, "some cpu and some memory"),
        ("no memory", Requirement { memory: MemoryMib(0), ..need() }, "some cpu and some memory"),
        (
            "65 GPUs",
            Requirement { gpus: vec![gpu(); 65], ..need() },
            "more than 64 GPUs, labels or locations",
        ),
        (
            "5,000 GPUs",
            Requirement { gpus: vec![gpu(); 5_000], ..need() },
            "more than 64 GPUs, labels or locations",
        ),
        ("65 labels", Requirement { labels: many(65), ..need() }, "more than 64 GPUs, labels or locations"),
        (
            "65 locations",
            Requirement { locations: many(65).into_keys().collect(), ..need() },
            "more than 64 GPUs, labels or locations",
        ),
        ("257 ports", Requirement { ports: 257, ..need() }, "more than 256 ports"),
        ("all ports", Requirement { ports: u16::MAX, ..need() }, "more than 256 ports"),
        ("no architecture", Requirement { architecture: Some(String::new()), ..need() }, "without a name"),
        (
            "a long architecture",
            Requirement { architecture: Some(long()), ..need() },
            "architecture is longer",
        ),
        (
            "a long vendor",
            Requirement { gpus: vec![GpuRequirement { vendor: Some(long()), ..gpu() }], ..need() },
            "GPU vendor is longer",
        ),
        (
            "a long model",
            Requirement { gpus: vec![GpuRequirement { model: Some(long()), ..gpu() }], ..need() },
            "GPU model is longer",
        ),
        (
            "a long location",
            Requirement { locations: BTreeSet::from([long()]), ..need() },
            "location is longer",
        ),
        ("a long label", Requirement { labels: labels("k", &long()), ..need() }, "label is longer"),
        ("a long name of a label", Requirement { labels: labels(&long(), "v"), ..need() }, "label is longer"),
    ];
    for (name, requirement, reason) in needs {
        add(table, name, reason, BidRequest { requirement, ..request() });
    }
}

fn contracts(table: &mut Table) {
    let contract = words::contract;
    let attempt = AttemptId { number: 0, ..words::attempt() };
    add(table, "attempt 0", "attempts are counted from 1", Contract { attempt, ..contract() });
    for (name, resources, reason) in broken_resources() {
        add(table, name, reason, Contract { resources, ..contract() });
    }
    let with_task = |change: fn(&mut Task)| {
        let mut contract = contract();
        change(&mut contract.pod.tasks[0]);
        contract
    };
    type Case = (&'static str, fn(&mut Task), &'static str);
    let tasks: [Case; 13] = [
        ("no time", |task| task.timeout = Millis(0), "timeout: must be more than 0"),
        ("31 days", |task| task.timeout = Millis(31 * 86_400_000), "timeout: must be more than 0"),
        ("all time", |task| task.timeout = Millis(u64::MAX), "timeout: must be more than 0"),
        ("1,025 arguments", |task| task.args = vec![String::new(); 1025], "more than 1024 arguments"),
        ("a long argument", |task| task.args = vec!["a".repeat(65_537)], "exceed 65536 bytes"),
        ("many arguments", |task| task.args = vec!["a".repeat(100); 700], "exceed 65536 bytes"),
        ("a zero in an argument", |task| task.args = vec!["a\0b".into()], "an argument holds a zero byte"),
        (
            "a name with an equals",
            |task| drop(task.env.insert("A=B".into(), "x".into())),
            "env: a name is empty",
        ),
        (
            "a name with a zero",
            |task| drop(task.env.insert("A\0".into(), "x".into())),
            "env: a name is empty",
        ),
        ("no name", |task| drop(task.env.insert(String::new(), "x".into())), "env: a name is empty"),
        ("a zero in a value", |task| drop(task.env.insert("A".into(), "\0".into())), "env: a name is empty"),
        (
            "1,025 variables",
            |task| task.env = (0..1025).map(|n| (format!("V{n}"), String::new())).collect(),
            "more than 1024 arguments or variables",
        ),
        ("a long name of a task", |task| task.name = "x".repeat(513), "name is longer"),
    ];
    for (name, change, reason) in tasks {
        add(table, name, reason, with_task(change));
    }
    let share = TaskResources { cpu: CpuMillis(u64::MAX), memory: MemoryMib(1), disk: DiskMib(0) };
    let mut greedy = contract();
    let task = Task { resources: Some(share), ..greedy.pod.tasks[0].clone() };
    greedy.pod.tasks = vec![task.clone(), Task { name: "b".into(), ..task }];
    add(table, "tasks that need more than there are numbers for", "not the sums", greedy.clone());
    greedy.pod.tasks[1].name = "../up".into();
    add(table, "a task whose name leads elsewhere", "name: a task's name has", greedy.clone());
    greedy.pod.tasks.clear();
    add(table, "a pod of nothing", "1 to 16 tasks", greedy);
    let mut poor = contract();
    poor.pod.requirement.cpu = CpuMillis(0);
    add(table, "a pod without cpu", "resources: a pod needs some cpu", poor);
}

fn reports(table: &mut Table) {
    let status = words::allocation_status;
    let running = AllocationState::Running;
    add(
        table,
        "a result while it runs",
        "only a terminal state has a result",
        AllocationStatus { state: running, ..status() },
    );
    add(table, "a task beyond all", "no pod has so many tasks", AllocationStatus { task: 16, ..status() });
    let accepted = AllocationState::Accepted;
    let early = AllocationStatus { state: accepted, ..status() };
    add(table, "a result before it runs", "only a terminal state has a result", early);
    let empty = AllocationStatus { state: AllocationState::Succeeded, result: None, ..status() };
    add(table, "a success without a result", "a success has a result", empty);
    for (name, cause) in [
        ("a trap", FailureCause::Trapped { text: long() }),
        ("a module", FailureCause::InvalidModule { text: long() }),
        ("an input", FailureCause::InputUnavailable { text: long() }),
        ("outputs", FailureCause::OutputRefused { text: long() }),
        ("an executor", FailureCause::Executor { text: long() }),
    ] {
        let state = AllocationState::Failed { cause };
        add(
            table,
            &format!("a long story of {name}"),
            "cause is longer",
            AllocationStatus { state, ..status() },
        );
    }
    let reason = RefusedReason::ContractDiffers { what: long() };
    add(table, "a long story", "reason is longer", Refused { attempt: words::attempt(), reason });
    let request = BidRequestId::from_random([2; 16]);
    for (name, reason) in [
        ("a long label", DeclineReason::Label { key: long() }),
        ("a long architecture", DeclineReason::Architecture { had: long() }),
        ("a long ability", DeclineReason::Lacks { ability: long() }),
        ("a long story", DeclineReason::Unsupported { what: long() }),
    ] {
        add(table, name, "is longer than 512", Decline { request, reason, retry: Retry::Final });
    }
}

fn introductions(table: &mut Table) {
    let card = words::card;
    let stranger = Keypair::from_secret(&[3; 32]).did();
    add(table, "of two keys", "of two keys", NodeCard { peer_id: stranger.peer_id(), ..card() });
    add(table, "without a peer id", "of two keys", NodeCard { peer_id: String::new(), ..card() });
    add(table, "a long peer id", "of two keys", NodeCard { peer_id: "1".repeat(100_000), ..card() });
    let addresses = vec!["/ip4/10.0.0.1/tcp/1".to_owned(); 9];
    add(table, "9 addresses", "more than 8 addresses", Advert { addresses, ..words::advert() });
    let addresses = vec![long()];
    add(table, "an address without an end", "address is longer", Advert { addresses, ..words::advert() });
    for (name, available, reason) in broken_resources() {
        add(table, name, reason, Advert { available, ..words::advert() });
    }
    for (name, profile, reason) in broken_profiles() {
        add(table, name, reason, Advert { profile, ..words::advert() });
    }
}

fn tokens(table: &mut Table) {
    let token = words::token;
    let abilities = |count: usize| (0..count).map(|n| format!("/a{n}").parse().unwrap()).collect();
    for count in [0, 17, 1000] {
        let reason = "a token has between 1 and 16 abilities";
        add(table, &format!("{count} abilities"), reason, Token { abilities: abilities(count), ..token() });
    }
    for depth in [8, 255] {
        add(table, &format!("a depth of {depth}"), "at most 7 tokens follow", Token { depth, ..token() });
    }
    let topics = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let nine = topics(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    add(table, "9 topics", "at most 8 topics", Token { topics: nine, ..token() });
    let name_of_65 = "a".repeat(65);
    for name in ["", "/dms/x", "Advert", "bid request", "*", "ä", "a\0", &name_of_65] {
        let reason = "a topic's name is 1 to 64";
        add(table, &format!("the topic {name:?}"), reason, Token { topics: topics(&[name]), ..token() });
    }
}
