//! Messages to guests: what a good one gets, and what a hostile one does not.

use dms_messages::{AllocationRefusal, MAX_MESSAGE_LENGTH, MessageContent};

use super::*;
use crate::executors::inbox::{Asked, INBOX_MESSAGES, Letterbox, inbox};

const MAILBOX: &[u8] = include_bytes!("../../../../../examples/programs/mailbox.wasm");

const IMPORTS: &str = r#"
  (import "dms_v1" "message_wait" (func $wait (param i64) (result i32)))
  (import "dms_v1" "message_read" (func $read (param i32 i32) (result i32)))
  (import "dms_v1" "message_type" (func $type (param i32 i32) (result i32)))
  (import "dms_v1" "message_reply" (func $reply (param i32 i32 i32 i32) (result i32)))
"#;

/// A guest that takes messages: the body of its start function, after `text/plain` was put at address 1024.
fn listener(body: &str) -> Vec<u8> {
    format!(
        r#"(module {IMPORTS} {PRELUDE} (data (i32.const 1024) "text/plain")
           (func $expect (param $found i32) (param $wanted i32) (param $code i32)
             (if (i32.ne (local.get $found) (local.get $wanted)) (then (call $proc_exit (local.get $code)))))
           (func (export "_start") (local $i i32) (local $n i32) {body}))"#
    )
    .into_bytes()
}

impl Bench {
    /// Starts a guest, and gives the node's end of its inbox.
    fn listen(&self, module: impl AsRef<[u8]>, limits: Limits) -> (Execution, Letterbox) {
        let (letterbox, inbox) = inbox();
        let workload = Workload { inbox: Some(inbox), ..self.workload(module) };
        (self.executor.start(workload, limits), letterbox)
    }
}

fn text(text: &str) -> MessageContent {
    MessageContent::new("text/plain", text).unwrap()
}

/// Puts a message in as soon as it is known whether anybody listens.
async fn deliver(letterbox: &Letterbox, content: &MessageContent) -> Result<Asked, AllocationRefusal> {
    deliver_as(letterbox, content, true).await.map(|asked| asked.expect("a reply is wanted"))
}

async fn deliver_as(
    letterbox: &Letterbox,
    content: &MessageContent,
    wants_reply: bool,
) -> Result<Option<Asked>, AllocationRefusal> {
    let delivered = tokio::time::timeout(PATIENCE, async {
        loop {
            match letterbox.deliver(content.clone(), wants_reply) {
                Err(AllocationRefusal::NotStarted) => tokio::time::sleep(Duration::from_millis(1)).await,
                told => return told,
            }
        }
    });
    delivered.await.expect("the guest is prepared")
}

#[tokio::test]
async fn a_program_ends_with_what_it_was_told_and_its_senders_get_replies() {
    let bench = Bench::new();
    let (execution, letterbox) = bench.listen(MAILBOX, GENEROUS);
    let first = deliver(&letterbox, &text("hello")).await.unwrap();
    let second = deliver(&letterbox, &text("and good bye")).await.unwrap();
    let finished = finish(execution).await;
    assert_eq!(finished.outcome.exit, Exit::Code(0));
    assert_eq!(finished.text(), "waiting\n1: hello\n2: and good bye\n");
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (text("1 more\n"), text("0 more\n")));
    assert_eq!(letterbox.counts(), (2, 0));
    assert_eq!(deliver(&letterbox, &text("late")).await.unwrap_err(), AllocationRefusal::Ended);
}

#[tokio::test]
async fn what_does_not_import_it_does_not_listen_and_runs_as_before() {
    let bench = Bench::new();
    for module in [SPIN.as_bytes(), b"(component)", b"not a module"] {
        let (execution, letterbox) = bench.listen(module, GENEROUS);
        let told = deliver(&letterbox, &text("hello")).await;
        assert_eq!(told.unwrap_err(), AllocationRefusal::NotListening);
        let _ = execution.stop.send(());
        drop(tokio::time::timeout(PATIENCE, execution.outcome).await.unwrap());
    }
    let wrong = [
        r#"(module (import "dms_v1" "message_steal" (func)) (func (export "_start")))"#,
        r#"(module (import "dms_v1" "message_read" (func (param i64 i64))) (func (export "_start")))"#,
        r#"(module (import "dms_v2" "message_wait" (func)) (func (export "_start")))"#,
    ];
    for module in wrong {
        let exit = bench.exit(module, GENEROUS).await;
        assert!(matches!(failed(&exit), ExecutionFailure::InvalidModule(_)), "{exit:?}");
    }
}

#[tokio::test]
async fn a_guest_reads_and_replies_within_its_memory_or_traps() {
    let bench = Bench::new();
    let trap = "out of bounds";
    // Each begins with the message "hello" of text/plain as the current one; memory has 262144 bytes.
    let table = [
        // Lengths that are negative, huge, or reach one byte too far.
        ("(drop (call $read (i32.const 0) (i32.const -1)))", Err(trap)),
        ("(drop (call $read (i32.const -1) (i32.const 1)))", Err(trap)),
        ("(drop (call $read (i32.const -1) (i32.const -1)))", Err(trap)),
        ("(drop (call $read (i32.const 262140) (i32.const 5)))", Err(trap)),
        ("(drop (call $read (i32.const 262145) (i32.const 0)))", Err(trap)),
        ("(drop (call $type (i32.const 262143) (i32.const 2)))", Err(trap)),
        ("(drop (call $reply (i32.const 1024) (i32.const 10) (i32.const 0) (i32.const -1)))", Err(trap)),
        ("(drop (call $reply (i32.const -8) (i32.const 10) (i32.const 0) (i32.const 1)))", Err(trap)),
        // At the very end, and of nothing.
        ("(call $expect (call $read (i32.const 262139) (i32.const 5)) (i32.const 5) (i32.const 1))", Ok(0)),
        ("(call $expect (call $read (i32.const 262144) (i32.const 0)) (i32.const 5) (i32.const 1))", Ok(0)),
        ("(call $expect (call $type (i32.const 0) (i32.const 0)) (i32.const 10) (i32.const 1))", Ok(0)),
        // As much as fits and no more: what lies behind stays.
        (
            "(i32.store8 (i32.const 2) (i32.const 65))
             (call $expect (call $read (i32.const 0) (i32.const 2)) (i32.const 5) (i32.const 1))
             (call $expect (i32.load8_u (i32.const 1)) (i32.const 101) (i32.const 2))
             (call $expect (i32.load8_u (i32.const 2)) (i32.const 65) (i32.const 3))",
            Ok(0),
        ),
        // Read again, and over itself.
        (
            "(drop (call $read (i32.const 2048) (i32.const 5)))
             (drop (call $type (i32.const 2050) (i32.const 10)))
             (call $write (i32.const 1) (i32.const 2048) (i32.const 12))",
            Ok(0),
        ),
        // One reply, from places that overlap; not two, and none that is none.
        (
            "(call $expect (call $reply (i32.const 1024) (i32.const 10) (i32.const 1024) (i32.const 10))
               (i32.const 0) (i32.const 1))
             (call $expect (call $reply (i32.const 1024) (i32.const 10) (i32.const 0) (i32.const 0))
               (i32.const -2) (i32.const 2))",
            Ok(0),
        ),
        (
            "(call $expect (call $reply (i32.const 1024) (i32.const 10) (i32.const 0) (i32.const 65537))
               (i32.const -3) (i32.const 1))
             (call $expect (call $reply (i32.const 1024) (i32.const 0) (i32.const 0) (i32.const 0))
               (i32.const -3) (i32.const 2))
             (call $expect (call $reply (i32.const 0) (i32.const 200000) (i32.const 0) (i32.const 0))
               (i32.const -3) (i32.const 3))
             (i32.store (i32.const 16) (i32.const 0xff))
             (call $expect (call $reply (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 0))
               (i32.const -3) (i32.const 4))",
            Ok(0),
        ),
        // The message is let go by the next wait, whether or not another comes.
        (
            "(call $expect (call $wait (i64.const 0)) (i32.const -1) (i32.const 1))
             (call $expect (call $read (i32.const 0) (i32.const 5)) (i32.const -1) (i32.const 2))
             (call $expect (call $type (i32.const 0) (i32.const 5)) (i32.const -1) (i32.const 3))
             (call $expect (call $reply (i32.const 1024) (i32.const 10) (i32.const 0) (i32.const 0))
               (i32.const -1) (i32.const 4))
             (drop (call $read (i32.const 0) (i32.const -1)))",
            Err(trap),
        ),
    ];
    for (body, expected) in table {
        let began = "(call $expect (call $wait (i64.const -1)) (i32.const 5) (i32.const 99))";
        let (execution, letterbox) = bench.listen(listener(&format!("{began} {body}")), GENEROUS);
        drop(deliver(&letterbox, &text("hello")).await.unwrap().await);
        let finished = finish(execution).await;
        match expected {
            Ok(code) => assert_eq!(finished.outcome.exit, Exit::Code(code), "{body}"),
            Err(part) => {
                let failure = failed(&finished.outcome.exit);
                assert!(
                    matches!(failure, ExecutionFailure::Trapped(text) if text.contains(part)),
                    "{body}: {failure}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_guest_without_a_message_or_a_memory_gets_none() {
    let bench = Bench::new();
    let before_any = "
        (call $expect (call $read (i32.const 0) (i32.const 5)) (i32.const -1) (i32.const 1))
        (call $expect (call $type (i32.const 0) (i32.const 5)) (i32.const -1) (i32.const 2))
        (call $expect (call $reply (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)) (i32.const -1) (i32.const 3))
        (call $expect (call $wait (i64.const 0)) (i32.const -1) (i32.const 4))
        (call $expect (call $wait (i64.const 50)) (i32.const -1) (i32.const 5))";
    // Also where nobody could send it any.
    assert_eq!(bench.exit(listener(before_any), GENEROUS).await, Exit::Code(0));
    let (execution, _letterbox) = bench.listen(listener(before_any), GENEROUS);
    assert_eq!(finish(execution).await.outcome.exit, Exit::Code(0));

    let blind = format!(
        r#"(module {IMPORTS} (func (export "_start") (drop (call $read (i32.const 0) (i32.const 0)))))"#
    );
    let exit = bench.exit(blind, GENEROUS).await;
    assert!(
        matches!(failed(&exit), ExecutionFailure::Trapped(text) if text.contains("no memory")),
        "{exit:?}"
    );
}

#[tokio::test]
async fn nobody_waits_for_a_reply_to_what_wants_none() {
    let bench = Bench::new();
    let module = listener(
        "(drop (call $wait (i64.const -1)))
         (call $expect (call $reply (i32.const 1024) (i32.const 10) (i32.const 0) (i32.const 0))
           (i32.const -2) (i32.const 1))
         (drop (call $wait (i64.const -1)))
         (call $write (i32.const 1) (i32.const 1024) (i32.const 4))
         (drop (call $wait (i64.const -1)))",
    );
    let (mut execution, letterbox) = bench.listen(module, GENEROUS);
    deliver_as(&letterbox, &text("its sender does not wait"), false).await.unwrap();
    let unanswered = deliver(&letterbox, &text("the guest goes on")).await.unwrap();
    tokio::time::timeout(PATIENCE, execution.output.recv())
        .await
        .unwrap()
        .expect("it has the second message");
    letterbox.deliver(text("end"), false).unwrap();
    assert!(tokio::time::timeout(PATIENCE, unanswered).await.unwrap().is_err());
    assert_eq!(finish(execution).await.outcome.exit, Exit::Code(0));
}

#[tokio::test]
async fn a_guest_that_waits_is_stopped_at_once_and_by_its_time_limit() {
    let bench = Bench::new();
    let says_so = "(call $write (i32.const 1) (i32.const 1024) (i32.const 4))";
    let for_ever = listener(&format!("{says_so} (drop (call $wait (i64.const -1)))"));
    let very_long = listener(&format!("{says_so} (drop (call $wait (i64.const 0x7fffffffffffffff)))"));
    let looking = listener(&format!("{says_so} (loop (drop (call $wait (i64.const 0))) (br 0))"));
    for module in [&for_ever, &very_long, &looking] {
        let (execution, letterbox) = bench.listen(module, GENEROUS);
        stop_promptly(execution).await;
        assert_eq!(deliver(&letterbox, &text("x")).await.unwrap_err(), AllocationRefusal::Ended);
    }
    let limit = Duration::from_millis(300);
    for module in [&for_ever, &looking] {
        let (execution, _letterbox) = bench.listen(module, Limits { timeout: limit, ..GENEROUS });
        let exit = finish(execution).await.outcome.exit;
        assert_eq!(exit, Exit::Failed(ExecutionFailure::TimedOut { limit }));
    }
}

#[tokio::test]
async fn waiting_for_a_message_uses_no_processor() {
    let bench = Bench::new();
    // With a thousandth of a core, 300 ms of waiting that were charged would be five minutes of rest.
    let module = listener("(drop (call $wait (i64.const 300)))");
    let (execution, _letterbox) = bench.listen(module, Limits { cpu_millis: 1, ..GENEROUS });
    assert_eq!(finish(execution).await.outcome.exit, Exit::Code(0));
}

#[tokio::test]
async fn an_inbox_that_nobody_reads_fills_and_takes_more_once_it_is_read() {
    let bench = Bench::new();
    // Reads nothing for as long as nobody says anything, then as much as there is.
    let module = listener(
        "(call $write (i32.const 1) (i32.const 1024) (i32.const 4))
         (loop (br_if 0 (i32.eqz (i32.ge_s (call $wait (i64.const 10)) (i32.const 0)))))
         (call $write (i32.const 1) (i32.const 1024) (i32.const 4))
         (call $expect (call $wait (i64.const -1)) (i32.const 65536) (i32.const 1))
         (loop (br 0))",
    );
    let (mut execution, letterbox) = bench.listen(module, GENEROUS);
    drop(deliver(&letterbox, &text("begin")).await.unwrap());
    for _ in 0..2 {
        tokio::time::timeout(PATIENCE, execution.output.recv()).await.unwrap().expect("it speaks");
    }
    // It takes one more of these, and then none for ever.
    let largest = MessageContent::new("x", vec![7; MAX_MESSAGE_LENGTH]).unwrap();
    let (mut taken, mut refused) = (0, 0);
    tokio::time::timeout(PATIENCE, async {
        while refused < 1000 {
            match letterbox.deliver(largest.clone(), false) {
                Ok(_) => taken += 1,
                Err(refusal) => {
                    assert_eq!(refusal, AllocationRefusal::InboxFull);
                    refused += 1;
                }
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!((15..=17).contains(&taken), "{taken} of 64 KiB are in an inbox of 1 MiB");
    assert!(letterbox.counts().1 <= INBOX_MESSAGES as u64);
    stop_now(execution).await;
    assert_eq!(letterbox.counts().1, 0, "what was not read is let go");
}
