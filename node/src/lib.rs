//! The node: an agent that owns a machine's capacity, bids with it, and runs jobs through it.
//!
//! A tour of the house, from the outside in:
//!
//! | module | knows |
//! |---|---|
//! | [`cli`] | people: parses, asks the API, prints |
//! | [`api`] | programs on this machine: HTTP + JSON over a Unix socket |
//! | [`startup`] | who knows whom; the only place that builds the parts |
//! | [`network`] | the only place that joins the mesh to the actors |
//! | [`node`] | the Node actor: the one writer of the books |
//! | [`handlers`] | one file per word that arrives: check, decide, record, speak, report |
//! | [`orchestrator`] | pure: matching, pricing, ranking, the auction, a job's life |
//! | [`capability`] | pure: the ledger's rules |
//! | [`job`], [`allocation`] | the child actors, one per job and one per allocation |
//! | [`executors`] | what runs a workload |
//! | [`blobs`], [`identity`], [`config`], [`host`], [`job_file`] | contents, the key file, settings, the machine, jobs as people write them |

pub mod allocation;
pub mod api;
pub mod blobs;
pub mod capability;
pub mod cli;
pub mod commands;
pub mod config;
mod errors;
pub mod executors;
pub mod handlers;
pub mod host;
pub mod identity;
pub mod job;
pub mod job_file;
pub mod network;
pub mod node;
pub mod orchestrator;
pub mod signer;
pub mod startup;
#[cfg(test)]
mod testing;
pub mod word;
