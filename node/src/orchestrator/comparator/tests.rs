//! Each rule and each of its refusals, the chain, and expressions of every kind, hostile ones too.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::{
    Benchmark, CpuMillis, DiskMib, ExecutorKind, Figure, GpuRequirement, MemoryMib, Millis, Price,
    Requirement, Resources,
};

use super::*;
use crate::testing::{did, requirement, resources};

/// A request and a candidate that every rule has something to say about.
struct Stage {
    requirement: Requirement,
    run_time: Millis,
    max_price: Option<Price>,
    resources: Resources,
    price: u64,
    fit: Option<u16>,
    executors: Option<BTreeSet<ExecutorKind>>,
    location: Option<&'static str>,
    labels: BTreeMap<String, String>,
    benchmark: Option<Benchmark>,
    load: Option<u16>,
    reputation: Reputation,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            requirement: requirement(1000, 64),
            run_time: Millis(60_000),
            max_price: None,
            resources: resources(2000, 128),
            price: 500_000,
            fit: Some(700),
            executors: Some(BTreeSet::from([ExecutorKind::Wasm])),
            location: Some("eu-west"),
            labels: labels(&[("disk", "ssd")]),
            benchmark: Some(Benchmark { cpu_single: 400, wasm: 250, ..Benchmark::default() }),
            load: Some(300),
            reputation: Reputation { well: 8, badly: 0 },
        }
    }
}

impl Stage {
    fn judge(&self, rule: &dyn Rule) -> Verdict {
        let request =
            Request { requirement: &self.requirement, run_time: self.run_time, max_price: self.max_price };
        rule.judge(&request, &self.candidate(2))
    }

    fn candidate(&self, seed: u8) -> Candidate<'_> {
        Candidate {
            did: did(seed),
            resources: &self.resources,
            price: Price(self.price),
            fit: self.fit,
            executors: self.executors.as_ref(),
            location: self.location,
            labels: &self.labels,
            benchmark: self.benchmark,
            load: self.load,
            reputation: self.reputation,
        }
    }

    fn request(&self) -> Request<'_> {
        Request { requirement: &self.requirement, run_time: self.run_time, max_price: self.max_price }
    }
}

fn with(change: impl FnOnce(&mut Stage)) -> Stage {
    let mut stage = Stage::default();
    change(&mut stage);
    stage
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// What is expected of a rule.
#[derive(Debug)]
enum Expected {
    Accept,
    Score(i64),
    /// For good, with these words in the reason.
    Never(&'static str),
    /// For now.
    NotNow(&'static str),
}

#[track_caller]
fn assert_verdict(rule: &dyn Rule, verdict: Verdict, expected: &Expected) {
    match (verdict, expected) {
        (Verdict::Accept, Expected::Accept) => {}
        (Verdict::Score(found), Expected::Score(score)) => assert_eq!(found, *score, "{rule:?}"),
        (Verdict::Reject(rejection), Expected::Never(words)) => {
            assert_eq!(rejection.retry, Retry::Final, "{rule:?} {rejection:?}");
            assert!(rejection.reason.contains(words), "{rule:?}: {} does not say {words}", rejection.reason);
        }
        (Verdict::Reject(rejection), Expected::NotNow(words)) => {
            assert_eq!(rejection.retry, Retry::Later, "{rule:?} {rejection:?}");
            assert!(rejection.reason.contains(words), "{rule:?}: {} does not say {words}", rejection.reason);
        }
        (found, expected) => panic!("{rule:?} says {found:?}, not {expected:?}"),
    }
}

#[test]
fn each_rule_accepts_scores_and_rejects_with_its_reason() {
    use Expected::{Accept, Never, NotNow, Score};
    let wasm = |least| BenchmarkRule { minimum: [(Figure::Wasm, least)].into(), by: Figure::CpuSingle };
    let gpu = || vec![GpuRequirement::default()];
    let table: Vec<(Box<dyn Rule>, Stage, Expected)> = vec![
        (Box::new(ResourcesRule), Stage::default(), Accept),
        (Box::new(ResourcesRule), with(|it| it.resources.cpu.0 = 999), NotNow("less than is needed")),
        (Box::new(ResourcesRule), with(|it| it.resources.memory.0 = 63), NotNow("less than is needed")),
        (Box::new(ResourcesRule), with(|it| it.requirement.disk.0 = 1), NotNow("less than is needed")),
        (Box::new(ResourcesRule), with(|it| it.requirement.gpus = gpu()), NotNow("fewer GPUs")),
        (Box::new(ResourcesRule), with(|it| it.requirement.ports = 1), NotNow("fewer ports")),
        (Box::new(Limit::default()), Stage::default(), Accept),
        (Box::new(Limit { cpu: Some(CpuMillis(1000)), ..Limit::default() }), Stage::default(), Accept),
        (Box::new(Limit { cpu: Some(CpuMillis(999)), ..Limit::default() }), Stage::default(), Never("cores")),
        (
            Box::new(Limit { memory: Some(MemoryMib(63)), ..Limit::default() }),
            Stage::default(),
            Never("memory"),
        ),
        (
            Box::new(Limit { disk: Some(DiskMib(1)), ..Limit::default() }),
            with(|it| it.requirement.disk.0 = 2),
            Never("disk"),
        ),
        (
            Box::new(Limit { run_time: Some(Millis(59_999)), ..Limit::default() }),
            Stage::default(),
            Never("longer"),
        ),
        (Box::new(PriceRule::default()), Stage::default(), Score(-500_000)),
        (Box::new(PriceRule::default()), with(|it| it.price = u64::MAX), Score(-i64::MAX)),
        (Box::new(PriceRule { max: Some(Price(500_000)) }), Stage::default(), Score(-500_000)),
        (Box::new(PriceRule { max: Some(Price(499_999)) }), Stage::default(), NotNow("0.5, not 0.499999")),
        (Box::new(PriceRule::default()), with(|it| it.max_price = Some(Price(1))), NotNow("price limit")),
        (
            Box::new(PriceRule { max: Some(Price(9_000_000)) }),
            with(|it| it.max_price = Some(Price(1))),
            NotNow("not 0.000001"),
        ),
        (Box::new(Fit), Stage::default(), Score(700)),
        (Box::new(Pin(BTreeSet::from([did(2), did(3)]))), Stage::default(), Accept),
        (Box::new(Pin(BTreeSet::from([did(3)]))), Stage::default(), Never("pinned")),
        (Box::new(Exclude(BTreeSet::from([did(3)]))), Stage::default(), Accept),
        (Box::new(Exclude(BTreeSet::from([did(2)]))), Stage::default(), Never("excluded")),
        (Box::new(Executors(BTreeSet::from([ExecutorKind::Wasm]))), Stage::default(), Accept),
        (Box::new(Executors(BTreeSet::from([ExecutorKind::Wasm]))), with(|it| it.executors = None), Accept),
        (
            Box::new(Executors(BTreeSet::from([ExecutorKind::Wasm]))),
            with(|it| it.executors = Some(BTreeSet::new())),
            Never("none of the wanted kinds"),
        ),
        (
            Box::new(Labels { require: labels(&[("disk", "ssd")]), ..Labels::default() }),
            Stage::default(),
            Accept,
        ),
        (
            Box::new(Labels { require: labels(&[("disk", "hdd")]), ..Labels::default() }),
            Stage::default(),
            Never("lacks the label disk=hdd"),
        ),
        (
            Box::new(Labels { require: labels(&[("gpu", "yes")]), ..Labels::default() }),
            Stage::default(),
            Never("lacks the label gpu=yes"),
        ),
        (
            Box::new(Labels { reject: labels(&[("disk", "ssd")]), ..Labels::default() }),
            Stage::default(),
            Never("has the label disk=ssd"),
        ),
        (
            Box::new(Labels { reject: labels(&[("disk", "hdd")]), ..Labels::default() }),
            Stage::default(),
            Accept,
        ),
        (Box::new(Needs), Stage::default(), Accept),
        (Box::new(Needs), with(|it| it.executors = Some(BTreeSet::new())), Never("does not run wasm")),
        (
            Box::new(Needs),
            with(|it| it.requirement.locations = ["CH".to_owned()].into()),
            Never("stands in eu-west"),
        ),
        (
            Box::new(Needs),
            with(|it| it.requirement.locations = ["CH".to_owned(), "eu-west".to_owned()].into()),
            Accept,
        ),
        (
            Box::new(Needs),
            with(|it| it.requirement.labels = labels(&[("disk", "hdd")])),
            Never("has the label disk=ssd, and the job wants disk=hdd"),
        ),
        // Whoever does not say is asked.
        (
            Box::new(Needs),
            with(|it| {
                it.requirement.locations = ["CH".to_owned()].into();
                it.requirement.labels = labels(&[("gpu", "a100"), ("disk", "ssd")]);
                (it.location, it.executors) = (None, None);
            }),
            Accept,
        ),
        (Box::new(wasm(250)), Stage::default(), Score(400)),
        (Box::new(wasm(251)), Stage::default(), Never("wasm 250, not 251")),
        (Box::new(wasm(1)), with(|it| it.benchmark = None), Never("was not measured (wasm)")),
        (Box::new(wasm(0)), with(|it| it.benchmark = None), Score(0)),
        (Box::new(ReputationRule { minimum: 900 }), Stage::default(), Score(900)),
        (Box::new(ReputationRule { minimum: 901 }), Stage::default(), NotNow("8 ended well, 0 badly")),
        (
            Box::new(ReputationRule { minimum: 400 }),
            with(|it| it.reputation = Reputation { well: 0, badly: 1 }),
            NotNow("a reputation of 333"),
        ),
        (Box::new(ReputationRule::default()), with(|it| it.reputation = Reputation::default()), Score(500)),
        (Box::new(Load { max: 300 }), Stage::default(), Score(-300)),
        (Box::new(Load { max: 299 }), Stage::default(), NotNow("a load of 300, not 299")),
        (Box::new(Load { max: 0 }), with(|it| it.load = None), Score(0)),
    ];
    for (rule, stage, expected) in table {
        assert_verdict(rule.as_ref(), stage.judge(rule.as_ref()), &expected);
    }
}

/// The rows of the conformance list's "Location", in its words.
mod nunet_location {
    use super::*;

    #[test]
    fn unknown_pin_accept_reject_multiple_accept_beats_reject_no_constraint() {
        use Expected::{Accept, Never};
        let place = |accept: &[&str], reject: &[&str]| -> Box<dyn Rule> {
            Box::new(Location { accept: texts(accept), reject: texts(reject) })
        };
        let pin = |seed: u8| -> Box<dyn Rule> { Box::new(Pin(BTreeSet::from([did(seed)]))) };
        let unknown = || with(|it| it.location = None);
        let table: Vec<(&str, Box<dyn Rule>, Stage, Expected)> = vec![
            ("unknown node, accept", place(&["eu-west"], &[]), unknown(), Never("does not say where")),
            ("unknown node, reject", place(&[], &["eu-west"]), unknown(), Accept),
            ("peer pin match", pin(2), Stage::default(), Accept),
            ("peer pin mismatch", pin(3), Stage::default(), Never("pinned")),
            ("accept hit", place(&["eu-west"], &[]), Stage::default(), Accept),
            ("accept hit, other letters", place(&["EU-West"], &[]), Stage::default(), Accept),
            ("accept miss", place(&["CH"], &[]), Stage::default(), Never("eu-west, which is not accepted")),
            ("reject hit", place(&[], &["eu-west"]), Stage::default(), Never("eu-west, which is rejected")),
            ("reject miss", place(&[], &["CH"]), Stage::default(), Accept),
            ("multiple, accepted", place(&["CH", "eu-west"], &["us"]), Stage::default(), Accept),
            ("multiple, rejected", place(&[], &["us", "eu-west"]), Stage::default(), Never("rejected")),
            ("multiple, neither", place(&["CH", "DE"], &["us"]), Stage::default(), Never("not accepted")),
            ("accept beats reject", place(&["eu-west"], &["eu-west"]), Stage::default(), Accept),
            ("no constraint", place(&[], &[]), Stage::default(), Accept),
            ("no constraint, unknown node", place(&[], &[]), unknown(), Accept),
        ];
        for (row, rule, stage, expected) in table {
            println!("{row}");
            assert_verdict(rule.as_ref(), stage.judge(rule.as_ref()), &expected);
        }
    }
}

#[test]
fn an_expression_accepts_rejects_or_scores_by_every_name_that_there_is() {
    use Expected::{Accept, NotNow, Score};
    let table = [
        ("true", Accept),
        ("price == 0.5 && cores == 2.0 && memory_mib == 128 && disk_mib == 0", Accept),
        ("gpus == 0 && ports == 0 && fit == 700 && load == 300 && reputation == 900", Accept),
        (
            "cpu_single == 400 && cpu_multi == 0 && memory_speed == 0 && disk_write == 0 && disk_syncs == 0",
            Accept,
        ),
        ("wasm == 250 && location == 'eu-west' && did.startsWith('did:key:z')", Accept),
        ("labels['disk'] == 'ssd' && has(labels.disk) && !has(labels.gpu) && 'wasm' in executors", Accept),
        ("needed_cores == 1.0 && needed_memory_mib == 64 && needed_disk_mib == 0", Accept),
        ("needed_gpus == 0 && needed_ports == 0 && run_time_s == 60 && max_price == -1.0", Accept),
        ("location in ['CH', 'eu-west']", Accept),
        ("size(location) == 7 && location.contains('west') && location.endsWith('t')", Accept),
        ("price < 0.5", NotNow("not what the expression wants")),
        ("wasm", Score(250_000_000)),
        ("1u", Score(1_000_000)),
        ("-2", Score(-2_000_000)),
        ("double(wasm) / price", Score(500_000_000)),
        ("price > 1.0 ? 1 : 2", Score(2_000_000)),
        ("1.0 / 0.0", Score(i64::MAX)),
        ("9223372036854775807", Score(i64::MAX)),
        ("0.0 / 0.0", NotNow("cannot be judged")),
        ("1 / 0", NotNow("cannot be judged")),
        ("9223372036854775807 + 1", NotNow("cannot be judged")),
        ("labels['gpu'] == 'a100'", NotNow("cannot be judged")),
        ("labels.gpu == 'a100'", NotNow("cannot be judged")),
        ("price + wasm", NotNow("cannot be judged")),
        ("location", NotNow("neither true nor false")),
        ("[1, 2]", NotNow("neither true nor false")),
    ];
    for (text, expected) in table {
        let rule = Expression::compile("own", text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_verdict(&rule, Stage::default().judge(&rule), &expected);
    }
    // Without a word about something it is nothing, and no reason to fail.
    let bare = with(|it| {
        (it.executors, it.location, it.benchmark, it.load, it.fit) = (None, None, None, None, None);
        it.labels.clear();
    });
    let text = "size(executors) == 0 && location == '' && wasm == 0 && load + fit + size(labels) == 0";
    let rule = Expression::compile("own", text).unwrap();
    assert_verdict(&rule, bare.judge(&rule), &Accept);
}

#[test]
fn scores_are_told_as_what_they_count() {
    let expression = |text| Expression::compile("own", text).unwrap();
    let table: Vec<(Box<dyn Rule>, &str)> = vec![
        (Box::new(PriceRule::default()), "0.5"),
        (Box::new(Load { max: 1000 }), "300"),
        (Box::new(Fit), "700"),
        (Box::new(ReputationRule::default()), "900"),
        (Box::new(expression("wasm")), "250"),
        (Box::new(expression("0.0 - price")), "-0.5"),
    ];
    for (rule, expected) in table {
        let Verdict::Score(score) = Stage::default().judge(rule.as_ref()) else {
            panic!("{} gives a score", rule.name());
        };
        assert_eq!(rule.score_text(score), expected, "{}", rule.name());
    }
    let unsaid = with(|it| it.fit = None);
    assert_eq!(unsaid.judge(&Fit), Verdict::Accept, "who says nothing is no worse than the worst");
}

#[test]
fn what_may_take_long_or_is_unknown_is_no_expression() {
    let table = [
        (String::new(), "not an expression"),
        ("price <".to_owned(), "not an expression"),
        ("price < 1 // ".to_owned() + &"x".repeat(MAX_EXPRESSION_LENGTH), "at most 512 bytes"),
        ("colour == 'red'".to_owned(), "no \"colour\" to judge by"),
        ("labels.colour == colour".to_owned(), "no \"colour\" to judge by"),
        ("[1, 2].all(x, x > 0)".to_owned(), "loops"),
        ("[1, 2].map(x, [1, 2].map(y, x))".to_owned(), "loops"),
        ("labels.exists(l, l == 'a')".to_owned(), "loops"),
        ("location.matches('(a+)+$')".to_owned(), "\"matches\" is not offered"),
        ("string(price) == ''".to_owned(), "\"string\" is not offered"),
        ("timestamp('x') == 1".to_owned(), "\"timestamp\" is not offered"),
        ("a.b.C{x: 1}".to_owned(), "not offered"),
    ];
    for (text, expected) in table {
        let error = Expression::compile("own", &text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn hostile_text_neither_panics_nor_overflows_the_stack_nor_takes_long() {
    let mut texts: Vec<String> =
        ["(", "[", "{", "!", "-", "f(", "a?", "a?b:", "{1:", "a.", "a[", "'", "\"\"\"", "r'", "b'"]
            .iter()
            .flat_map(|piece| [piece.repeat(MAX_EXPRESSION_LENGTH / piece.len()), piece.repeat(90)])
            .collect();
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("-(", ")"), ("!(", ")"), ("size([", "])")] {
        for depth in [10, 40, 80, 95, 100, 120] {
            texts.push(format!("{}1{}", open.repeat(depth), close.repeat(depth)));
        }
    }
    texts.extend(["1+", "a&&", "1*", "1==", "a||", "1 in "].map(|piece| piece.repeat(100) + "1"));
    texts.extend(
        ["\0", "\u{feff}", "'\\ud800'", "'\\777'", "'\\u12", "1e999999", "0xffffffffffffffffff", "é", "a\\b"]
            .map(str::to_owned),
    );
    texts.extend(
        [".5.5.5", "9".repeat(500).as_str(), "--1", "has(labels)", "has()", "labels[labels]"]
            .map(str::to_owned),
    );
    // Pieces in every order, by a generator without chance.
    let pieces = [
        "(", ")", "[", "]", "{", "}", "?", ":", ".", ",", "price", "labels", "'x'", "1", "&&", "||", "!",
        "-", "in", "<", "has(", "size(",
    ];
    let mut state = 7u64;
    for _ in 0..500 {
        let mut text = String::new();
        while text.len() < 60 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        texts.push(text);
    }
    // As little stack as a thread of tests has.
    let judged = std::thread::Builder::new().stack_size(1 << 21).spawn(move || {
        let stage = Stage::default();
        let compiled = texts.iter().filter_map(|text| Expression::compile("own", text).ok());
        // Every one is judged, whatever it comes to.
        compiled.map(|rule| stage.judge(&rule)).filter(|verdict| *verdict != Verdict::Accept).count()
    });
    assert!(judged.unwrap().join().expect("nothing panics") > 0, "some of it is fine");
}

#[test]
fn the_first_that_rejects_ends_a_judgement_and_is_named() {
    /// A rule that must not be asked.
    #[derive(Debug)]
    struct Unasked;
    impl Rule for Unasked {
        fn name(&self) -> &str {
            "unasked"
        }
        fn judge(&self, _: &Request<'_>, _: &Candidate<'_>) -> Verdict {
            panic!("a rule before it has rejected")
        }
    }
    let rules: Vec<Arc<dyn Rule>> =
        vec![Arc::new(Fit), Arc::new(Exclude(BTreeSet::from([did(2)]))), Arc::new(Unasked)];
    let chain = Comparator::new(rules, &["fit"]).unwrap();
    let stage = Stage::default();
    let refusal = chain.judge(&stage.request(), &stage.candidate(2)).unwrap_err();
    assert_eq!(refusal.to_string(), "exclude: is excluded");
    assert_eq!(refusal.rejection.retry, Retry::Final);
    assert_eq!(chain.names().collect::<Vec<_>>(), ["fit", "exclude", "unasked"]);
}

#[test]
fn only_what_lasts_keeps_an_advert_from_being_asked() {
    let pin: Arc<dyn Rule> = Arc::new(Pin(BTreeSet::from([did(3)])));
    let chain = Comparator::new(vec![Arc::new(ResourcesRule), Arc::new(Fit), pin], &["fit"]).unwrap();
    let busy = with(|it| it.resources = Resources::default());
    assert!(chain.judge_advert(&busy.request(), &busy.candidate(3)).is_ok(), "what is free will change");
    assert_eq!(chain.judge_advert(&busy.request(), &busy.candidate(2)).unwrap_err().rule, "pin");
    assert_eq!(chain.judge(&busy.request(), &busy.candidate(2)).unwrap_err().rule, "resources");
}

#[test]
fn what_is_no_chain_is_refused() {
    let fits = || -> Vec<Arc<dyn Rule>> { vec![Arc::new(Fit), Arc::new(PriceRule::default())] };
    let refused = |rules, order: &[&str]| Comparator::new(rules, order).unwrap_err();
    assert_eq!(refused(fits(), &["speed"]), ChainError::Order("speed".to_owned()));
    assert_eq!(refused(fits(), &["fit", "fit"]), ChainError::Order("fit".to_owned()));
    let twice = fits().into_iter().chain(fits()).collect();
    assert_eq!(refused(twice, &[]), ChainError::Twice("fit".to_owned()));
    let many = (0..=MAX_RULES).map(|_| Arc::new(Fit) as Arc<dyn Rule>).collect();
    assert_eq!(refused(many, &[]), ChainError::TooMany);
    assert_eq!(Comparator::new(fits(), &["fit", "price"]).unwrap().order(), ["fit", "price"]);
}

#[test]
fn the_order_decides_then_chance_that_nobody_steers() {
    let stages: Vec<Stage> = [(5, 100), (4, 300), (4, 200), (4, 300)]
        .into_iter()
        .map(|(price, fit)| with(|it| (it.price, it.fit) = (price, Some(fit))))
        .collect();
    let candidates: Vec<Candidate<'_>> =
        stages.iter().zip(1..).map(|(stage, seed)| stage.candidate(seed)).collect();
    let request = stages[0].request();
    let id = |seed: u8| BidRequestId::from_random([seed; 16]);
    let (ranked, refused) = Comparator::default().rank(id(1), &request, &candidates);
    assert!(refused.is_empty());
    assert_eq!(ranked[2..], [2, 0], "cheap, then well fitting");
    // The two equal ones: whatever order they come in, the tickets decide; and not always the same one wins.
    let mut wins = BTreeSet::new();
    for seed in 0..32 {
        let (ranked, _) = Comparator::default().rank(id(seed), &request, &candidates);
        let backwards: Vec<Candidate<'_>> = candidates.iter().rev().copied().collect();
        let (again, _) = Comparator::default().rank(id(seed), &request, &backwards);
        let dids = |ranked: &[usize], of: &[Candidate<'_>]| {
            ranked.iter().map(|index| of[*index].did).collect::<Vec<_>>()
        };
        assert_eq!(dids(&ranked, &candidates), dids(&again, &backwards));
        let lower = ticket(id(seed), candidates[1].did) < ticket(id(seed), candidates[3].did);
        assert_eq!(ranked[0] == 1, lower);
        wins.insert(ranked[0]);
    }
    assert_eq!(wins, BTreeSet::from([1, 3]));
    let by_fit = Comparator::new(vec![Arc::new(PriceRule::default()), Arc::new(Fit)], &["fit"]).unwrap();
    let (ranked, _) = by_fit.rank(id(1), &request, &candidates);
    assert_eq!(ranked[2..], [2, 0], "fit alone");
    let limited = Comparator::new(vec![Arc::new(PriceRule { max: Some(Price(4)) })], &[]).unwrap();
    let (ranked, refused) = limited.rank(id(1), &request, &candidates);
    assert_eq!((ranked.len(), refused.len(), refused[0].0), (3, 1, 0));
}
