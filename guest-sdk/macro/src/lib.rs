//! The attributes of the `pubsub-guest` crate; see there.

mod expand;
mod signature;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use proc_macro::TokenStream;

/// Makes a function the handler of the events that are pushed to the component.
///
/// ```ignore
/// #[pubsub::on_message]
/// fn on_message(message: pubsub::Event) -> pubsub::Result<()> {
///     println!("received {message:?}");
///     Ok(())
/// }
/// ```
///
/// `Ok` acknowledges the event; an error says what becomes of it, see
/// `pubsub::Error`. What the function printed is out before its verdict counts.
/// With a plain `fn` the component exports `wasi:pubsub-data/on-message` in its
/// version 0.2.0-draft and handles one event at a time in each instance; with
/// an `async fn` version 0.3.0-draft, and many at once.
///
/// The crate must be a library with `crate-type = ["cdylib"]`.
/// `#[pubsub::register_message]` is the same.
#[proc_macro_attribute]
pub fn on_message(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::on_message(args.into(), item.into()).into()
}

/// Makes an `async fn main` the entry of a command.
///
/// ```ignore
/// #[pubsub::main]
/// async fn main() -> pubsub::Result<()> {
///     let mut events = pubsub::p3::stream("orders/+")?;
///     while let Some(event) = events.next().await {
///         println!("{event:?}");
///     }
///     Ok(())
/// }
/// ```
///
/// The component exports `wasi:cli/run@0.3.0`. It is a library, with
/// `crate-type = ["cdylib"]`: a binary's own entry is the synchronous one of
/// WASI 0.2, which cannot await. A `main` that is not async needs no attribute.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::main(args.into(), item.into()).into()
}
