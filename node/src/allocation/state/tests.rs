//! Every way an allocation can go, as tables.

use dms_messages::ContentId;

use super::*;

fn machine() -> AllocationMachine {
    AllocationMachine::new(Duration::from_secs(60))
}

fn result() -> AllocationResult {
    let id = ContentId::of_bytes(b"");
    AllocationResult {
        stdout: id,
        stderr: id,
        output: None,
        wall: Millis(1),
        peak_memory: MemoryMib(1),
        output_dropped: 0,
    }
}

fn running() -> AllocationMachine {
    let mut machine = machine();
    assert_eq!(machine.step(Input::Started), [Effect::Move(AllocationState::Preparing), Effect::Prepare]);
    assert_eq!(machine.step(Input::Prepared(Ok(()))), [Effect::Move(AllocationState::Running), Effect::Run]);
    machine
}

fn ended(exit: Exit) -> Input {
    Input::Ended { exit, result: Ok(result()) }
}

fn failed(cause: FailureCause) -> AllocationState {
    AllocationState::Failed { cause }
}

fn stopped(cause: StopCause) -> AllocationState {
    AllocationState::Stopped { cause }
}

#[test]
fn every_way_to_end_has_its_state() {
    let memory = ExecutionFailure::MemoryExceeded { granted_bytes: 64 << 20 };
    let timeout = ExecutionFailure::TimedOut { limit: Duration::from_secs(2) };
    let table = [
        (Exit::Code(0), AllocationState::Succeeded),
        (Exit::Code(7), failed(FailureCause::ExitCode { code: 7 })),
        (Exit::Failed(memory), failed(FailureCause::MemoryExceeded { granted: MemoryMib(64) })),
        (Exit::Failed(timeout), failed(FailureCause::TimedOut { limit: Millis(2000) })),
        (
            Exit::Failed(ExecutionFailure::Trapped("unreachable".into())),
            failed(FailureCause::Trapped { text: "unreachable".into() }),
        ),
    ];
    for (exit, state) in table {
        assert_eq!(running().step(ended(exit)), [Effect::End(state, Some(result()))]);
    }
    let lost = FailureCause::Executor { text: "disk".into() };
    let input = Input::Ended { exit: Exit::Code(0), result: Err(lost.clone()) };
    assert_eq!(
        running().step(input),
        [Effect::End(failed(lost), None)],
        "a result that is not kept is no success"
    );
}

#[test]
fn a_stop_is_obeyed_in_every_state_once() {
    assert_eq!(
        machine().step(Input::Stop(StopCause::Cancelled)),
        [Effect::End(stopped(StopCause::Cancelled), None)],
        "before it starts"
    );
    let mut preparing = machine();
    preparing.step(Input::Started);
    assert_eq!(preparing.step(Input::Stop(StopCause::Cancelled)), [Effect::Halt]);
    assert_eq!(preparing.step(Input::Stop(StopCause::NodeStopping)), [], "the first cause stands");
    assert_eq!(preparing.step(Input::Prepared(Ok(()))), [Effect::End(stopped(StopCause::Cancelled), None)]);

    let mut running = running();
    assert_eq!(running.step(Input::Stop(StopCause::Superseded)), [Effect::Halt]);
    let end = Effect::End(stopped(StopCause::Superseded), Some(result()));
    assert_eq!(running.step(ended(Exit::Stopped)), [end]);
}

#[test]
fn a_program_that_ends_before_the_stop_reaches_it_has_succeeded() {
    let mut machine = running();
    machine.step(Input::Stop(StopCause::Cancelled));
    assert_eq!(machine.step(ended(Exit::Code(0))), [Effect::End(AllocationState::Succeeded, Some(result()))]);
}

#[test]
fn silence_of_the_requester_ends_it_after_the_agreed_time() {
    let mut machine = running();
    assert_eq!(machine.step(Input::Silence(Duration::from_secs(59))), []);
    assert_eq!(machine.step(Input::Silence(Duration::from_secs(60))), [Effect::Halt]);
    let end = Effect::End(stopped(StopCause::Orphaned), Some(result()));
    assert_eq!(machine.step(ended(Exit::Stopped)), [end]);
}

#[test]
fn nothing_follows_an_end_and_nothing_comes_out_of_order() {
    let mut machine = running();
    assert_eq!(machine.step(Input::Started), []);
    assert_eq!(machine.step(Input::Prepared(Ok(()))), [], "it runs already: never started twice");
    machine.step(ended(Exit::Code(0)));
    for input in
        [Input::Started, Input::Prepared(Ok(())), ended(Exit::Code(1)), Input::Stop(StopCause::Cancelled)]
    {
        assert_eq!(machine.step(input), []);
    }
    assert_eq!(machine.state(), &AllocationState::Succeeded);
}
