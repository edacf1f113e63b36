//! Pods of several tasks: the job follows all of them, and ends when the last one has.

use super::*;
use dms_messages::{CpuMillis, Task, TaskResources};

/// A story of a job whose pod has so many tasks.
fn story_of(count: u16) -> Story {
    Story::new(|job| {
        let pod = &mut job.pods[0];
        let task = pod.tasks.remove(0);
        let share = TaskResources { cpu: CpuMillis(100), memory: MemoryMib(10), ..Default::default() };
        let named = |index| Task { name: format!("t{index}"), resources: Some(share), ..task.clone() };
        pod.tasks = (0..count).map(named).collect();
        pod.requirement.cpu = CpuMillis(100 * u64::from(count));
        pod.requirement.memory = MemoryMib(10 * u64::from(count));
        assert_eq!(pod.check(), Ok(()));
    })
}

impl Story {
    fn report_task(&mut self, attempt: AttemptId, task: u16, state: AllocationState) {
        let id = ContentId::of_bytes(&task.to_be_bytes());
        let result = state.is_terminal().then_some(AllocationResult {
            stdout: id,
            stderr: id,
            output: None,
            wall: Millis(u64::from(task)),
            peak_memory: MemoryMib(1),
            output_dropped: 0,
        });
        let allocation = AllocationId::from_random([2; 16]).of_task(task);
        let status = AllocationStatus { attempt, allocation, task, state, result };
        self.step(Input::Status(signer(2, &self.clock).sign(status, None, RECORD_TTL).unwrap()));
    }

    /// The tasks whose results are wanted.
    fn collected(&mut self) -> Vec<u16> {
        let wanted = self.wishes.iter().find_map(|wish| match wish {
            Effect::Collect { results, .. } => Some(results.iter().map(|(task, _)| *task).collect()),
            _ => None,
        });
        self.wishes.clear();
        wanted.unwrap_or_default()
    }
}

fn exit(code: i32) -> AllocationState {
    AllocationState::Failed { cause: FailureCause::ExitCode { code } }
}

fn stopped(cause: StopCause) -> AllocationState {
    AllocationState::Stopped { cause }
}

#[test]
fn a_pod_has_succeeded_when_all_of_its_tasks_have() {
    let mut story = story_of(3);
    let attempt = story.run();
    for task in [2, 0, 1] {
        story.report_task(attempt, task, AllocationState::Running);
    }
    for task in [1, 0] {
        story.report_task(attempt, task, AllocationState::Succeeded);
        assert_eq!((story.end(), story.collected()), (None, vec![]), "two of three, or fewer");
    }
    story.report_task(attempt, 2, AllocationState::Succeeded);
    assert_eq!(story.collected(), [0, 1, 2], "the results of all, at once");
    assert_eq!(story.end(), None, "not before they are here");
    story.said();
    story.step(Input::Collected { attempt, outcome: Ok(()) });
    assert_eq!(story.end(), Some(JobEnd::Succeeded));
    assert_eq!(story.said(), [(did(2), "acknowledge")], "for the pod, once");
    let row = story.row().attempts[0].clone();
    assert_eq!(
        row.results().map(|(task, result)| (task, result.wall.0)).collect::<Vec<_>>(),
        [(0, 0), (1, 1), (2, 2)]
    );
    assert_eq!(story.row().exit_code(), Some(0));
}

#[test]
fn the_end_of_a_pod_follows_from_how_its_tasks_ended() {
    use StopCause::{NodeStopping, TaskFailed};
    let program = |code| {
        let cause = FailureCause::ExitCode { code };
        Some(JobEnd::Failed { failure: JobFailure::Program { cause } })
    };
    let restarted = AllocationState::Failed { cause: FailureCause::NodeRestarted };
    let table = [
        ([exit(3), stopped(TaskFailed)], program(3), true),
        ([stopped(TaskFailed), exit(4)], program(4), true),
        ([AllocationState::Succeeded, exit(5)], program(5), true),
        // Another try may do better: nothing is fetched.
        ([AllocationState::Succeeded, stopped(NodeStopping)], None, false),
        ([restarted.clone(), restarted.clone()], None, false),
        // But a program's own failure would come again, whatever became of the others.
        ([restarted, exit(6)], program(6), true),
    ];
    for (states, end, is_fetched) in table {
        let mut story = story_of(2);
        let attempt = story.run();
        for (task, state) in (0..).zip(states.clone()) {
            story.report_task(attempt, task, state);
        }
        assert_eq!(!story.collected().is_empty(), is_fetched, "{states:?}");
        story.step(Input::Collected { attempt, outcome: Ok(()) });
        assert_eq!(story.end(), end, "{states:?}");
        let expected = if end.is_some() { JobPhase::Failed } else { JobPhase::Rescheduling };
        assert_eq!(story.row().phase, expected, "{states:?}");
    }
}

#[test]
fn words_that_come_twice_late_or_about_no_task_change_nothing() {
    let mut story = story_of(2);
    let attempt = story.run();
    story.report_task(attempt, 0, exit(3));
    let before = story.row().clone();
    story.report_task(attempt, 0, exit(3));
    story.report_task(attempt, 0, AllocationState::Succeeded);
    story.report_task(attempt, 0, AllocationState::Running);
    story.report_task(attempt, 2, AllocationState::Running);
    story.report_task(attempt, 9, exit(1));
    assert_eq!(story.row().attempts, before.attempts);
    story.step(Input::OutputReceived { task: 7, stdout: 1, stderr: 1 });
    story.report_task(attempt, 1, stopped(StopCause::TaskFailed));
    assert_eq!(story.collected(), [0, 1]);
}

#[test]
fn a_restart_of_the_requester_between_two_tasks_loses_neither() {
    for reported in 0..=2u16 {
        let mut story = story_of(2);
        let attempt = story.run();
        for task in 0..reported {
            story.report_task(attempt, task, AllocationState::Succeeded);
        }
        story.restart();
        // It asks, and the provider says again how each of them stands.
        for task in 0..2 {
            story.report_task(attempt, task, AllocationState::Succeeded);
        }
        assert_eq!(story.collected(), [0, 1], "after {reported}");
        story.step(Input::Collected { attempt, outcome: Ok(()) });
        assert_eq!(story.end(), Some(JobEnd::Succeeded), "after {reported}");
    }
}

#[test]
fn the_provider_learns_how_much_output_of_each_task_is_here() {
    let mut story = story_of(3);
    story.run();
    story.words.clear();
    story.step(Input::OutputReceived { task: 2, stdout: 70_000, stderr: 7 });
    let asked = story.words.iter().find_map(|said| match &said.word {
        Word::AllocationStatusRequest(request) => Some(request.clone()),
        _ => None,
    });
    let asked = asked.unwrap();
    assert_eq!((asked.stdout_offset, asked.others), (0, vec![(0, 0), (70_000, 7)]));
}
