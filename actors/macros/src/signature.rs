//! Which methods can be handlers: `fn name(&mut self, message: M)`, with `ctx: &mut Context<'_, Self>`
//! behind it if the method wants one. Everything else is refused with the form that is expected.

use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericArgument, ImplItemFn, PathArguments, Result, ReturnType, Signature, Type,
};

use crate::keys;

const FORM: &str = "`fn name(&mut self, message: M) -> Reply`, with `ctx: &mut Context<'_, Self>` as third \
                    parameter where it is needed";

/// A method that handles a message.
pub(crate) struct Handler {
    pub(crate) signature: Signature,
    /// What it handles.
    pub(crate) message: Type,
    /// The type behind the `&mut` of its context, if it takes one.
    pub(crate) context: Option<Type>,
    /// Peers may send the message, too.
    pub(crate) is_remote: bool,
    /// The method also says what its message is answered with.
    pub(crate) declares_message: bool,
    /// The conditions under which the method exists.
    pub(crate) conditions: Vec<Attribute>,
}

impl Handler {
    /// Reads a method marked with `marks` (its `#[handler…]` attributes, taken off already).
    pub(crate) fn read(method: &ImplItemFn, marks: &[Attribute]) -> Result<Self> {
        let (mut is_remote, mut declares_message) = (false, false);
        keys::read("handler", &["remote", "message"], marks, |key, _| {
            match key {
                "remote" => is_remote = true,
                _ => declares_message = true,
            }
            Ok(())
        })?;
        if is_remote && declares_message {
            let text =
                "a message that travels has a kind: derive `WireMessage` for it and leave `message` out";
            return Err(Error::new_spanned(&method.sig.ident, text));
        }
        let (message, context) = read_parameters(&method.sig)?;
        let is_condition = |attribute: &&Attribute| attribute.path().is_ident("cfg");
        Ok(Self {
            signature: method.sig.clone(),
            message,
            context,
            is_remote,
            declares_message,
            conditions: method.attrs.iter().filter(is_condition).cloned().collect(),
        })
    }

    /// What the method returns, without the `Answer` around it; `None` for nothing.
    pub(crate) fn reply(&self) -> Option<&Type> {
        let ReturnType::Type(_, returned) = &self.signature.output else { return None };
        if let Type::Path(path) = &**returned
            && let Some(last) = path.path.segments.last()
            && last.ident == "Answer"
            && let PathArguments::AngleBracketed(arguments) = &last.arguments
            && let Some(GenericArgument::Type(reply)) = arguments.args.first()
        {
            return Some(reply);
        }
        Some(returned)
    }
}

/// The types of the message and of the context.
fn read_parameters(signature: &Signature) -> Result<(Type, Option<Type>)> {
    if let Some(word) = &signature.asyncness {
        let text = "a handler never waits: start the work with `ctx.pipe(future, then)` and, if its sender \
                    waits for the outcome, return the answer of `Answer::later()`";
        return Err(Error::new_spanned(word, text));
    }
    if !signature.generics.params.is_empty() {
        let text = "a handler handles one type of message: its parameters belong to the impl block";
        return Err(Error::new_spanned(&signature.generics, text));
    }
    let mut inputs = signature.inputs.iter();
    match inputs.next() {
        Some(FnArg::Receiver(receiver)) if matches!(*receiver.ty, Type::Reference(_)) => {}
        Some(other) => return Err(Error::new_spanned(other, format!("a handler is {FORM}"))),
        None => return Err(Error::new_spanned(&signature.ident, format!("a handler is {FORM}"))),
    }
    let message = match inputs.next() {
        Some(FnArg::Typed(message)) => (*message.ty).clone(),
        _ => return Err(Error::new_spanned(&signature.ident, format!("no message: a handler is {FORM}"))),
    };
    match &message {
        Type::Reference(reference) => {
            return Err(Error::new_spanned(reference, "a handler takes its message by value"));
        }
        Type::ImplTrait(_) => {
            return Err(Error::new_spanned(&message, "a handler handles one type of message: name it"));
        }
        _ => {}
    }
    let context = match inputs.next() {
        Some(FnArg::Typed(context)) => match &*context.ty {
            Type::Reference(reference) if reference.mutability.is_some() => Some((*reference.elem).clone()),
            other => {
                let text = "a handler takes one message; what may follow it is `ctx: &mut Context<'_, Self>`";
                return Err(Error::new(other.span(), text));
            }
        },
        _ => None,
    };
    if let Some(more) = inputs.next() {
        return Err(Error::new_spanned(more, format!("too many parameters: a handler is {FORM}")));
    }
    Ok((message, context))
}
