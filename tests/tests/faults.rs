//! Nodes that die at the wrong time: the job goes on or ends with a reason, and nothing stays locked.

use dms_tests::{Home, Node, example, pair, wait_for};

fn detach(home: &Home, program: &str) -> String {
    let run = home.json(&["job", "run", "--detach", "--wasm", &example(program)]);
    run["job"].as_str().or(run["id"].as_str()).unwrap_or_else(|| panic!("no id in {run}")).to_owned()
}

fn attempts(home: &Home, job: &str) -> Vec<serde_json::Value> {
    home.json(&["job", "show", job])["row"]["attempts"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_job_whose_provider_is_killed_runs_again_elsewhere() {
    let (first_home, second_home, requester_home) = (Home::new(), Home::new(), Home::new());
    let first = first_home.onboard("2", "1GiB").start(&["--open"]);
    let second = second_home.onboard("2", "1GiB").start(&["--open", "--bootstrap", &first.address()]);
    let bootstraps = ["--open", "--bootstrap", &first.address(), "--bootstrap", &second.address()];
    let requester = requester_home.start(&bootstraps);
    requester.wait_for_providers(2);
    let job = detach(&requester_home, "programs/spin.wat");
    let provider = requester.wait_for_job(&job, &["running"])["provider"].as_str().unwrap().to_owned();
    let (killed, survivor): (Node<'_>, Node<'_>) =
        if provider == first.did() { (first, second) } else { (second, first) };
    killed.kill();
    wait_for("the second attempt to run", || {
        let attempts = attempts(&requester_home, &job);
        let is_running = attempts.len() == 2
            && attempts[0]["state"]["attempt"] == "lost"
            && attempts[1]["provider"] == survivor.did()
            && attempts[1]["state"]["state"]["state"] == "running";
        if is_running { Ok(()) } else { Err(attempts) }
    });
    assert!(requester_home.dms(&["job", "cancel", &job]).status.success());
    requester.wait_for_job(&job, &["cancelled"]);
    survivor.wait_until_all_is_free();
}

#[test]
fn spokes_of_one_hub_know_each_other_when_the_hub_dies() {
    let (hub_home, spoke_home, requester_home) = (Home::new(), Home::new(), Home::new());
    let hub = hub_home.onboard("2", "1GiB").start(&["--open"]);
    let spoke = spoke_home.onboard("1", "512MiB").start(&["--open", "--bootstrap", &hub.address()]);
    hub.wait_for_providers(1);
    let requester = requester_home.start(&["--open", "--bootstrap", &hub.address()]);
    requester.wait_for_providers(1);
    hub.kill();
    let arguments = ["job", "run", "--wasm", &example("programs/hello.wat")];
    let run = requester_home.dms(&arguments);
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), "hello from the mesh\n"), "{run}");
    assert_eq!(requester_home.json(&["job", "ls"])[0]["provider"], spoke.did());
}

#[test]
fn a_provider_that_comes_back_has_failed_its_allocation_and_promises_nothing() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let job = detach(&requester_home, "programs/spin.wat");
    requester.wait_for_job(&job, &["running"]);
    provider.kill();
    let provider = provider_home.start(&["--open"]);
    provider.wait_until_all_is_free();
    let lost = wait_for("the first attempt to be lost", || {
        let attempts = attempts(&requester_home, &job);
        match attempts.first() {
            Some(first) if first["state"]["attempt"] == "lost" => Ok(first.clone()),
            _ => Err(attempts),
        }
    });
    assert_eq!(lost["id"]["number"], 1);
    assert!(requester_home.dms(&["job", "cancel", &job]).status.success());
    requester.wait_for_job(&job, &["cancelled"]);
}

#[test]
fn a_provider_that_was_killed_takes_the_job_again_when_nobody_else_is_there() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let job = detach(&requester_home, "programs/spin.wat");
    requester.wait_for_job(&job, &["running"]);
    provider.kill();
    wait_for("the first attempt to be lost", || {
        let attempts = attempts(&requester_home, &job);
        if attempts[0]["state"]["attempt"] == "lost" { Ok(()) } else { Err(attempts) }
    });
    // It goes on looking, and says so.
    requester.wait_for_job(&job, &["bidding"]);
    let provider = provider_home.start(&["--open", "--bootstrap", &requester.address()]);
    wait_for("the second attempt to run at the same node", || {
        let attempts = attempts(&requester_home, &job);
        let is_running = attempts.len() == 2
            && attempts[1]["provider"] == provider.did()
            && attempts[1]["state"]["state"]["state"] == "running";
        if is_running { Ok(()) } else { Err(attempts) }
    });
    let explained = requester_home.dms(&["job", "explain", &job]);
    assert!(explained.stdout.contains("its bid was taken for attempt 2: running"), "{explained}");
    assert!(
        explained.stdout.contains("attempt 1 at ") && explained.stdout.contains(": lost: "),
        "{explained}"
    );
    assert!(requester_home.dms(&["job", "cancel", &job]).status.success());
    requester.wait_for_job(&job, &["cancelled"]);
    provider.wait_until_all_is_free();
}

#[test]
fn a_requester_that_is_killed_follows_its_jobs_again() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let job = detach(&requester_home, "programs/spin.wat");
    requester.wait_for_job(&job, &["running"]);
    let before = attempts(&requester_home, &job);
    requester.kill();
    // No bootstrap: it finds its provider by what its own books say.
    let requester = requester_home.start(&["--open"]);
    let view = requester.wait_for_job(&job, &["running"]);
    assert_eq!(view["row"]["attempts"][0]["allocation"], before[0]["allocation"], "the same attempt");
    wait_for("live output after the restart", || {
        let logs = requester_home.dms(&["job", "logs", &job]);
        if logs.stdout == "spinning\n" { Ok(()) } else { Err(logs) }
    });
    assert_eq!(attempts(&requester_home, &job).len(), 1, "not started twice");
    assert!(requester_home.dms(&["job", "cancel", &job]).status.success());
    requester.wait_for_job(&job, &["cancelled"]);
    provider.wait_until_all_is_free();
}

#[test]
fn a_provider_that_is_stopped_says_so_and_the_job_goes_elsewhere() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let job = detach(&requester_home, "programs/spin.wat");
    requester.wait_for_job(&job, &["running"]);
    let (status, log) = provider.stop();
    assert!(status.success(), "{log}");
    wait_for("the word that it stops", || {
        let attempts = attempts(&requester_home, &job);
        let state = &attempts[0]["state"]["state"];
        if state["state"] == "stopped" && state["cause"] == "node_stopping" { Ok(()) } else { Err(attempts) }
    });
    let provider = provider_home.start(&["--open", "--bootstrap", &requester.address()]);
    wait_for("the second attempt to run", || {
        let attempts = attempts(&requester_home, &job);
        let is_running = attempts.len() == 2 && attempts[1]["state"]["state"]["state"] == "running";
        if is_running { Ok(()) } else { Err(attempts) }
    });
    assert!(requester_home.dms(&["job", "cancel", &job]).status.success());
    requester.wait_for_job(&job, &["cancelled"]);
    provider.wait_until_all_is_free();
}

#[test]
fn what_was_done_is_still_there_after_a_kill() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let run = requester_home.dms(&["job", "run", "--wasm", &example("programs/hello.wat")]);
    assert_eq!(run.code(), Some(0), "{run}");
    let before = requester_home.json(&["job", "ls"]);
    requester.kill();
    provider.kill();
    let _requester = requester_home.start(&[]);
    assert_eq!(requester_home.json(&["job", "ls"]), before);
    let job = before[0]["id"].as_str().unwrap();
    assert_eq!(
        requester_home.dms(&["job", "logs", job]).stdout,
        "hello from the mesh\n",
        "kept at the requester"
    );
    let provider = provider_home.start(&[]);
    provider.wait_until_all_is_free();
}
