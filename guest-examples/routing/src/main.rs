//! Events for many users, spread over many topics: each user has a subscription to
//! all topics that selects what is for this user, by an attribute. Publishes events,
//! and takes those of each user. Arguments: USERS and TOPICS (4 each), EVENTS for
//! each topic (8).

use pubsub::pull::{ack_all, pull};
use pubsub::{Event, Result};
use std::time::{Duration, Instant};

/// A user whose events do not come in this time has lost some.
const PATIENCE: Duration = Duration::from_secs(60);

struct Shape {
    users: usize,
    topics: usize,
    events: usize,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| args.get(at).map_or(Ok(default), |text| text.parse());
    let shape = Shape { users: number(0, 4)?, topics: number(1, 4)?, events: number(2, 8)? };
    let begun = Instant::now();
    shape.publish()?;
    let published = begun.elapsed();
    shape.take()?;
    let taken = begun.elapsed() - published;
    let (Shape { users, topics, .. }, events) = (&shape, shape.topics * shape.events);
    println!("{events} events of {topics} topics: each of {users} users got what is theirs");
    let micros = |time: Duration| time.as_micros() / events.max(1) as u128;
    println!("an event took {} µs to publish, {} µs to take", micros(published), micros(taken));
    Ok(())
}

impl Shape {
    /// Whom an event is for. Each topic has events for several users, and each user
    /// has events in several topics.
    fn user(&self, topic: usize, event: usize) -> usize {
        (topic + event * 7) % self.users
    }

    fn publish(&self) -> Result<()> {
        for event in 0..self.events {
            for topic in 0..self.topics {
                let user = format!("u{}", self.user(topic, event));
                let event = Event::new("com.example.note", format!("{event} in {topic}"));
                pubsub::publish(format!("rooms/{topic}"), event.with_attribute("user", user))?;
            }
        }
        Ok(())
    }

    fn take(&self) -> Result<()> {
        let mut expected = vec![0; self.users];
        for event in 0..self.events {
            for topic in 0..self.topics {
                expected[self.user(topic, event)] += 1;
            }
        }
        for (user, expected) in expected.iter().enumerate() {
            let mut got = 0;
            while got < *expected {
                got += match take(user, PATIENCE)? {
                    0 => return Err(format!("u{user} got {got} of {expected}").into()),
                    more => more,
                };
            }
        }
        // All are there. Whoever gets one more gets what is not theirs.
        for user in 0..self.users {
            if take(user, Duration::ZERO)? > 0 {
                return Err(format!("u{user} got too many").into());
            }
        }
        Ok(())
    }
}

/// Takes what is there for a user, from the subscription of that name.
fn take(user: usize, wait: Duration) -> Result<usize> {
    let user = format!("u{user}");
    let deliveries = pull(&user, 64, wait)?;
    for delivery in &deliveries {
        let of = delivery.event().attribute("user").unwrap_or("nobody");
        if of != user {
            return Err(format!("{user} got what is for {of}").into());
        }
    }
    let count = deliveries.len();
    ack_all(deliveries).into_iter().collect::<Result<Vec<()>>>()?;
    Ok(count)
}
