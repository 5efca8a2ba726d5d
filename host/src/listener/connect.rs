//! From the first byte of a connection to CONNACK.

use super::access::Rights;
use super::archive::Promise;
use super::connection::Start;
use super::encode;
use super::entrance::Visitor;
use super::figures::{Counters, Why};
use super::hub::{Hub, topic_of};
use super::kept::Kept;
use super::packets::{Connect, Received};
use super::protocol::Welcome;
use super::reason::{Fault, Reason};
use super::registry::Claim;
use super::session::Session;
use super::wire::Wire;
use crate::mqtt::Protocol;
use futures_util::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a client that is refused has to take the answer.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a client waits for what has to be kept before it is answered.
pub(super) const KEEPING_TIME_MAX: Duration = Duration::from_secs(30);

/// Waits for CONNECT and accepts the client. `None` where it was refused, or has
/// gone.
pub(super) async fn accept(hub: &Arc<Hub>, mut wire: Wire, visitor: Visitor) -> Option<Start> {
    let refused = &hub.counters.refused;
    let first = tokio::select! {
        first = tokio::time::timeout_at(visitor.deadline, first(&mut wire)) => first,
        () = visitor.closing.cancelled() => Ok(Ok(None)),
    };
    let connect = match first {
        Ok(Ok(Some(connect))) => connect,
        Ok(Ok(None)) => {
            refused.add(Why::Gone);
            return None;
        }
        Err(_) => {
            refused.add(Why::Timeout);
            return None;
        }
        Ok(Err(fault)) => {
            refused.add(Why::Code(fault.reason));
            refuse_unread(&mut wire, &fault).await;
            return None;
        }
    };
    let protocol = connect.protocol;
    match admit(hub, wire, *connect, visitor).await {
        Ok(start) => Some(start),
        Err((mut wire, fault)) => {
            refused.add(Why::Code(fault.reason));
            tracing::debug!(reason = fault.reason.0, text = %fault.text, "an MQTT client is refused");
            if fault.reason != Reason::PACKET_TOO_LARGE {
                encode::refusal(protocol, fault.reason, &mut wire.out);
            }
            close(&mut wire).await;
            None
        }
    }
}

/// Reads until there is a packet, which has to be CONNECT.
async fn first(wire: &mut Wire) -> Result<Option<Box<Connect>>, Fault> {
    loop {
        match wire.inbox.pop_front() {
            Some(Received::Connect(connect)) => return Ok(Some(connect)),
            Some(_) => return Err(Fault::protocol("a packet before CONNECT")),
            None => {}
        }
        if let Some(fault) = wire.fault.take() {
            return Err(fault);
        }
        match poll_fn(|cx| wire.poll_read(cx, usize::MAX)).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}

/// Closes a connection whose CONNECT could not be read. Whatever it is, it is told
/// nothing, but for the version, which an old client may ask for in good faith.
async fn refuse_unread(wire: &mut Wire, fault: &Fault) {
    tracing::debug!(reason = fault.reason.0, text = %fault.text, "no MQTT client");
    if fault.reason == Reason::UNSUPPORTED_PROTOCOL_VERSION {
        encode::refusal(Protocol::V4, fault.reason, &mut wire.out);
    }
    close(wire).await;
}

async fn close(wire: &mut Wire) {
    let closed = poll_fn(|cx| wire.poll_close(cx));
    // Who does not take the answer does without.
    let _ = timeout(REFUSAL_TIME_MAX, closed).await;
}

type Refused = (Wire, Fault);

async fn admit(
    hub: &Arc<Hub>,
    mut wire: Wire,
    connect: Connect,
    mut visitor: Visitor,
) -> Result<Start, Refused> {
    let is_operator = visitor.is_operator;
    if let Some(fault) = visitor.refused.take() {
        return Err((wire, fault));
    }
    let user = match check(&connect, hub.settings.limits.levels_max) {
        Ok(()) if is_operator => Ok(None),
        Ok(()) => authenticate(hub, &connect, visitor).await,
        Err(fault) => Err(fault),
    };
    let user = match user {
        Ok(user) => user,
        Err(fault) => return Err((wire, fault)),
    };
    let limits = &hub.settings.limits;
    let is_v5 = connect.protocol == Protocol::V5;
    let mut welcome = Welcome {
        receive_max: limits.receive_max,
        packet_bytes_max: limits.packet_bytes_max,
        alias_max: limits.topic_aliases_max,
        ..Welcome::default()
    };
    let client_id: Arc<str> = match connect.client_id.as_str() {
        "" => {
            let made = made_up_id(fastrand::u128(..));
            welcome.assigned_client_id = Some(made.clone());
            made.into()
        }
        client_id => client_id.into(),
    };
    let rights = match is_operator {
        true => Rights::all(),
        false => hub.settings.access.rights(user.as_deref(), &client_id),
    };
    if let Some(topic) =
        connect.will.as_ref().and_then(|will| topic_of(&will.packet, limits.levels_max))
        && !rights.may_publish(&topic)
    {
        let text = "the will may not be published";
        return Err((wire, Fault::new(Reason::NOT_AUTHORIZED, text)));
    }
    let expiry_max = u32::try_from(limits.session_expiry_max.as_secs()).unwrap_or(u32::MAX);
    let session_expiry = connect.session_expiry.min(expiry_max);
    if session_expiry != connect.session_expiry {
        welcome.session_expiry = Some(session_expiry);
    }
    let (sender, control) = mpsc::unbounded_channel();
    let Some(mut claim) = hub.registry.claim(&client_id, connect.clean, sender).await else {
        let text = "the connection before holds on to the session";
        return Err((wire, Fault::new(Reason::SERVER_BUSY, text)));
    };
    if let Some(will) = claim.will.take() {
        hub.publish_will(&client_id, will);
    }
    // MQTT 3.1 has no word for it.
    welcome.session_present = claim.session.is_some() && !connect.is_v3_1;
    let (mut session, is_kept) = session_of(hub, &mut claim, &connect, session_expiry);
    if timeout(KEEPING_TIME_MAX, is_kept.kept()).await != Ok(Ok(())) {
        hub.registry.release(&claim);
        session.end();
        return Err((wire, Fault::new(Reason::SERVER_BUSY, "the session cannot be kept")));
    }
    let mut keep_alive = connect.keep_alive;
    if let Some(max) = hub.settings.keep_alive_max
        && is_v5
        && keep_alive > max
    {
        keep_alive = max;
        welcome.server_keep_alive = Some(max);
    }
    wire.machine.resume(std::mem::take(&mut session.unreleased));
    wire.machine.accept(&welcome, &mut wire.out);
    if connect.packet_bytes_max.is_some_and(|max| wire.out.len() > max as usize) {
        wire.out.clear();
        hub.registry.release(&claim);
        session.end();
        return Err((wire, Fault::new(Reason::PACKET_TOO_LARGE, "CONNACK is larger than allowed")));
    }
    session.look_everywhere();
    session.look_what_is_expected();
    Ok(Start {
        wire,
        protocol: connect.protocol,
        claim,
        session,
        control,
        rights,
        is_bridge: connect.is_bridge,
        will: connect.will,
        session_expiry,
        keep_alive: (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500)),
        packet_bytes_max: connect.packet_bytes_max.map_or(usize::MAX, |bytes| bytes as usize),
        window: connect.receive_max.min(limits.in_flight_max),
        alias_max: connect.alias_max.min(limits.topic_aliases_max),
        problem_information: connect.problem_information,
    })
}

/// The session of a client, and what is to be kept before it is told of it.
fn session_of(
    hub: &Hub,
    claim: &mut Claim,
    connect: &Connect,
    expiry: u32,
) -> (Box<Session>, Promise) {
    let mut is_kept = std::mem::take(&mut claim.ended);
    let found = claim.session.take();
    let is_new = found.is_none();
    let mut session = found.unwrap_or_else(|| {
        Box::new(Session::new(claim.client_id.clone(), &hub.settings.limits, &hub.counters))
    });
    if let (Some(archive), true) = (&hub.archive, is_new && expiry > 0) {
        session.kept = Some(Box::new(Kept::new(archive, claim.client_id.clone())));
    }
    if let Some(kept) = &mut session.kept {
        let noted = kept.connected(expiry, connect.will.clone());
        if is_new {
            // What was noted before is kept by then too.
            is_kept = noted;
        }
    }
    (session, is_kept)
}

/// An identifier for a client without one, in the form of a UUID.
fn made_up_id(random: u128) -> String {
    let text = format!("{random:032x}");
    let [a, b, c, d, e] = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    format!("auto-{a}-{b}-{c}-{d}-{e}")
}

/// Finds out who the client is; `None` where it has not to say.
async fn authenticate(
    hub: &Hub,
    connect: &Connect,
    visitor: Visitor,
) -> Result<Option<String>, Fault> {
    if visitor.user.is_some() {
        return Ok(visitor.user);
    }
    match (&hub.settings.access.users, &connect.username) {
        (Some(users), Some(user)) => {
            let password = connect.password.as_deref().unwrap_or_default();
            let checked = users.check(user, password, visitor.from);
            match tokio::time::timeout_at(visitor.deadline, checked).await {
                Ok(true) => Ok(Some(user.clone())),
                Ok(false) => {
                    Counters::add(&hub.counters.authentication_failures, 1);
                    let text = "not the password of the user";
                    Err(Fault::new(Reason::BAD_USER_NAME_OR_PASSWORD, text))
                }
                Err(_) => {
                    let text = "too many passwords are to be checked";
                    Err(Fault::new(Reason::SERVER_BUSY, text))
                }
            }
        }
        // A name that nothing has proven is none.
        _ if visitor.anonymous => Ok(None),
        _ => Err(Fault::new(Reason::NOT_AUTHORIZED, "a user name and password are needed")),
    }
}

/// What a CONNECT may not say.
fn check(connect: &Connect, levels_max: usize) -> Result<(), Fault> {
    if connect.authentication_method {
        let text = "an authentication method, and there is none";
        return Err(Fault::new(Reason::BAD_AUTHENTICATION_METHOD, text));
    }
    let needs_id = connect.protocol == Protocol::V4 && !connect.clean || connect.is_v3_1;
    if connect.client_id.is_empty() && needs_id {
        let text = "no client identifier";
        return Err(Fault::new(Reason::CLIENT_IDENTIFIER_NOT_VALID, text));
    }
    if let Some(will) = &connect.will
        && topic_of(&will.packet, levels_max).is_none()
    {
        return Err(Fault::new(Reason::TOPIC_NAME_INVALID, "a will without a topic"));
    }
    Ok(())
}
