//! The publishing side: one session for all that a process publishes.

use super::client::{Event, Handle, Notice, Packet, Published, Welcome};
use super::flights::{Flight, Flights, Turn};
use super::session::{Control, Role};
use crate::broker::{self, BrokerError, Qos, Topic};
use crate::mqtt::Mapping;
use std::sync::Arc;
use std::task::Context;
use tokio::sync::watch;

/// Whether there is a connection to publish on.
#[derive(Clone)]
enum Phase {
    Down,
    Up(Handle, Welcome),
    /// The broker refuses the client for now.
    Refused(BrokerError),
    Ended(BrokerError),
}

/// The role of a session that publishes.
pub(super) struct PublisherRole {
    phase: watch::Sender<Phase>,
    control: Arc<Control>,
    flights: Arc<Flights>,
}

/// Publishes through a session.
#[derive(Clone)]
pub(super) struct Publisher {
    phase: watch::Receiver<Phase>,
    mapping: Arc<Mapping>,
    flights: Arc<Flights>,
    /// Fair: who began first is sent first, also after waiting for a connection.
    order: Arc<tokio::sync::Mutex<()>>,
}

/// A publish that has been queued. One that nobody waits for any more is still
/// under way, and is followed to its end.
struct Sent(Option<(Notice, Flight, Option<Turn>)>);

impl Sent {
    /// Gives back the flight, for another try.
    async fn wait(mut self) -> (Published, Option<Flight>) {
        let Some((notice, ..)) = &mut self.0 else { return (Published::Ended, None) };
        let published = notice.wait().await;
        (published, self.0.take().map(|(_, flight, _)| flight))
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some((mut notice, flight, turn)), Ok(runtime)) = (self.0.take(), runtime) {
            runtime.spawn(async move {
                notice.wait().await;
                drop((flight, turn));
            });
        }
    }
}

/// Makes the two sides of a publishing session.
pub(super) fn publisher(
    mapping: Arc<Mapping>,
    control: Arc<Control>,
) -> (PublisherRole, Publisher) {
    let (sender, phase) = watch::channel(Phase::Down);
    let flights = Arc::new(Flights::default());
    let role = PublisherRole { phase: sender, control, flights: flights.clone() };
    (role, Publisher { phase, mapping, flights, order: Arc::default() })
}

impl Publisher {
    /// Publishes an event and waits for the broker's acknowledgement, over
    /// reconnections and lost sessions alike.
    pub(super) async fn publish(
        &self,
        topic: &Topic,
        event: &broker::Event,
        qos: Qos,
    ) -> Result<(), BrokerError> {
        let mut phase = self.phase.clone();
        let mut flight = self.flights.begin();
        loop {
            let order = self.order.lock().await;
            let (handle, welcome) = up(&mut phase).await?;
            let packet = self.packet(&handle, &welcome, topic, event, qos)?;
            let turn = flight.turn().await;
            let sent = handle.send(packet).await;
            drop(order);
            let published = match sent {
                Err(published) => published,
                Ok(notice) => {
                    let (published, back) = Sent(Some((notice, flight, turn))).wait().await;
                    flight = back.unwrap_or_else(|| self.flights.begin());
                    published
                }
            };
            match published {
                Published::Done => return Ok(()),
                Published::Refused(why) => return Err(why),
                Published::Lost => {}
                Published::Ended => phase.changed().await.map_err(|_| closed())?,
            }
        }
    }

    /// Writes the packet, and checks that the broker takes it.
    fn packet(
        &self,
        handle: &Handle,
        welcome: &Welcome,
        topic: &Topic,
        event: &broker::Event,
        qos: Qos,
    ) -> Result<Packet, BrokerError> {
        if welcome.qos_max < qos {
            let text = format!("the broker has qos {} at most", welcome.qos_max);
            return Err(BrokerError::Unsupported(text));
        }
        let packet = self.mapping.write(welcome.protocol, topic, event, qos)?;
        if packet.retain && !welcome.retain {
            let text = "the broker keeps no retained messages".to_owned();
            return Err(BrokerError::Unsupported(text));
        }
        if handle.size(&packet) > welcome.packet_bytes_max as usize {
            return Err(BrokerError::TooLarge { limit: welcome.packet_bytes_max.into() });
        }
        Ok(packet)
    }
}

/// Waits for a connection to publish on.
async fn up(phase: &mut watch::Receiver<Phase>) -> Result<(Handle, Welcome), BrokerError> {
    loop {
        let now = phase.borrow_and_update().clone();
        match now {
            Phase::Up(handle, welcome) => return Ok((handle, welcome)),
            Phase::Refused(why) | Phase::Ended(why) => return Err(why),
            Phase::Down => phase.changed().await.map_err(|_| closed())?,
        }
    }
}

fn closed() -> BrokerError {
    BrokerError::Closed("the connection was closed".to_owned())
}

impl Role for PublisherRole {
    fn prepare(&mut self, cx: &mut Context<'_>, _: &Handle) {
        self.control.take_touched(cx);
    }

    fn up(&mut self, welcome: &Welcome, handle: &Handle) -> Result<(), BrokerError> {
        self.phase.send_replace(Phase::Up(handle.clone(), *welcome));
        Ok(())
    }

    fn event(&mut self, _: Event) -> Result<(), BrokerError> {
        Ok(())
    }

    fn down(&mut self) {
        self.phase.send_replace(Phase::Down);
    }

    fn is_poisoned(&mut self) -> bool {
        self.flights.connection_lost()
    }

    /// The farewell itself waits for what is in flight.
    fn is_finished(&self) -> bool {
        true
    }

    fn refused(&mut self, why: &BrokerError) -> bool {
        self.phase.send_replace(Phase::Refused(why.clone()));
        false
    }

    fn ended(&mut self, why: BrokerError) {
        self.phase.send_replace(Phase::Ended(why));
    }
}
