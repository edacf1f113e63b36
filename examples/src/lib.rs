//! What a newcomer copies.
//!
//! * `programs/`: workloads with their sources and how they were built; `wordcount` and `render` are real ones,
//!   the `.wat` files are small enough to read.
//! * `jobs/`: job files for `dms job run`.
//! * `examples/ping.rs`: two actor systems that talk; `examples/submit.rs`: hands a job to a node from Rust.
//! * `examples/demo/`: what `make demo` runs, a picture rendered by a mesh of four nodes.
