//! What is read, what is refused and where, and what becomes of it.

use dms_messages::{Bid, BidId, BidRequestId};

use super::*;
use crate::orchestrator::comparator::{Candidate, Refusal, Reputation, Request, Scores, Verdict};
use crate::testing::{did, requirement, resources};

fn parse(text: &str) -> Result<Preferences, PreferencesError> {
    Preferences::parse(text, &OwnRules::none())
}

fn refused(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

/// Judges one that is as good as any, by a text.
fn judge(text: &str, change: impl FnOnce(&mut Bid)) -> Result<Scores, Refusal> {
    let preferences = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut bid = Bid {
        id: BidId::from_random([1; 16]),
        request: BidRequestId::from_random([1; 16]),
        resources: resources(1000, 64),
        price: Price(500_000),
        score: 500,
        lease: Millis(1),
        profile: Default::default(),
    };
    change(&mut bid);
    let requirement = requirement(1000, 64);
    let request = Request { requirement: &requirement, run_time: Millis(60_000), max_price: None };
    preferences.requester.judge(&request, &Candidate::of_bid(did(2), &bid, Reputation::default()))
}

#[test]
fn the_defaults_are_what_a_node_without_preferences_does() {
    for text in ["", DEFAULTS, "# nothing\n", "[requester]\n[provider]\n[pricing]\n"] {
        let preferences = parse(text).unwrap();
        assert_eq!(preferences.requester.order(), ["price", "fit"], "{text}");
        assert_eq!(preferences.requester.names().collect::<Vec<_>>(), ["needs", "resources", "price", "fit"]);
        assert_eq!(preferences.provider.names().count(), 0);
        assert_eq!(preferences.surcharge, Surcharge::default());
        assert!(!preferences.has_requester_rules);
    }
    let Preferences { requester, provider, surcharge, has_requester_rules, names_providers } =
        Preferences::default();
    assert_eq!((requester.order(), provider.names().count()), (vec!["price", "fit"], 0));
    assert_eq!((surcharge, has_requester_rules, names_providers), (Surcharge::default(), false, false));
}

/// What the README shows.
#[test]
fn the_example_of_the_readme_is_understood() {
    let readme = include_str!("../../../../README.md");
    let section = readme.split_once("### Preferences").expect("it has a section").1;
    let text =
        section.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).expect("an example").0;
    let preferences = parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(preferences.requester.order(), ["value", "price", "fit"]);
    assert_eq!(
        preferences.requester.names().collect::<Vec<_>>(),
        ["needs", "resources", "price", "reputation", "benchmark", "location", "fit", "value"]
    );
    assert_eq!(preferences.provider.names().collect::<Vec<_>>(), ["exclude", "load"]);
    assert_eq!((preferences.surcharge.cpu, preferences.surcharge.minimum), (2000, Price(10_000)));
}

/// What the comments of the defaults show as examples is understood too.
#[test]
fn the_examples_of_the_defaults_are_understood() {
    let lines = DEFAULTS.lines().map(|line| match line.strip_prefix("# ") {
        Some(example) if example.starts_with("[[") || example.split_once(" = ").is_some() => example,
        _ => line,
    });
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let preferences = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(
        preferences.requester.names().collect::<Vec<_>>(),
        ["needs", "resources", "price", "load", "benchmark", "fit", "value"]
    );
    assert_eq!(preferences.provider.names().collect::<Vec<_>>(), ["limit", "load", "worth-it"]);
    assert_eq!(preferences.surcharge.minimum, Price(10_000));
}

#[test]
fn every_key_becomes_its_rule() {
    let (one, two) = (did(2), did(3));
    // (text, the rule that rejects, or none)
    let table: Vec<(String, Option<&str>)> = vec![
        (format!("[requester]\npin = [\"{one}\"]"), None),
        (format!("[requester]\npin = [\"{two}\"]"), Some("pin")),
        (format!("[requester]\nexclude = [\"{two}\"]"), None),
        (format!("[requester]\nexclude = [\"{one}\"]"), Some("exclude")),
        ("[requester]\nmax_price = \"0.5\"".to_owned(), None),
        ("[requester]\nmax_price = \"0.4\"".to_owned(), Some("price")),
        ("[requester]\nmin_reputation = 500".to_owned(), None),
        ("[requester]\nmin_reputation = 501".to_owned(), Some("reputation")),
        ("[requester]\nmax_load = 200".to_owned(), None),
        ("[requester]\nmax_load = 199".to_owned(), Some("load")),
        ("[requester]\nexecutors = [\"wasm\"]".to_owned(), None),
        ("[requester.location]\naccept = [\"ch\"]".to_owned(), None),
        ("[requester.location]\nreject = [\"CH\"]".to_owned(), Some("location")),
        ("[requester.labels]\nrequire = { disk = \"ssd\" }".to_owned(), None),
        ("[requester.labels.require]\ndisk = \"hdd\"".to_owned(), Some("labels")),
        ("[requester.labels]\nreject = { disk = \"ssd\" }".to_owned(), Some("labels")),
        ("[requester.benchmark]\nminimum = { wasm = 1 }".to_owned(), Some("benchmark")),
        ("[[requester.expression]]\nname = \"own\"\ncel = \"price < 1.0\"".to_owned(), None),
        ("[[requester.expression]]\nname = \"own\"\ncel = \"price > 1.0\"".to_owned(), Some("own")),
    ];
    for (text, rule) in table {
        let judged = judge(&text, |bid| {
            bid.profile.location = Some("CH".to_owned());
            bid.profile.labels.insert("disk".to_owned(), "ssd".to_owned());
            bid.profile.load = Some(200);
        });
        assert_eq!(judged.err().map(|refusal| refusal.rule), rule.map(str::to_owned), "{text}");
    }
}

#[test]
fn the_order_is_as_written_or_what_was_written_for_it_and_then_the_price() {
    let expression = "[[requester.expression]]\nname = \"value\"\ncel = \"wasm\"\n";
    let table = [
        (expression.to_owned(), vec!["value", "price", "fit"]),
        (format!("[requester]\norder = [\"fit\", \"value\"]\n{expression}"), vec!["fit", "value"]),
        (
            "[requester]\norder = [\"benchmark\", \"reputation\", \"load\"]".to_owned(),
            vec!["benchmark", "reputation", "load"],
        ),
        ("[requester]\norder = []".to_owned(), vec![]),
    ];
    for (text, order) in table {
        let preferences = parse(&text).unwrap();
        assert_eq!(preferences.requester.order(), order, "{text}");
        assert!(preferences.has_requester_rules);
    }
}

#[test]
fn the_owner_of_a_program_brings_rules_along() {
    #[derive(Debug)]
    struct Own(&'static str);
    impl Rule for Own {
        fn name(&self) -> &str {
            self.0
        }
        fn judge(&self, _: &Request<'_>, _: &Candidate<'_>) -> Verdict {
            Verdict::Score(1)
        }
    }
    let own = |names: &[&'static str]| OwnRules {
        requester: names.iter().map(|name| Arc::new(Own(name)) as Arc<dyn Rule>).collect(),
        provider: names.iter().map(|name| Arc::new(Own(name)) as Arc<dyn Rule>).collect(),
    };
    let preferences = Preferences::parse("", &own(&["mine"])).unwrap();
    assert_eq!(preferences.requester.order(), ["mine", "price", "fit"]);
    assert_eq!(preferences.provider.names().collect::<Vec<_>>(), ["mine"]);
    assert!(preferences.has_requester_rules);
    let text = "[requester]\norder = [\"price\", \"mine\"]";
    assert_eq!(Preferences::parse(text, &own(&["mine"])).unwrap().requester.order(), ["price", "mine"]);
    assert!(refused(text).contains("no rule \"mine\""));
    for (names, expected) in [
        (["price"].as_slice(), "every node has a rule"),
        (&["Mine"], "no name for a rule"),
        (&["mine", "mine"], "two rules"),
        (&["a", "b", "c", "d", "e", "f", "g"], "more than 6"),
    ] {
        let error = Preferences::parse("", &own(names)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn whatever_is_wrong_is_refused_with_its_line() {
    let long = "x".repeat(65);
    let expression =
        |name: &str, cel: &str| format!("[[requester.expression]]\nname = \"{name}\"\ncel = \"{cel}\"\n");
    let many: String = (0..9).map(|n| expression(&format!("e{n}"), "true")).collect();
    let places: Vec<String> = (0..65).map(|n| format!("\"p{n}\"")).collect();
    let table: Vec<(String, &str)> = vec![
        ("colour = 1".to_owned(), "line 1, column 1: unknown field `colour`"),
        ("\n[requester]\ncolour = 1".to_owned(), "line 3, column 1: unknown field `colour`"),
        ("[provider]\norder = []".to_owned(), "line 2, column 1: unknown field `order`"),
        ("[provider.location]\naccept = []".to_owned(), "line 1, column 11: unknown field `location`"),
        ("[requester.location]\naccpet = []".to_owned(), "line 2, column 1: unknown field `accpet`"),
        ("[requester".to_owned(), "line 1"),
        ("[requester]\npin = [\"did:web:x\"]".to_owned(), "line 2, column 8: "),
        ("[requester]\nmax_price = \"cheap\"".to_owned(), "line 2, column 13: \"cheap\" is not a price"),
        ("[requester]\nmax_price = 1".to_owned(), "line 2, column 13: invalid type"),
        ("[requester]\nmin_reputation = 1001".to_owned(), "line 2, column 18: 1001 is not 0 to 1000"),
        ("[requester]\nmax_load = -1".to_owned(), "line 2, column 12: "),
        ("[requester]\nexecutors = [\"docker\"]".to_owned(), "line 2, column 14: unknown variant `docker`"),
        ("[requester]\norder = [\"speed\"]".to_owned(), "line 2, column 10: there is no rule \"speed\""),
        ("[requester]\norder = [\"fit\", \"fit\"]".to_owned(), "named twice"),
        (
            "[requester.benchmark]\nminimum = { gpu = 1 }".to_owned(),
            "line 2, column 13: unknown variant `gpu`",
        ),
        ("[requester.benchmark]\nby = \"gpu\"".to_owned(), "line 2, column 6: unknown variant `gpu`"),
        (
            format!("[requester.location]\naccept = [\"{long}\"]"),
            "line 2, column 10: an entry is a text of 1 to 64",
        ),
        (
            "[requester.location]\naccept = [\"\"]".to_owned(),
            "line 2, column 10: an entry is a text of 1 to 64",
        ),
        (format!("[requester.location]\naccept = [{}]", places.join(", ")), "more than 64 entries"),
        (format!("[requester.labels]\nrequire = {{ a = \"{long}\" }}"), "an entry is a text of 1 to 64"),
        (expression("Own", "true"), "\"Own\" is no name for a rule"),
        (expression("price", "true"), "every node has a rule \"price\""),
        (expression("own", "prize < 1"), "expression \"own\": there is no \"prize\" to judge by"),
        (expression("own", "price <"), "expression \"own\": not an expression in CEL"),
        (format!("{0}{0}", expression("own", "true")), "two expressions have one name"),
        (many, "more than 8 expressions"),
        ("[[requester.expression]]\nname = \"own\"".to_owned(), "missing field `cel`"),
        (
            "[provider.limit]\nmemory = \"much\"".to_owned(),
            "line 2, column 10: \"much\" is not an amount of memory",
        ),
        ("[pricing]\nminimum = \"-1\"".to_owned(), "line 2, column 11: "),
        ("[pricing.full]\ncpu = 999".to_owned(), "line 2, column 7: 999 is not 1000 to 100000"),
        ("[pricing.full]\noverall = 100001".to_owned(), "line 2, column 11: 100001 is not"),
        (format!("#{}", "x".repeat(MAX_TEXT)), "more than 16384 bytes"),
        ("[".repeat(8000), "line 1"),
        (format!("requester = {}", "{ a = ".repeat(2000)), "line 1"),
        (format!("requester = {}", "[".repeat(8000)), "line 1"),
    ];
    for (text, expected) in table {
        let said = refused(&text);
        let shown: String = text.chars().take(200).collect();
        assert!(said.contains(expected), "{shown}\n{said}");
    }
    // The line of an expression is that of its table.
    let said = refused(&format!("[requester]\nmax_load = 1\n\n{}", expression("own", "prize < 1")));
    assert!(said.starts_with("line 4") || said.starts_with("line 5") || said.starts_with("line 6"), "{said}");
}

#[test]
fn what_differs_is_named_with_what_it_was_and_is() {
    let before = "[requester]\nmax_price = \"1\"\nmax_load = 900\n[requester.location]\naccept = [\"CH\"]\n";
    let after = "[requester]\nmax_price = \"2\"\n[requester.location]\naccept = [\"CH\"]\n\n[[provider.expression]]\nname = \"own\"\ncel = \"true\"\n";
    let found: Vec<_> = changes(before, after)
        .into_iter()
        .map(|change| (change.key, change.from.unwrap_or_default(), change.to.unwrap_or_default()))
        .collect();
    let expected = [
        ("provider.expression[1].cel", "", "\"true\""),
        ("provider.expression[1].name", "", "\"own\""),
        ("requester.max_load", "900", ""),
        ("requester.max_price", "\"1\"", "\"2\""),
    ];
    let expected = expected.map(|(key, from, to)| (key.to_owned(), from.to_owned(), to.to_owned()));
    assert_eq!(found, expected);
    assert_eq!(changes(before, before), []);
    assert_eq!(changes("", ""), []);
}

#[test]
fn a_surcharge_is_what_is_written() {
    let text = "[pricing]\nminimum = \"0.01\"\n[pricing.full]\ncpu = 2000\nmemory = 1500\ndisk = 1001\ngpu = 100000\noverall = 1200\n";
    let expected = Surcharge {
        cpu: 2000,
        memory: 1500,
        disk: 1001,
        gpu: 100_000,
        overall: 1200,
        minimum: Price(10_000),
    };
    assert_eq!(parse(text).unwrap().surcharge, expected);
}
