//! MQTT clients at the listener, packet by packet: what the standard says, and
//! clients that mean no good. A client that misbehaves gets its reason code, others
//! notice nothing, and what it held is free afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod access;
mod before;
mod connect;
mod fuzz;
mod limits;
mod packets;
mod publish;
mod slow;
mod subscribe;
mod web;
mod world;
