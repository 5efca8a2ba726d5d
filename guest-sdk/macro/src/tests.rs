//! What the attributes say of functions that do not fit.

use crate::expand::{main, on_message};
use quote::quote;

/// The text of each `compile_error!` in an expansion.
fn errors(expansion: &proc_macro2::TokenStream) -> Vec<String> {
    let text = expansion.to_string();
    let messages = text.split("compile_error ! {").skip(1);
    messages
        .map(|rest| rest.split('}').next().unwrap().trim().trim_matches('"').replace("\\\"", "\""))
        .collect()
}

#[test]
fn a_handler_selects_its_version() {
    let sync = on_message(
        quote!(),
        quote!(
            fn f(e: Event) -> Result<()> {
                Ok(())
            }
        ),
    )
    .to_string();
    assert!(sync.contains("export_p2_handler") && !sync.contains("export_p3_handler"), "{sync}");
    let concurrent = on_message(
        quote!(),
        quote!(
            async fn f(e: Event) {}
        ),
    )
    .to_string();
    assert!(concurrent.contains("export_p3_handler"), "{concurrent}");
    assert!(!concurrent.contains("export_p2_handler"), "{concurrent}");
}

#[test]
fn the_function_itself_is_left_as_it_is() {
    let item = quote!(
        #[inline]
        pub(crate) fn f(e: Event) -> Result<()> {
            Ok(())
        }
    );
    assert!(on_message(quote!(), item.clone()).to_string().starts_with(&item.to_string()));
}

#[test]
fn a_handler_that_does_not_fit_is_explained() {
    let takes_one = "the handler takes one event: `fn on_message(message: pubsub::Event) -> pubsub::Result<()>`";
    for (item, expected) in [
        (
            quote!(
                fn f() {}
            ),
            takes_one,
        ),
        (
            quote!(
                fn f(a: Event, b: Event) {}
            ),
            takes_one,
        ),
        (
            quote!(
                fn f(self, e: Event) {}
            ),
            "the handler is a function of its own, not a method",
        ),
        (
            quote!(
                fn f<T>(e: Event) {}
            ),
            "the function cannot be generic",
        ),
        (
            quote!(
                unsafe fn f(e: Event) {}
            ),
            "the function must be a plain `fn` or `async fn`",
        ),
        (
            quote!(
                extern "C" fn f(e: Event) {}
            ),
            "the function must be a plain `fn` or `async fn`",
        ),
        (
            quote!(
                fn f(e: &Event) {}
            ),
            "the handler owns its event: `fn on_message(message: pubsub::Event) -> pubsub::Result<()>`",
        ),
        (
            quote!(
                struct Handler;
            ),
            "#[pubsub::on_message] belongs on a function: \
             `fn on_message(message: pubsub::Event) -> pubsub::Result<()>`",
        ),
    ] {
        let found = errors(&on_message(quote!(), item.clone()));
        assert_eq!(found, [expected], "{item}");
    }
}

#[test]
fn arguments_of_the_attribute_are_refused() {
    let found = errors(&on_message(
        quote!(topic = "a"),
        quote!(
            fn f(e: Event) {}
        ),
    ));
    assert_eq!(found, ["#[pubsub::on_message] takes no arguments"]);
}

#[test]
fn all_faults_are_reported_at_once() {
    let found = errors(&on_message(
        quote!(x),
        quote!(
            const fn f<T>() {}
        ),
    ));
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn main_is_for_async_functions_without_arguments() {
    let good = main(
        quote!(),
        quote!(
            async fn main() -> Result<()> {
                Ok(())
            }
        ),
    );
    assert_eq!(errors(&good), [""; 0]);
    assert!(good.to_string().contains("export_p3_command"));
    for (item, expected) in [
        (
            quote!(
                fn main() {}
            ),
            "#[pubsub::main] is for `async fn main`; a plain `fn main` needs no attribute",
        ),
        (
            quote!(
                async fn main(topic: String) {}
            ),
            "`main` takes no arguments; `std::env::args` has those of the command",
        ),
    ] {
        assert_eq!(errors(&main(quote!(), item.clone())), [expected], "{item}");
    }
}
