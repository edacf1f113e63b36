//! `#[derive(Message)]` and `#[derive(WireMessage)]`: what a message is answered with, and how it is
//! named on the wire. Refuses borrowed messages, names that are no kind, and version 0.
//!
//! The implementations are not recommended by the compiler: whoever forgot to derive one is told how to,
//! not which other types have it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{DeriveInput, Error, GenericParam, LitInt, LitStr, Result, Type, parse_quote};

use crate::keys;

/// Implements `Message`.
pub(crate) fn local(input: &DeriveInput) -> Result<TokenStream> {
    let mut reply: Type = parse_quote!(());
    keys::read("message", &["reply"], &input.attrs, |key, meta| {
        reply = keys::value(key, meta)?;
        Ok(())
    })?;
    let mut generics = input.generics.clone();
    for parameter in &mut generics.params {
        match parameter {
            GenericParam::Lifetime(lifetime) => {
                return Err(Error::new_spanned(lifetime, "a message owns what it says: it cannot borrow"));
            }
            GenericParam::Type(parameter) => {
                parameter.bounds.push(parse_quote!(::core::marker::Send));
                parameter.bounds.push(parse_quote!('static));
            }
            GenericParam::Const(_) => {}
        }
    }
    let name = &input.ident;
    let (parameters, arguments, conditions) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        #[diagnostic::do_not_recommend]
        impl #parameters ::dms_actors::Message for #name #arguments #conditions {
            type Reply = #reply;
        }
    })
}

/// Implements `Message` and `WireMessage`.
pub(crate) fn wire(input: &DeriveInput) -> Result<TokenStream> {
    let mut kind: Option<LitStr> = None;
    let mut version = 1_u16;
    let mut reply: Type = parse_quote!(());
    keys::read("wire", &["kind", "version", "reply"], &input.attrs, |key, meta| {
        match key {
            "kind" => kind = Some(keys::value(key, meta)?),
            "version" => version = parse_version(&keys::value(key, meta)?)?,
            _ => reply = keys::value(key, meta)?,
        }
        Ok(())
    })?;
    let name = &input.ident;
    let Some(kind) = kind else {
        let text = "a message that travels needs a kind of your choice: `#[wire(kind = \"example.greet\")]`";
        return Err(Error::new_spanned(name, text));
    };
    if !input.generics.params.is_empty() {
        let text = "a kind names one type: a message that travels has no parameters";
        return Err(Error::new_spanned(&input.generics, text));
    }
    let is_kind = quote_spanned!(kind.span()=> ::dms_actors::Kind::is_name(#kind));
    let check = quote_spanned!(kind.span()=>
        const _: () = ::core::assert!(#is_kind, "a kind is 1 to 64 characters of a-z, 0-9, `.` and `-`");
    );
    // At the name of the type, so that a missing `Serialize` or `Deserialize` is reported there.
    let to_bytes = quote_spanned!(name.span()=> ::dms_actors::cbor::to_canonical(self));
    let from_bytes = quote_spanned!(name.span()=> ::dms_actors::wire::decode_plain(bytes));
    Ok(quote! {
        #check
        #[automatically_derived]
        #[diagnostic::do_not_recommend]
        impl ::dms_actors::Message for #name {
            type Reply = #reply;
        }
        #[automatically_derived]
        #[diagnostic::do_not_recommend]
        impl ::dms_actors::WireMessage for #name {
            const KIND: &'static str = #kind;
            const VERSION: u16 = #version;
            fn encode_body(
                &self,
            ) -> ::core::result::Result<::std::vec::Vec<u8>, ::dms_actors::cbor::CborError> {
                #to_bytes
            }
            fn decode_body(
                bytes: &[u8],
                _: &::dms_actors::wire::DecodeContext,
            ) -> ::core::result::Result<Self, ::dms_actors::wire::DecodeError> {
                #from_bytes
            }
        }
    })
}

/// Versions count from 1; the wire has 16 bits for them.
fn parse_version(literal: &LitInt) -> Result<u16> {
    match literal.base10_parse() {
        Ok(version) if version > 0 => Ok(version),
        _ => Err(Error::new_spanned(literal, "a version is a number from 1 to 65535")),
    }
}
