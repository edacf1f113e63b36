//! Pods of several programs: placed together on one node, told apart in output and results, and ended together.

use dms_tests::{Home, example, pair, wait_for};

/// A job file with these tasks, each a line of YAML.
fn job_file(directory: &Home, tasks: &[String]) -> String {
    std::fs::create_dir_all(directory.path()).expect("a directory can be made");
    let path = directory.path().join("pod.yaml");
    let tasks: String = tasks.iter().map(|task| format!("  - {task}\n")).collect();
    std::fs::write(&path, format!("name: pod\ntimeout: 60s\nattempts: 1\ntasks:\n{tasks}"))
        .expect("it can be written");
    path.to_str().expect("temporary paths are plain").to_owned()
}

fn task(name: &str, program: &str, more: &str) -> String {
    let program = example(&format!("programs/{program}"));
    format!("{{name: {name}, wasm: {program}, resources: {{cpu: 0.2, memory: 32MiB, disk: 8MiB}}{more}}}")
}

fn states(view: &serde_json::Value) -> Vec<&str> {
    let tasks = view["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    tasks.iter().map(|task| task["state"].as_str().unwrap_or_default()).collect()
}

#[test]
fn two_programs_run_side_by_side_and_what_both_left_comes_back() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    let directory = Home::new();
    let output = directory.path().join("out");
    let run =
        requester_home.dms(&["job", "run", &example("jobs/pair.yaml"), "--output", output.to_str().unwrap()]);
    assert_eq!(run.code(), Some(0), "{run}");
    let mut lines: Vec<&str> = run.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.iter().filter(|line| **line == "hello | hello from the mesh").count(), 1, "{run}");
    assert!(lines.iter().all(|line| line.starts_with("hello | ") || line.starts_with("count | ")), "{run}");
    assert!(lines.iter().filter(|line| line.starts_with("count | ")).count() >= 5, "{run}");
    assert!(run.stderr.contains("count/counts.txt"), "{run}");
    assert!(output.join("count/counts.txt").is_file());

    let view = requester_home.json(&[
        "job",
        "show",
        &requester_home.json(&["job", "ls"])[0]["id"].as_str().unwrap()[..8],
    ]);
    assert_eq!(states(&view), ["succeeded", "succeeded"]);
    assert_eq!((&view["tasks"][0]["name"], &view["tasks"][0]["exit_code"]), (&"hello".into(), &0.into()));
    let id = view["id"].as_str().unwrap();
    let hello = requester_home.dms(&["job", "logs", id, "--task", "hello"]);
    assert_eq!(hello.stdout, "hello from the mesh\n", "one task alone has no name before its lines");
    let none = requester_home.dms(&["job", "logs", id, "--task", "other"]);
    assert_eq!(none.code(), Some(2), "{none}");
    assert!(none.stderr.contains("has no task \"other\"; it has hello, count"), "{none}");
    let shown = requester_home.dms(&["job", "show", id]);
    assert!(shown.stdout.contains("EXIT CODE") && shown.stdout.contains("0.5 cores"), "{shown}");

    // Each task is an allocation of its own, on both sides the same.
    provider.wait_until_all_is_free();
    let ids = |home: &Home| {
        let list = home.json(&["alloc", "ls"]);
        let mut ids: Vec<(u64, String)> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["task"].as_u64().unwrap(), it["id"].as_str().unwrap().to_owned()))
            .collect();
        ids.sort();
        ids
    };
    let (here, there) = (ids(&requester_home), ids(&provider_home));
    assert_eq!((here.len(), &here), (2, &there));
    let shown = requester_home.dms(&["alloc", "show", &here[1].1]);
    assert!(shown.stdout.contains("count") && shown.stdout.contains(id), "{shown}");
    let granted = provider_home.json(&["alloc", "show", &here[1].1]);
    assert_eq!(granted["resources"]["memory"], 64, "its share of the pod's");
}

#[test]
fn when_one_program_fails_the_other_is_stopped() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    let directory = Home::new();
    // One would never end; the other finds nothing to read and ends with 2.
    let file = job_file(&directory, &[task("forever", "spin.wat", ""), task("fails", "wordcount.wasm", "")]);
    let run = requester_home.dms(&["job", "run", &file]);
    assert_eq!(run.code(), Some(2), "{run}");
    let id = requester_home.json(&["job", "ls"])[0]["id"].as_str().unwrap().to_owned();
    let view = requester_home.json(&["job", "show", &id]);
    assert_eq!(
        states(&view),
        ["stopped: another task of its pod failed", "failed: the program ended with exit code 2"]
    );
    assert_eq!(view["exit_code"], 2);
    provider.wait_until_all_is_free();
}

#[test]
fn a_node_that_is_killed_leaves_whole_books_and_the_pod_is_not_run_in_part() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let directory = Home::new();
    let tasks = [task("one", "spin.wat", ""), task("two", "spin.wat", ""), task("three", "spin.wat", "")];
    let run = requester_home.dms(&["job", "run", &job_file(&directory, &tasks), "--detach"]);
    assert_eq!(run.code(), Some(0), "{run}");
    let id = run.stdout.trim().to_owned();
    wait_for("all of its tasks to run", || {
        let view = requester_home.json(&["job", "show", &id]);
        if states(&view) == ["running"; 3] { Ok(()) } else { Err(view) }
    });
    let books = provider_home.json(&["capability"]);
    assert_eq!(books["allocations"].as_array().map(Vec::len), Some(3));
    assert_eq!(books["allocated"]["memory"], 96);
    provider.kill();
    let provider = provider_home.start(&["--open", "--bootstrap", &requester.address()]);
    provider.wait_until_all_is_free();
    // It had one attempt, and that is over: nothing of the pod starts again.
    let view = requester.wait_for_job(&id, &["failed"]);
    assert_eq!(view["attempt_count"], 1);
    let checked = provider.stop();
    assert!(checked.0.success(), "{}", checked.1);
    let check = provider_home.dms(&["db", "check"]);
    assert_eq!(check.code(), Some(0), "{check}");
}

#[test]
fn a_pod_that_is_cancelled_is_stopped_whole() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let directory = Home::new();
    let file = job_file(&directory, &[task("one", "spin.wat", ""), task("two", "spin.wat", "")]);
    let run = requester_home.dms(&["job", "run", &file, "--detach"]);
    let id = run.stdout.trim().to_owned();
    wait_for("both of its tasks to run", || {
        let view = requester_home.json(&["job", "show", &id]);
        if states(&view) == ["running"; 2] { Ok(()) } else { Err(view) }
    });
    assert_eq!(requester_home.dms(&["job", "cancel", &id]).code(), Some(0));
    let view = requester.wait_for_job(&id, &["cancelled"]);
    assert_eq!(states(&view), ["stopped: cancelled"; 2]);
    // What each of them wrote is here all the same, with its name.
    let logs = requester_home.dms(&["job", "logs", &id]);
    let mut lines: Vec<&str> = logs.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one | spinning", "two | spinning"]);
    provider.wait_until_all_is_free();
}

#[test]
fn a_pod_that_no_node_has_room_for_is_refused_whole() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    let directory = Home::new();
    // Each would fit alone.
    let large = |name| task(name, "hello.wat", "").replace("32MiB", "600MiB");
    let run = requester_home.dms(&["job", "run", &job_file(&directory, &[large("one"), large("two")])]);
    assert_eq!(run.code(), Some(69), "{run}");
    assert!(run.stderr.contains("memory"), "{run}");
    provider.wait_until_all_is_free();
    let alone = requester_home.dms(&["job", "run", &job_file(&directory, &[large("one")])]);
    assert_eq!((alone.code(), alone.stdout.as_str()), (Some(0), "hello from the mesh\n"), "{alone}");
}

#[test]
fn several_programs_are_not_run_without_a_node() {
    let home = Home::new();
    let run = home.dms(&["job", "run", "--local", &example("jobs/pair.yaml")]);
    assert_ne!(run.code(), Some(0), "{run}");
    assert!(run.stderr.contains("--local runs one program"), "{run}");
}
