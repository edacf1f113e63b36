//! The proving ground: whole nodes by the thousand on one thread, in virtual time, with faults by a seed.
//!
//! ```text
//!   seed ──► scenario ──► world: nodes as they ship, on simulated network, disks, machines and clocks
//!                           │ facts, in one order
//!                           ├──► oracle: what was promised is kept, after every fact
//!                           └──► story: a timeline for people, and who talked to whom
//! ```

pub mod disk;
pub mod facts;
pub mod machine;
pub mod mesh;
pub mod node;
pub mod oracle;
pub mod overheard;
pub mod post_mortem;
pub mod scenario;
pub mod seeds;
pub mod sink;
pub mod story;
pub mod world;
