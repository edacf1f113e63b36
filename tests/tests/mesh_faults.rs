//! Bad surroundings: a provider that hangs, a disk that is full, ports that are taken, hosts with nothing but
//! loopback, meshes beside each other, and nodes that only find each other through others.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use dms_tests::{Home, Killed, Node, example, skip, wait_for};
use serde_json::Value;

const LOOPBACK_TCP: [&str; 2] = ["--listen", "/ip4/127.0.0.1/tcp/0"];
const LOOPBACK_QUIC: [&str; 2] = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];

fn detach(home: &Home, program: &str) -> String {
    let run = home.json(&["job", "run", "--detach", "--wasm", program]);
    run["job"].as_str().or(run["id"].as_str()).unwrap_or_else(|| panic!("no id in {run}")).to_owned()
}

fn attempts(home: &Home, job: &str) -> Vec<Value> {
    home.json(&["job", "show", job])["row"]["attempts"].as_array().cloned().unwrap_or_default()
}

/// Runs the smallest job; gives the DID of whoever did it.
#[track_caller]
fn run_hello(home: &Home, node: &Node<'_>) -> String {
    let job = detach(home, &example("programs/hello.wat"));
    let view = node.wait_for_job(&job, &["succeeded", "failed"]);
    assert_eq!(view["phase"], "succeeded", "{view}");
    assert_eq!(home.dms(&["job", "logs", &job]).stdout, "hello from the mesh\n");
    view["provider"].as_str().unwrap_or_else(|| panic!("nobody did it: {view}")).to_owned()
}

#[track_caller]
fn cancel(home: &Home, node: &Node<'_>, job: &str) {
    let run = home.dms(&["job", "cancel", job]);
    assert!(run.status.success(), "{run}");
    node.wait_for_job(job, &["cancelled"]);
}

/// Waits until the second attempt of a job runs at `provider` and the first is lost.
#[track_caller]
fn wait_for_second_attempt(home: &Home, job: &str, provider: &str) {
    wait_for("the second attempt", || {
        let attempts = attempts(home, job);
        let is_second = attempts.len() == 2
            && attempts[0]["state"]["attempt"] == "lost"
            && attempts[1]["provider"] == provider
            && attempts[1]["state"]["state"]["state"] == "running";
        if is_second { Ok(()) } else { Err(attempts) }
    });
}

/// A name for a mesh that no other test, nor anybody on this network, uses.
fn mesh_of_our_own(name: &str) -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    format!("{name}-{}-{}", std::process::id(), since.subsec_nanos())
}

/// A program that computes until the clock on the wall says `until`, and then says so once.
fn write_program_that_waits(path: &Path, until: SystemTime) {
    let until = until.duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_nanos();
    let text = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\05\00\00\00")
  (data (i32.const 16) "done\n")
  (func (export "_start")
    (loop $on
      (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 64)))
      (br_if $on (i64.lt_u (i64.load (i32.const 64)) (i64.const {until}))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    );
    std::fs::write(path, text).expect("a program can be written");
}

#[test]
fn a_provider_that_wins_and_hangs_loses_its_jobs_and_stops_them_when_it_wakes() {
    let (hanging_home, other_home, requester_home) = (Home::new(), Home::new(), Home::new());
    let hanging = hanging_home.onboard("2", "1GiB").start(&["--open"]);
    let requester = requester_home.start(&["--open", "--bootstrap", &hanging.address()]);
    requester.wait_for_providers(1);
    let program = requester_home.path().join("waits.wat");
    // Long after the provider hangs, long before that is noticed: whoever starts it then is done at once.
    write_program_that_waits(&program, SystemTime::now() + Duration::from_secs(20));
    let ends = detach(&requester_home, program.to_str().expect("temporary paths are plain"));
    requester.wait_for_job(&ends, &["running"]);
    let spins = detach(&requester_home, &example("programs/spin.wat"));
    requester.wait_for_job(&spins, &["running"]);
    hanging.signal("STOP");
    let other = other_home.onboard("2", "1GiB").start(&["--open", "--bootstrap", &requester.address()]);
    requester.wait_for_providers(2);

    wait_for_second_attempt(&requester_home, &spins, &other.did());
    let view = requester.wait_for_job(&ends, &["succeeded", "failed"]);
    assert_eq!((&view["phase"], &view["provider"]), (&"succeeded".into(), &other.did().into()), "{view}");
    let before = attempts(&requester_home, &ends);
    assert_eq!((before.len(), &before[0]["state"]["attempt"]), (2, &"lost".into()), "{before:?}");

    hanging.signal("CONT");
    hanging.wait_until_all_is_free();
    let ended = hanging_home.json(&["alloc", "ls"]);
    let of_spin = ended.as_array().and_then(|all| all.iter().find(|row| row["attempt"]["job"] == *spins));
    let cause = of_spin.map(|row| row["state"]["state"]["cause"].clone());
    // Told so over the old link, if that has survived; else it finds out by itself.
    assert!(
        cause == Some("superseded".into()) || cause == Some("orphaned".into()),
        "stopped, because nobody wants it any more: {ended}"
    );
    assert_eq!(attempts(&requester_home, &ends), before, "what the first attempt did then does not count");
    assert_eq!(requester_home.dms(&["job", "logs", &ends]).stdout, "done\n", "one result");
    assert_eq!(attempts(&requester_home, &spins).len(), 2, "and no third attempt");
    cancel(&requester_home, &requester, &spins);
    other.wait_until_all_is_free();
}

/// The largest file of the books that the node cannot start without, in bytes: what its options are.
fn largest_needed(home: &Home) -> u64 {
    let files = std::fs::read_dir(home.path().join("db")).expect("the books lie there");
    let files = files.map(|file| file.expect("the directory can be read"));
    let options = files.filter(|file| file.file_name().to_string_lossy().starts_with("OPTIONS"));
    options.map(|file| file.metadata().expect("it is there").len()).max().expect("there are options")
}

#[test]
fn a_provider_whose_disk_is_full_says_so_and_is_left_alone_until_it_has_room() {
    let (full_home, other_home, requester_home) = (Home::new(), Home::new(), Home::new());
    full_home.onboard("2", "1GiB");
    // No file may grow beyond what is needed to start and a little more. POSIX counts in blocks of 512 bytes; without
    // the trap the first write that is too much would end the process.
    let blocks = largest_needed(&full_home) / 512 + 16;
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let arguments = [&LOOPBACK_TCP[..], &["--open"]].concat();
    let full = full_home.start_under(&["sh", "-c", &script, "sh"], &arguments);
    let requester = requester_home.start(&["--open", "--bootstrap", &full.address()]);
    requester.wait_for_providers(1);

    // What a job consists of is in its contract, which the provider must keep.
    let ballast = "x".repeat(16 * 1024);
    let hello = example("programs/hello.wat");
    let is_full = || full_home.json(&["status"])["mode"]["mode"] == "read_only";
    let caught = (0..64).find_map(|_| {
        let run = requester_home.dms(&["job", "run", "--detach", "--wasm", &hello, "--", &ballast]);
        assert!(run.status.success(), "{run}");
        let job = run.stdout.trim().to_owned();
        wait_for("the end of the job, or of the disk", || {
            let view = requester_home.json(&["job", "show", &job]);
            if view["phase"] == "succeeded" || is_full() { Ok(()) } else { Err(view) }
        });
        is_full().then_some(job)
    });
    let job = caught.expect("the disk is full after 64 jobs of 16 KiB");
    let status = full_home.dms(&["status"]).stdout;
    assert!(status.contains("read-only") && status.contains("File too large"), "it says why: {status}");
    wait_for("the word that it is read-only", || {
        let peers = requester_home.json(&["peers"]);
        if peers[0]["status"]["status"]["mode"] == "read_only" { Ok(()) } else { Err(peers) }
    });

    // The job that was caught in between, and those after it, go to whoever has room.
    let other = other_home.onboard("2", "1GiB").start(&["--open", "--bootstrap", &requester.address()]);
    let explain = |job: &str| requester_home.json(&["job", "explain", job]).to_string();
    let view = requester.wait_for_job(&job, &["succeeded"]);
    // The write that failed may have been the very last about it.
    let was_caught = view["provider"] == other.did();
    assert!(!was_caught || explain(&job).contains("cannot write its books"), "{}", explain(&job));
    for _ in 0..3 {
        assert_eq!(run_hello(&requester_home, &requester), other.did());
        let last = requester_home.json(&["job", "ls"])[0]["id"].as_str().unwrap_or_default().to_owned();
        assert!(explain(&last).contains(&other.did()), "{}", explain(&last));
        assert!(!explain(&last).contains(&full.did()), "it was not even asked: {}", explain(&last));
    }

    // Without the limit it is whole again, and offers itself.
    let (status, log) = full.stop();
    assert!(status.success(), "{log}");
    let full = full_home.start(&["--open", "--bootstrap", &requester.address()]);
    full.wait_until_all_is_free();
    assert_eq!(full_home.json(&["status"])["mode"]["mode"], "serving");
    other.stop();
    assert_eq!(run_hello(&requester_home, &requester), full.did());
    full.wait_until_all_is_free();
}

#[test]
fn a_port_that_is_taken_is_named_and_leaves_nothing_behind() {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let neighbour_home = Home::new();
    let both = [LOOPBACK_QUIC, LOOPBACK_TCP].concat();
    let neighbour = neighbour_home.start_under(&[], &both);
    let neighbours = neighbour.ready["addresses"].as_array().cloned().unwrap_or_default();
    assert_eq!(neighbours.len(), 2, "{}", neighbour.ready);
    let mut taken = vec![
        format!("/ip4/127.0.0.1/tcp/{}", tcp.local_addr().unwrap().port()),
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port()),
    ];
    // Another node's: libp2p lets its own sockets share ports.
    taken.extend(neighbours.iter().map(|address| {
        let address = address.as_str().unwrap_or_default();
        address.split("/p2p/").next().unwrap_or_default().to_owned()
    }));
    let home = Home::new();
    for address in &taken {
        // Beside one that is free: half a node is none.
        let run = home.run_in_vain(&[&LOOPBACK_TCP[..], &["--listen", address]].concat());
        assert_eq!(run.code(), Some(1), "{address}: {run}");
        assert_eq!(run.stdout, "", "it was never ready");
        let says = |what: &str| assert!(run.stderr.contains(what), "{what}: {run}");
        says(address);
        says("in use");
        says("hint: choose other addresses with --listen");
        assert!(!home.path().join("api.sock").exists(), "no socket is left");
    }
    let node = home.start(&[]);
    node.stop();
    drop((tcp, udp));
    // What was taken is free again for whoever comes next.
    let node = home.start_under(&[], &["--listen", &taken[0], "--listen", &taken[1]]);
    assert_eq!(node.ready["addresses"].as_array().map(Vec::len), Some(2), "{}", node.ready);
}

/// A network of its own with nothing but loopback, for as long as it lives; none where the system does not let us.
fn loopback_alone() -> Option<(Killed, Vec<String>)> {
    let script = "ip link set lo up && echo up && exec cat";
    let holder = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut holder = Killed(holder.ok()?);
    let mut line = String::new();
    let stdout = holder.0.stdout.take().expect("it is piped");
    // It says something or ends.
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).ok()?;
    let enter = ["nsenter", "--preserve-credentials", "--user", "--net", "--target"].map(str::to_owned);
    let enter: Vec<String> = enter.into_iter().chain([holder.0.id().to_string(), "--".to_owned()]).collect();
    let tried = Command::new(&enter[0]).args(&enter[1..]).arg("true").stderr(Stdio::null()).status();
    (line == "up\n" && tried.is_ok_and(|status| status.success())).then_some((holder, enter))
}

#[test]
fn a_host_with_nothing_but_loopback_is_a_mesh_of_its_own() {
    let Some((_holder, enter)) = loopback_alone() else {
        return skip("a mesh on a host with nothing but loopback: no network namespace can be made here");
    };
    let enter: Vec<&str> = enter.iter().map(String::as_str).collect();
    let (provider_home, requester_home) = (Home::new(), Home::new());
    // With default settings: it listens everywhere, and looks for others where nobody can be.
    let provider = provider_home.onboard("2", "1GiB").start_under(&enter, &["--open"]);
    let requester = requester_home.start_under(&enter, &["--open", "--bootstrap", &provider.address()]);
    assert!(provider.address().contains("/127.0.0.1/"), "{}", provider.ready);
    requester.wait_for_providers(1);
    assert_eq!(run_hello(&requester_home, &requester), provider.did());
    provider.wait_until_all_is_free();
}

#[test]
fn a_mesh_over_quic_alone_runs_jobs_and_notices_a_kill() {
    let (first_home, second_home, requester_home) = (Home::new(), Home::new(), Home::new());
    let alone = [&LOOPBACK_QUIC[..], &["--open"]].concat();
    let first = first_home.onboard("2", "1GiB").start_under(&[], &alone);
    let address = first.address();
    let requester = requester_home.start_under(&[], &[&alone[..], &["--bootstrap", &address]].concat());
    requester.wait_for_providers(1);
    assert_eq!(requester_home.json(&["peers"])[0]["transport"], "quic");
    assert_eq!(run_hello(&requester_home, &requester), first.did());
    let job = detach(&requester_home, &example("programs/spin.wat"));
    requester.wait_for_job(&job, &["running"]);
    let address = requester.address();
    let second =
        second_home.onboard("2", "1GiB").start_under(&[], &[&alone[..], &["--bootstrap", &address]].concat());
    requester.wait_for_providers(2);
    first.kill();
    wait_for_second_attempt(&requester_home, &job, &second.did());
    cancel(&requester_home, &requester, &job);
    second.wait_until_all_is_free();
}

/// The peers of which a node knows anything.
fn known_peers(home: &Home) -> Vec<String> {
    let peers = home.json(&["peers"]).as_array().cloned().unwrap_or_default();
    peers.iter().filter_map(|peer| peer["did"].as_str().map(str::to_owned)).collect()
}

#[test]
fn two_meshes_on_one_host_stay_apart() {
    let (ours_home, theirs_home) = (Home::new(), Home::new());
    let (our_requester_home, their_requester_home) = (Home::new(), Home::new());
    let (ours, theirs) = (mesh_of_our_own("ours"), mesh_of_our_own("theirs"));
    // Default addresses and mDNS, and one that is even told to dial into the other mesh.
    let our_provider = ours_home.onboard("2", "1GiB").start_under(&[], &["--open", "--network", &ours]);
    let their_provider = theirs_home.onboard("2", "1GiB").start_under(&[], &["--open", "--network", &theirs]);
    let (our_address, their_address) = (our_provider.address(), their_provider.address());
    let bootstraps = ["--open", "--bootstrap", &our_address, "--bootstrap", &their_address];
    let our_requester =
        our_requester_home.start_under(&[], &[&bootstraps[..], &["--network", &ours]].concat());
    let their_requester =
        their_requester_home.start_under(&[], &[&bootstraps[..], &["--network", &theirs]].concat());
    for (home, requester, provider) in [
        (&our_requester_home, &our_requester, &our_provider),
        (&their_requester_home, &their_requester, &their_provider),
    ] {
        requester.wait_for_providers(1);
        for _ in 0..3 {
            assert_eq!(run_hello(home, requester), provider.did());
        }
    }
    for (home, mesh) in [
        (&our_requester_home, [our_provider.did(), our_requester.did()]),
        (&ours_home, [our_provider.did(), our_requester.did()]),
        (&their_requester_home, [their_provider.did(), their_requester.did()]),
        (&theirs_home, [their_provider.did(), their_requester.did()]),
    ] {
        let foreign: Vec<Value> = home.json(&["peers"]).as_array().cloned().unwrap_or_default();
        let foreign = foreign.into_iter().filter(|peer| mesh.iter().all(|did| peer["did"] != **did));
        for peer in foreign {
            // A connection that nobody has named its mesh on yet may be seen; it is never more than that.
            assert!(peer["advert"].is_null() && peer["status"].is_null(), "{peer}");
        }
        assert!(!known_peers(home).is_empty());
    }
}

/// True if what this host says to a group of the local network comes back to it.
fn hears_itself_by_multicast() -> std::io::Result<()> {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send_to(b"dms", (group, socket.local_addr()?.port()))?;
    socket.recv(&mut [0; 8]).map(drop)
}

#[test]
fn nodes_of_one_local_network_find_each_other_unasked() {
    if let Err(error) = hears_itself_by_multicast() {
        return skip(&format!("nodes that find each other by mDNS: no multicast here: {error}"));
    }
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let mesh = mesh_of_our_own("found");
    let arguments = ["--open", "--network", &mesh];
    let provider = provider_home.onboard("2", "1GiB").start_under(&[], &arguments);
    let requester = requester_home.start_under(&[], &arguments);
    requester.wait_for_providers(1);
    assert_eq!(run_hello(&requester_home, &requester), provider.did());
    assert_eq!(known_peers(&requester_home), [provider.did()]);
}

#[test]
fn a_provider_that_joins_a_hub_later_is_known_to_who_is_there_and_gets_its_job() {
    let (hub_home, requester_home, provider_home) = (Home::new(), Home::new(), Home::new());
    let hub = hub_home.start(&["--open", "--no-mdns"]);
    let address = hub.address();
    let arguments = ["--open", "--no-mdns", "--bootstrap", &address];
    let requester = requester_home.start(&arguments);
    wait_for("the hub", || match known_peers(&requester_home) {
        known if known == [hub.did()] => Ok(()),
        known => Err(known),
    });
    // It waits for somebody to come.
    let job = detach(&requester_home, &example("programs/hello.wat"));
    requester.wait_for_job(&job, &["bidding"]);
    let provider = provider_home.onboard("2", "1GiB").start(&arguments);
    let view = requester.wait_for_job(&job, &["succeeded", "failed"]);
    assert_eq!((&view["phase"], &view["provider"]), (&"succeeded".into(), &provider.did().into()), "{view}");
    provider.wait_until_all_is_free();
}
