//! Measures `dms-actors` beside kameo, ractor and bare tokio: the figures of `make bench NAME=actors` and
//! `NAME=remote`.
//!
//! Every measurement is a process of its own, so that none inherits the memory or the caches of another. The
//! frameworks take turns within a round, so that whatever else the machine does meets all of them; ratios are
//! taken within a round, and what is printed is the median over the rounds.

pub mod figure;
pub mod machine;
mod process;
pub mod rounds;

#[cfg(any(feature = "local", feature = "remote", feature = "instrumented", feature = "bare"))]
mod inside;
#[cfg(any(feature = "local", feature = "instrumented", feature = "bare"))]
pub mod local;
#[cfg(feature = "remote")]
pub mod remote;
