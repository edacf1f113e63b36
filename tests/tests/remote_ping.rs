//! The first program that a newcomer runs on two machines, run as two processes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use dms_tests::{dms, wait_for};

/// A process that is killed when the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn remote_ping() -> Command {
    let program = dms().with_file_name("examples").join("remote_ping");
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn start(command: &mut Command) -> Running {
    Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}: build the workspace first")))
}

#[test]
fn one_process_asks_the_other_by_its_multiaddr() {
    let mut serving = start(&mut remote_ping());
    let mut address = String::new();
    let output = serving.0.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut address).expect("it says where it listens");
    let address = address.trim();
    assert!(address.contains("/p2p/"), "{address}");

    let mut asking = start(remote_ping().arg(address));
    let status = wait_for("the answer", || match asking.0.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    });
    let mut answer = String::new();
    let output = asking.0.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut answer).expect("it can be read");
    assert_eq!((status.success(), answer.trim()), (true, "the answer is 42"));
}

#[test]
fn an_address_that_is_none_is_refused_with_the_reason() {
    let output = remote_ping().arg("/ip4/127.0.0.1/tcp/1").stderr(Stdio::piped()).output();
    let output = output.unwrap_or_else(|error| panic!("{error}: build the workspace first"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("/p2p/"), "{said}");
}
