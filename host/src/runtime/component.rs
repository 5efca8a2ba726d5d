//! A component that is ready to run: compiled, linked, with its settings.

use super::code::Code;
use super::command::CommandExport;
use super::engine::Host;
use super::limiter::Limiter;
use super::output::Output;
use super::state::State;
use super::status::{Alive, ComponentStatus};
use super::wasi::WasiGrants;
use crate::broker::Lease;
use crate::capability::{Handler, HandlerExport, Links, Observation, Observers, Role, Session};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{Instance, InstancePre, ResourceTable};
use wasmtime::{Result, Store};

/// Whether events share instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InstanceMode {
    /// An instance handles one event after the other.
    #[default]
    Reuse,
    /// Each event gets a new instance.
    Fresh,
}

/// The limits and grants of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentSettings {
    /// Whether events share instances.
    pub instance: InstanceMode,
    /// The most instances at once.
    pub instances: usize,
    /// The most events at once in one instance of an asynchronous handler.
    pub max_concurrency: usize,
    /// The most bytes of events that all instances have in hand together before
    /// they are pushed more. Each may go beyond it by one event.
    pub max_in_flight_bytes: usize,
    /// The most bytes of all linear memories of one instance together.
    pub memory_limit: usize,
    /// The longest time that one event may take. A command has none.
    pub timeout: Duration,
    /// What of WASI it is granted.
    pub wasi: WasiGrants,
}

/// A component that is ready to run.
pub(super) struct Component {
    pub(super) name: String,
    pub(super) settings: ComponentSettings,
    pub(super) handler: Option<HandlerExport>,
    pub(super) command: Option<CommandExport>,
    pub(super) status: Arc<ComponentStatus>,
    observers: Observers,
    pre: InstancePre<State>,
    /// Places in the pool that its instances are made in.
    places: Option<Arc<Semaphore>>,
    links: Arc<dyn Links>,
    output: Output,
}

/// A running copy of a component.
pub(super) struct Running {
    pub(super) store: Store<State>,
    pub(super) instance: Instance,
    pub(super) session: Arc<Session>,
    _alive: Alive,
    /// Its place in the pool.
    _place: Option<OwnedSemaphorePermit>,
}

impl Component {
    pub(super) fn new(
        host: &Host,
        code: &Code,
        settings: ComponentSettings,
        links: Arc<dyn Links>,
        output: Output,
        observers: Observers,
    ) -> Result<Self> {
        Ok(Self {
            name: links.component().to_owned(),
            status: ComponentStatus::new(links.component().to_owned()),
            observers,
            settings,
            handler: HandlerExport::find(code.component()),
            command: CommandExport::find(code),
            pre: code.prepare(host)?,
            places: code.places(host)?,
            links,
            output,
        })
    }

    /// Starts an instance. It lets others run at every tick of the epoch, so
    /// that a deadline can end it by dropping the call and the store.
    pub(super) async fn start(&self, role: Role) -> Result<Running> {
        let place = match &self.places {
            Some(places) => Some(Arc::clone(places).acquire_owned().await?),
            None => None,
        };
        let session = Session::new(Arc::clone(&self.links), role, self.observers.clone());
        let state = State {
            wasi: self.settings.wasi.context(&self.name, &self.output)?,
            table: ResourceTable::new(),
            session: Arc::clone(&session),
            limiter: Limiter::new(self.settings.memory_limit),
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let instance = self.pre.instantiate_async(&mut store).await?;
        let (alive, recovered) = self.status.instance_started();
        if recovered {
            tracing::info!(component = %self.name, "healthy again: an instance was started");
        }
        Ok(Running { store, instance, session, _alive: alive, _place: place })
    }

    /// Observers hear that an event is about to be handled.
    pub(super) fn observe(&self, lease: &Lease) -> Option<Arc<Observation>> {
        self.observers.begin(&self.name, lease)
    }
}

impl Running {
    pub(super) fn handler(&mut self, export: &HandlerExport) -> Result<Handler> {
        export.bind(&mut self.store, &self.instance)
    }
}
