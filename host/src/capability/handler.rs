//! Calling the export `on-message`, of either version.

use super::bindings::{Error, Event};
use super::convert;
use super::inspect::{Version, interface_name};
use crate::broker::{Lease, Verdict};
use wasmtime::component::types::{ComponentExtern, ComponentItem};
use wasmtime::component::{
    Accessor, Component, ComponentExportIndex, GuestTaskId, Instance, TypedFunc,
    TypedFuncCallConcurrent,
};
use wasmtime::error::Context as _;
use wasmtime::{AsContextMut, Result, Store, bail, format_err};

type Params = (Event,);
type Return = (Result<(), Error>,);

/// Where a component has its handler, found once for all its instances.
#[derive(Clone, Copy)]
pub struct HandlerExport {
    version: Version,
    function: ComponentExportIndex,
}

impl HandlerExport {
    /// The handler of a component; where it has one of each version, that of 0.3.
    #[must_use]
    pub fn find(component: &Component) -> Option<Self> {
        [Version::V0_3, Version::V0_2].into_iter().find_map(|version| {
            let name = interface_name("on-message", version);
            let interface = component.get_export_index(None, &name)?;
            let function = component.get_export_index(Some(&interface), "on-message")?;
            Some(Self { version, function })
        })
    }

    /// Whether each `on-message` that a component exports has the type that the
    /// interface says.
    ///
    /// # Errors
    /// What is exported instead.
    pub fn check(component: &Component) -> Result<()> {
        let engine = component.engine();
        let ty = component.component_type();
        for version in [Version::V0_2, Version::V0_3] {
            let name = interface_name("on-message", version);
            let Some(ComponentExtern { ty: item, .. }) = ty.get_export(engine, &name) else {
                continue;
            };
            let ComponentItem::ComponentInstance(interface) = item else {
                bail!("the export `{name}` is no instance");
            };
            match interface.get_export(engine, "on-message").map(|export| export.ty) {
                Some(ComponentItem::ComponentFunc(function)) => function
                    .typecheck::<Params, Return>(&ty.instance_type())
                    .with_context(|| format!("the function `on-message` of the export `{name}`"))?,
                _ => bail!("the export `{name}` has no function `on-message`"),
            }
        }
        Ok(())
    }

    /// Whether many calls can run at once in one instance.
    #[must_use]
    pub fn is_concurrent(&self) -> bool {
        self.version == Version::V0_3
    }

    /// The handler of one instance.
    ///
    /// # Errors
    /// Where the function has another type than the interface says.
    pub fn bind<T: 'static>(&self, store: &mut Store<T>, instance: &Instance) -> Result<Handler> {
        let function = instance
            .get_func(&mut *store, self.function)
            .ok_or_else(|| format_err!("the export `on-message` is no function"))?;
        Ok(Handler { function: function.typed(&*store)? })
    }
}

/// The handler of one instance.
#[derive(Clone)]
pub struct Handler {
    function: TypedFunc<Params, Return>,
}

/// A call under way in an instance that runs many.
pub struct Call<T: 'static>(TypedFuncCallConcurrent<T, Params, Return>);

impl Handler {
    /// Handles one event, with nothing else in flight in the instance.
    ///
    /// # Errors
    /// The guest trapped; the store is dead.
    pub async fn call<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
        lease: &Lease,
    ) -> Result<Verdict> {
        let event = convert::to_wit(lease);
        let (result,) = self.function.call_async(store.as_context_mut(), (event,)).await?;
        Ok(convert::verdict(result))
    }

    /// Begins to handle one event beside others.
    ///
    /// # Errors
    /// The call could not begin.
    pub fn start<T: Send + 'static>(
        &self,
        accessor: &Accessor<T>,
        lease: &Lease,
    ) -> Result<Call<T>> {
        let event = convert::to_wit(lease);
        accessor.with(|access| Ok(Call(self.function.start_call_concurrent(access, (event,))?)))
    }

    /// Waits for the end of a call that was begun.
    ///
    /// # Errors
    /// The guest trapped; the store is dead.
    pub async fn finish<T: Send + 'static>(
        &self,
        accessor: &Accessor<T>,
        call: Call<T>,
    ) -> Result<Verdict> {
        let (result,) = self.function.finish_call_concurrent(accessor, call.0).await?;
        Ok(convert::verdict(result))
    }
}

impl<T> Call<T> {
    /// The task that the call runs in.
    #[must_use]
    pub fn task(&self) -> GuestTaskId {
        self.0.task()
    }
}
