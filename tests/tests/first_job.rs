//! The first job across the mesh: submitted to one node, run by another, reported back.

use dms_tests::{Home, example, pair};

#[test]
fn a_job_given_to_one_node_is_run_by_another_and_its_result_comes_back() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let run = requester_home.dms(&["job", "run", "--wasm", &example("programs/hello.wat")]);
    assert_eq!(run.code(), Some(0), "{run}");
    assert_eq!(run.stdout, "hello from the mesh\n");
    let jobs = requester_home.json(&["job", "ls"]);
    assert_eq!(jobs[0]["phase"], "succeeded");
    assert_eq!(jobs[0]["provider"], provider.did());
    provider.wait_until_all_is_free();
    let (status, log) = provider.stop();
    assert!(status.success(), "{log}");
    assert!(requester.stop().0.success());
}

#[test]
fn inputs_arguments_environment_and_outputs_travel() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (_provider, _requester) = pair(&provider_home, &requester_home);
    let directory = Home::new();
    let input = directory.path().join("in");
    std::fs::create_dir_all(input.join("deeper")).unwrap();
    std::fs::write(input.join("a.txt"), "the mesh the node").unwrap();
    std::fs::write(input.join("deeper/b.txt"), "the job").unwrap();
    let output = directory.path().join("out");
    let arguments = [
        "job",
        "run",
        "--wasm",
        &example("programs/wordcount.wasm"),
        "--input",
        input.to_str().unwrap(),
        "--output",
        output.to_str().unwrap(),
    ];
    let run = requester_home.dms(&arguments);
    assert_eq!(run.code(), Some(0), "{run}");
    assert!(run.stdout.lines().any(|line| line.contains("the") && line.contains('3')), "{run}");
    let counts = std::fs::read_to_string(output.join("counts.txt")).unwrap();
    assert!(counts.contains("mesh"), "{counts}");

    // A directory is where the program's file should be: the job has run, and its files can be had elsewhere.
    std::fs::remove_file(output.join("counts.txt")).unwrap();
    std::fs::create_dir(output.join("counts.txt")).unwrap();
    let run = requester_home.dms(&arguments);
    assert_eq!(run.code(), Some(73), "{run}");
    assert!(run.stderr.contains("counts.txt is in the way: it is a directory"), "{run}");
    assert!(run.stderr.contains("hint: ") && run.stderr.contains(" --output OTHER"), "{run}");
    // Nobody has said where files go: whoever wants them learns how.
    let run = requester_home.dms(&arguments[..6]);
    assert_eq!(run.code(), Some(0), "{run}");
    assert!(run.stderr.contains("the job left files: fetch them with `dms job get "), "{run}");
}

#[test]
fn the_exit_code_is_the_programs() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    // Nothing to read: the program says so with exit code 2.
    let run = requester_home.dms(&["job", "run", "--wasm", &example("programs/wordcount.wasm")]);
    assert_eq!(run.code(), Some(2), "{run}");
    assert_eq!(requester_home.json(&["job", "ls"])[0]["phase"], "failed");
    provider.wait_until_all_is_free();
}

#[test]
fn a_job_file_in_json_a_standard_input_and_arguments_are_understood() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (_provider, _requester) = pair(&provider_home, &requester_home);
    let directory = Home::new();
    std::fs::write(directory.path().join("words.txt"), "one two two three three three").unwrap();
    let job = serde_json::json!({
        "name": "from json",
        "wasm": example("programs/wordcount.wasm"),
        "args": ["1"],
        "stdin": "words.txt",
        "env": {"LANG": "C"},
    });
    let file = directory.path().join("job.json");
    std::fs::write(&file, job.to_string()).unwrap();
    let run = requester_home.dms(&["job", "run", file.to_str().unwrap()]);
    assert_eq!(run.code(), Some(0), "{run}");
    assert!(run.stdout.contains("3  three") && !run.stdout.contains("two"), "{run}");
    let job = requester_home.json(&["job", "ls"])[0]["id"].as_str().unwrap().to_owned();
    let output = directory.path().join("later");
    let get = requester_home.dms(&["job", "get", &job, "--output", output.to_str().unwrap()]);
    assert_eq!(get.code(), Some(0), "{get}");
    assert!(std::fs::read_to_string(output.join("counts.txt")).unwrap().contains("three"));
    let logs = requester_home.dms(&["job", "logs", &job, "--follow"]);
    assert_eq!(logs.stdout, run.stdout);
}

#[test]
fn an_input_that_is_larger_than_the_disk_asked_for_is_refused_before_anybody_is_asked() {
    let requester_home = Home::new();
    let _requester = requester_home.start(&[]);
    let input = Home::new();
    std::fs::write(input.path().join("big"), vec![b'a'; 2 << 20]).unwrap();
    let wordcount = example("programs/wordcount.wasm");
    let arguments = ["job", "run", "--disk", "1MiB", "--input", input.text(), "--wasm", &wordcount];
    let run = requester_home.dms(&arguments);
    assert_eq!(run.code(), Some(64), "{run}");
    assert!(run.stderr.contains("input: ") && run.stderr.contains("more than the 1 MiB of disk"), "{run}");
    assert_eq!(requester_home.json(&["job", "ls"]), serde_json::json!([]), "nothing was handed in");
}

#[test]
fn a_node_alone_runs_its_own_job_through_the_same_path() {
    let home = Home::new();
    let node = home.onboard("2", "1GiB").start(&[]);
    let run = home.dms(&["job", "run", "--wasm", &example("programs/hello.wat")]);
    assert_eq!(run.code(), Some(0), "{run}");
    assert_eq!(run.stdout, "hello from the mesh\n");
    assert_eq!(home.json(&["job", "ls"])[0]["provider"], node.did());
    node.wait_until_all_is_free();
}
