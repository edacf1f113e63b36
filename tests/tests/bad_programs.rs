//! Programs that trap, spin, or want too much: the allocation fails with its cause, the node lives.

use dms_tests::{Home, example, pair};

#[test]
fn each_bad_program_fails_with_its_cause_and_the_provider_runs_the_next() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    let table: [(&str, &[&str], i32, &str); 4] = [
        ("programs/trap.wat", &[], 1, "unreachable"),
        ("programs/spin.wat", &["--timeout", "500ms"], 124, "ran longer"),
        ("programs/greedy.wat", &["--memory", "32MiB"], 1, "memory"),
        ("programs/build.sh", &[], 1, "cannot be run"),
    ];
    for (program, more, code, cause) in table {
        let program = example(program);
        let run = requester_home.dms(&[&["job", "run", "--wasm", &program], more].concat());
        assert_eq!(run.code(), Some(code), "{program}: {run}");
        assert!(run.stderr.contains(cause), "{program}: {run}");
        let view = &requester_home.json(&["job", "ls"])[0];
        assert_eq!(
            (&view["phase"], &view["attempt_count"]),
            (&"failed".into(), &1.into()),
            "{program}: not tried again"
        );
        provider.wait_until_all_is_free();
    }
    let run = requester_home.dms(&["job", "run", "--wasm", &example("programs/hello.wat")]);
    assert_eq!(run.code(), Some(0), "{run}");
}
