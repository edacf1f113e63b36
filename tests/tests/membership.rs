//! Two machines become a mesh with one line of text, and stop being one when their owners say so.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use dms_tests::{DEADLINE, Home, Killed, Node, dms, example, proof, wait_for};

/// What a node that is told nothing listens on here.
const LISTEN: [&str; 3] = ["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];

/// A line that `node` prints for another machine.
fn invite(home: &Home, arguments: &[&str]) -> String {
    let made = home.json(&[&["invite"], arguments].concat());
    made["invite"].as_str().unwrap_or_else(|| panic!("no invite in {made}")).to_owned()
}

/// Joins and stops again; the node is started by whoever needs it.
fn join(home: &Home, invite: &str) {
    let run = home.dms(&[&["join", invite, "--skip-benchmark", "--stop"], &LISTEN[..]].concat());
    assert_eq!(run.code(), Some(0), "{run}");
    assert!(run.stdout.contains("joined `"), "{run}");
}

/// What is refused, and the reason that a person reads.
fn refused(home: &Home, invite: &str) -> String {
    let run = home.dms(&[&["join", invite, "--skip-benchmark", "--stop"], &LISTEN[..]].concat());
    assert_ne!(run.code(), Some(0), "{run}");
    run.stderr
}

fn hello(home: &Home) -> dms_tests::Run {
    home.dms(&["job", "run", "--memory", "16MiB", "--wasm", &example("programs/hello.wat"), "--wait", "20s"])
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    wait_for(what, || if is_so() { Ok(()) } else { Err("not yet") });
}

/// Starts a command that keeps running, and gives its standard output line by line.
fn follow(home: &Home, arguments: &[&str]) -> (Killed, mpsc::Receiver<String>) {
    let mut command = Command::new(dms());
    command.arg("--data").arg(home.path()).args(arguments).args(LISTEN);
    // Whatever becomes of this test, no node stays behind: its end of the pipe goes with it.
    command.arg("--stop-on-eof").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().expect("the program can be run");
    let stdout = process.stdout.take().expect("it is piped");
    let (lines, read) = mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    (Killed(process), read)
}

/// The first line that says `what`.
#[track_caller]
fn line_with(lines: &mpsc::Receiver<String>, what: &str) -> String {
    let start = std::time::Instant::now();
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
        if line.contains(what) {
            return line;
        }
        seen.push(line);
    }
    panic!("no line says {what:?}: {seen:?}");
}

#[test]
fn from_two_fresh_machines_to_a_running_job_in_three_commands() {
    let (mine, theirs) = (Home::new(), Home::new());
    let (_inviter, lines) = follow(&mine, &["invite"]);
    let line = line_with(&lines, "dms join ");
    let invite = line.trim().strip_prefix("dms join ").expect("a command that can be copied");
    let (_joiner, lines) = follow(&theirs, &["join", invite, "--skip-benchmark"]);
    line_with(&lines, "joined `");
    let run = hello(&mine);
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), "hello from the mesh\n"), "{run}");
    assert_eq!(mine.json(&["job", "ls"])[0]["provider"], theirs.did(), "the other machine ran it");
    proof("membership: two fresh machines, one invite, one join, one job: it ran at the other");
}

#[test]
fn whoever_has_not_the_key_of_a_private_mesh_connects_to_nobody_in_it() {
    let (mine, theirs, stranger) = (Home::new(), Home::new(), Home::new());
    let (_inviter, lines) = follow(&mine, &["invite", "--private"]);
    let line = line_with(&lines, "dms join ");
    let invite = line.trim().strip_prefix("dms join ").expect("a command that can be copied");
    let (_joiner, lines) = follow(&theirs, &["join", invite, "--skip-benchmark"]);
    line_with(&lines, "joined `");
    assert_eq!(hello(&mine).code(), Some(0));
    let status = mine.json(&["status"]);
    assert_eq!(status["is_private"], true);
    let addresses = status["addresses"].as_array().expect("a list").clone();
    assert!(addresses.iter().all(|it| it.as_str().is_some_and(|it| it.contains("/tcp/"))), "{addresses:?}");
    // It knows the address and the name, and is let in by everybody; and so is whoever has another key.
    let address = addresses[0].as_str().expect("a text");
    let other = Home::new();
    let outsiders = [(&stranger, &[][..]), (&other, &["--private"][..])];
    for (home, flag) in outsiders {
        let node = home.start(&[&["--open", "--bootstrap", address], flag].concat());
        until("it has dialled in vain", || {
            home.json(&["status"])["unreached_bootstraps"].as_array().is_some_and(|list| !list.is_empty())
        });
        assert_eq!(home.json(&["status"])["peers"], serde_json::json!([]));
        drop(node);
    }
    // A machine of another private mesh does not come into this one by mistake, and nothing of it is changed.
    let refusal = refused(&other, invite);
    assert!(refusal.contains("the key of another private mesh"), "{refusal}");
    proof(
        "membership: a private mesh: one invite brings the key; without it, or with another, nobody connects",
    );
}

#[test]
fn a_member_stays_one_over_restarts_and_is_none_when_its_inviter_says_so() {
    let (mine, theirs) = (Home::new(), Home::new());
    let inviter = mine.onboard("2", "1GiB").start(&[]);
    let line = invite(&mine, &["--as", "requester"]);
    join(&theirs, &line);
    let member = theirs.start(&[]);
    member.wait_for_providers(1);
    assert_eq!(hello(&theirs).code(), Some(0));
    // A requester is nobody's provider.
    let trust = mine.json(&["trust", "ls"]);
    assert_eq!(trust["grants"][0]["did"], theirs.did());
    assert_eq!(trust["grants"][0]["abilities"], serde_json::json!(["/dms/request"]));
    let tokens = theirs.json(&["token", "ls"]);
    assert_eq!(tokens[0]["issuer"], mine.did());
    // Both start anew.
    drop((member, inviter));
    let _inviter = mine.start(&[]);
    let member = theirs.start(&["--bootstrap", &_inviter.address()]);
    member.wait_for_providers(1);
    assert_eq!(hello(&theirs).code(), Some(0));

    let run = mine.dms(&["trust", "rm", &theirs.did()]);
    assert_eq!(run.code(), Some(0), "{run}");
    let run = hello(&theirs);
    assert_eq!(run.code(), Some(69), "{run}");
    assert!(run.stderr.contains("does not trust the requester: it needs /dms/request/bids"), "{run}");
    // And it stays so.
    drop((member, _inviter));
    let inviter = mine.start(&[]);
    let member = theirs.start(&["--bootstrap", &inviter.address()]);
    member.wait_for_providers(1);
    assert_eq!(hello(&theirs).code(), Some(69));
    assert_eq!(mine.dms(&["trust", "rm", &theirs.did()]).code(), Some(1), "it is not trusted any more");
}

#[test]
fn an_admin_lets_others_in_and_all_of_them_trust_each_other() {
    let (root, admin, member) = (Home::new(), Home::new(), Home::new());
    let root_node = root.onboard("2", "1GiB").start(&[]);
    let line = invite(&root, &["--as", "admin"]);
    join(&admin, &line);
    let admin_node = admin.start(&["--bootstrap", &root_node.address()]);
    admin_node.wait_for_providers(1);
    let line = invite(&admin, &["--as", "member"]);
    join(&member, &line);
    // It knows its inviter alone, and finds the other by way of it.
    let member_node = member.start(&["--bootstrap", &admin_node.address()]);
    until("the root's offer", || {
        let peers = member.json(&["peers"]);
        let found = peers.as_array().unwrap().iter().find(|peer| peer["did"] == root.did().as_str()).cloned();
        found.is_some_and(|root| root["is_trusted"] == true && !root["advert"].is_null())
    });
    assert_eq!(member.dms(&["offboard"]).code(), Some(0), "so that it does not run at home");
    assert_eq!(admin.dms(&["offboard"]).code(), Some(0));
    let run = hello(&member);
    assert_eq!(run.code(), Some(0), "{run}");
    assert_eq!(member.json(&["job", "ls"])[0]["provider"], root.did());
    // Whoever lets one in that it may not is let in nobody.
    let tokens = member.json(&["token", "ls"]);
    let own = tokens.as_array().unwrap().iter().find(|token| token["audience"] == member.did().as_str());
    assert_eq!(own.unwrap()["depth"], 0, "a member lets nobody in");
    drop((root_node, admin_node, member_node));
}

#[test]
fn an_invite_that_is_of_no_use_says_why() {
    let (mine, theirs, late) = (Home::new(), Home::new(), Home::new());
    let _inviter = mine.start(&[]);
    let once = invite(&mine, &[]);
    join(&theirs, &once);
    assert!(refused(&late, &once).contains("the invite was used already"));
    // The same machine may come again.
    join(&theirs, &once);

    let mut mistyped = once.clone();
    mistyped.pop();
    assert!(refused(&Home::new(), &mistyped).contains("not copied whole, or mistyped"));
    assert!(refused(&Home::new(), "hello").contains("an invite begins with dms-invite-1-"));

    let withdrawn = mine.json(&["invite"]);
    let id = withdrawn["id"].as_str().unwrap();
    assert_eq!(mine.dms(&["invite", "withdraw", &id[id.len() - 12..]]).code(), Some(0));
    let text = withdrawn["invite"].as_str().unwrap();
    assert!(refused(&Home::new(), text).contains("there is no such invite"));

    let short = invite(&mine, &["--expires", "1s", "--uses", "100"]);
    until("the end of the invite", || {
        let run = Home::new().dms(&[&["join", &short, "--skip-benchmark", "--stop"], &LISTEN[..]].concat());
        run.code() != Some(0) && run.stderr.contains("expired")
    });

    let own = mine.dms(&["join", &invite(&mine, &[]), "--skip-benchmark"]);
    assert!(own.stderr.contains("made by this node"), "{own}");
    let elsewhere = Home::new();
    std::fs::write(elsewhere.path().join("config.toml"), "network = \"other\"\n").unwrap();
    assert!(refused(&elsewhere, &invite(&mine, &[])).contains("in the mesh `other`"));
    assert_eq!(mine.dms(&["invite", "--uses", "1001"]).code(), Some(1));
}

/// Two nodes that know each other's addresses and nothing else.
fn strangers<'h>(provider: &'h Home, requester: &'h Home) -> (Node<'h>, Node<'h>) {
    let provider = provider.onboard("2", "1GiB").start(&[]);
    let requester = requester.start(&["--bootstrap", &provider.address()]);
    (provider, requester)
}

#[test]
fn a_token_that_was_carried_by_hand_lets_in_and_a_revoked_one_does_not() {
    let (mine, theirs) = (Home::new(), Home::new());
    let (_provider, requester) = strangers(&mine, &theirs);
    // Trust counts one way: it may be asked, it does not let in.
    assert_eq!(theirs.dms(&["trust", "add", &mine.did(), "--as", "provider"]).code(), Some(0));
    requester.wait_for_providers(1);
    let run = hello(&theirs);
    assert_eq!(run.code(), Some(69), "{run}");
    assert!(run.stderr.contains("it needs /dms/request/bids"), "{run}");

    let granted = mine.json(&["token", "grant", &theirs.did(), "--as", "requester", "--expires", "1h"]);
    let text = granted["text"].as_str().unwrap();
    let inspected = theirs.json(&["token", "inspect", text]);
    assert_eq!(inspected[0]["audience"], theirs.did());
    assert_eq!(inspected[0]["abilities"], serde_json::json!(["/dms/request"]));
    assert_eq!(theirs.dms(&["token", "keep", text]).code(), Some(0));
    until("being let in", || hello(&theirs).code() == Some(0));
    // A thief has no use for it.
    let thief = Home::new();
    let _thief = thief.start(&[]);
    let run = thief.dms(&["token", "keep", text]);
    assert!(run.stderr.contains("none of them is for this node"), "{run}");

    let id = granted["token"]["id"].as_str().unwrap();
    assert_eq!(mine.dms(&["token", "revoke", id]).code(), Some(0));
    let run = hello(&theirs);
    assert_eq!(run.code(), Some(69), "{run}");
    let listed = mine.json(&["token", "ls"]);
    assert_eq!(listed[0]["is_revoked"], true, "{listed}");
}

#[test]
fn a_token_is_handed_on_within_its_bounds() {
    let (root, middle, last) = (Home::new(), Home::new(), Home::new());
    let (root_node, middle_node) = strangers(&root, &middle);
    let granted = root.json(&["token", "grant", &middle.did(), "--as", "requester", "--depth", "1"]);
    assert_eq!(middle.dms(&["token", "keep", granted["text"].as_str().unwrap()]).code(), Some(0));
    let id = granted["token"]["id"].as_str().unwrap();
    let wider = middle.dms(&["token", "delegate", id, &last.onboard("1", "64MiB").did(), "--as", "member"]);
    assert!(wider.stderr.contains("allows more than the one before it"), "{wider}");
    let longer = ["token", "delegate", id, &last.did(), "--as", "requester", "--depth", "1"];
    assert!(middle.dms(&longer).stderr.contains("at most 0 tokens may follow"));
    let handed = middle.json(&["token", "delegate", id, &last.did(), "--as", "requester"]);
    let last_node = last.start(&["--bootstrap", &root_node.address()]);
    assert_eq!(last.dms(&["token", "keep", handed["text"].as_str().unwrap()]).code(), Some(0));
    assert_eq!(last.dms(&["trust", "add", &root.did(), "--as", "provider"]).code(), Some(0));
    assert_eq!(last.dms(&["offboard"]).code(), Some(0));
    last_node.wait_for_providers(1);
    until("being let in", || hello(&last).code() == Some(0));
    // What it rests on is taken back: it falls with it.
    assert_eq!(root.dms(&["token", "revoke", id]).code(), Some(0));
    assert_eq!(hello(&last).code(), Some(69));
    drop(middle_node);
}
