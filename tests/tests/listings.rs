//! What people see of a mesh's business: after a job every list shows it on both sides, a contract proves
//! itself to anybody, and a machine that was offered can be taken back.

use dms_tests::{Home, Node, example, pair, wait_for};
use serde_json::Value;

/// A job that has run on the other node.
fn ran(requester: &Home) -> String {
    let run = requester.dms(&["job", "run", "--wasm", &example("programs/hello.wat")]);
    assert_eq!(run.code(), Some(0), "{run}");
    text(&requester.json(&["job", "ls"])[0]["id"])
}

/// A job that runs on the other node until somebody stops it.
fn running(requester_home: &Home, requester: &Node<'_>) -> String {
    let spin = example("programs/spin.wat");
    let job = text(&requester_home.json(&["job", "run", "--detach", "--wasm", &spin])["job"]);
    requester.wait_for_job(&job, &["running"]);
    job
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

#[track_caller]
fn shows(home: &Home, words: &[&str], expected: &[&str]) {
    let run = home.dms(words);
    assert_eq!(run.code(), Some(0), "{words:?}: {run}");
    for part in expected {
        assert!(run.stdout.contains(part), "{words:?} does not show {part}: {run}");
    }
}

#[test]
fn every_list_shows_a_job_on_both_sides() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let job = ran(&requester_home);
    let short = &job[..8];

    let sent = requester_home.json(&["bid-request", "ls", "--sent"]);
    let received = provider_home.json(&["bid-request", "ls", "--received"]);
    assert_eq!((&sent[0]["job"], &received[0]["job"]), (&job.as_str().into(), &job.as_str().into()));
    assert_eq!(sent[0]["id"], received[0]["id"]);
    assert_eq!((&sent[0]["bid_count"], &sent[0]["winner"]), (&1.into(), &provider.did().into()));
    assert_eq!(received[0]["requester"], requester.did());
    assert_eq!(requester_home.json(&["bid-request", "ls", "--received"]), serde_json::json!([]));
    shows(&requester_home, &["bid-request", "ls"], &["sent", short, "this node", "1 bid, won by z6Mk"]);
    shows(&provider_home, &["bid-request", "ls"], &["received", short, "bid\n"]);

    let request = text(&sent[0]["id"]);
    let got = requester_home.json(&["bid", "ls", "--request", &request[..8]]);
    let made = provider_home.json(&["bid", "ls", "--sent"]);
    assert_eq!(got["bids"][0]["id"], made["bids"][0]["id"]);
    assert_eq!(got["bids"][0]["peer"], provider.did(), "the whole DID");
    assert_eq!(got["bids"][0]["outcome"], serde_json::json!({ "outcome": "chosen", "attempt": 1 }));
    assert_eq!(made["bids"][0]["outcome"]["outcome"], "taken");
    shows(&requester_home, &["bid", "ls"], &["received", "won (try 1)", "free"]);
    shows(&provider_home, &["bid", "ls"], &["sent", "taken: "]);

    // The provider's last word may still be on its way.
    let here = wait_for("the acknowledgement", || {
        let list = provider_home.json(&["alloc", "ls"]);
        if list[0]["is_acknowledged"] == true { Ok(list) } else { Err(list) }
    });
    let there = requester_home.json(&["alloc", "ls"]);
    assert_eq!((&here[0]["role"], &there[0]["role"]), (&"provider".into(), &"requester".into()));
    for key in ["id", "requester", "provider", "attempt", "contract", "bid", "resources", "price"] {
        assert_eq!(here[0][key], there[0][key], "{key}");
    }
    assert_eq!(here[0]["id"], made["bids"][0]["outcome"]["allocation"]);
    let id = text(&here[0]["id"]);
    let contract = text(&here[0]["contract"]);
    for home in [&provider_home, &requester_home] {
        shows(home, &["alloc", "ls"], &[&id[..8], short, "succeeded"]);
        shows(
            home,
            &["alloc", "show", &id[..8]],
            &[&id, &job, &contract, "(this node)", "peak memory", "stdout"],
        );
        shows(home, &["contract", "ls"], &[&contract[..18], short, "both"]);
        for name in [&contract[..18], short, &id[..8]] {
            shows(home, &["contract", "show", name], &[&contract, &provider.did(), &requester.did(), "ago)"]);
        }
        assert_eq!(home.json(&["contract", "ls"])[0]["cid"], contract.as_str());
    }

    shows(&requester_home, &["peers"], &["tcp", "1 GiB memory", "yes"]);
    let peers = provider_home.json(&["peers"]);
    assert_eq!((&peers[0]["did"], &peers[0]["is_connected"]), (&requester.did().into(), &true.into()));
    assert_eq!(peers[0]["advert"], Value::Null, "a node that offers nothing");
}

#[test]
fn what_is_declined_is_listed_with_the_code_and_the_reason_on_both_sides() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    let hello = example("programs/hello.wat");
    let run = requester_home.dms(&["job", "run", "--wasm", &hello, "--memory", "8GiB"]);
    assert_eq!(run.code(), Some(69), "{run}");
    let request = text(&requester_home.json(&["bid-request", "ls"])[0]["id"]);
    let declined = requester_home.json(&["bid", "ls", "--request", &request]);
    assert_eq!(declined["bids"], serde_json::json!([]));
    assert_eq!(declined["declines"][0]["provider"], provider.did());
    assert_eq!(declined["declines"][0]["code"], "too_big");
    let words = ["bid", "ls", "--request", &request];
    let reason = "needs 8 GiB memory, have 1 GiB";
    shows(&requester_home, &words, &["no bids on this request", "too_big", reason]);
    shows(&provider_home, &words, &["this node", "too_big", reason]);
    shows(&provider_home, &["bid-request", "ls"], &["declined: needs 8 GiB memory"]);
}

#[test]
fn lists_without_entries_and_ids_that_mean_nothing_are_told_in_words() {
    let home = Home::new();
    let _node = home.start(&[]);
    for (words, expected) in [
        (vec!["peers"], "no peers yet"),
        (vec!["bid-request", "ls"], "no bid requests yet"),
        (vec!["bid", "ls"], "no bids yet"),
        (vec!["alloc", "ls"], "no allocations yet"),
        (vec!["contract", "ls"], "no contracts yet"),
        (vec!["capability", "locks"], "no locks"),
    ] {
        shows(&home, &words, &[expected]);
    }
    let table: [(&[&str], i32, &str); 8] = [
        (&["job", "show", "00000000"], 1, "begins with 00000000"),
        (&["alloc", "show", "00000000"], 1, "no allocation 00000000 is known"),
        (&["contract", "show", "bafi"], 1, "no contract bafi is known"),
        (&["bid", "ls", "--request", "00000000"], 1, "no bid request 00000000 is known"),
        (&["bid", "ls", "--after", "00000000"], 1, "no bid 00000000 is known"),
        (&["alloc", "show", "a/b?c"], 2, "not an id"),
        (&["bid", "ls", "--request", ""], 2, "not an id"),
        (&["contract", "show", "x&limit=9"], 2, "not an id"),
    ];
    for (words, code, message) in table {
        let run = home.dms(words);
        assert_eq!(run.code(), Some(code), "{words:?}: {run}");
        assert!(run.stderr.contains(message), "{words:?}: {run}");
    }
}

#[test]
fn lists_come_in_pages_newest_first() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (_provider, _requester) = pair(&provider_home, &requester_home);
    let jobs: Vec<String> = (0..3).map(|_| ran(&requester_home)).collect();
    for noun in ["alloc", "contract"] {
        let mut seen = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut words = vec![noun, "ls", "--limit", "1"];
            words.extend(after.as_deref().map(|id| ["--after", id]).into_iter().flatten());
            let page = requester_home.json(&words);
            let entries = page.as_array().unwrap();
            let Some(entry) = entries.first() else { break };
            assert_eq!(entries.len(), 1);
            seen.push(text(&entry["attempt"]["job"]));
            after = Some(text(entry.get("cid").unwrap_or(&entry["id"])));
        }
        let newest_first: Vec<&String> = jobs.iter().rev().collect();
        // Signatures count whole seconds: contracts of one second are in the order of their CIDs.
        if noun == "alloc" {
            assert_eq!(seen.iter().collect::<Vec<_>>(), newest_first);
        } else {
            seen.sort();
            let mut all = jobs.clone();
            all.sort();
            assert_eq!(seen, all);
        }
    }
    let page = requester_home.dms(&["alloc", "ls", "--limit", "2"]);
    assert_eq!(page.stdout.lines().count(), 3, "{page}");
    assert!(page.stderr.contains("alloc ls --data") && page.stderr.contains("--after"), "{page}");
}

#[test]
fn a_contract_written_by_either_party_proves_itself_to_anybody() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let job = ran(&requester_home);
    let directory = Home::new();
    let [ours, theirs] = ["ours", "theirs"].map(|name| directory.path().join(name));
    for (home, file) in [(&requester_home, &ours), (&provider_home, &theirs)] {
        let show = home.dms(&["contract", "show", &job, "--out", file.to_str().unwrap()]);
        assert_eq!(show.code(), Some(0), "{show}");
        assert!(show.stderr.contains("contract verify"), "{show}");
    }
    let again = requester_home.dms(&["contract", "show", &job, "--out", ours.to_str().unwrap()]);
    assert_eq!(again.code(), Some(1), "a file is not replaced: {again}");
    let whole = std::fs::read(&ours).unwrap();
    assert_eq!(whole, std::fs::read(&theirs).unwrap(), "both keep the same bytes");
    let (provider_did, requester_did) = (provider.did(), requester.did());
    provider.stop();
    requester.stop();

    // A home that nobody ever used: nothing is needed, and nothing is made.
    let nobody = Home::new();
    let nowhere = nobody.path().join("none");
    let verify = |file: &std::path::Path| {
        nobody.dms(&["contract", "verify", file.to_str().unwrap(), "--data", nowhere.to_str().unwrap()])
    };
    let proof = verify(&ours);
    assert_eq!(proof.code(), Some(0), "{proof}");
    for part in [&*provider_did, &*requester_did, &*job, "not checked", "the contract holds", "free"] {
        assert!(proof.stdout.contains(part), "{part}: {proof}");
    }
    assert!(!nowhere.exists(), "a check leaves nothing behind");
    let json = nobody.json(&["contract", "verify", ours.to_str().unwrap()]);
    assert_eq!(json["terms"]["attempt"]["job"], job.as_str());
    assert_eq!(json["provider"]["signer"], provider_did.as_str());

    let changed = |name: &str, change: fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        let file = directory.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let run = verify(&file);
        assert_eq!(run.code(), Some(1), "{name}: {run}");
        assert!(!run.stdout.contains("the contract holds"), "{name}: {run}");
        run.stderr
    };
    let middle = |bytes: &mut Vec<u8>| {
        let at = bytes.len() / 3;
        bytes[at] ^= 1;
    };
    assert!(changed("flipped", middle).contains("does not hold"));
    assert!(changed("cut", |bytes| bytes.truncate(bytes.len() - 1)).contains("cut short"));
    assert!(changed("longer", |bytes| bytes.push(0)).contains("1 byte that belongs to nothing"));
    assert!(changed("empty", Vec::clear).contains("is empty"));
    let missing = verify(&directory.path().join("missing"));
    assert_eq!(missing.code(), Some(1), "{missing}");
}

#[test]
fn a_machine_is_taken_back_and_offered_again_while_the_node_runs() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    ran(&requester_home);
    let off = provider_home.dms(&["offboard"]);
    assert_eq!(off.code(), Some(0), "{off}");
    assert!(off.stdout.contains("offers nothing any more"), "{off}");
    let again = provider_home.dms(&["offboard"]);
    assert_eq!(again.code(), Some(1), "{again}");
    assert!(again.stderr.contains("offers nothing"), "{again}");
    assert_eq!(provider_home.json(&["capability"])["registered"], Value::Null);
    assert_eq!(provider_home.json(&["status"])["is_onboarded"], false);

    // The requester hears that the offer is taken back.
    wait_for("the provider's advert to be taken back", || {
        let status = requester_home.json(&["status"]);
        if status["peers"][0]["is_provider"] == false { Ok(()) } else { Err(status) }
    });
    assert_eq!(requester_home.json(&["peers"])[0]["advert"], Value::Null);
    let hello = example("programs/hello.wat");
    // Whoever asks all the same, by gossip or by an old advert, gets no bid.
    let run = requester_home.dms(&["job", "run", "--wasm", &hello, "--wait", "1s"]);
    assert!(matches!(run.code(), Some(69 | 75)), "{run}");
    let own = provider_home.dms(&["job", "run", "--wasm", &hello, "--wait", "1s"]);
    assert!(matches!(own.code(), Some(69 | 75)), "{own}");

    provider_home.onboard("1", "512MiB");
    requester.wait_for_providers(1);
    ran(&requester_home);
    provider.wait_until_all_is_free();
}

#[test]
fn what_runs_keeps_a_machine_from_being_taken_back_until_it_ends() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (_provider, requester) = pair(&provider_home, &requester_home);
    let job = running(&requester_home, &requester);
    let refused = provider_home.dms(&["offboard"]);
    assert_eq!(refused.code(), Some(75), "{refused}");
    assert!(refused.stderr.contains("1 allocation runs here") && refused.stderr.contains(&job), "{refused}");
    assert!(refused.stderr.contains("--wait") && refused.stderr.contains("--force"), "{refused}");
    assert_eq!(provider_home.json(&["capability"])["is_offboarding"], false, "a refusal changes nothing");

    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| provider_home.dms(&["offboard", "--wait"]));
        wait_for("no new bids", || {
            let books = provider_home.json(&["capability"]);
            if books["is_offboarding"] == true { Ok(()) } else { Err(books) }
        });
        // What ran goes on, and nothing new begins.
        let hello = example("programs/hello.wat");
        let own = provider_home.dms(&["job", "run", "--wasm", &hello, "--wait", "1s"]);
        assert!(own.stderr.contains("not onboarded"), "{own}");
        assert_eq!(requester_home.json(&["job", "show", &job])["phase"], "running");
        assert!(requester_home.dms(&["job", "cancel", &job]).status.success());
        let done = waiting.join().unwrap();
        assert_eq!(done.code(), Some(0), "{done}");
        assert!(done.stderr.contains("waiting for 1 allocation"), "{done}");
    });
    assert_eq!(provider_home.json(&["capability"])["registered"], Value::Null);
}

#[test]
fn onboarding_again_calls_a_waiting_offboarding_off() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let job = running(&requester_home, &requester);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| provider_home.dms(&["offboard", "--wait"]));
        wait_for("no new bids", || {
            let books = provider_home.json(&["capability"]);
            if books["is_offboarding"] == true { Ok(()) } else { Err(books) }
        });
        provider_home.onboard("2", "1GiB");
        let done = waiting.join().unwrap();
        assert_eq!(done.code(), Some(1), "{done}");
        assert!(done.stderr.contains("called off"), "{done}");
    });
    ran(&requester_home);
    assert!(requester_home.dms(&["job", "cancel", &job]).status.success());
    provider.wait_until_all_is_free();
}

#[test]
fn force_stops_what_runs_with_a_reason_and_the_job_goes_on_elsewhere() {
    let (first_home, second_home, requester_home) = (Home::new(), Home::new(), Home::new());
    let first = first_home.onboard("2", "1GiB").start(&["--open"]);
    let requester = requester_home.start(&["--open", "--bootstrap", &first.address()]);
    requester.wait_for_providers(1);
    let job = running(&requester_home, &requester);
    let second = second_home.onboard("2", "1GiB").start(&["--open", "--bootstrap", &requester.address()]);
    requester.wait_for_providers(2);
    let off = first_home.dms(&["offboard", "--force"]);
    assert_eq!(off.code(), Some(0), "{off}");
    let books = first_home.json(&["capability"]);
    assert_eq!((&books["registered"], &books["allocations"]), (&Value::Null, &serde_json::json!([])));
    shows(&first_home, &["alloc", "ls"], &["stopped: the provider takes its offer back"]);
    wait_for("the job to run elsewhere", || {
        let view = requester_home.json(&["job", "show", &job]);
        let is_there = view["phase"] == "running" && view["provider"] == second.did();
        if is_there { Ok(()) } else { Err(view) }
    });
    // The requester knows why, and how long it ran.
    let first_try = &requester_home.json(&["job", "show", &job])["row"]["attempts"][0];
    assert_eq!(first_try["state"]["state"]["cause"], "offboarding", "{first_try}");
    assert!(first_try["result"]["wall"].as_u64().is_some(), "{first_try}");
    assert!(requester_home.dms(&["job", "cancel", &job]).status.success());
    second.wait_until_all_is_free();
}

#[test]
fn a_node_that_does_not_run_is_taken_back_too_whatever_it_was_killed_with() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let job = running(&requester_home, &requester);
    provider.kill();
    let off = provider_home.dms(&["offboard"]);
    assert_eq!(off.code(), Some(0), "{off}");
    let again = provider_home.dms(&["offboard"]);
    assert_eq!(again.code(), Some(1), "{again}");
    assert!(again.stderr.contains("offers nothing"), "{again}");
    assert!(requester_home.dms(&["job", "cancel", &job]).status.success());

    let node = provider_home.start(&["--open"]);
    let books = provider_home.json(&["capability"]);
    assert_eq!((&books["registered"], &books["allocations"]), (&Value::Null, &serde_json::json!([])));
    shows(&provider_home, &["alloc", "ls"], &["failed: the provider was restarted"]);
    provider_home.onboard("1", "64MiB");
    node.wait_until_all_is_free();

    let never = Home::new();
    let run = never.dms(&["offboard"]);
    assert_eq!(run.code(), Some(1), "{run}");
    assert!(run.stderr.contains("offers nothing"), "{run}");
}

#[test]
fn onboarding_without_a_terminal_asks_for_yes_and_changes_nothing() {
    let home = Home::new();
    let run = home.dms(&["onboard"]);
    assert_eq!(run.code(), Some(2), "{run}");
    assert!(run.stderr.contains("--yes"), "{run}");
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none(), "nothing was made");
}
