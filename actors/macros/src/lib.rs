//! The derives and attributes of `dms-actors`, which exports and documents them, with examples.
//!
//! They write what an engineer would write by hand, nothing else: every expansion is an implementation of
//! a public trait of `dms-actors`. What they refuse, they refuse at the words that are wrong, and say
//! what to write instead (`actors/tests/ui` holds each refusal to its text).
//!
//! | file | expands |
//! |---|---|
//! | `message` | `#[derive(Message)]`, `#[derive(WireMessage)]` |
//! | `actor` | `#[derive(Actor)]` |
//! | `handlers` | `#[handlers]` on an impl block |
//! | `signature` | which methods can be handlers, and what they say about their message |
//! | `program` | `#[main]` |
//! | `keys` | `key = value` lists in attributes |

#![deny(missing_docs)]

mod actor;
mod handlers;
mod keys;
mod message;
mod program;
mod signature;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;

/// Implements `Message`: `#[message(reply = Type)]` says what an ask is answered with, `()` by default.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    expand(syn::parse(input).and_then(|input| message::local(&input)))
}

/// Implements `Message` and `WireMessage`: `#[wire(kind = "author.name", version = 1, reply = Type)]`.
#[proc_macro_derive(WireMessage, attributes(wire))]
pub fn derive_wire_message(input: TokenStream) -> TokenStream {
    expand(syn::parse(input).and_then(|input| message::wire(&input)))
}

/// Implements `Actor` for a state without hooks: `#[actor(mailbox = 64, overflow = DropOldest)]`.
#[proc_macro_derive(Actor, attributes(actor))]
pub fn derive_actor(input: TokenStream) -> TokenStream {
    expand(syn::parse(input).and_then(|input| actor::derive(&input)))
}

/// Makes each method marked `#[handler]` of an inherent impl block an implementation of `Handler`.
#[proc_macro_attribute]
pub fn handlers(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handlers::expand(arguments.into(), item.into()).into()
}

/// Runs an `async fn main(system: ActorSystem)` with a local system that is stopped at its end.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(program::main(&arguments.into(), item.into()))
}

/// The expansion, or the errors in its place.
fn expand(result: syn::Result<Tokens>) -> TokenStream {
    result.unwrap_or_else(|error| error.into_compile_error()).into()
}
