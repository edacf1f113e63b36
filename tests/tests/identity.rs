//! Keys of nodes and of people: kept under a passphrase, carried to another machine, renewed, and trusted as before.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dms_tests::{Home, Node, Run, example, proof, wait_for};
use serde_json::Value;

/// A file with this passphrase, that its owner alone reads.
fn passphrase(home: &Home, name: &str, text: &str) -> String {
    let path = home.path().join(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[track_caller]
fn done(run: &Run) {
    assert_eq!(run.code(), Some(0), "{run}");
}

#[track_caller]
fn refused(run: &Run, code: i32, why: &str) {
    assert_eq!(run.code(), Some(code), "{run}");
    assert!(run.stderr.contains(why), "{run}");
}

fn key_file(home: &Home) -> String {
    std::fs::read_to_string(home.path().join("key")).unwrap()
}

fn hello(home: &Home) -> Run {
    home.dms(&["job", "run", "--memory", "16MiB", "--wasm", &example("programs/hello.wat"), "--wait", "20s"])
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    wait_for(what, || if is_so() { Ok(()) } else { Err("not yet") });
}

/// The first of a list in which `key` is `value`.
fn find(list: &Value, key: &str, value: &str) -> bool {
    list.as_array().unwrap().iter().any(|one| one[key] == value)
}

#[test]
fn a_node_with_a_key_under_a_passphrase_starts_with_it_alone() {
    let home = Home::new();
    let did = home.onboard("1", "64MiB").did();
    let right = passphrase(&home, "right", "correct horse battery");
    let wrong = passphrase(&home, "wrong", "correct horse battery staple");
    refused(&home.dms(&["id", "passphrase", "set"]), 2, "--new-passphrase-file");
    let short = passphrase(&home, "short", "horse");
    refused(
        &home.dms(&["id", "passphrase", "set", "--new-passphrase-file", &short]),
        78,
        "at least 8 characters",
    );
    assert!(key_file(&home).contains("secret "), "nothing was changed");
    done(&home.dms(&["id", "passphrase", "set", "--new-passphrase-file", &right]));
    assert!(!key_file(&home).contains("secret "), "{}", key_file(&home));

    // Whose it is can be seen by whoever may read the file; to be it takes the passphrase.
    assert_eq!((home.did(), &home.json(&["id", "show"])["is_sealed"]), (did.clone(), &Value::Bool(true)));
    done(&home.dms(&["id", "show", "--document"]));
    refused(&home.run_in_vain(&[]), 78, "is under a passphrase");
    refused(&home.run_in_vain(&["--passphrase-file", &wrong]), 78, "the passphrase does not open the key");
    std::fs::set_permissions(&wrong, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&home.run_in_vain(&["--passphrase-file", &wrong]), 78, "open to others");
    let node = home.start(&["--passphrase-file", &right]);
    assert_eq!(node.did(), did);
    done(&hello(&home));
    drop(node);

    refused(&home.dms(&["id", "passphrase", "remove"]), 78, "is under a passphrase");
    done(&home.dms(&["id", "passphrase", "remove", "--passphrase-file", &right]));
    assert_eq!(home.start(&[]).did(), did);
}

#[test]
fn an_exported_identity_is_the_same_on_a_fresh_machine_and_takes_nobodys_place_by_mistake() {
    let (mine, theirs) = (Home::new(), Home::new());
    let did = mine.onboard("1", "64MiB").did();
    let secret = passphrase(&mine, "secret", "correct horse battery");
    let line = mine.json(&["id", "export", "--new-passphrase-file", &secret]);
    assert!(line["text"].as_str().unwrap().starts_with("dms-identity-1-"), "{line}");
    let file = mine.path().join("export").to_str().unwrap().to_owned();
    let export = ["id", "export", "--new-passphrase-file", &secret, "--out", &file];
    done(&mine.dms(&export));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(mine.dms(&export).code(), Some(73), "it is not written over");

    let import = ["id", "import", file.as_str(), "--passphrase-file", secret.as_str()];
    let other = passphrase(&theirs, "other", "another passphrase");
    refused(&theirs.dms(&["id", "import", &file, "--passphrase-file", &other]), 78, "does not open");
    assert!(!theirs.path().join("key").exists());
    done(&theirs.dms(&import));
    assert_eq!(theirs.did(), did);
    done(&theirs.dms(&import));
    let node = theirs.start(&["--passphrase-file", &secret]);
    assert_eq!(node.did(), did);
    refused(&theirs.dms(&import), 75, "in use by a running node");
    drop(node);

    // Another identity is there.
    let third = Home::new();
    done(&third.dms(&["id", "new", "alice", "--no-passphrase"]));
    let line = third.json(&["id", "export", "--identity", "alice", "--new-passphrase-file", &secret]);
    let alice = third.path().join("alice.txt");
    std::fs::write(&alice, line["text"].as_str().unwrap()).unwrap();
    let alice = ["id", "import", alice.to_str().unwrap(), "--passphrase-file", &secret];
    done(&third.dms(&import));
    refused(&third.dms(&alice), 1, &did);
    assert_eq!(third.did(), did);
    done(&third.dms(&[&alice[..], &["--replace"]].concat()));
    assert_eq!(third.did(), line["did"].as_str().unwrap());
    // Books belong to one key.
    let run = theirs.dms(&[&alice[..], &["--replace"]].concat());
    refused(&run, 1, "the books in this directory are those of");
    assert_eq!(theirs.did(), did);

    let mut text = std::fs::read_to_string(&file).unwrap();
    text.replace_range(40..41, if &text[40..41] == "a" { "b" } else { "a" });
    let mistyped = theirs.path().join("mistyped");
    std::fs::write(&mistyped, text).unwrap();
    let run = theirs.dms(&["id", "import", mistyped.to_str().unwrap(), "--passphrase-file", &secret]);
    refused(&run, 2, "mistyped");
}

/// A member of the provider's mesh, and its provider, both stopped.
fn mesh(provider: &Home, member: &Home) {
    let node = provider.onboard("2", "1GiB").start(&[]);
    let invite = provider.json(&["invite", "--as", "requester"]);
    let join = [
        "join",
        invite["invite"].as_str().unwrap(),
        "--skip-benchmark",
        "--stop",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--no-mdns",
    ];
    done(&member.dms(&join));
    drop(node);
}

fn both<'h>(provider: &'h Home, member: &'h Home, with: &[&str]) -> (Node<'h>, Node<'h>) {
    let provider = provider.start(&[]);
    let member = member.start(&[&["--bootstrap", provider.address().as_str()], with].concat());
    member.wait_for_providers(1);
    (provider, member)
}

#[test]
fn a_member_with_a_new_key_is_still_one_and_is_shown_the_door_by_its_new_name() {
    let (mine, theirs) = (Home::new(), Home::new());
    mesh(&mine, &theirs);
    let old = theirs.did();
    let nodes = both(&mine, &theirs, &[]);
    done(&hello(&theirs));
    refused(&theirs.dms(&["id", "rotate"]), 75, "stop it before");
    drop(nodes);

    let secret = passphrase(&theirs, "secret", "correct horse battery");
    done(&theirs.dms(&["id", "passphrase", "set", "--new-passphrase-file", &secret]));
    let kept = theirs.path().join("old.txt").to_str().unwrap().to_owned();
    let rotate = ["id", "rotate", "--keep-old", &kept, "--passphrase-file", &secret];
    let rotated = theirs.json(&rotate);
    let new = theirs.did();
    assert_eq!((rotated["old"].as_str(), rotated["new"].as_str()), (Some(old.as_str()), Some(new.as_str())));
    assert_ne!(old, new);
    assert_eq!(theirs.json(&["id", "show"])["is_sealed"], true, "kept as the old one was");
    assert!(Path::new(&kept).exists());
    // And once more, before anybody has heard of the first.
    done(&theirs.dms(&["id", "rotate", "--passphrase-file", &secret]));
    let newest = theirs.did();

    let nodes = both(&mine, &theirs, &["--passphrase-file", &secret]);
    until("being let in by the new name", || hello(&theirs).code() == Some(0));
    let trust = mine.json(&["trust", "ls"]);
    assert!(find(&trust["grants"], "did", &newest), "{trust}");
    assert!(!find(&trust["grants"], "did", &old) && !find(&trust["grants"], "did", &new), "{trust}");
    let log = mine.dms(&["log", "--from", "first", "--limit", "1000"]);
    assert_eq!(log.stdout.matches("has a new key").count(), 2, "{log}");
    done(&mine.dms(&["trust", "rm", &newest]));
    refused(&hello(&theirs), 69, "it needs /dms/request/bids");
    // It says so again, and is as little trusted.
    drop(nodes);
    let _nodes = both(&mine, &theirs, &["--passphrase-file", &secret]);
    refused(&hello(&theirs), 69, "it needs /dms/request/bids");
    proof("identity: a key rotated twice: its grant is moved once each, and ends with the new name");
}

#[test]
fn a_mesh_whose_root_has_a_new_key_goes_on() {
    let (mine, theirs) = (Home::new(), Home::new());
    mesh(&mine, &theirs);
    done(&mine.dms(&["id", "rotate"]));
    let (new, nodes) = (mine.did(), both(&mine, &theirs, &[]));
    until("a job at the provider's new name", || hello(&theirs).code() == Some(0));
    assert!(
        theirs.json(&["job", "ls"]).as_array().unwrap().iter().any(|job| job["provider"] == new.as_str())
    );
    let trust = theirs.json(&["trust", "ls"]);
    assert!(find(&trust["roots"], "did", &new), "{trust}");
    until("a token by the new key", || find(&theirs.json(&["token", "ls"]), "issuer", &new));
    // What the old key has signed is not worth more than what the new one says of it.
    done(&mine.dms(&["trust", "rm", &theirs.did()]));
    refused(&hello(&theirs), 69, "it needs /dms/request/bids");
    drop(nodes);
}

#[test]
fn a_new_key_is_believed_by_hand_too() {
    let (mine, theirs) = (Home::new(), Home::new());
    let old = theirs.onboard("1", "64MiB").did();
    let _node = mine.start(&[]);
    done(&mine.dms(&["trust", "add", &old, "--as", "requester"]));
    let text = theirs.json(&["id", "rotate"])["succession"].as_str().unwrap().to_owned();
    let view = mine.json(&["trust", "succeed", &text]);
    assert_eq!(
        (view["old"].as_str(), view["new"].as_str()),
        (Some(old.as_str()), Some(theirs.did().as_str()))
    );
    let trust = mine.json(&["trust", "ls"]);
    assert!(find(&trust["roots"], "did", &theirs.did()) && !find(&trust["roots"], "did", &old), "{trust}");
    done(&mine.dms(&["trust", "succeed", &text]));
    refused(&mine.dms(&["trust", "succeed", &text[..text.len() - 1]]), 1, "mistyped");
    let stranger = Home::new();
    stranger.onboard("1", "64MiB");
    let text = stranger.json(&["id", "rotate"])["succession"].as_str().unwrap().to_owned();
    refused(&mine.dms(&["trust", "succeed", &text]), 1, "nobody of those who have a new key is trusted here");
}

#[test]
fn a_person_lets_machines_in_wherever_the_person_is_trusted() {
    let (mine, theirs) = (Home::new(), Home::new());
    let secret = passphrase(&mine, "secret", "correct horse battery");
    done(&mine.dms(&["id", "new", "alice", "--new-passphrase-file", &secret]));
    refused(&mine.dms(&["id", "new", "alice", "--new-passphrase-file", &secret]), 78, "exists already");
    refused(&mine.dms(&["id", "show", "--identity", "bob"]), 1, "there is no identity `bob` here");
    let alice = mine.json(&["id", "show", "--identity", "alice"])["did"].as_str().unwrap().to_owned();
    let provider = mine.onboard("2", "1GiB").start(&[]);
    let listed = mine.json(&["id", "ls"]);
    assert_eq!(
        (listed[0]["did"].as_str(), listed[1]["name"].as_str()),
        (Some(mine.did().as_str()), Some("alice"))
    );
    let requester = theirs.start(&["--bootstrap", &provider.address()]);
    done(&theirs.dms(&["trust", "add", &mine.did(), "--as", "provider"]));
    requester.wait_for_providers(1);
    refused(&hello(&theirs), 69, "it needs /dms/request/bids");

    // The person is trusted here, and says over there whose machine that is; no node signs.
    done(&mine.dms(&["trust", "add", &alice, "--as", "requester", "--depth", "1"]));
    let did = theirs.did();
    let grant = ["token", "grant", did.as_str(), "--by", "alice", "--as", "requester", "--expires", "90d"];
    refused(&mine.dms(&grant), 78, "is under a passphrase");
    let granted = mine.json(&[&grant[..], &["--passphrase-file", secret.as_str()]].concat());
    assert_eq!(granted["token"]["issuer"], alice.as_str());
    done(&theirs.dms(&["token", "keep", granted["text"].as_str().unwrap()]));
    until("being let in", || hello(&theirs).code() == Some(0));
    done(&mine.dms(&["trust", "rm", &alice]));
    refused(&hello(&theirs), 69, "it needs /dms/request/bids");
}
