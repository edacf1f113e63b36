//! A node whose disk fails takes nothing and says why; when the disk works again it goes on as after a restart.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use dms_messages::*;
use dms_node::commands::{CommandError, NodeMode, NodeStatus, Onboard, SubmitJob};
use dms_storage::EngineError;
use dms_storage::books::AttemptState;
use dms_tests::DEADLINE;
use dms_tests::hand_made::capability;
use dms_tests::pair::{HandMade, World, a_job, is_state, is_whole};

/// Makes the node write something; what it says of it.
async fn write(node: &HandMade) -> Result<(), CommandError> {
    node.node.ask(Onboard { capability: capability() }).timeout(DEADLINE).await.unwrap()
}

fn is_read_only(status: &NodeStatus) -> bool {
    matches!(status.mode, NodeMode::ReadOnly { .. })
}

fn is_serving(status: &NodeStatus) -> bool {
    status.mode == NodeMode::Serving
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_whose_disk_is_full_goes_on_when_there_is_room_again() {
    let world = World::default();
    let [requester, provider] = world.pair([&[], &[]]).await;
    requester.submit().await;
    let running = AttemptState::Observed { state: AllocationState::Running };
    requester
        .job("a running program", |row| row.current_attempt().is_some_and(|it| it.state == running))
        .await;
    let full = EngineError::NoSpace { reason: "a test filled it".to_owned() };
    // More than once: each time is as the first.
    for attempt in 1..=2 {
        provider.engine.fail_with(Some(full.clone()));
        assert!(matches!(write(&provider).await, Err(CommandError::ReadOnly(_))));
        let status = provider.wait("read-only", is_read_only).await;
        let NodeMode::ReadOnly { reason, since, is_retried } = &status.mode else { panic!("{status:?}") };
        assert!(reason.contains("no space is left") && reason.contains("a test filled it"), "{reason}");
        assert!(*is_retried && *since >= status.started, "{status:?}");
        // The requester is told, and would place it elsewhere if there were anywhere.
        requester
            .job("the refusal", |row| {
                let states = row.attempts.iter().map(|it| &it.state);
                states.filter(|state| matches!(state, AttemptState::Refused { .. })).count() == attempt
            })
            .await;
        provider.engine.fail_with(None);
        provider.wait("serving", is_serving).await;
        // What ran could not be recorded as stopped: it is over as after a restart.
        let failed = AllocationState::Failed { cause: FailureCause::NodeRestarted };
        let allocations = provider.allocations().await;
        let over = allocations.iter().filter(|view| is_state(view, &failed)).count();
        assert_eq!(over, attempt, "{allocations:?}");
        requester
            .job("a running program", |row| {
                row.attempts.len() == attempt + 1 && row.attempts[attempt].state == running
            })
            .await;
    }
    provider.executor.may_end.send_replace(true);
    let row = requester.job("the end", |row| row.phase.is_terminal()).await;
    assert_eq!((row.end, row.attempts.len()), (Some(JobEnd::Succeeded), 3));
    is_whole(&provider).await;
    requester.stop().await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requester_whose_disk_failed_takes_its_jobs_up_again() {
    let world = World::default();
    let [requester, provider] = world.pair([&[], &[]]).await;
    requester.submit().await;
    let running = AttemptState::Observed { state: AllocationState::Running };
    requester
        .job("a running program", |row| row.current_attempt().is_some_and(|it| it.state == running))
        .await;
    requester.engine.fail_writes(true);
    // The report of the end cannot be recorded.
    provider.executor.may_end.send_replace(true);
    requester.wait("read-only", is_read_only).await;
    let refused = requester.node.ask(SubmitJob { job: a_job() }).timeout(DEADLINE).await.unwrap();
    assert!(matches!(refused, Err(CommandError::ReadOnly(_))), "{refused:?}");
    let view = provider.allocation("the end", |view| is_state(view, &AllocationState::Succeeded)).await;
    assert_eq!(view.is_acknowledged, Some(false), "nothing is acknowledged that is not on disk");
    requester.engine.fail_writes(false);
    let row = requester.job("the end", |row| row.phase.is_terminal()).await;
    assert_eq!((row.end, row.attempts.len()), (Some(JobEnd::Succeeded), 1));
    provider.allocation("the acknowledgement", |view| view.is_acknowledged == Some(true)).await;
    requester.stop().await;
    provider.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_not_tried_again() {
    let world = World::default();
    let [requester, provider] = world.pair([&[], &[]]).await;
    let damage = EngineError::Damaged { reason: "a checksum does not fit".to_owned() };
    provider.engine.fail_with(Some(damage));
    assert!(write(&provider).await.is_err());
    let status = provider.wait("read-only", is_read_only).await;
    let NodeMode::ReadOnly { reason, is_retried, .. } = &status.mode else { panic!("{status:?}") };
    assert!(!is_retried && reason.contains("a checksum does not fit"), "{reason}");
    // A disk that works is no reason: no timer is armed that could look at it.
    provider.engine.fail_with(None);
    assert!(matches!(write(&provider).await, Err(CommandError::ReadOnly(_))));
    requester.stop().await;
    provider.stop().await;
}
