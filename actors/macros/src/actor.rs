//! `#[derive(Actor)]`: for states without hooks. Whoever needs `started` or `stopped` writes the
//! implementation by hand.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Error, Expr, ExprLit, GenericParam, Ident, Lit, Result, parse_quote};

use crate::keys;

/// Implements `Actor`.
pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let (mut mailbox, mut overflow) = (None, None);
    keys::read("actor", &["mailbox", "overflow"], &input.attrs, |key, meta| {
        match key {
            "mailbox" => mailbox = Some(parse_bound(keys::value(key, meta)?)?),
            _ => overflow = Some(keys::value::<Ident>(key, meta)?),
        }
        Ok(())
    })?;
    let mut generics = input.generics.clone();
    for parameter in &mut generics.params {
        match parameter {
            GenericParam::Lifetime(lifetime) => {
                return Err(Error::new_spanned(lifetime, "an actor owns its state: it cannot borrow"));
            }
            GenericParam::Type(parameter) => parameter.bounds.push(parse_quote!('static)),
            GenericParam::Const(_) => {}
        }
    }
    let name = &input.ident;
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let mailbox = mailbox.map(|bound| quote!(const MAILBOX: usize = #bound;));
    let overflow = overflow
        .map(|policy| quote!(const OVERFLOW: ::dms_actors::Overflow = ::dms_actors::Overflow::#policy;));
    Ok(quote! {
        #[automatically_derived]
        impl #parameters ::dms_actors::Actor for #name #arguments #conditions {
            #mailbox
            #overflow
        }
    })
}

/// A constant expression; a literal 0 is refused here already.
fn parse_bound(bound: Expr) -> Result<Expr> {
    if let Expr::Lit(ExprLit { lit: Lit::Int(literal), .. }) = &bound
        && literal.base10_parse::<usize>().ok() == Some(0)
    {
        return Err(Error::new_spanned(literal, "a mailbox holds at least one message"));
    }
    Ok(bound)
}
