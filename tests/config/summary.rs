//! A plan in a few lines.

use std::fmt::Write;
use wasi_pubsub::config::{Plan, SubscriptionPlan};

pub(crate) fn of(plan: &Plan) -> String {
    let mut text = String::new();
    for (index, broker) in plan.brokers.iter().enumerate() {
        let (id, backend) = (&broker.id, broker.backend);
        writeln!(text, "broker {index}: {id} ({backend}) {}", broker.connection.describe())
            .unwrap();
        writeln!(text, "  {:?}", broker.connection).unwrap();
        for rule in &broker.retention {
            writeln!(text, "  {} keeps {:?}", rule.filter, rule.retention).unwrap();
        }
        if let Some(listen) = &broker.listen {
            for door in &listen.settings.doors {
                writeln!(text, "  listens at {door}").unwrap();
            }
            writeln!(text, "  {:?}", listen.settings).unwrap();
        }
    }
    for (index, subscription) in plan.subscriptions.iter().enumerate() {
        writeln!(text, "subscription {index}: {}", subscription_of(plan, subscription)).unwrap();
        writeln!(text, "  {:?}", subscription.settings).unwrap();
    }
    for component in &plan.components {
        let command = if component.is_command { " command" } else { "" };
        writeln!(text, "component {}:{command} {}", component.name, component.path.display())
            .unwrap();
        writeln!(text, "  {:?}", component.settings).unwrap();
        for (name, index) in component.pulls.iter() {
            writeln!(text, "  pulls {name} from subscription {index}").unwrap();
        }
        for topic in ["orders/1", "invoices/1", "dead/orders", "plant:orders/1", "plant:x", "x"] {
            match component.grants.route(topic) {
                Ok(route) => writeln!(
                    text,
                    "  publishes {topic} to broker {} as {} at qos {} within {:?}",
                    route.broker, route.topic, route.qos, route.timeout
                ),
                Err(error) => writeln!(text, "  {topic}: {error}"),
            }
            .unwrap();
        }
    }
    for note in &plan.notes {
        writeln!(text, "note: {note}").unwrap();
    }
    crate::cases::portable(&text)
}

fn subscription_of(plan: &Plan, subscription: &SubscriptionPlan) -> String {
    let members: Vec<_> =
        subscription.members.iter().map(|&index| plan.components[index].name.as_str()).collect();
    format!("broker {} {:?} to {}", subscription.broker, subscription.delivery, members.join(", "))
}
