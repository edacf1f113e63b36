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
//! | [`directory`] | which words lie in the directory, under which keys, and how they are found |
//! | [`peers`] | what is known of each peer |
//! | [`handlers`] | one file per word that arrives: check, decide, record, speak, report |
//! | [`orchestrator`] | pure: matching, pricing, ranking, the auction, a job's life |
//! | [`capability`] | pure: the ledger's rules |
//! | [`graph`] | pure: the mesh as a graph of measured edges, and the program that estimates its size |
//! | [`job`], [`allocation`] | the child actors, one per job and one per allocation |
//! | [`executors`] | what runs a workload |
//! | [`monitor`] | what the machine and each allocation use |
//! | [`preferences`] | by what the node chooses, as people and programs see it |
//! | [`listings`], [`peers`] | what people and programs may see of the books and of the mesh |
//! | [`log_lines`], [`row_lines`] | what an event and a row say in words |
//! | [`records`] | the books on disk as people may see them, with a running node and without |
//! | [`proof`] | contracts as files that anybody can check offline |
//! | [`blobs`], [`identity`], [`config`], [`host`], [`job_file`] | contents, the key file, settings, the machine, jobs as people write them |
//! | [`benchmark`], [`gpus`] | how fast the machine is; its graphics processors, a file per vendor |
//! | `files` | bounded reads, closed directories |

pub mod allocation;
mod announce;
pub mod api;
pub mod benchmark;
pub mod blobs;
pub mod capability;
pub mod cli;
pub mod commands;
pub mod config;
pub mod directory;
mod errors;
pub mod executors;
mod files;
pub mod gpus;
pub mod graph;
pub mod handlers;
pub mod host;
pub mod identity;
pub mod interface;
pub mod job;
pub mod job_file;
pub mod listings;
pub mod log_lines;
pub mod monitor;
pub mod network;
pub mod node;
mod notes;
pub mod orchestrator;
pub mod paths;
pub mod peers;
pub mod preferences;
pub mod proof;
pub mod records;
pub mod row_lines;
pub mod signer;
pub mod startup;
pub mod swarm_key;
#[cfg(test)]
mod testing;
mod time_text;
pub mod trust;
pub mod word;
