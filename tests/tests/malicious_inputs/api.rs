//! Bodies of the local API: as its server reads them (JSON of each route's type), and the rules that follow.

use dms_actors::clock::Timestamp;
use dms_messages::{Capability, Credentials, Invite, JobId, Millis};
use dms_node::api::types::{JobDefaults, NewBackup, NewJob};
use dms_node::orchestrator::preferences::{OwnRules, Preferences};
use dms_node::preferences::SetPreferences;
use dms_node::trust::commands::{BeginJoin, GrantToken, KeepTokens, MakeInvite, TrustPeer};
use dms_tests::hand_made;
use dms_tests::hostile::issuer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Table, told};

/// One more body for a route.
fn add<T: DeserializeOwned + 'static>(
    table: &mut Table,
    name: impl Into<String>,
    body: impl Into<Vec<u8>>,
    reason: &str,
    check: fn(T) -> Result<(), String>,
) {
    table.refuse(name, body, reason, move |bytes| {
        let read = serde_json::from_slice::<T>(bytes).map_err(|error| error.to_string())?;
        check(read)
    });
}

/// A value as the client says it.
fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

/// The same with another value at a place (`/pods/0/requirement/cpu`).
fn with(value: &Value, place: &str, new: Value) -> Vec<u8> {
    let mut value = value.clone();
    let (parent, name) = place.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).unwrap();
    match parent {
        Value::Object(object) => drop(object.insert(name.to_owned(), new)),
        Value::Array(array) => array[name.parse::<usize>().unwrap()] = new,
        _ => panic!("{place} is no place"),
    }
    value.to_string().into_bytes()
}

/// The inputs.
pub(super) fn family(table: &mut Table) {
    jobs(table);
    capabilities(table);
    preferences(table);
    forms(table);
    trust(table);
}

fn job_check(job: NewJob) -> Result<(), String> {
    told(job.into_job(JobId::from_random([1; 16]), Timestamp(1), &JobDefaults::default()).check())
}

fn jobs(table: &mut Table) {
    let pods = vec![hand_made::pod(Millis(60_000))];
    let good =
        NewJob { name: "job".into(), pods, max_price: None, wanted: None, wait: None, max_attempts: None };
    assert_eq!(job_check(good.clone()), Ok(()));
    let good = json_of(&good);
    let pod = good["pods"][0].clone();
    let task = pod["tasks"][0].clone();
    let many = |item: &Value, count: usize| Value::from(vec![item.clone(); count]);
    let text = |length: usize| Value::from("x".repeat(length));
    let cases: Vec<(&str, &str, Value, &str)> = vec![
        ("no pod", "/pods", json!([]), "jobs of exactly one pod; this one has 0"),
        ("two pods", "/pods", many(&pod, 2), "jobs of exactly one pod; this one has 2"),
        ("a thousand pods", "/pods", many(&pod, 1000), "jobs of exactly one pod; this one has 1000"),
        ("pods that are a number", "/pods", json!(7), "invalid type"),
        ("no task", "/pods/0/tasks", json!([]), "1 to 16 tasks; this one has 0"),
        ("two tasks of one name", "/pods/0/tasks", many(&task, 2), "two tasks are called"),
        ("17 tasks", "/pods/0/tasks", many(&task, 17), "1 to 16 tasks; this one has 17"),
        (
            "a task that says more than its pod",
            "/pods/0/tasks/0/resources",
            json!({"cpu": 1, "memory": 1, "disk": u64::MAX}),
            "not the sums",
        ),
        ("a name without an end", "/name", text(513), "name: name is longer"),
        ("a name that is a number", "/name", json!(1), "invalid type"),
        ("no bids", "/wanted", json!(0), "wanted: must be 1 to 64"),
        ("65 bids", "/wanted", json!(65), "wanted: must be 1 to 64"),
        ("more bids than 16 bits", "/wanted", json!(65_536), "invalid value"),
        ("bids below zero", "/wanted", json!(-1), "invalid value"),
        ("no attempts", "/max_attempts", json!(0), "must be 1 to 100"),
        ("101 attempts", "/max_attempts", json!(101), "must be 1 to 100"),
        ("all attempts", "/max_attempts", json!(u32::MAX), "must be 1 to 100"),
        ("a price below zero", "/max_price", json!(-1), "invalid value"),
        ("a price with a fraction", "/max_price", json!(0.5), "invalid type"),
        ("a wait in words", "/wait", json!("1h"), "invalid type"),
        ("a field more", "/colour", json!(1), "unknown field `colour`"),
        ("an id of its own", "/id", json!("00000000-0000-0000-0000-000000000000"), "unknown field `id`"),
        ("no cpu", "/pods/0/requirement/cpu", json!(0), "some cpu and some memory"),
        ("no memory", "/pods/0/requirement/memory", json!(0), "some cpu and some memory"),
        ("cpu below zero", "/pods/0/requirement/cpu", json!(-1), "invalid value"),
        ("cpu beyond 64 bits", "/pods/0/requirement/cpu", json!(1e30), "invalid type"),
        ("65 GPUs", "/pods/0/requirement/gpus", many(&json!({}), 65), "more than 64 GPUs"),
        ("257 ports", "/pods/0/requirement/ports", json!(257), "more than 256 ports"),
        ("ports beyond 16 bits", "/pods/0/requirement/ports", json!(70_000), "invalid value"),
        ("a nameless architecture", "/pods/0/requirement/architecture", json!(""), "without a name"),
        ("a container", "/pods/0/requirement/executor", json!("docker"), "unknown variant"),
        (
            "a module that is no content",
            "/pods/0/tasks/0/module",
            json!("latest"),
            "not a content identifier",
        ),
        (
            "a module on the web",
            "/pods/0/tasks/0/module",
            json!("https://example.org/x.wasm"),
            "not a content identifier",
        ),
        (
            "a module that is a path",
            "/pods/0/tasks/0/module",
            json!("../../etc/passwd"),
            "not a content identifier",
        ),
        ("an input that is no content", "/pods/0/tasks/0/input", json!("/etc"), "not a content identifier"),
        ("no time", "/pods/0/tasks/0/timeout", json!(0), "timeout: must be more than 0"),
        ("all time", "/pods/0/tasks/0/timeout", json!(u64::MAX), "timeout: must be more than 0"),
        ("an argument without an end", "/pods/0/tasks/0/args", json!([text(70_000)]), "exceed 65536 bytes"),
        ("1,025 arguments", "/pods/0/tasks/0/args", many(&json!(""), 1025), "more than 1024 arguments"),
        ("a zero in an argument", "/pods/0/tasks/0/args", json!(["a\0"]), "a zero byte"),
        ("arguments as one text", "/pods/0/tasks/0/args", json!("-v"), "invalid type"),
        ("a variable with an equals", "/pods/0/tasks/0/env", json!({"A=B": "c"}), "env: a name is empty"),
        ("a variable without a name", "/pods/0/tasks/0/env", json!({"": "c"}), "env: a name is empty"),
        ("a zero in a variable", "/pods/0/tasks/0/env", json!({"A": "\0"}), "env: a name is empty"),
        ("variables as a list", "/pods/0/tasks/0/env", json!(["A=B"]), "invalid type"),
    ];
    for (name, place, value, reason) in cases {
        add(table, format!("a job: {name}"), with(&good, place, value), reason, job_check);
    }
}

fn capabilities(table: &mut Table) {
    let check = |capability: Capability| capability.check();
    let good = json_of(&hand_made::capability());
    let text = |length: usize| Value::from("x".repeat(length));
    let gpu = json!({"vendor": "nvidia", "model": "A100", "memory": 1});
    let numbers = |count: u16| json!((1..=count).collect::<Vec<_>>());
    let gpus: Value = (0..65).map(|n| (n.to_string(), gpu.clone())).collect::<serde_json::Map<_, _>>().into();
    let labels: Value =
        (0..65).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let cases: Vec<(&str, &str, Value, &str)> = vec![
        ("cpu below zero", "/resources/cpu", json!(-1), "invalid value"),
        ("memory in words", "/resources/memory", json!("4GiB"), "invalid type"),
        ("port 0", "/resources/ports", json!([0]), "port 0 is no port"),
        ("257 ports", "/resources/ports", numbers(257), "more than 256 ports"),
        ("a port beyond 16 bits", "/resources/ports", json!([65_536]), "invalid value"),
        ("65 GPUs", "/resources/gpus", numbers(65), "more than 64 GPUs"),
        ("a GPU that nobody describes", "/resources/gpus", json!([3]), "GPU 3 is not described"),
        ("65 descriptions of GPUs", "/gpus", gpus, "more than 64 GPUs or labels"),
        ("slots of nothing", "/resources/slots", json!({"wasm": 0}), "a limit of 0 slots"),
        ("slots for containers", "/resources/slots", json!({"docker": 1}), "unknown variant"),
        ("an executor that nobody has", "/executors", json!(["docker"]), "unknown variant"),
        ("a location without an end", "/location", text(513), "location is longer"),
        ("a model without an end", "/cpu_info/model", text(513), "cpu model is longer"),
        ("an architecture without an end", "/cpu_info/architecture", text(513), "architecture is longer"),
        ("cores below zero", "/cpu_info/cores", json!(-1), "invalid value"),
        ("65 labels", "/labels", labels, "more than 64 GPUs or labels"),
        ("a label without an end", "/labels", json!({"a": "x".repeat(513)}), "label is longer"),
        ("a label that is a number", "/labels", json!({"a": 1}), "invalid type"),
        ("a price below zero", "/prices/core_hour", json!(-1), "invalid value"),
    ];
    for (name, place, value, reason) in cases {
        add(table, format!("a capability: {name}"), with(&good, place, value), reason, check);
    }
}

fn preferences(table: &mut Table) {
    let set = |set: SetPreferences| told(Preferences::parse(&set.text, &OwnRules::none()));
    let rule = |cel: &str| format!("[[requester.expression]]\nname = \"own\"\ncel = '''{cel}'''\n");
    // The parser of CEL makes its tables once; they belong to no input.
    set(SetPreferences { text: rule("true") }).expect("it is a rule");
    let cases: Vec<(&str, String, &str)> = vec![
        ("of an unknown key", "colour = 1".to_owned(), "unknown field `colour`"),
        ("without an end", "x".repeat(20_000), "more than 16384 bytes"),
        ("of tables in tables", format!("a = {}", "{ a = ".repeat(2_000)), "line 1"),
        ("with a loop", rule("[1, 2].all(x, [1, 2].all(y, true))"), "loops"),
        ("with a regular expression", rule("location.matches('(a*)*b')"), "not offered"),
        ("with brackets without an end", rule(&"(".repeat(500)), "not an expression in CEL"),
        ("with more signs than anybody needs", rule(&"-".repeat(600)), "at most 512 bytes"),
    ];
    for (name, text, reason) in cases {
        add(table, format!("preferences {name}"), json!({"text": text}).to_string(), reason, set);
    }
    add(table, "preferences by a number", json!({"text": 1}).to_string(), "invalid type", set);
    add(table, "preferences and more", json!({"text": "", "x": 1}).to_string(), "unknown field `x`", set);
}

/// What is no JSON of any route.
fn forms(table: &mut Table) {
    let deep = "[".repeat(100_000);
    let deep_pods = format!("{{\"name\":\"a\",\"pods\":{}", "[{\"tasks\":".repeat(1_000));
    let cases: [(&str, &[u8], &str); 17] = [
        ("nothing", b"", "EOF"),
        ("white space", b" \n\t", "EOF"),
        ("null", b"null", "invalid type"),
        ("a number", b"1", "invalid type"),
        ("a text", b"\"job\"", "invalid type"),
        ("a list", b"[]", "invalid length"),
        ("an empty object", b"{}", "missing field"),
        ("half an object", b"{\"name\":", "EOF"),
        ("two objects", b"{\"name\":\"a\",\"pods\":[]}{}", "trailing characters"),
        ("CBOR", b"\xa1\x64name\x61a", "expected value"),
        ("a form of the web", b"name=a&pods=b", "expected"),
        ("the same field twice", b"{\"name\":\"a\",\"name\":\"b\"}", "duplicate field"),
        ("a text that is not UTF-8", b"{\"name\":\"\xff\"}", "unicode"),
        ("half a surrogate", b"{\"name\":\"\\ud800\"}", "hex escape"),
        ("a raw zero", b"{\"name\":\"\0\"}", "control character"),
        ("depth", deep.as_bytes(), "invalid type"),
        ("depth where pods should be", deep_pods.as_bytes(), "EOF"),
    ];
    for (name, body, reason) in cases {
        add(table, format!("a body of {name}"), body, reason, job_check);
    }
    let backup = |_: NewBackup| Ok(());
    for (name, body, reason) in [
        ("no directory", json!({}), "missing field"),
        ("a directory that is a number", json!({"directory": 1}), "invalid type"),
        ("a field more", json!({"directory": "/tmp/x", "force": true}), "unknown field `force`"),
    ] {
        add(table, format!("a backup: {name}"), body.to_string(), reason, backup);
    }
}

fn trust(table: &mut Table) {
    let did = issuer().did().to_string();
    let peer = |_: TrustPeer| Ok(());
    for (name, body, reason) in [
        ("of nobody", json!({"did": "", "abilities": ["/dms"]}), "did:key"),
        ("of a web page", json!({"did": "did:web:example.org", "abilities": ["/dms"]}), "did:key"),
        ("for something that is no ability", json!({"did": did, "abilities": ["dms"]}), "an ability is"),
        ("for everything by a star", json!({"did": did, "abilities": ["*"]}), "an ability is"),
        ("for one ability in the place of many", json!({"did": did, "abilities": "/dms"}), "invalid type"),
        ("to a depth below zero", json!({"did": did, "abilities": ["/dms"], "depth": -1}), "invalid value"),
        (
            "to a depth beyond 8 bits",
            json!({"did": did, "abilities": ["/dms"], "depth": 256}),
            "invalid value",
        ),
        ("and more", json!({"did": did, "abilities": ["/dms"], "root": true}), "unknown field `root`"),
        ("without abilities", json!({"did": did}), "missing field"),
    ] {
        add(table, format!("trust {name}"), body.to_string(), reason, peer);
    }
    let grant = |_: GrantToken| Ok(());
    for (name, body, reason) in [
        ("to nobody", json!({"to": "bob", "abilities": ["/dms"]}), "did:key"),
        ("for longer than time", json!({"to": did, "abilities": ["/dms"], "ttl": 1e30}), "invalid type"),
        ("for a time in words", json!({"to": did, "abilities": ["/dms"], "ttl": "1d"}), "invalid type"),
        (
            "on one topic in the place of many",
            json!({"to": did, "abilities": ["/dms"], "topics": "x"}),
            "invalid type",
        ),
        ("and more", json!({"to": did, "abilities": ["/dms"], "sudo": 1}), "unknown field `sudo`"),
    ] {
        add(table, format!("a grant {name}"), body.to_string(), reason, grant);
    }
    let invite = |_: MakeInvite| Ok(());
    for (name, body, reason) in [
        ("as a god", json!({"role": "god", "uses": 1, "ttl": 1}), "unknown variant"),
        ("for fewer than nobody", json!({"role": "member", "uses": -1, "ttl": 1}), "invalid value"),
        ("for more than 16 bits", json!({"role": "member", "uses": 65_536, "ttl": 1}), "invalid value"),
        ("without an end", json!({"role": "member", "uses": 1}), "missing field"),
        (
            "with a secret of its own",
            json!({"role": "member", "uses": 1, "ttl": 1, "secret": "x"}),
            "unknown field",
        ),
    ] {
        add(table, format!("an invite {name}"), body.to_string(), reason, invite);
    }
    let join = |join: BeginJoin| told(join.invite.parse::<Invite>());
    let keep = |keep: KeepTokens| told(keep.text.parse::<Credentials>());
    for text in ["", "hello", "dms-invite-1-", "dms-invite-9-abc", "dms-token-1-zzz"] {
        let name = format!("to come in with {text:?}");
        let reason = if text.starts_with("dms-invite-1-") { "mistyped" } else { "an invite begins with" };
        add(table, name, json!({"invite": text}).to_string(), reason, join);
        let reason = if text.starts_with("dms-token-1-") { "mistyped" } else { "a token begins with" };
        add(table, format!("to keep {text:?}"), json!({"text": text}).to_string(), reason, keep);
    }
    add(table, "to come in by a number", json!({"invite": 1}).to_string(), "invalid type", join);
    add(table, "to keep nothing", json!({}).to_string(), "missing field", keep);
}
