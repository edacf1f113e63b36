//! What is asked in vain is answered with a reason, at once, and in words.

use dms_tests::{Home, example, pair, wait_for};

#[test]
fn a_job_nobody_can_run_ends_with_the_grouped_reasons() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    let hello = example("programs/hello.wat");
    let run = requester_home.dms(&["job", "run", "--wasm", &hello, "--memory", "8GiB"]);
    assert_eq!(run.code(), Some(69), "{run}");
    assert!(run.stderr.contains("needs 8 GiB memory, have 1 GiB"), "{run}");
    let job = requester_home.json(&["job", "ls"])[0]["id"].as_str().unwrap().to_owned();
    let explained = requester_home.dms(&["job", "explain", &job]);
    assert!(explained.stdout.contains("1 node: needs 8 GiB memory, have 1 GiB"), "{explained}");
    let json = requester_home.json(&["job", "explain", &job]);
    assert_eq!(json["groups"][0]["nodes"][0], provider.did());
}

#[test]
fn a_stranger_is_refused_with_the_reason() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let provider = provider_home.onboard("2", "1GiB").start(&[]);
    let requester = requester_home.start(&["--open", "--bootstrap", &provider.address()]);
    requester.wait_for_providers(1);
    let run = requester_home.dms(&["job", "run", "--wasm", &example("programs/hello.wat")]);
    assert_eq!(run.code(), Some(69), "{run}");
    assert!(run.stderr.contains("does not trust the requester"), "{run}");
}

#[test]
fn trust_by_name_is_enough() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    provider_home.onboard("2", "1GiB");
    requester_home.onboard("1", "64MiB");
    let provider = provider_home.start(&["--trust", &requester_home.did()]);
    let requester = requester_home.start(&["--trust", &provider.did(), "--bootstrap", &provider.address()]);
    requester.wait_for_providers(1);
    let arguments = ["job", "run", "--memory", "128MiB", "--wasm", &example("programs/hello.wat")];
    let run = requester_home.dms(&arguments);
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), "hello from the mesh\n"), "{run}");
    assert_eq!(requester_home.json(&["job", "ls"])[0]["provider"], provider.did());
}

#[test]
fn a_node_without_peers_says_that_nobody_could_be_asked() {
    let home = Home::new();
    let _node = home.start(&[]);
    let run = home.dms(&["job", "run", "--wasm", &example("programs/hello.wat"), "--wait", "1s"]);
    assert_eq!(run.code(), Some(75), "{run}");
    assert!(run.stderr.contains("no node"), "{run}");
}

#[test]
fn a_price_over_the_limit_is_declined_and_named() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    std::fs::write(provider_home.path().join("config.toml"), "[prices]\ncore_hour = \"2\"\n").unwrap();
    let (_provider, _requester) = pair(&provider_home, &requester_home);
    let hello = example("programs/hello.wat");
    let run = requester_home.dms(&["job", "run", "--wasm", &hello, "--cpu", "1", "--max-price", "1.5"]);
    assert_eq!(run.code(), Some(69), "{run}");
    assert!(run.stderr.contains("costs 2 per hour"), "{run}");
    let run = requester_home.dms(&["job", "run", "--wasm", &hello, "--cpu", "1", "--max-price", "2"]);
    assert_eq!(run.code(), Some(0), "{run}");
}

#[test]
fn what_is_wrong_with_a_node_is_said_before_it_starts() {
    let home = Home::new();
    let node = home.onboard("1", "64MiB").start(&[]);
    let second = home.dms(&["run", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    assert!(!second.status.success());
    assert!(second.stderr.contains("already running") || second.stderr.contains("another node"), "{second}");

    let port = node.address().split('/').nth(4).unwrap().to_owned();
    let other = Home::new();
    let taken = other.dms(&["run", "--listen", &format!("/ip4/127.0.0.1/tcp/{port}")]);
    assert!(!taken.status.success());
    assert!(taken.stderr.contains("in use") && taken.stderr.contains(&port), "{taken}");
    assert!(taken.stderr.contains("hint: choose other addresses with --listen"), "{taken}");

    let damaged = Home::new();
    damaged.onboard("1", "64MiB");
    let key = damaged.path().join("key");
    let text = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, &text[..text.len() / 2]).unwrap();
    let run = damaged.dms(&["run", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    assert_eq!(run.code(), Some(78), "{run}");
    assert_eq!(std::fs::read_to_string(&key).unwrap(), text[..text.len() / 2], "never a new key");
    std::fs::remove_file(&key).unwrap();
    let run = damaged.dms(&["run", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    assert_eq!(run.code(), Some(78), "{run}");
    assert!(run.stderr.contains("the key") && !key.exists(), "{run}");
    std::fs::copy(home.path().join("key"), &key).unwrap();
    let run = damaged.dms(&["run", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    assert_eq!(run.code(), Some(78), "{run}");
    assert!(run.stderr.contains("the books in this directory are those of"), "{run}");
}

#[test]
fn a_bootstrap_peer_that_does_not_answer_is_named_until_it_does() {
    let home = Home::new();
    let nobody = "/ip4/127.0.0.1/tcp/1";
    let node = home.start(&["--bootstrap", nobody]);
    wait_for("the peer that is not reached", || {
        let status = home.json(&["status"]);
        if status["unreached_bootstraps"][0]["address"] == nobody { Ok(()) } else { Err(status) }
    });
    for command in ["status", "peers"] {
        let run = home.dms(&[command]);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("a bootstrap peer is not reached: ") && said.contains(nobody), "{run}");
    }
    let log = node.kill();
    assert_eq!(log.matches("a bootstrap peer cannot be reached").count(), 1, "told once: {log}");
}

#[test]
fn a_setting_that_was_changed_after_onboarding_is_told_with_both_values() {
    let home = Home::new();
    home.onboard("1", "64MiB");
    std::fs::write(home.path().join("config.toml"), "[prices]\ncore_hour = \"0.5\"\n").unwrap();
    let (_, log) = home.start(&[]).stop();
    let told = log.lines().find(|line| line.contains("a setting is not what is offered")).unwrap_or(&log);
    assert!(told.contains("core_hour 0.5") && told.contains("core_hour 0,"), "{told}");
    assert!(told.contains("onboard --yes"), "{told}");
    home.onboard("1", "64MiB");
    let (_, log) = home.start(&[]).stop();
    assert!(!log.contains("a setting is not what is offered"), "{log}");
}

#[test]
fn what_a_node_keeps_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    home.onboard("1", "64MiB");
    let mode = |name: &str| std::fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("db"), 0o700);
    // As an earlier version, or a person, has left them.
    std::fs::create_dir_all(home.path().join("blobs")).unwrap();
    for name in ["db", "blobs"] {
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(home.path().join(name), open).unwrap();
    }
    let _node = home.start(&[]);
    assert_eq!([mode("db"), mode("blobs"), mode("work")], [0o700; 3]);
    assert_eq!([mode("key"), mode("lock"), mode("api.sock")], [0o600; 3]);
}

#[test]
fn a_variable_that_means_nothing_is_named() {
    let run = std::process::Command::new(dms_tests::dms())
        .args(["config", "show", "--data", "/tmp/none"])
        .env("DMS_LISTNE", "/ip4/127.0.0.1/tcp/1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success() && said.contains("DMS_LISTNE"), "{said}");
}

#[test]
fn onboarding_again_changes_what_is_named_and_keeps_the_rest() {
    let home = Home::new();
    home.onboard("1", "64MiB");
    assert!(home.dms(&["onboard", "--yes", "--skip-benchmark", "--memory", "128MiB"]).status.success());
    let node = home.start(&[]);
    let registered = |home: &Home| home.json(&["capability"])["registered"]["resources"].clone();
    let before = registered(&home);
    assert_eq!(
        (&before["cpu"], &before["memory"], &before["disk"]),
        (&1000.into(), &128.into(), &1024.into())
    );
    assert!(
        home.dms(&["onboard", "--yes", "--skip-benchmark", "--cpu", "0.5"]).status.success(),
        "also while it runs"
    );
    let after = registered(&home);
    assert_eq!((&after["cpu"], &after["memory"]), (&500.into(), &128.into()));
    node.wait_until_all_is_free();
}

#[test]
fn a_malformed_job_file_is_refused_by_line_and_field() {
    let home = Home::new();
    let _node = home.start(&[]);
    let file = home.path().join("job.yaml");
    std::fs::write(&file, "name: x\nwasm: x.wasm\nresources:\n  memory: lots\n").unwrap();
    let run = home.dms(&["job", "run", file.to_str().unwrap()]);
    assert_eq!(run.code(), Some(64), "{run}");
    assert!(run.stderr.contains("job.yaml:4:11: resources.memory"), "{run}");
    // The output could not be written.
    let wasm = example("programs/hello.wat");
    let run = home.dms(&["job", "run", "--wasm", &wasm, "--output", "/proc/none"]);
    assert_eq!(run.code(), Some(64), "{run}");
    assert!(run.stderr.contains("output: /proc/none"), "{run}");
    assert_eq!(home.json(&["job", "ls"]), serde_json::json!([]), "nothing was handed in");
}

#[test]
fn commands_without_a_node_say_how_to_start_one() {
    let home = Home::new();
    let run = home.dms(&["status"]);
    assert_eq!(run.code(), Some(69), "{run}");
    assert!(run.stderr.contains("dms run"), "{run}");
}

#[test]
fn a_cancelled_job_ends_and_frees_what_it_held() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let spin = example("programs/spin.wat");
    let run = requester_home.json(&["job", "run", "--detach", "--wasm", &spin]);
    let job = run["job"].as_str().or(run["id"].as_str()).unwrap().to_owned();
    requester.wait_for_job(&job, &["running"]);
    wait_for("live output", || {
        let logs = requester_home.dms(&["job", "logs", &job]);
        if logs.stdout == "spinning\n" { Ok(()) } else { Err(logs) }
    });
    assert!(requester_home.dms(&["job", "cancel", &job]).status.success());
    requester.wait_for_job(&job, &["cancelled"]);
    provider.wait_until_all_is_free();
    let again = requester_home.dms(&["job", "cancel", &job]);
    assert!(!again.status.success() && again.stderr.contains("ended"), "{again}");
}
