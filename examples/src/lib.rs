//! What a newcomer copies.
//!
//! * `programs/`: workloads with their sources and how they were built; `wordcount` is a real one, the
//!   `.wat` files are small enough to read.
//! * `jobs/`: job files for `dms job run`.
//! * `examples/ping.rs`: two actor systems that talk; `examples/submit.rs`: hands a job to a node from Rust.
