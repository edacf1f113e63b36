//! How fast a machine is: measured at onboarding, again on request, by the node that runs, and never half registered.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use dms_tests::small_disk::SmallDisk;
use dms_tests::{Home, Killed, Node, dms, example, pair, skip, wait_for};
use serde_json::Value;

const FIGURES: [&str; 6] = ["cpu_single", "cpu_multi", "memory", "disk_write", "disk_syncs", "wasm"];

/// A directory whose node measures each figure for so long.
fn home(benchmark_time: &str) -> Home {
    let home = Home::new();
    set(&home, benchmark_time);
    home
}

fn set(home: &Home, benchmark_time: &str) {
    let config = format!("benchmark_time = \"{benchmark_time}\"\n");
    std::fs::write(home.path().join("config.toml"), config).expect("the directory is ours");
}

/// What onboards a machine of one core, whatever it runs on.
const ONBOARD: [&str; 8] = ["onboard", "--yes", "--cpu", "1", "--memory", "64MiB", "--disk", "16MiB"];

#[track_caller]
fn assert_measured(benchmark: &Value) {
    for figure in FIGURES {
        assert!(benchmark[figure].as_u64().is_some_and(|value| value > 0), "{figure} of {benchmark}");
    }
}

fn registered(home: &Home) -> Value {
    home.json(&["capability"])["registered"].clone()
}

fn names(home: &Home) -> BTreeSet<String> {
    let entries = std::fs::read_dir(home.path()).expect("the directory is ours");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("it is listed").file_name();
    entries.map(|entry| name(entry).into_string().expect("names are plain")).collect()
}

#[test]
fn onboarding_measures_and_a_repeat_shows_what_has_changed_and_both_outlive_restarts() {
    let home = home("5ms");
    let onboarded = home.json(&ONBOARD);
    let first = onboarded["capability"]["benchmark"].clone();
    assert_measured(&first);
    assert_eq!(onboarded["capability"]["cpu_info"]["score"], first["cpu_single"], "one measure, one figure");
    let before = names(&home);

    // Without a node: only looked at, then registered.
    let looked = home.json(&["capability", "benchmark", "--dry-run"]);
    assert_eq!((&looked["before"], &looked["is_registered"]), (&first, &false.into()));
    assert_measured(&looked["after"]);
    let second = home.json(&["capability", "benchmark"]);
    assert_eq!(
        (&second["before"], &second["is_registered"]),
        (&first, &true.into()),
        "a look changed nothing"
    );
    assert_eq!(names(&home), before, "no file is left behind");

    // With one: it measures itself, and what else is registered stays.
    let node = home.start(&[]);
    let shared = registered(&home);
    assert_eq!(shared["benchmark"], second["after"]);
    let third = home.json(&["capability", "benchmark"]);
    assert_eq!(third["before"], second["after"]);
    assert_measured(&third["after"]);
    let changes = third["changes"].as_array().unwrap();
    assert_eq!(changes.iter().map(|change| change["figure"].as_str().unwrap()).collect::<Vec<_>>(), FIGURES);
    for change in changes {
        let figure = change["figure"].as_str().unwrap();
        assert_eq!(
            (&change["before"], &change["after"]),
            (&third["before"][figure], &third["after"][figure])
        );
        assert!(change["change_percent"].is_f64(), "{change}");
    }
    let now = registered(&home);
    assert_eq!((&now["benchmark"], &now["resources"]), (&third["after"], &shared["resources"]));
    assert_eq!(now["cpu_info"]["score"], third["after"]["cpu_single"]);
    node.wait_until_all_is_free();

    // What was measured stays for whoever onboards again without measuring.
    let again = home.dms(&["onboard", "--yes", "--skip-benchmark", "--memory", "65MiB"]);
    assert!(again.status.success(), "{again}");
    assert_eq!(registered(&home)["benchmark"], third["after"]);
    let shown = home.dms(&["capability"]);
    assert!(shown.stdout.contains("speed ") && shown.stdout.contains("M steps/s"), "{shown}");
    let text = home.dms(&["capability", "benchmark", "--dry-run"]);
    assert!(text.stdout.contains("CHANGE") && text.stdout.contains("this was a dry run"), "{text}");

    node.stop();
    let check = home.dms(&["db", "check"]);
    assert!(check.status.success(), "{check}");
    let node = home.start(&[]);
    assert_eq!(registered(&home)["benchmark"], third["after"]);
    node.stop();
}

#[test]
fn a_machine_that_offers_nothing_can_be_looked_at_and_has_nothing_to_register() {
    let home = home("1ms");
    let refused = |what: &str| {
        let run = home.dms(&["capability", "benchmark"]);
        assert_eq!(run.code(), Some(1), "{what}: {run}");
        assert!(run.stderr.contains("offers nothing"), "{what}: {run}");
        let looked = home.json(&["capability", "benchmark", "--dry-run"]);
        assert_eq!((&looked["before"], &looked["is_registered"]), (&Value::Null, &false.into()), "{what}");
        assert_measured(&looked["after"]);
    };
    refused("without a node");
    assert!(!names(&home).contains("db"), "looking makes no books");
    let _node = home.start(&[]);
    refused("with a node");
    assert_eq!(registered(&home), Value::Null);
}

/// A measurement that runs on.
fn measure(home: &Home) -> Killed {
    let mut command = Command::new(dms());
    command.arg("--data").arg(home.path()).args(["capability", "benchmark"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Killed(command.spawn().expect("the program can be run"))
}

#[test]
fn one_measurement_at_a_time_and_a_node_that_stops_does_not_wait_for_it() {
    let home = home("60s");
    home.onboard("1", "64MiB");
    let node = home.start(&[]);
    let before = registered(&home);
    // Whichever of them comes first goes on for minutes.
    let mut measuring = [measure(&home), measure(&home)];
    let code = wait_for("the refusal of one", || {
        let ended = measuring.iter_mut().find_map(|one| one.0.try_wait().unwrap());
        ended.ok_or("both are measuring")
    });
    assert_eq!(code.code(), Some(75), "it may be asked again later");
    let third = home.dms(&["capability", "benchmark", "--dry-run"]);
    assert_eq!(third.code(), Some(75), "{third}");
    assert!(third.stderr.contains("being measured already"), "{third}");
    assert_eq!(registered(&home), before, "the node answers meanwhile");
    let (status, said) = node.stop();
    assert!(status.success(), "{said}");
    let check = home.dms(&["db", "check"]);
    assert!(check.status.success(), "{check}");
    let node = home.start(&[]);
    assert_eq!(registered(&home), before, "nothing of it was registered");
    node.stop();
}

#[test]
fn programs_that_run_are_not_disturbed_by_onboarding_and_named_by_a_benchmark() {
    let (provider_home, requester_home) = (home("1ms"), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let spin = example("programs/spin.wat");
    let run = requester_home.dms(&["job", "run", "--wasm", &spin, "--detach"]);
    assert!(run.status.success(), "{run}");
    let job = requester_home.json(&["job", "ls"])[0]["id"].as_str().unwrap().to_owned();
    requester.wait_for_job(&job, &["running"]);
    let onboarded = provider_home.dms(&["onboard", "--yes"]);
    assert!(onboarded.status.success(), "{onboarded}");
    assert!(onboarded.stderr.contains("not measured while 1 program runs here"), "{onboarded}");
    assert_eq!(registered(&provider_home)["benchmark"], Value::Null);
    let measured = provider_home.json(&["capability", "benchmark"]);
    assert_eq!(measured["running_count"], 1);
    assert_measured(&registered(&provider_home)["benchmark"]);
    assert!(requester_home.dms(&["job", "cancel", &job]).status.success());
    stop_all([provider, requester]);
}

fn stop_all(nodes: [Node<'_>; 2]) {
    nodes.into_iter().for_each(|node| drop(node.stop()));
}

#[test]
fn a_disk_without_room_is_named_and_nothing_is_registered() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(home.path(), 12) else {
        return skip("benchmark: no small disk can be mounted here");
    };
    let mut command = disk.command(dms());
    // The settings in the directory are below the disk.
    command.env("DMS_BENCHMARK_TIME", "1ms").arg("--data").arg(home.path());
    command.args(["onboard", "--yes", "--cpu", "1", "--memory", "64MiB", "--disk", "1MiB"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("too little is free at") && said.contains("16 MiB would do"), "{said}");
    assert!(said.contains("--skip-benchmark"), "{said}");
    let left: Vec<_> = std::fs::read_dir(disk.seen_from_here()).unwrap().collect();
    assert!(left.is_empty(), "neither a file nor an identity nor books: {left:?}");
}

#[test]
fn who_joins_a_mesh_is_measured_too() {
    let (mine, theirs) = (Home::new(), home("1ms"));
    let _inviter = mine.onboard("1", "64MiB").start(&[]);
    let invite = mine.json(&["invite"])["invite"].as_str().unwrap().to_owned();
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
    let run = theirs.dms(&[&["join", &invite, "--stop"], &listen[..]].concat());
    assert!(run.status.success(), "{run}");
    let _node = theirs.start(&[]);
    assert_measured(&registered(&theirs)["benchmark"]);
    assert_eq!(registered(&mine)["benchmark"], Value::Null, "whoever skips it has none");
}
