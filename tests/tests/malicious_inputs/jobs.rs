//! Job files and settings as somebody else may have written them.

use std::fmt::Write;
use std::path::Path;

use dms_node::config::Layer;
use dms_node::job_file::JobFile;

use super::{Table, told};

/// The inputs.
pub(super) fn family(table: &mut Table) {
    yaml(table);
    json(table);
    toml(table);
}

fn yaml(table: &mut Table) {
    let read = |text: &str| told(JobFile::parse(Path::new("j.yaml"), text));
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(laughs, "a{level}: &a{level} [{items}]").unwrap();
    }
    let deep = format!("env: {}", "[".repeat(5_000));
    let deep_maps = format!("labels: {}", "{a: ".repeat(5_000));
    let long_name = format!("name: {}", "x".repeat(513));
    let indented: String = (0..2_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    table.texts(
        "a job in YAML:",
        &[
            ("- wasm", "j.yaml:1:1: "),
            ("42", "j.yaml:"),
            ("\"wasm\"", "j.yaml:"),
            ("wasm: [", "wasm: "),
            ("wasm: \"a", "j.yaml:"),
            ("wasm: 'a", "j.yaml:"),
            ("wasm: {a: b}", "wasm: "),
            ("wasm: a\nwasm: b", "duplicate mapping key"),
            ("env: {A: 1, A: 2}", "duplicate mapping key"),
            ("wasm: a\n---\nwasm: b", "j.yaml:"),
            ("wasm: *nobody", "j.yaml:"),
            ("wasm: &a *a", "j.yaml:"),
            ("a: &a [*a]", "j.yaml:"),
            ("<<: {wasm: a}\ncolour: red", "j.yaml:"),
            ("wasm: !!binary /w==", "j.yaml:"),
            ("args: !!python/object/apply:os.system ['id']\ncolour: 1", "colour"),
            (&laughs, "j.yaml:"),
            (&deep, "j.yaml:"),
            (&deep_maps, "j.yaml:"),
            (&indented, "j.yaml:"),
            ("wasm: a\n\0", "j.yaml:"),
            ("wasm: a\ncolour: red", "unknown field `colour`"),
            ("Wasm: a", "unknown field `Wasm`"),
            ("wasm : a\n\"wasm \": b", "unknown field"),
            ("resources: []", "resources: "),
            ("resources: 1", "resources: "),
            ("resources: {gpu: 1}", "unknown field `gpu`"),
            ("resources: {cpu: 0}", "resources.cpu: must be more than 0"),
            ("resources: {cpu: -1}", "not a number of cores"),
            ("resources: {cpu: .nan}", "resources.cpu"),
            ("resources: {cpu: .inf}", "resources.cpu"),
            ("resources: {cpu: 1e30}", "resources.cpu"),
            ("resources: {cpu: 18446744073709551616}", "resources.cpu"),
            ("resources: {cpu: [1]}", "resources.cpu"),
            ("resources: {memory: 0MiB}", "must be more than 0"),
            ("resources: {memory: 64}", "not an amount of memory"),
            ("resources: {memory: -64MiB}", "not an amount of memory"),
            ("resources: {memory: 18446744073709551615TiB}", "not a whole number of MiB"),
            ("resources: {memory: 1KiB}", "not a whole number of MiB"),
            ("resources: {disk: lots}", "not an amount of disk"),
            ("resources: {ports: 257}", "must be a number from 0 to 256"),
            ("resources: {ports: -1}", "must be a number from 0 to 256"),
            ("resources: {ports: [80]}", "resources.ports"),
            ("resources: {gpus: 1}", "resources.gpus"),
            ("resources: {gpus: [{cores: 1}]}", "unknown field `cores`"),
            ("resources: {gpus: [{memory: 8}]}", "not an amount of memory"),
            ("resources: {gpus: [{vendor: \"\"}]}", "must be 1 to 512 bytes"),
            ("resources: {architecture: ''}", "must be an instruction set"),
            ("resources: {architecture: '../x'}", "must be an instruction set"),
            ("resources: {min_score: -1}", "must be a whole number"),
            ("resources: {min_clock_mhz: 4294967296}", "must be a whole number"),
            ("timeout: soon", "not a duration"),
            ("timeout: 0s", "must be more than 0 and at most 30 days"),
            ("timeout: 31d", "must be more than 0 and at most 30 days"),
            ("timeout: -1s", "not a duration"),
            ("timeout: 99999999999999999999h", "not a duration"),
            ("max_price: -1", "not a price"),
            ("max_price: 0.0000001", "max_price"),
            ("wait: forever", "not a duration"),
            ("wanted: 0", "must be a number from 1 to 64"),
            ("wanted: 65", "must be a number from 1 to 64"),
            ("wanted: 1.5", "must be a number from 1 to 64"),
            ("attempts: 0", "must be a number from 1 to 100"),
            ("attempts: 101", "must be a number from 1 to 100"),
            ("name: \"\"", "must be 1 to 512 bytes without control characters"),
            ("name: \"a\\0b\"", "without control characters"),
            ("name: \"a\\e[31mred\"", "without control characters"),
            (&long_name, "must be 1 to 512 bytes"),
            ("args: 3", "args: "),
            ("args: {a: b}", "args: "),
            ("args: [[a]]", "args"),
            ("env: [a]", "env: "),
            ("env: {A: [1]}", "env"),
            ("locations: eu", "locations: "),
            ("labels: [ssd]", "labels: "),
        ],
        read,
    );
}

fn json(table: &mut Table) {
    let read = |text: &str| told(JobFile::parse(Path::new("j.json"), text));
    let deep = "{\"args\": ".to_owned() + &"[".repeat(100_000);
    table.texts(
        "a job in JSON:",
        &[
            ("", "EOF"),
            ("{", "EOF"),
            ("[[]]", "invalid type"),
            ("null", "expected"),
            ("{\"wasm\": \"a\"", "EOF"),
            ("{\"wasm\": \"a\",}", "trailing comma"),
            ("{'wasm': 'a'}", "key must be a string"),
            ("{wasm: \"a\"}", "key must be a string"),
            ("{\"wasm\": \"a\"} x", "trailing characters"),
            ("{\"wasm\": \"a\"}{}", "trailing characters"),
            ("{\"wasm\": \"a\", \"wasm\": \"b\"}", "duplicate field"),
            ("{\"wasm\": \"\\ud800\"}", "hex escape"),
            ("{\"wasm\": \"\\x\"}", "invalid escape"),
            ("{\"wasm\": \"\n\"}", "control character"),
            ("{\"wasm\": 7}", "invalid type"),
            ("{\"colour\": 1}", "unknown field `colour`"),
            ("{\"resources\": {\"cpu\": 1e400}}", "out of range"),
            ("{\"resources\": {\"cpu\": 01}}", "invalid number"),
            ("{\"resources\": {\"cpu\": NaN}}", "expected"),
            ("{\"resources\": {\"cpu\": true}}", "invalid type"),
            ("{\"resources\": null}", "invalid type"),
            ("{\"wanted\": 4294967297}", "must be a number from 1 to 64"),
            ("// a comment\n{}", "expected"),
            ("\u{feff}{}", "expected value"),
            (&deep, "j.json:"),
        ],
        read,
    );
}

fn toml(table: &mut Table) {
    let read = |text: &str| told(Layer::from_toml(Path::new("config.toml"), text));
    let long = format!("location = \"{}\"", "x".repeat(513));
    let mut labels = "[labels]\n".to_owned();
    for n in 0..65 {
        writeln!(labels, "k{n} = \"v\"").unwrap();
    }
    let deep = format!("labels = {}", "[".repeat(10_000));
    table.texts(
        "settings:",
        &[
            ("network", "config.toml:1:"),
            ("network =", "config.toml:1:"),
            ("network = \"a\"\nnetwork = \"b\"", "duplicate key"),
            ("network = \"A\"", "lower-case letters"),
            ("network = \"a/b\"", "lower-case letters"),
            ("network = \"\"", "lower-case letters"),
            ("network = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "lower-case letters"),
            ("network = [\"a\"]", "network: "),
            ("nettwork = \"a\"", "unknown field"),
            ("trust = [\"alice\"]", "did:key"),
            ("trust = [\"did:web:example.org\"]", "did:key"),
            ("trust = \"did:key:z6Mk\"", "trust: "),
            ("open = \"yes\"", "open: "),
            ("open = 1", "open: "),
            ("mdns = []", "mdns: "),
            ("lease = \"1ms\"", "must be"),
            ("lease = \"1d\"", "must be"),
            ("lease = 5", "not a duration"),
            ("orphan_after = \"0s\"", "must be"),
            ("auction = \"2h\"", "must be"),
            ("max_output = \"17MiB\"", "must be 1 MiB to 16 MiB"),
            ("max_output = \"0MiB\"", "must be 1 MiB to 16 MiB"),
            ("blobs_max_mib = 63", "at least 64"),
            ("blobs_max_mib = -1", "blobs_max_mib: "),
            ("keep_history = \"59m\"", "must be 1 h to 3650 d"),
            ("engine = \"sqlite\"", "unknown variant"),
            ("prices = 3", "prices: "),
            ("[prices]\ncore_hour = -1", "not a price"),
            ("[prices]\ncore_hours = 1", "unknown field"),
            ("[prices]\ncore_hour = nan", "not a price"),
            ("[prices]\ncore_hour = inf", "not a price"),
            ("labels = 3", "labels: "),
            ("[labels]\n\"\" = \"v\"", "must be 1 to 512 bytes"),
            ("[labels]\na = \"\\u001b[31m\"", "without control characters"),
            (&labels, "more than 64 labels"),
            (&long, "must be 1 to 512 bytes"),
            (&deep, "config.toml:"),
            ("log = \"[[[\"", "not a log filter"),
            ("log_format = \"xml\"", "unknown variant"),
            ("api = [7]", "api: "),
            ("[[network]]", "network: "),
            ("a.b.c = 1", "unknown field"),
            ("network = \"\\ud800\"", "config.toml:1:"),
        ],
        read,
    );
}
