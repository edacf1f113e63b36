//! Preferences of whole nodes: set while they run, they change who is asked, who wins and who is served, and survive a
//! restart; and what a node does not want is said with the rule that says so.

use dms_tests::{Home, Node, example, pair, wait_for};

/// Sets the preferences of the node that runs here.
#[track_caller]
fn set(home: &Home, text: &str) {
    let file = home.path().join("preferences.toml");
    std::fs::write(&file, text).expect("the file can be written");
    let run = home.dms(&["preferences", "set", file.to_str().expect("temporary paths are plain")]);
    assert!(run.status.success(), "{run}");
}

/// Runs the smallest program, and says who ran it.
#[track_caller]
fn who_runs(home: &Home) -> String {
    let run = home.dms(&["job", "run", "--memory", "16MiB", "--wasm", &example("programs/hello.wat")]);
    assert_eq!(run.code(), Some(0), "{run}");
    let provider = &home.json(&["job", "ls"])[0]["provider"];
    provider.as_str().unwrap_or_else(|| panic!("nobody ran it: {provider}")).to_owned()
}

/// A provider that stands somewhere, at a price.
fn provider<'h>(home: &'h Home, location: &str, core_hour: &str, peer: Option<&Node<'_>>) -> Node<'h> {
    let config = format!("location = \"{location}\"\n[prices]\ncore_hour = \"{core_hour}\"\n");
    std::fs::write(home.path().join("config.toml"), config).expect("the file can be written");
    home.onboard("2", "1GiB");
    match peer {
        Some(peer) => home.start(&["--open", "--bootstrap", &peer.address()]),
        None => home.start(&["--open"]),
    }
}

#[test]
fn preferences_that_are_set_while_nodes_run_change_who_wins_and_survive_a_restart() {
    let (cheap_home, dear_home, requester_home) = (Home::new(), Home::new(), Home::new());
    let cheap = provider(&cheap_home, "us", "0.1", None);
    let dear = provider(&dear_home, "CH", "0.9", Some(&cheap));
    let arguments = ["--open", "--bootstrap", &cheap.address(), "--bootstrap", &dear.address()];
    let requester = requester_home.start(&arguments);
    requester.wait_for_providers(2);
    assert_eq!(who_runs(&requester_home), cheap.did(), "without preferences the cheaper one");

    set(&requester_home, "[requester.location]\naccept = [\"CH\"]\n");
    assert_eq!(who_runs(&requester_home), dear.did(), "from the next job on");
    let job = requester_home.json(&["job", "ls"])[0]["id"].as_str().expect("an id").to_owned();
    let explained = requester_home.dms(&["job", "explain", &job]);
    assert!(explained.stdout.contains("location: stands in us, which is not accepted"), "{explained}");

    let tested = requester_home.json(&["preferences", "test", &job]);
    let candidate = |did: &str| {
        let candidates = tested["candidates"].as_array().expect("a list");
        candidates.iter().find(|it| it["did"] == *did).unwrap_or_else(|| panic!("{tested}")).clone()
    };
    assert_eq!(candidate(&dear.did())["rank"], 1);
    assert!(candidate(&cheap.did())["rank"].is_null());
    let rejected = candidate(&cheap.did())["verdicts"].to_string();
    assert!(rejected.contains("stands in us, which is not accepted"), "{rejected}");

    set(
        &requester_home,
        "[requester]\norder = [\"dear\"]\n[[requester.expression]]\nname = \"dear\"\ncel = \"price\"\n",
    );
    assert_eq!(who_runs(&requester_home), dear.did(), "an expression has the last word");
    let (status, _) = requester.stop();
    assert!(status.success());
    let check = requester_home.dms(&["db", "check"]);
    assert!(check.status.success(), "{check}");
    assert!(requester_home.dms(&["db", "rebuild"]).status.success());
    let requester = requester_home.start(&arguments);
    let shown = requester_home.dms(&["preferences", "show"]);
    assert!(shown.stdout.contains("cel = \"price\""), "{shown}");
    requester.wait_for_providers(2);
    assert_eq!(who_runs(&requester_home), dear.did(), "after a restart");

    set(&requester_home, "");
    assert_eq!(who_runs(&requester_home), cheap.did(), "the defaults again");
}

#[test]
fn a_provider_that_excludes_a_requester_says_so_and_stops_when_its_owner_does() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    set(&provider_home, &format!("[provider]\nexclude = [\"{}\"]\n", requester_home.did()));
    let hello = example("programs/hello.wat");
    let run = requester_home.dms(&["job", "run", "--wasm", &hello]);
    assert_eq!(run.code(), Some(69), "{run}");
    let job = requester_home.json(&["job", "ls"])[0]["id"].as_str().expect("an id").to_owned();
    let explained = requester_home.dms(&["job", "explain", &job]);
    assert!(explained.stdout.contains("prefers not to run it (its owner's rule \"exclude\")"), "{explained}");
    let json = requester_home.json(&["job", "explain", &job]);
    assert_eq!(json["groups"][0]["nodes"][0], provider.did());
    let declined = provider_home.json(&["bid-request", "ls", "--received"]).to_string();
    assert!(declined.contains("preference") && declined.contains("exclude"), "{declined}");

    set(&provider_home, "");
    assert_eq!(who_runs(&requester_home), provider.did());
}

#[test]
fn whoever_the_requesters_rules_leave_out_never_hears_of_its_jobs() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    let hello = example("programs/hello.wat");
    for rule in [format!("exclude = [\"{}\"]", provider.did()), "min_reputation = 995".to_owned()] {
        set(&requester_home, &format!("[requester]\n{rule}\n"));
        let run = requester_home.dms(&["job", "run", "--wait", "3s", "--wasm", &hello]);
        assert_eq!(run.code(), Some(75), "{run}");
        let heard = provider_home.json(&["bid-request", "ls", "--received"]);
        assert_eq!(heard, serde_json::json!([]), "also not by gossip: {rule}");
    }
    set(&requester_home, "");
    assert_eq!(who_runs(&requester_home), provider.did());
}

#[test]
fn a_price_rises_with_what_is_taken_and_what_is_dear_now_may_be_had_later() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    std::fs::write(provider_home.path().join("config.toml"), "[prices]\ncore_hour = \"1\"\n")
        .expect("the file can be written");
    let (provider, requester) = pair(&provider_home, &requester_home);
    set(&provider_home, "[pricing.full]\ncpu = 3000\n");
    let spin = example("programs/spin.wat");
    let spinning = requester_home.json(&["job", "run", "--detach", "--cpu", "1", "--wasm", &spin]);
    let spinning = spinning["job"].as_str().expect("an id").to_owned();
    requester.wait_for_job(&spinning, &["running"]);
    // Half of the cores are taken: twice the price.
    let waiting = requester_home.json(&[
        "job",
        "run",
        "--detach",
        "--cpu",
        "0.5",
        "--max-price",
        "0.9",
        "--wait",
        "10m",
        "--wasm",
        &example("programs/hello.wat"),
    ]);
    let waiting = waiting["job"].as_str().expect("an id").to_owned();
    wait_for("the reason", || {
        let explained = requester_home.dms(&["job", "explain", &waiting]);
        let is_told = explained
            .stdout
            .contains("costs 1 per hour while it is so busy, over the limit (0.5 at the least)");
        if is_told { Ok(()) } else { Err(explained) }
    });
    assert!(requester_home.dms(&["job", "cancel", &spinning]).status.success());
    let view = requester.wait_for_job(&waiting, &["succeeded"]);
    assert_eq!(view["provider"], provider.did());
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_changes_nothing() {
    let home = Home::new();
    let _node = home.start(&[]);
    let defaults = home.dms(&["preferences", "show", "--defaults"]);
    let file = home.path().join("preferences.toml");
    std::fs::write(&file, &defaults.stdout).expect("the file can be written");
    let path = file.to_str().expect("temporary paths are plain");
    let run = home.dms(&["preferences", "set", path]);
    assert!(run.status.success() && run.stdout.contains("requester.pin"), "{run}");
    std::fs::write(&file, "[requester]\nmax_price = \"1\"\ncolour = 7\n").expect("the file can be written");
    let run = home.dms(&["preferences", "set", path]);
    assert!(!run.status.success(), "{run}");
    assert!(run.stderr.contains("line 3, column 1: unknown field `colour`"), "{run}");
    let shown = home.dms(&["preferences", "show"]);
    assert_eq!(shown.stdout, defaults.stdout, "as it was");
    let run = home.dms(&["preferences", "set", "/dev/null"]);
    assert!(run.stdout.contains("requester.pin") && run.stdout.contains("KEY"), "{run}");
    let run = home.dms(&["preferences", "test", "0192"]);
    assert!(!run.status.success() && run.stderr.contains("no job 0192"), "{run}");
}
