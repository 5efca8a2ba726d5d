//! What the attributes put beside the function.

use crate::signature::{Attribute, event_type, function};
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{ItemFn, ReturnType};

pub(crate) fn on_message(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::OnMessage, args, item, |function| {
        let call = call(function);
        if function.sig.asyncness.is_some() {
            export(
                "p3",
                "wasi::pubsub_data::on_message",
                "export_p3_handler",
                quote! {
                    async fn on_message(event: ::pubsub::Event) -> ::pubsub::Result<()> { #call }
                },
            )
        } else {
            export(
                "p2",
                "wasi::pubsub_data::on_message",
                "export_p2_handler",
                quote! {
                    fn on_message(event: ::pubsub::Event) -> ::pubsub::Result<()> { #call }
                },
            )
        }
    })
}

pub(crate) fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Main, args, item, |function| {
        let call = call(function);
        export(
            "command",
            "wasi::cli::run",
            "export_p3_command",
            quote! {
                async fn run() -> ::core::result::Result<(), ()> { #call }
            },
        )
    })
}

/// The item, and beside it either what it asks for or what is wrong with it.
fn expand(
    attribute: Attribute,
    args: TokenStream,
    item: TokenStream,
    export: impl FnOnce(&ItemFn) -> TokenStream,
) -> TokenStream {
    let beside = match function(attribute, &args, item.clone()) {
        Ok(function) => export(&function),
        Err(error) => error.into_compile_error(),
    };
    quote! { #item #beside }
}

/// Calls the function; a type that does not fit is reported where it is written.
fn call(function: &ItemFn) -> TokenStream {
    let name = &function.sig.ident;
    let argument = event_type(function).map(|ty| quote_spanned! { ty.span() => event });
    let finish = match argument {
        Some(_) => quote! { verdict },
        None => quote! { exit_status },
    };
    let wait = function.sig.asyncness.map(|token| quote_spanned! { token.span() => .await });
    let span = match &function.sig.output {
        ReturnType::Type(_, ty) => ty.span(),
        ReturnType::Default => name.span(),
    };
    let returned = quote_spanned! { span => returned };
    quote! {
        let returned = #name(#argument)#wait;
        ::pubsub::__private::#finish(#returned)
    }
}

fn export(module: &str, interface: &str, exporter: &str, method: TokenStream) -> TokenStream {
    let module = syn::Ident::new(module, proc_macro2::Span::call_site());
    let exporter = syn::Ident::new(exporter, proc_macro2::Span::call_site());
    let interface: TokenStream = interface
        .split("::")
        .map(|part| syn::Ident::new(part, proc_macro2::Span::call_site()))
        .map(|part| quote! { ::#part })
        .collect();
    quote! {
        const _: () = {
            struct Component;
            #[automatically_derived]
            impl ::pubsub::__private::#module::exports #interface::Guest for Component {
                #method
            }
            ::pubsub::__private::#module::#exporter!(
                Component with_types_in ::pubsub::__private::#module
            );
        };
    }
}
