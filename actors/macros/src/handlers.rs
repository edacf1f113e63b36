//! `#[handlers]`: each marked method of an inherent impl block becomes an implementation of `Handler`,
//! and those marked `remote` together one of `RemoteHandlers`. The block itself stays as it is written.

use std::collections::BTreeMap;

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ImplItem, ItemImpl, Result, ReturnType};

use crate::signature::Handler;

/// The block and what follows from it. Also after an error the block is there, so that one mistake is
/// not reported once more by everybody who calls its methods.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut block: ItemImpl = match syn::parse2(item.clone()) {
        Ok(block) => block,
        Err(_) => {
            let text = "`#[handlers]` goes on an inherent impl block: `impl MyActor { … }`";
            let error = Error::new_spanned(first_line(&item), text).into_compile_error();
            return quote!(#error #item);
        }
    };
    let result = read(&arguments, &mut block).and_then(|handlers| implement(&block, &handlers));
    let implementations = result.unwrap_or_else(Error::into_compile_error);
    quote!(#block #implementations)
}

/// Takes the marks off the methods and reads them.
fn read(arguments: &TokenStream, block: &mut ItemImpl) -> Result<Vec<Handler>> {
    let mut errors = Vec::new();
    if !arguments.is_empty() {
        let text = "`#[handlers]` takes no arguments: mark the methods, `#[handler]` or `#[handler(remote)]`";
        errors.push(Error::new_spanned(arguments, text));
    }
    if let Some((_, path, _)) = &block.trait_ {
        let text = "`#[handlers]` goes on an inherent impl block, not on the implementation of a trait";
        errors.push(Error::new_spanned(path, text));
    }
    let mut handlers: Vec<Handler> = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(method) = item else { continue };
        let (marks, others) =
            std::mem::take(&mut method.attrs).into_iter().partition(|mark| mark.path().is_ident("handler"));
        method.attrs = others;
        let marks: Vec<_> = marks;
        if marks.is_empty() {
            continue;
        }
        match Handler::read(method, &marks) {
            Ok(handler) => handlers.push(handler),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(twice(&handlers));
    if handlers.is_empty() && errors.is_empty() {
        let text = "no handler in this block: mark its methods with `#[handler]` or `#[handler(remote)]`";
        errors.push(Error::new_spanned(&block.self_ty, text));
    }
    match errors.into_iter().reduce(|mut all, error| {
        all.combine(error);
        all
    }) {
        None => Ok(handlers),
        Some(errors) => Err(errors),
    }
}

/// Says where a message is handled for the second time.
fn twice(handlers: &[Handler]) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut methods = BTreeMap::new();
    // Of two under conditions, one may not exist: that is for the compiler to find.
    for handler in handlers.iter().filter(|handler| handler.conditions.is_empty()) {
        let message = handler.message.to_token_stream().to_string();
        let method = &handler.signature.ident;
        if let Some(first) = methods.get(&message) {
            let text = format!("a second handler of `{message}`, which `{first}` handles already");
            errors.push(Error::new_spanned(&handler.message, text));
        } else {
            methods.insert(message, method);
        }
    }
    errors
}

fn implement(block: &ItemImpl, handlers: &[Handler]) -> Result<TokenStream> {
    let mut all = TokenStream::new();
    for handler in handlers {
        if handler.declares_message {
            all.extend(message_of(block, handler)?);
        }
        all.extend(handler_of(block, handler));
    }
    if handlers.iter().any(|handler| handler.is_remote) {
        all.extend(remote_handlers_of(block, handlers));
    }
    Ok(all)
}

/// `impl Message`, from the signature of its only handler.
fn message_of(block: &ItemImpl, handler: &Handler) -> Result<TokenStream> {
    if !block.generics.params.is_empty() {
        let text = "in a block with parameters a handler cannot declare its message: derive `Message` for it";
        return Err(Error::new_spanned(&handler.message, text));
    }
    let Handler { message, conditions, .. } = handler;
    // `Self` means the actor, and in the implementation for another type it would not.
    let actor = block.self_ty.to_token_stream();
    let message = with_self(message.to_token_stream(), &actor);
    let reply =
        handler.reply().map_or_else(|| quote!(()), |reply| with_self(reply.to_token_stream(), &actor));
    Ok(quote! {
        #(#conditions)*
        #[automatically_derived]
        #[diagnostic::do_not_recommend]
        impl ::dms_actors::Message for #message {
            type Reply = #reply;
        }
    })
}

/// The tokens, with `actor` for every `Self`; in angle brackets before `::`, where not every type may stand.
fn with_self(tokens: TokenStream, actor: &TokenStream) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut replaced = TokenStream::new();
    while let Some(tree) = tokens.next() {
        match tree {
            TokenTree::Ident(word) if word == "Self" => match tokens.peek() {
                Some(TokenTree::Punct(next)) if next.as_char() == ':' => replaced.extend(quote!(<#actor>)),
                _ => replaced.extend(actor.clone()),
            },
            TokenTree::Group(group) => {
                let mut inside = Group::new(group.delimiter(), with_self(group.stream(), actor));
                inside.set_span(group.span());
                replaced.extend([TokenTree::Group(inside)]);
            }
            other => replaced.extend([other]),
        }
    }
    replaced
}

/// `impl Handler<M>`, which calls the method.
fn handler_of(block: &ItemImpl, handler: &Handler) -> TokenStream {
    let (parameters, _, bounds) = block.generics.split_for_impl();
    let Handler { signature, message, conditions, .. } = handler;
    let (actor, method) = (&block.self_ty, &signature.ident);
    let (binding, argument) = match &handler.context {
        Some(context) => (quote!(ctx), Some(quote_spanned!(here(context)=> ctx))),
        None => (quote!(_), None),
    };
    // Each error is to be reported where its cause is written.
    let at = here(message);
    let understands = quote_spanned!(at=> ::dms_actors::Handler<#message>);
    let handle = quote_spanned! {at=>
        fn handle(
            &mut self,
            message: #message,
            #binding: &mut ::dms_actors::Context<'_, Self>,
        ) -> ::dms_actors::Answer<<#message as ::dms_actors::Message>::Reply>
    };
    let at = match &signature.output {
        ReturnType::Default => here(method),
        ReturnType::Type(_, returned) => here(returned),
    };
    let answer = quote_spanned!(at=> ::dms_actors::__private::answer::<#message, _>(returned));
    quote! {
        #(#conditions)*
        #[automatically_derived]
        impl #parameters #understands for #actor #bounds {
            #handle {
                let returned = Self::#method(self, message, #argument);
                #answer
            }
        }
    }
}

/// The place of `tokens`, for tokens that belong to the expansion.
fn here(tokens: &impl Spanned) -> Span {
    tokens.span().resolved_at(Span::call_site())
}

/// `impl RemoteHandlers`: every kind that peers may send.
fn remote_handlers_of(block: &ItemImpl, handlers: &[Handler]) -> TokenStream {
    let (parameters, _, bounds) = block.generics.split_for_impl();
    let actor = &block.self_ty;
    let kinds = handlers.iter().filter(|handler| handler.is_remote).map(|handler| {
        let Handler { message, conditions, .. } = handler;
        let accept = quote_spanned!(here(message)=> registration.accepts::<#message>());
        quote!(#(#conditions)* let registration = #accept;)
    });
    quote! {
        #[automatically_derived]
        impl #parameters ::dms_actors::RemoteHandlers for #actor #bounds {
            fn accept(registration: ::dms_actors::Registration<Self>) -> ::dms_actors::Registration<Self> {
                #(#kinds)*
                registration
            }
        }
    }
}

/// The tokens before the first braces: enough to point at.
fn first_line(item: &TokenStream) -> TokenStream {
    let is_body = |tree: &TokenTree| matches!(tree, TokenTree::Group(_));
    item.clone().into_iter().take_while(|tree| !is_body(tree)).collect()
}
