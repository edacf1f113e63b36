//! Disks that do not take what is written: a full one, which the node outlives, and directories that it cannot use,
//! which it names.
//!
//! The full disk is a real one, a small file system in memory that only the node sees, filled by a ballast file next
//! to the books. Where the system lets nobody mount anything, the test says so and is left out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dms_messages::{ContentId, CpuMillis, JobId, Millis, Pod};
use dms_node::api::client::{ApiClient, ClientError};
use dms_node::api::types::NewJob;
use dms_node::commands::{NodeMode, NodeStatus};
use dms_node::identity::BOOKS;
use dms_tests::{DEADLINE, Home, hand_made, proof, size, skip};

/// Whether this system gives a process mounts of its own.
fn can_mount() -> bool {
    let mounted = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    mounted.is_ok_and(|output| output.status.success())
}

/// A node whose data directory is a file system of 32 MiB, onboarded there.
const ON_A_SMALL_DISK: [&str; 6] = [
    "unshare",
    "-rm",
    "sh",
    "-ec",
    // `$1` is the program, `$3` the directory.
    r#"mount -t tmpfs -o size=32m,mode=700 tmpfs "$3"
"$1" --data "$3" onboard --yes --cpu 2 --memory 1GiB --disk 1GiB >&2
exec "$@""#,
    "sh",
];

fn job(name: &str, pod: &Pod) -> NewJob {
    let pods = vec![pod.clone()];
    NewJob {
        name: name.to_owned(),
        pods,
        max_price: None,
        wanted: None,
        wait: Some(Millis(60_000)),
        max_attempts: None,
    }
}

/// Looks until the node is in a mode.
async fn wait_for_mode(client: &ApiClient, what: &str, is_it: impl Fn(&NodeMode) -> bool) -> NodeStatus {
    let start = Instant::now();
    loop {
        let status = client.status().await.unwrap();
        if is_it(&status.mode) {
            return status;
        }
        assert!(start.elapsed() < DEADLINE, "{what} did not come: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Takes what space there is, to the last byte.
fn fill(path: &Path) {
    let mut ballast = File::create(path).unwrap();
    for piece in [1 << 16, 1 << 12, 1] {
        let piece = vec![0xd5; piece];
        while ballast.write(&piece).is_ok_and(|count| count > 0) {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_outlives_a_full_disk() {
    if !can_mount() {
        return skip("disk_full (nobody may mount a file system of its own here)");
    }
    let rounds = size(2, 20);
    let (home, outside) = (Home::new(), Home::new());
    let api = outside.path().join("api.sock");
    let arguments = ["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--api", api.to_str().unwrap()];
    let node = home.start_under(&ON_A_SMALL_DISK, &arguments);
    let client = ApiClient::new(&api);
    // The node's own view of its directory.
    let inside = PathBuf::from(format!("/proc/{}/root{}", node.process_id(), home.text()));
    assert!(inside.join(BOOKS).exists(), "its disk can be seen from here");
    let module = std::fs::read(dms_tests::example("programs/hello.wat")).unwrap();
    client.put_blob(module.clone()).await.unwrap();
    let mut small = hand_made::pod(Millis(10_000));
    small.tasks[0].module = ContentId::of_bytes(&module);
    let mut acknowledged: Vec<JobId> = Vec::new();
    for round in 0..rounds {
        for number in 0..5 {
            acknowledged
                .push(client.submit(&job(&format!("before {round} {number}"), &small)).await.unwrap());
        }
        fill(&inside.join("ballast"));
        // Some space may have been set aside for the log already: submissions that are long find its end.
        let mut long = small.clone();
        long.requirement.cpu = CpuMillis(1_000_000);
        long.tasks[0].args = vec!["a".repeat(30_000)];
        let start = Instant::now();
        let refused = loop {
            match client.submit(&job("long", &long)).await {
                Ok(id) => acknowledged.push(id),
                Err(error) => break error,
            }
            assert!(start.elapsed() < DEADLINE, "the disk is not full");
        };
        let ClientError::Refused(refused) = refused else { panic!("{refused:?}") };
        let is_read_only = |mode: &NodeMode| matches!(mode, NodeMode::ReadOnly { .. });
        let status = wait_for_mode(&client, "the node that is read-only", is_read_only).await;
        let NodeMode::ReadOnly { reason, .. } = &status.mode else { unreachable!() };
        assert!(reason.to_lowercase().contains("no space"), "round {round}: {reason}");
        let shown = tokio::task::block_in_place(|| home.dms(&["--api", api.to_str().unwrap(), "status"]));
        assert!(shown.stdout.to_lowercase().contains("no space"), "{shown}");
        // Nothing new is taken, and the reason is said.
        let again = client.submit(&job("more", &small)).await.unwrap_err();
        assert!(again.to_string().contains("read-only"), "{again}, after {refused}");

        std::fs::remove_file(inside.join("ballast")).unwrap();
        wait_for_mode(&client, "the end of being read-only", |mode| *mode == NodeMode::Serving).await;
        for id in &acknowledged {
            client.job(*id).await.unwrap_or_else(|error| panic!("{id} was acknowledged: {error}"));
        }
        let done = client.submit(&job("small", &small)).await.unwrap();
        let start = Instant::now();
        while client.job(done).await.unwrap().phase != dms_messages::JobPhase::Succeeded {
            assert!(start.elapsed() < DEADLINE, "a job runs again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for id in acknowledged.drain(..) {
            // They would only take the space that the next round is about.
            let _ = client.cancel(id).await;
        }
        acknowledged.push(done);
    }
    proof(&format!("disk: {rounds} times full, said in the status, and all well again when there was space"));
}

#[test]
fn a_directory_that_can_only_be_read_is_named() {
    if !can_mount() {
        return skip("a read-only directory (nobody may mount a file system of its own here)");
    }
    let home = Home::new();
    home.onboard("1", "1GiB");
    let script = r#"mount --bind "$3" "$3"
mount -o remount,bind,ro "$3"
exec "$@""#;
    let run = home.run_in_vain_under(&["unshare", "-rm", "sh", "-ec", script, "sh"], &["--no-mdns"]);
    assert!(!run.status.success() && run.code().is_some(), "{run}");
    assert!(run.stderr.to_lowercase().contains("read-only") && run.stderr.contains(home.text()), "{run}");
    assert!(!run.stderr.contains("panicked"), "{run}");
    // Untouched: without the mount it starts.
    drop(home.start(&["--no-mdns"]));
}

#[test]
fn books_of_another_user_are_named() {
    let home = Home::new();
    home.onboard("1", "1GiB");
    let books = home.path().join(BOOKS);
    let is_given = std::fs::read_dir(&books)
        .unwrap()
        .flatten()
        .all(|file| std::os::unix::fs::chown(file.path(), Some(12_345), None).is_ok());
    // Without the powers over other users' files that even the administrator has only outside.
    if !is_given || !can_mount() {
        return skip("books of another user (it takes an administrator to give files away)");
    }
    let run = home.run_in_vain_under(&["unshare", "-r"], &["--no-mdns"]);
    assert!(!run.status.success() && run.code().is_some(), "{run}");
    assert!(run.stderr.contains("belongs to user") && run.stderr.contains(home.text()), "{run}");
    assert!(!run.stderr.contains("panicked"), "{run}");
}

#[test]
fn a_second_node_on_the_same_directory_is_named() {
    let home = Home::new();
    let _node = home.start(&["--no-mdns"]);
    let run = home.run_in_vain(&["--no-mdns"]);
    assert_eq!(run.code(), Some(1), "{run}");
    assert!(run.stderr.contains("in use by another node") && run.stderr.contains(home.text()), "{run}");
}
