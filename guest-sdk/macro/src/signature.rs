//! What the attributes accept, and what they say of anything else.

use proc_macro2::TokenStream;
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, Result, Type};

/// Which attribute a function bears.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    OnMessage,
    Main,
}

impl Attribute {
    fn name(self) -> &'static str {
        match self {
            Self::OnMessage => "#[pubsub::on_message]",
            Self::Main => "#[pubsub::main]",
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::OnMessage => "fn on_message(message: pubsub::Event) -> pubsub::Result<()>",
            Self::Main => "async fn main() -> pubsub::Result<()>",
        }
    }
}

/// Reads the item that the attribute is on; every fault is one error at its place.
pub(crate) fn function(
    attribute: Attribute,
    args: &TokenStream,
    item: TokenStream,
) -> Result<ItemFn> {
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(cause) => return Err(no_function(attribute, item, cause)),
    };
    let mut errors = Errors::default();
    if !args.is_empty() {
        errors.push(args, format!("{} takes no arguments", attribute.name()));
    }
    plain(&function, &mut errors);
    match attribute {
        Attribute::OnMessage => one_event(attribute, &function, &mut errors),
        Attribute::Main => async_without_arguments(attribute, &function, &mut errors),
    }
    errors.finish().map(|()| function)
}

/// The type of the handler's parameter.
pub(crate) fn event_type(function: &ItemFn) -> Option<&Type> {
    match function.sig.inputs.first()? {
        FnArg::Typed(argument) => Some(&argument.ty),
        FnArg::Receiver(_) => None,
    }
}

/// Where the item is none at all, what the parser says of it.
fn no_function(attribute: Attribute, item: TokenStream, cause: Error) -> Error {
    let Ok(item) = syn::parse2::<syn::Item>(item) else {
        return cause;
    };
    let message = format!("{} belongs on a function: `{}`", attribute.name(), attribute.example());
    Error::new_spanned(item, message)
}

fn plain(function: &ItemFn, errors: &mut Errors) {
    let sig = &function.sig;
    let qualifiers = [
        sig.constness.map(|token| token.span()),
        sig.unsafety.map(|token| token.span()),
        sig.abi.as_ref().map(Spanned::span),
        sig.variadic.as_ref().map(Spanned::span),
    ];
    for span in qualifiers.into_iter().flatten() {
        errors.push_at(span, "the function must be a plain `fn` or `async fn`");
    }
    if !sig.generics.params.is_empty() {
        errors.push(&sig.generics, "the function cannot be generic");
    }
}

fn one_event(attribute: Attribute, function: &ItemFn, errors: &mut Errors) {
    let sig = &function.sig;
    let expected = format!("the handler takes one event: `{}`", attribute.example());
    if let Some(receiver) = sig.receiver() {
        errors.push(receiver, "the handler is a function of its own, not a method");
    } else if sig.inputs.is_empty() {
        errors.push_at(sig.paren_token.span.join(), &expected);
    } else if let Some(extra) = sig.inputs.iter().nth(1) {
        errors.push(extra, &expected);
    }
    if let Some(Type::Reference(reference)) = event_type(function) {
        let message = format!("the handler owns its event: `{}`", attribute.example());
        errors.push(reference, message);
    }
}

fn async_without_arguments(attribute: Attribute, function: &ItemFn, errors: &mut Errors) {
    let sig = &function.sig;
    if sig.asyncness.is_none() {
        let advice = "is for `async fn main`; a plain `fn main` needs no attribute";
        errors.push(sig.fn_token, format!("{} {advice}", attribute.name()));
    }
    if !sig.inputs.is_empty() {
        let advice = "takes no arguments; `std::env::args` has those of the command";
        errors.push(&sig.inputs, format!("`{}` {advice}", sig.ident));
    }
}

/// All that is wrong with a function, so that one build shows it.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn push(&mut self, tokens: impl quote::ToTokens, message: impl std::fmt::Display) {
        self.add(Error::new_spanned(tokens, message));
    }

    fn push_at(&mut self, span: proc_macro2::Span, message: impl std::fmt::Display) {
        self.add(Error::new(span, message));
    }

    fn add(&mut self, error: Error) {
        match &mut self.0 {
            None => self.0 = Some(error),
            Some(all) => all.combine(error),
        }
    }

    fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
