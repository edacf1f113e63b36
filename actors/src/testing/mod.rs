//! What the tests of an application want: probes, virtual time, a network with seeded faults, leak checks.
//!
//! [`run`] gives a test a [`World`]: one thread, a paused clock that jumps to the next timer whenever nobody has
//! anything to do, chance from one seed, and a [`FaultyNetwork`] between the systems. An hour passes in
//! milliseconds, the same seed gives the same run, and a test that leaves anything behind fails with a list.
//!
//! ```
//! use std::time::Duration;
//! use dms_actors::testing::{self, Faults, Probe};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Note(u64);
//! dms_actors::wire_message!(Note, "example.note", 1);
//!
//! testing::run(7, |world| async move {
//!     world.network().set_faults(Faults { delay: Duration::from_millis(40), ..Faults::none() });
//!     let (near, far) = (world.system("near"), world.system("far"));
//!     let mut probe = Probe::<Note>::at(&far, "/notes")?;
//!
//!     near.resolve(probe.address().expect("it has a path")).tell(Note(1)).await?;
//!     assert_eq!(probe.next().await, Note(1));
//!     probe.expect_none_for(Duration::from_secs(3600)).await;
//!
//!     drop(probe);
//!     world.stop().await;
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! }).unwrap();
//! ```
//!
//! Tests on real threads and real time use the same parts one by one: a [`Probe`] of any system, a
//! [`FaultyNetwork`] of any seed, a [`LeakCheck`] that is dropped at the end. Whoever writes a transport runs
//! [`transport_conformance`] on it.

mod chance;
mod clock;
mod conformance;
mod faulty;
mod leaks;
mod probe;
mod world;

pub use chance::Chance;
pub use clock::VirtualClock;
pub use conformance::{Member, transport_conformance};
pub use faulty::{Faults, FaultyNetwork, InjectedFault, PARTITION_TIMEOUT, Stall, WhatFailed};
pub use leaks::{Leak, LeakCheck};
pub use probe::{Probe, Received};
pub use world::{World, run};

pub use crate::identity::memo::{Remembering, remember as remember_proofs};
