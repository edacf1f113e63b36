//! Two nodes of which one has lost a word, or a part of its books, find it by comparing what they share.

use dms_messages::*;
use dms_storage::books::AttemptState;
use dms_tests::pair::{HandMade, PROVIDER, REQUESTER, World, is_state, is_whole, wait_until};

/// One of the two has found that their books differ, and says so: which of them depends on whose word came first.
async fn assert_found(requester: &HandMade, provider: &HandMade) {
    let found = requester.status().await.difference_count + provider.status().await.difference_count;
    assert!(found > 0, "nobody says that the books differed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_acceptance_is_given_again() {
    let world = World::default();
    let [requester, provider] = world.pair([&[], &["dms.accepted/1", "dms.allocation-status/1"]]).await;
    requester.submit().await;
    // By now the acceptance and both reports were said, and lost.
    provider.allocation("a running program", |view| is_state(view, &AllocationState::Running)).await;
    let row = requester.job("the attempt", |row| row.current_attempt().is_some()).await;
    assert_eq!(row.current_attempt().unwrap().state, AttemptState::Invoked);
    // Lost on a link that breaks, which takes a moment: it is over when the comparison has found what is missing.
    wait_until("a difference", async || {
        let counts = (requester.status().await.difference_count, provider.status().await.difference_count);
        (counts != (0, 0)).then_some(())
    })
    .await;
    provider.lose(&[]);
    let row = requester.job("the countersignature", |row| row.attempts[0].allocation.is_some()).await;
    assert_eq!(row.attempts.len(), 1);
    requester
        .job("the report", |row| {
            row.attempts[0].state == AttemptState::Observed { state: AllocationState::Running }
        })
        .await;
    assert_found(&requester, &provider).await;

    provider.executor.may_end.send_replace(true);
    let row = requester.job("the end", |row| row.phase.is_terminal()).await;
    assert_eq!((row.end, row.attempts.len()), (Some(JobEnd::Succeeded), 1));
    requester.stop().await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_report_of_the_end_is_told_again() {
    let world = World::default();
    let [requester, provider] = world.pair([&[], &[]]).await;
    requester.submit().await;
    let running = AttemptState::Observed { state: AllocationState::Running };
    requester
        .job("a running program", |row| row.current_attempt().is_some_and(|it| it.state == running))
        .await;
    provider.lose(&["dms.allocation-status/1"]);
    provider.executor.may_end.send_replace(true);
    provider.allocation("the end", |view| is_state(view, &AllocationState::Succeeded)).await;
    let row = requester.job("the attempt", |_| true).await;
    assert_eq!(row.attempts[0].state, running, "it has not heard");
    provider.lose(&[]);
    let row = requester.job("the end", |row| row.phase.is_terminal()).await;
    assert_eq!((row.end, row.attempts.len()), (Some(JobEnd::Succeeded), 1));
    provider.allocation("the acknowledgement", |view| view.is_acknowledged == Some(true)).await;
    requester.stop().await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_acknowledgement_is_said_again() {
    let world = World::default();
    let [requester, provider] = world.pair([&["dms.acknowledge/1"], &[]]).await;
    provider.executor.may_end.send_replace(true);
    requester.submit().await;
    let row = requester.job("the end", |row| row.phase.is_terminal()).await;
    assert_eq!(row.end, Some(JobEnd::Succeeded));
    let view = provider.allocation("the end", |_| true).await;
    assert_eq!(view.is_acknowledged, Some(false));
    requester.lose(&[]);
    provider.allocation("the acknowledgement", |view| view.is_acknowledged == Some(true)).await;
    assert_found(&requester, &provider).await;
    requester.stop().await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_restored_from_an_older_copy_disowns_what_it_does_not_know() {
    let world = World::default();
    let [requester, mut provider] = world.pair([&["dms.allocation-status-request/1"], &[]]).await;
    // A copy from before the job.
    let copy = provider.engine.crash();
    requester.submit().await;
    let running = AttemptState::Observed { state: AllocationState::Running };
    requester
        .job("a running program", |row| row.current_attempt().is_some_and(|it| it.state == running))
        .await;
    // It takes the place of the one before at once: a provider that is gone would be lost, which is another story.
    let before = std::mem::replace(&mut provider, world.node(PROVIDER, copy, &[]));
    before.stop().await;
    world.meet(&requester, &provider).await;
    let row = requester
        .job("the second attempt", |row| row.attempts.len() == 2 && row.attempts[1].state == running)
        .await;
    assert!(
        matches!(row.attempts[0].state, AttemptState::Refused { reason: RefusedReason::UnknownAttempt }),
        "{row:?}"
    );
    provider.executor.may_end.send_replace(true);
    let row = requester.job("the end", |row| row.phase.is_terminal()).await;
    assert_eq!(row.end, Some(JobEnd::Succeeded));
    is_whole(&provider).await;
    requester.stop().await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requester_that_forgot_has_its_programs_stopped_and_let_go() {
    let world = World::default();
    let [requester, provider] = world.pair([&[], &[]]).await;
    let copy = requester.engine.crash();
    requester.submit().await;
    provider.allocation("a running program", |view| is_state(view, &AllocationState::Running)).await;
    requester.stop().await;
    let requester = world.node(REQUESTER, copy, &[]);
    world.meet(&requester, &provider).await;
    let stopped = AllocationState::Stopped { cause: StopCause::Superseded };
    provider.allocation("the stop", |view| is_state(view, &stopped)).await;
    provider.allocation("the acknowledgement", |view| view.is_acknowledged == Some(true)).await;
    is_whole(&provider).await;
    requester.stop().await;
    provider.stop().await;
}
