//! Publishing dead letters again, as the events that they were.

use super::super::failure::Failure;
use super::super::files;
use super::super::lines::{self, shown};
use super::letter::Letter;
use super::places::Place;
use super::{Boxes, Failed};
use crate::broker::{Broker, Topic};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long the connection may take to end.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Publishes letters, one after the other in their order, and removes each one
/// once the broker has it. Returns those that stay.
pub(super) async fn redrive(
    boxes: &mut Boxes,
    numbers: &[u64],
    to: Option<&Topic>,
    timeout: Duration,
) -> Result<Vec<Failed>, Failure> {
    let mut failed = Vec::new();
    for (place, spool) in boxes.each() {
        let letters: Vec<Letter> =
            spool.letters().filter(|letter| numbers.contains(&letter.number)).cloned().collect();
        if letters.is_empty() {
            continue;
        }
        let broker = open(place)?;
        // One event may have become several letters: it is published once.
        let mut done = HashSet::new();
        let mut away = None;
        for letter in &letters {
            let result = match &away {
                // Each of the others would wait as long.
                Some(reason) => Err(String::clone(reason)),
                None => publish(&broker, place, letter, to, timeout, &mut done, &mut away).await,
            };
            match result {
                Ok(topic) => {
                    let (number, id) = (letter.number, shown(&letter.event.id, usize::MAX));
                    spool.remove(&[number]).map_err(|error| {
                        Failure::run(format!(
                            "{number} was redriven to {topic}, and is still in the list: {error}"
                        ))
                    })?;
                    lines::print(format!("redriven {number} to {topic} (id {id})\n").as_bytes())?;
                }
                Err(reason) => failed.push(Failed { number: letter.number, reason }),
            }
        }
        broker.close(CLOSE_GRACE).await;
    }
    Ok(failed)
}

fn open(place: &Place) -> Result<Arc<Broker>, Failure> {
    let connection = place.connection.open_for_tool(&files::random_client_id());
    let connection =
        connection.map_err(|error| Failure::input(format!("broker {}: {error}", place.id)))?;
    Ok(place.broker(connection))
}

/// Publishes one letter; returns where to.
async fn publish(
    broker: &Arc<Broker>,
    place: &Place,
    letter: &Letter,
    to: Option<&Topic>,
    timeout: Duration,
    done: &mut HashSet<(Topic, String, String)>,
    away: &mut Option<String>,
) -> Result<Topic, String> {
    let topic = match (to, letter.origin()) {
        (Some(to), _) => to.clone(),
        (None, Some(origin)) => {
            Topic::new(origin).map_err(|error| format!("`{origin}` is no topic: {error}"))?
        }
        (None, None) => {
            return Err("it does not say where it was published: name a topic with --to".into());
        }
    };
    let event = letter.redriven();
    let identity = (topic.clone(), event.source.clone(), event.id.clone());
    if done.contains(&identity) {
        return Ok(topic);
    }
    let published = broker.publish("wasi-pubsub dead", &topic, event, place.qos, timeout).await;
    match published {
        Ok(()) => {
            done.insert(identity);
            Ok(topic)
        }
        Err(error) => {
            let reason = error.to_string();
            if error.is_temporary() {
                *away = Some(reason.clone());
            }
            Err(reason)
        }
    }
}
