//! A node for a trial: its books in memory, and its life bound to whoever started it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use dms_tests::{Home, dms, wait_for};

#[test]
fn a_node_whose_parent_is_gone_stops_by_itself_and_leaves_no_books() {
    let home = Home::new();
    let start = || {
        Command::new(dms())
            .args([
                "--data",
                home.text(),
                "run",
                "--json",
                "--engine",
                "memory",
                "--stop-on-eof",
                "--no-mdns",
            ])
            .args(["--listen", "/ip4/127.0.0.1/tcp/0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program can be run")
    };
    let mut node = start();
    let mut ready = String::new();
    let mut output = BufReader::new(node.stdout.take().expect("it is piped"));
    output.read_line(&mut ready).expect("it says when it is ready");
    let second =
        home.dms(&["run", "--engine", "memory", "--listen", "/ip4/127.0.0.1/tcp/0", "--api", "/tmp/x"]);
    assert!(second.stderr.contains("in use by another node"), "{second}");

    home.onboard("1", "64MiB");
    drop(node.stdin.take());
    let status = wait_for("the end of the node", || match node.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(other),
    });
    assert!(status.success(), "{status}");
    assert!(!home.path().join("db").exists(), "there are books on disk");
    assert!(!home.path().join("api.sock").exists(), "a socket was left behind");
}
