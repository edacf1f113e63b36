//! `dms_v1`: what a core module imports to take messages and to reply to them.
//!
//! | function | does | gives |
//! |---|---|---|
//! | `message_wait(timeout_ms: i64) -> i32` | waits for the next message, which then is the current one; the one before is let go. 0 does not wait, a negative time has no end | its length in bytes, or -1 if none came |
//! | `message_read(at: i32, capacity: i32) -> i32` | copies the body of the current message, as much of it as fits | its whole length, or -1 if there is no current message |
//! | `message_type(at: i32, capacity: i32) -> i32` | the same of its type | the same |
//! | `message_reply(type_at: i32, type_length: i32, at: i32, length: i32) -> i32` | replies to the current message, once | 0; -1 no current message; -2 nobody waits for a reply, or not any more; -3 the reply is too long, or its type is none |
//!
//! Numbers of places and lengths are unsigned. A range that is not wholly within the exported memory is a trap, as it
//! is for the guest's own instructions; nothing is copied then. A guest that waits uses no processor, and is stopped
//! like any other. A module that imports nothing of it is told nothing, and its senders that it does not listen.
//! The name has its version: what is added later is `dms_v2`, and this stays.

use std::time::Duration;

use dms_messages::{ContentError, MAX_MESSAGE_LENGTH, MAX_MESSAGE_TYPE_LENGTH, MessageContent};
use tokio::time::timeout;
use wasmtime::{Caller, Extern, Linker, Memory, Module, Trap};

use super::guest::Guest;
use crate::executors::inbox::{Inbox, Message};

/// The name that a module imports from.
const MODULE: &str = "dms_v1";

/// There is no message: none came, or none is current.
const NONE: i32 = -1;
/// Nobody waits for a reply.
const NOBODY_WAITS: i32 = -2;
/// The reply is not one.
const NOT_A_REPLY: i32 = -3;

/// A guest's side of its inbox.
pub(super) struct Messages {
    inbox: Option<Inbox>,
    current: Option<Message>,
}

impl Messages {
    pub(super) fn new(inbox: Option<Inbox>) -> Self {
        Self { inbox, current: None }
    }

    /// Says whether the program takes messages; to be called before it starts.
    pub(super) fn decide(&self, is_listening: bool) {
        match &self.inbox {
            Some(inbox) if is_listening => inbox.open(),
            Some(inbox) => inbox.close(),
            None => {}
        }
    }
}

/// True if a module takes messages.
pub(super) fn is_imported_by(module: &Module) -> bool {
    module.imports().any(|import| import.module() == MODULE)
}

/// Offers the functions to core modules.
pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "message_wait", |caller: Caller<'_, Guest>, (millis,): (i64,)| {
        Box::new(wait(caller, millis))
    })?;
    linker.func_wrap(MODULE, "message_read", |caller: Caller<'_, Guest>, at: u32, capacity: u32| {
        copy_out(caller, at, capacity, MessageContent::body)
    })?;
    linker.func_wrap(MODULE, "message_type", |caller: Caller<'_, Guest>, at: u32, capacity: u32| {
        copy_out(caller, at, capacity, |content| content.content_type().as_bytes())
    })?;
    linker.func_wrap(
        MODULE,
        "message_reply",
        |caller: Caller<'_, Guest>, type_at: u32, type_length: u32, at: u32, length: u32| {
            reply(caller, (type_at, type_length), (at, length))
        },
    )?;
    Ok(())
}

async fn wait(mut caller: Caller<'_, Guest>, millis: i64) -> i32 {
    // Let go first: whoever waits for a reply to it waits no longer.
    caller.data_mut().messages.current = None;
    let inbox = caller.data().messages.inbox.clone();
    let next = async {
        match &inbox {
            Some(inbox) => inbox.next().await,
            None => std::future::pending().await,
        }
    };
    let message = match u64::try_from(millis) {
        Err(_) => Some(next.await),
        // A timer that has run out would still let others have a turn first; here there are none.
        Ok(0) => inbox.as_ref().and_then(Inbox::try_next),
        Ok(millis) => timeout(Duration::from_millis(millis), next).await.ok(),
    };
    let Some(message) = message else { return NONE };
    let length = length_of(message.content.body());
    caller.data_mut().messages.current = Some(message);
    length
}

/// Copies a part of the current message into the guest's memory.
fn copy_out(
    mut caller: Caller<'_, Guest>,
    at: u32,
    capacity: u32,
    part: impl Fn(&MessageContent) -> &[u8],
) -> wasmtime::Result<i32> {
    let memory = memory(&mut caller)?;
    let (data, guest) = memory.data_and_store_mut(&mut caller);
    let into = within(data.len(), at, capacity)?;
    let Some(message) = &guest.messages.current else { return Ok(NONE) };
    let bytes = part(&message.content);
    let copied = bytes.len().min(into.len());
    data[into][..copied].copy_from_slice(&bytes[..copied]);
    Ok(length_of(bytes))
}

fn reply(mut caller: Caller<'_, Guest>, content_type: (u32, u32), body: (u32, u32)) -> wasmtime::Result<i32> {
    let memory = memory(&mut caller)?;
    let (data, guest) = memory.data_and_store_mut(&mut caller);
    let content_type = &data[within(data.len(), content_type.0, content_type.1)?];
    let body = &data[within(data.len(), body.0, body.1)?];
    let Some(message) = &mut guest.messages.current else { return Ok(NONE) };
    if !message.is_reply_wanted() {
        return Ok(NOBODY_WAITS);
    }
    Ok(match content(content_type, body).map(|content| message.reply(content)) {
        Ok(true) => 0,
        Ok(false) => NOBODY_WAITS,
        Err(_) => NOT_A_REPLY,
    })
}

/// A reply; nothing is copied that is too long for one.
fn content(content_type: &[u8], body: &[u8]) -> Result<MessageContent, ContentError> {
    if body.len() > MAX_MESSAGE_LENGTH {
        return Err(ContentError::TooLarge { length: body.len() });
    }
    if content_type.len() > MAX_MESSAGE_TYPE_LENGTH {
        return Err(ContentError::Type);
    }
    MessageContent::new(String::from_utf8_lossy(content_type), body)
}

fn memory(caller: &mut Caller<'_, Guest>) -> wasmtime::Result<Memory> {
    let exported = caller.get_export("memory").and_then(Extern::into_memory);
    exported.ok_or_else(|| wasmtime::format_err!("it exports no memory for messages"))
}

/// The range of a memory of this size; a trap if it is not wholly within.
fn within(size: usize, at: u32, length: u32) -> Result<std::ops::Range<usize>, Trap> {
    let number = |number: u32| usize::try_from(number).map_err(|_| Trap::MemoryOutOfBounds);
    let (start, length) = (number(at)?, number(length)?);
    match start.checked_add(length) {
        Some(end) if end <= size => Ok(start..end),
        _ => Err(Trap::MemoryOutOfBounds),
    }
}

/// Lengths are bounded far below what the number holds.
fn length_of(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_wholly_within_the_memory_or_a_trap() {
        let table = [
            (0, 0, 0, true),
            (10, 0, 10, true),
            (10, 10, 0, true),
            (10, 9, 1, true),
            (10, 9, 2, false),
            (10, 11, 0, false),
            (10, 0, u32::MAX, false),
            (10, u32::MAX, 1, false),
            (10, u32::MAX, u32::MAX, false),
        ];
        for (size, at, length, is_within) in table {
            assert_eq!(within(size, at, length).is_ok(), is_within, "{size} {at} {length}");
        }
    }
}
