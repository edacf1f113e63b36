//! `dms job run --local`: the same job, the same files and the same exit codes as on a mesh, without a node.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use dms_tests::{Home, Run, dms, example, pair, wait_for};

/// Runs `dms job run --local` where there is no data directory, and where none may be made.
fn local(home: &Home, arguments: &[&str]) -> Run {
    let nowhere = home.path().join("nowhere");
    let output = Command::new(dms())
        .args(["job", "run", "--local", "--data"])
        .arg(&nowhere)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program can be run");
    assert!(!nowhere.exists());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The files below a directory, with their contents.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("the job has made it");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("only files are left")))
        .map(|(path, bytes)| (path.rsplit('/').next().unwrap_or_default().to_owned(), bytes))
        .collect();
    files.sort();
    files
}

#[test]
fn a_job_leaves_the_same_here_as_on_a_node() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (_provider, _requester) = pair(&provider_home, &requester_home);
    let (here, there) = (requester_home.path().join("here"), requester_home.path().join("there"));
    let jobs: [&[&str]; 2] = [
        &[&example("jobs/wordcount.yaml")],
        &["--wasm", &example("programs/render.wasm"), "--", "--size", "40x30", "--samples", "2"],
    ];
    for job in jobs {
        let with_output = |directory: &Path| {
            let mut words = vec!["--output".to_owned(), directory.display().to_string()];
            words.extend(job.iter().map(ToString::to_string));
            words
        };
        fn texts(words: &[String]) -> Vec<&str> {
            words.iter().map(String::as_str).collect()
        }
        let mesh = requester_home.dms(&[&["job", "run"], texts(&with_output(&there)).as_slice()].concat());
        let local = local(&requester_home, &texts(&with_output(&here)));
        assert_eq!((mesh.code(), local.code()), (Some(0), Some(0)), "{mesh}\n{local}");
        assert_eq!(mesh.stdout, local.stdout);
        assert_eq!(files(&here), files(&there));
    }
}

#[test]
fn a_tile_is_a_part_of_the_whole_picture_byte_for_byte() {
    let home = Home::new();
    let render = |name: &str, more: &[&str]| {
        let directory = home.path().join(name);
        let program = example("programs/render.wasm");
        let output = directory.to_str().unwrap();
        let words = ["--wasm", &program, "--output", output, "--", "--size", "23x17", "--samples", "3"];
        let run = local(&home, &[words.as_slice(), more].concat());
        assert_eq!(run.code(), Some(0), "{run}");
        let bytes = fs::read(directory.join("picture.ppm")).unwrap();
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let size: Vec<usize> = head.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert!(head.starts_with("P6 ") && head.ends_with(" 255"), "{head}");
        (size[0], size[1], bytes[end + 1..].to_vec())
    };
    let (width, height, whole) = render("whole", &[]);
    assert_eq!((width, height, whole.len()), (23, 17, 23 * 17 * 3));
    // 23 columns in 4 are 5, 6, 6, 6; 17 rows in 3 are 5, 6, 6. Tile 6 is the third of the second row.
    let (tile_width, tile_height, tile) = render("tile", &["--grid", "4x3", "--tile", "6"]);
    assert_eq!((tile_width, tile_height), (6, 6));
    for row in 0..6 {
        let start = ((5 + row) * 23 + 11) * 3;
        assert_eq!(tile[row * 18..][..18], whole[start..][..18], "row {row}");
    }
}

#[test]
fn wrong_arguments_of_the_picture_are_named() {
    let home = Home::new();
    let table: [(&[&str], &str); 9] = [
        (&["--size", "40"], "--size 40: two numbers"),
        (&["--size", "0x10"], "--size 0x10: a number from 1 to 8192"),
        (&["--size", "8192x8192"], "do not fit into one file"),
        (&["--samples", "many"], "--samples many: a number from 1 to 4096"),
        (&["--samples", "3x"], "--samples 3x: not a number"),
        (&["--grid", "2x2", "--tile", "4"], "tiles 0 to 3"),
        (&["--size", "2x2", "--grid", "3x1", "--tile", "0"], "finer than the picture"),
        (&["--colour", "red"], "--colour: unknown"),
        (&["--tile"], "--tile: a value is missing"),
    ];
    for (words, expected) in table {
        let program = example("programs/render.wasm");
        let run = local(&home, &[&["--wasm", &program, "--"], words].concat());
        assert_eq!(run.code(), Some(2), "{words:?}: {run}");
        assert!(run.stderr.contains(expected), "{words:?}: {run}");
    }
}

#[test]
fn limits_and_exit_codes_are_those_of_a_node() {
    let home = Home::new();
    let table: [(&str, &[&str], i32, &str); 6] = [
        ("programs/hello.wat", &[], 0, "succeeded here"),
        ("programs/trap.wat", &[], 1, "unreachable"),
        ("programs/spin.wat", &["--timeout", "500ms"], 124, "ran longer"),
        ("programs/greedy.wat", &["--memory", "32MiB"], 1, "memory"),
        ("programs/build.sh", &[], 1, "cannot be run"),
        ("programs/missing.wasm", &[], 64, "missing.wasm"),
    ];
    for (program, more, code, expected) in table {
        let run = local(&home, &[&["--wasm", &example(program)], more].concat());
        assert_eq!(run.code(), Some(code), "{program}: {run}");
        assert!(run.stderr.contains(expected), "{program}: {run}");
    }
    let run = local(&home, &["--wasm", &example("programs/hello.wat"), "--detach"]);
    assert_eq!(run.code(), Some(2), "{run}");
    let run = local(&home, &["--wasm", &example("programs/hello.wat"), "--api", "/tmp/none.sock"]);
    assert_eq!(run.code(), Some(2), "{run}");
}

#[test]
fn with_json_there_is_one_document() {
    let home = Home::new();
    let output = home.path().join("out");
    let words = ["--json", "--output", output.to_str().unwrap(), &example("jobs/wordcount.yaml")];
    let run = local(&home, &words);
    assert_eq!(run.code(), Some(0), "{run}");
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["local"]["end"], "succeeded");
    assert_eq!(document["local"]["exit_code"], 0);
    assert_eq!(document["files"], serde_json::json!(["counts.txt"]));
    assert!(document["stdout"].as_str().unwrap().contains("words"), "{document}");
    assert_eq!(run.stderr, "");
}

#[test]
fn an_interrupt_ends_the_program_and_leaves_nothing() {
    for signal in ["INT", "TERM", "HUP"] {
        let home = Home::new();
        let mut child = Command::new(dms())
            .args(["job", "run", "--local", "--output"])
            .arg(home.path().join("out"))
            .args(["--wasm", &example("programs/spin.wat")])
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Its own directory is there before the program is started.
        let work = || fs::read_dir(home.path()).unwrap().count();
        wait_for("the job's own directory", || if work() > 0 { Ok(()) } else { Err("none") });
        let status = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
        assert!(status.unwrap().success());
        let status = wait_for("the end", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(other),
        });
        assert_eq!(status.code(), Some(130), "{signal}");
        assert_eq!(work(), 0, "{signal}: neither its directory nor its files are left");
    }
}
