//! `#[main]`: a program that needs one local system and nothing else.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, FnArg, ItemFn, Result};

const FORM: &str = "`async fn main(system: ActorSystem)`";

/// Wraps the function: a runtime, a local system, the body, and the system's end.
pub(crate) fn main(arguments: &TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(arguments, "`#[main]` takes no arguments"));
    }
    let function: ItemFn = syn::parse2(item)?;
    let signature = &function.sig;
    let is_form = signature.asyncness.is_some()
        && signature.generics.params.is_empty()
        && matches!(signature.inputs.iter().collect::<Vec<_>>()[..], [FnArg::Typed(_)]);
    if !is_form {
        let text = format!("the function is {FORM}: it is lent a system without network");
        return Err(Error::new_spanned(signature, text));
    }
    let (attributes, visibility, name, output) =
        (&function.attrs, &function.vis, &signature.ident, &signature.output);
    let (inputs, body) = (&signature.inputs, &function.block);
    Ok(quote! {
        #(#attributes)*
        #visibility fn #name() #output {
            // Under its own name, so that it hides nobody else's.
            async fn #name(#inputs) #output #body
            ::dms_actors::__private::run(#name)
        }
    })
}
