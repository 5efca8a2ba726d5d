//! Components with a `main`.

use super::code::Code;
use super::component::Component;
use crate::capability::Role;
use wasmtime::Result;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::{p2, p3};

/// Which `wasi:cli/run` a component exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandExport {
    /// `wasi:cli/run@0.2`: a synchronous function.
    V0_2,
    /// `wasi:cli/run@0.3`: an asynchronous one.
    V0_3,
}

impl CommandExport {
    pub(super) fn find(code: &Code) -> Option<Self> {
        let exports = &code.interfaces().exports;
        let has = |prefix| exports.iter().any(|name| name.starts_with(prefix));
        if has("wasi:cli/run@0.3") {
            Some(Self::V0_3)
        } else {
            has("wasi:cli/run@0.2").then_some(Self::V0_2)
        }
    }
}

/// Runs a command to its end and settles what it received: acknowledged after a
/// clean end, otherwise to be delivered again.
///
/// # Errors
/// Why it failed, in words. It is not started again.
pub(super) async fn run(component: &Component, export: CommandExport) -> Result<(), String> {
    let mut running = match component.start(Role::Command).await {
        Ok(running) => running,
        Err(error) => return Err(format!("it cannot be started: {error:#}")),
    };
    let session = std::sync::Arc::clone(&running.session);
    let ended = match export {
        CommandExport::V0_2 => {
            match p2::bindings::Command::new(&mut running.store, &running.instance) {
                Ok(command) => command.wasi_cli_run().call_run(&mut running.store).await,
                Err(error) => Err(error),
            }
        }
        CommandExport::V0_3 => {
            match p3::bindings::Command::new(&mut running.store, &running.instance) {
                Ok(command) => running
                    .store
                    .run_concurrent(async |accessor| {
                        command.wasi_cli_run().call_run(accessor).await
                    })
                    .await
                    .and_then(|result| result),
                Err(error) => Err(error),
            }
        }
    };
    let outcome = describe(ended);
    session.settle(outcome.as_ref().copied().map_err(String::as_str));
    outcome
}

fn describe(ended: Result<Result<(), ()>>) -> Result<(), String> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(())) => Err("its main returned an error".into()),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => Ok(()),
            Some(I32Exit(code)) => Err(format!("it exited with code {code}")),
            None => Err(format!("it trapped: {}", super::worker::trap_text(&error))),
        },
    }
}
