//! Messages to programs that run: through the command line that people use, and through the runtime that others embed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use dms_actors::{AskError, RefusalCode};
use dms_messages::{
    AllocationId, AllocationMessage, AllocationRefusal, AllocationState, MAX_MESSAGE_LENGTH, MessageContent,
};
use dms_node::allocation::route::{
    AllocationTarget, CheckAllocationStatus, CheckedAllocation, RouteError, RouteToAllocation,
};
use dms_node::allocation::{ALLOCATIONS_PATH, path_of};
use dms_node::executors::inbox::{INBOX_BYTES, INBOX_MESSAGES};
use dms_node::listings::Role;
use dms_storage::MemoryEngine;
use dms_tests::pair::{HandMade, World, is_state, key, wait_until};
use dms_tests::requester::Requester;
use dms_tests::{DEADLINE, Home, Run, example, pair, wait_for};

/// Starts the program that waits for messages, and gives the id of its job and of its allocation, once it runs.
fn start_mailbox(home: &Home, count: &str) -> (String, String) {
    let program = example("programs/mailbox.wasm");
    let run = home.dms(&["job", "run", "--detach", "--wasm", &program, "--", count]);
    assert_eq!(run.code(), Some(0), "{run}");
    let job = run.stdout.trim().to_owned();
    let allocation = wait_for("the allocation", || {
        let list = home.json(&["alloc", "ls"]);
        let found = list.as_array().unwrap().iter().find(|view| view["attempt"]["job"] == job.as_str());
        found.map(|view| view["id"].as_str().unwrap().to_owned()).ok_or(list)
    });
    (job, allocation)
}

/// Sends as soon as the program listens; until then the command says to try again.
fn send(home: &Home, arguments: &[&str]) -> Run {
    wait_for("a program that listens", || {
        let run = home.dms(&[&["alloc", "send"], arguments].concat());
        if run.code() == Some(75) { Err(run) } else { Ok(run) }
    })
}

#[test]
fn a_job_ends_with_what_its_requester_and_its_provider_told_it() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let (job, id) = start_mailbox(&requester_home, "2");

    // The requester, by the beginning of the id, which the provider is asked about now.
    let run = send(&requester_home, &[&id[..8], "hello", "--wait"]);
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), "1 more\n"), "{run}");
    let stands = requester_home.json(&["alloc", "status", &id[..8]]);
    assert_eq!((&stands["is_asked"], &stands["role"]), (&true.into(), &"requester".into()), "{stands}");
    assert_eq!(stands["provider"], provider.did());
    assert_eq!(stands["report"]["state"]["state"], "running", "{stands}");
    assert_eq!(stands["report"]["usage"]["messages"], 1, "{stands}");
    let text = requester_home.dms(&["alloc", "status", &id]);
    assert!(text.stdout.contains("1 (0 not read yet)") && text.stdout.contains("just now"), "{text}");
    // The provider's owner: it runs here.
    let here = provider_home.json(&["alloc", "status", &id]);
    assert_eq!((&here["is_asked"], &here["role"]), (&false.into(), &"provider".into()), "{here}");

    // What is no message is wrong usage, before anybody is asked.
    let long = "x".repeat(MAX_MESSAGE_LENGTH + 1);
    for wrong in [&[id.as_str(), &long][..], &[&id, "x", "--type", "a b"], &["--to", "did:key:x/y", "x"], &[]]
    {
        let run = requester_home.dms(&[&["alloc", "send"], wrong].concat());
        assert_eq!(run.code(), Some(2), "{run}");
    }
    let unknown = requester_home.dms(&["alloc", "send", "ffffffff", "x"]);
    assert_eq!(unknown.code(), Some(1), "{unknown}");
    assert!(unknown.stderr.contains("no allocation ffffffff is known here"), "{unknown}");

    // The provider's owner has the last word.
    let run = send(&provider_home, &[&id, "and good bye", "--wait", "--json"]);
    let sent: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&sent["reply"]["text"], &sent["reply"]["type"]), (&"0 more\n".into(), &"text/plain".into()));
    requester.wait_for_job(&job, &["succeeded"]);
    let log = requester_home.dms(&["job", "logs", &job]);
    assert_eq!(log.stdout, "waiting\n1: hello\n2: and good bye\n", "{log}");

    // Now it is over, and both know it.
    for home in [&requester_home, &provider_home] {
        let late = home.dms(&["alloc", "send", &id, "too late"]);
        assert_eq!(late.code(), Some(1), "{late}");
        assert!(late.stderr.contains("the program has ended"), "{late}");
        let stands = home.json(&["alloc", "status", &id]);
        assert_eq!(stands["report"]["state"]["state"], "succeeded", "{stands}");
        assert!(stands["report"]["result"]["wall"].is_number(), "{stands}");
    }
    provider.wait_until_all_is_free();
}

#[test]
fn nobody_speaks_to_anothers_program_but_whom_a_token_lets() {
    let (provider_home, requester_home, other_home) = (Home::new(), Home::new(), Home::new());
    let (provider, requester) = pair(&provider_home, &requester_home);
    let (job, id) = start_mailbox(&requester_home, "1");
    wait_for("the program", || {
        let stands = requester_home.json(&["alloc", "status", &id]);
        if stands["report"]["state"]["state"] == "running" { Ok(()) } else { Err(stands) }
    });
    let address = format!("{}{ALLOCATIONS_PATH}{id}", provider.did());
    let bootstrap = ["--open", "--bootstrap", &provider.address()];
    let other = other_home.start(&bootstrap);
    other.wait_for_providers(1);
    let refused = other_home.dms(&["alloc", "send", "--to", &address, "let me in"]);
    assert_eq!(refused.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("the allocation is another's"), "{refused}");
    let refused = other_home.dms(&["alloc", "status", &address]);
    assert!(refused.stderr.contains("the allocation is another's"), "{refused}");

    // The provider lets this node speak to this one allocation.
    let ability = format!("/dms/allocation/{id}");
    let granted = provider_home.json(&["token", "grant", &other_home.did(), "--ability", &ability]);
    let kept = other_home.dms(&["token", "keep", granted["text"].as_str().unwrap()]);
    assert_eq!(kept.code(), Some(0), "{kept}");
    // Tokens are shown when a link opens.
    assert!(other.stop().0.success());
    let other = other_home.start(&bootstrap);
    other.wait_for_providers(1);
    let run = send(&other_home, &["--to", &address, "let me in", "--wait"]);
    assert_eq!((run.code(), run.stdout.as_str()), (Some(0), "0 more\n"), "{run}");
    requester.wait_for_job(&job, &["succeeded"]);
    let gone = other_home.dms(&["alloc", "send", "--to", &address, "again"]);
    assert!(gone.stderr.contains("the program has ended"), "{gone}");
}

/// A body that nobody can read as a message, under its kind.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Garbage {
    nonsense: u8,
}
dms_actors::wire_message!(Garbage, "dms.allocation-message", 1);

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_message_is_refused_before_its_body_is_read() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    let (_, id) = start_mailbox(&requester_home, "1");
    let path = path_of(id.parse().unwrap());
    let stranger = Requester::new(7, &provider).await;
    let refused = stranger.ask_at(&path, Garbage { nonsense: 1 }).await.unwrap_err();
    assert!(matches!(&refused, AskError::Refused(it) if it.code == RefusalCode::NotTrusted), "{refused:?}");
    // Where nobody is, it is known well enough on an open node to be told so; the body is still not read.
    let nobody = path_of(AllocationId::from_random([1; 16]));
    let refused = stranger.ask_at(&nobody, Garbage { nonsense: 1 }).await.unwrap_err();
    assert!(matches!(&refused, AskError::Refused(it) if it.code == RefusalCode::UnknownPath), "{refused:?}");
    stranger.stop().await;
}

#[test]
fn a_program_of_a_node_that_was_killed_is_gone_and_not_silent() {
    let (provider_home, requester_home) = (Home::new(), Home::new());
    let (provider, _requester) = pair(&provider_home, &requester_home);
    let (_, id) = start_mailbox(&requester_home, "1");
    wait_for("the program", || {
        let stands = provider_home.json(&["alloc", "status", &id]);
        if stands["report"]["state"]["state"] == "running" { Ok(()) } else { Err(stands) }
    });
    let address = format!("{}{ALLOCATIONS_PATH}{id}", provider.did());
    provider.kill();
    let _again = provider_home.start(&["--open"]);
    let gone = provider_home.dms(&["alloc", "send", "--to", &address, "anybody?"]);
    assert_eq!(gone.code(), Some(1), "{gone}");
    assert!(gone.stderr.contains("the program has ended"), "{gone}");
    let stands = provider_home.json(&["alloc", "status", &id]);
    assert_eq!(stands["report"]["state"]["cause"]["cause"], "node_restarted", "{stands}");
}

fn content(length: usize) -> MessageContent {
    MessageContent::new("x", vec![7; length]).unwrap()
}

async fn route(
    node: &HandMade,
    to: &AllocationTarget,
    length: usize,
    wants_reply: bool,
) -> Result<Option<MessageContent>, RouteError> {
    let message = AllocationMessage { content: content(length), wants_reply };
    let route = RouteToAllocation { to: to.clone(), message, patience: DEADLINE };
    let answer = node.node.ask(route).timeout(DEADLINE).await.unwrap();
    answer.map(|delivered| delivered.reply)
}

async fn check(node: &HandMade, of: &AllocationTarget) -> Result<CheckedAllocation, RouteError> {
    node.node.ask(CheckAllocationStatus { of: of.clone() }).timeout(DEADLINE).await.unwrap()
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, RouteError>) -> AllocationRefusal {
    match answer {
        Err(RouteError::Refused { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_messages_fills_an_inbox_and_no_more_and_is_taken_up_once_it_is_read() {
    let world = World::default();
    let [requester, provider] = world.pair([&[], &[]]).await;
    requester.submit().await;
    let view = provider.allocation("a run", |view| is_state(view, &AllocationState::Running)).await;
    let to = AllocationTarget::Known(view.id.to_string());
    wait_until("the requester's knowledge of it", async || requester.allocations().await.into_iter().next())
        .await;
    wait_until("the program", async || provider.executor.inbox()).await;

    for (length, most) in [(MAX_MESSAGE_LENGTH - 1, INBOX_BYTES / MAX_MESSAGE_LENGTH), (9, INBOX_MESSAGES)] {
        let mut taken = 0;
        let senders = (0..300).map(|_| route(&requester, &to, length, false));
        for answer in futures::future::join_all(senders).await {
            match answer {
                Ok(reply) => taken += usize::from(reply.is_none()),
                // One of the bounds: of the inbox, or of what this node asks at a time.
                Err(RouteError::Refused { refusal, .. }) => assert_eq!(refusal, AllocationRefusal::InboxFull),
                Err(RouteError::Command(dms_node::commands::CommandError::Busy)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(taken, most, "{length}");
        let checked = check(&requester, &to).await.unwrap();
        assert_eq!((checked.role, checked.is_asked), (Some(Role::Requester), true));
        assert_eq!(checked.report.usage.unwrap().waiting_messages, most as u64);
        let inbox = provider.executor.inbox().unwrap();
        assert_eq!(std::iter::from_fn(|| inbox.try_next()).count(), most);
    }

    // The program has time for it now, and replies to what it reads.
    let inbox = provider.executor.inbox().unwrap();
    let (reply, ()) = tokio::join!(route(&requester, &to, 1, true), async {
        assert!(inbox.next().await.reply(content(2)));
    });
    assert_eq!(reply.unwrap(), Some(content(2)));
    let (reply, ()) = tokio::join!(route(&requester, &to, 1, true), async { drop(inbox.next().await) });
    assert_eq!(reply.unwrap(), None, "the program went on");
    drop(inbox);

    // A third node asks by the address; nothing on these links but the allocation itself keeps it out.
    let address = AllocationTarget::At { provider: key(2).did(), allocation: view.id };
    let stranger = world.node(3, MemoryEngine::new(), &[]);
    world.connect(3, 2);
    assert_eq!(refusal(route(&stranger, &address, 1, false).await), AllocationRefusal::NotYours);
    assert_eq!(refusal(check(&stranger, &address).await), AllocationRefusal::NotYours);
    let nobody =
        AllocationTarget::At { provider: key(2).did(), allocation: AllocationId::from_random([9; 16]) };
    assert_eq!(refusal(route(&stranger, &nobody, 1, false).await), AllocationRefusal::UnknownAllocation);
    assert_eq!(refusal(check(&stranger, &nobody).await), AllocationRefusal::UnknownAllocation);
    let nowhere = AllocationTarget::At { provider: key(9).did(), allocation: view.id };
    let lost = route(&stranger, &nowhere, 1, false).await.unwrap_err();
    assert!(matches!(lost, RouteError::Unreachable { .. }), "{lost:?}");

    provider.executor.may_end.send_replace(true);
    requester.job("its end", |row| row.phase.is_terminal()).await;
    for (node, target) in [(&requester, &to), (&provider, &to), (&stranger, &address)] {
        let told = refusal(route(node, target, 1, false).await);
        let is_his = !std::ptr::eq(node, &stranger);
        assert_eq!(told, if is_his { AllocationRefusal::Ended } else { AllocationRefusal::NotYours });
    }
    assert!(check(&requester, &to).await.unwrap().report.state.is_terminal());
    for node in [requester, provider, stranger] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_reply_learns_of_the_programs_end() {
    let world = World::default();
    let [requester, provider] = world.pair([&[], &[]]).await;
    requester.submit().await;
    let view = provider.allocation("a run", |view| is_state(view, &AllocationState::Running)).await;
    let to = AllocationTarget::At { provider: key(2).did(), allocation: view.id };
    wait_until("the program", async || provider.executor.inbox()).await;
    let waiting = route(&requester, &to, 1, true);
    let ending = async {
        let usage = async || check(&provider, &to).await.unwrap().report.usage;
        wait_until("the message", async || usage().await.filter(|usage| usage.messages == 1)).await;
        provider.executor.may_end.send_replace(true);
    };
    let (reply, ()) = tokio::join!(waiting, ending);
    assert!(matches!(reply, Ok(None) | Err(RouteError::Lost { .. })), "{reply:?}");
    for node in [requester, provider] {
        node.stop().await;
    }
}
