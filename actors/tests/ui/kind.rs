//! Texts that are no kind, and a message without one.

use dms_actors::WireMessage;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = "Example.Greet")]
struct UpperCase;

#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = "")]
struct Empty;

#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = "0123456789012345678901234567890123456789012345678901234567890123x")]
struct TooLong;

#[derive(Serialize, Deserialize)]
struct Slash;
dms_actors::wire_message!(Slash, "example/greet", 1);

fn main() {}
