//! A message that travels under no name.

use dms_actors::WireMessage;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, WireMessage)]
struct Unnamed;

#[derive(Serialize, Deserialize, WireMessage)]
#[wire(kind = Greet)]
struct Unquoted;

fn main() {}
