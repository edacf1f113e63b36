//! What a newcomer copies.
//!
//! * `programs/`: workloads with their sources and how they were built; `wordcount` and `render` are real ones,
//!   the `.wat` files are small enough to read.
//! * `jobs/`: job files for `dms job run`.
//! * `examples/ping.rs`: two actor systems that talk; `supervised.rs`: a worker that fails and is built anew;
//!   `pool.rs`: work for several; `pubsub.rs`: one message to all who want it. `tests/run.rs` runs them.
//! * `examples/remote_ping.rs`: two processes that talk over libp2p; `custom_transport.rs`: over a transport of one's
//!   own; `actix_bridge.rs`: an actix actor made reachable.
//! * `examples/submit.rs`: hands a job to a node from Rust.
//! * `examples/demo/`: what `make demo` runs, a picture rendered by a mesh of four nodes.
