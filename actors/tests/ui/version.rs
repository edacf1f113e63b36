//! Numbers that are no version.

use dms_actors::WireMessage;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = "example.zero", version = 0)]
struct Zero;

#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = "example.large", version = 65536)]
struct Large;

#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = "example.text", version = "1")]
struct Text;

fn main() {}
