//! Rewards that a server gives.
//!
//! A [`Judge`] is such a reward behind the trait of all rewards. It asks by one of the protocols of `opdflow_spec::served`: a chat
//! model, whose raw answers are kept ([`Answers`]), or a reward of another program ([`protocol`]). Where the server is and what
//! opens it comes from the environment alone (`opdflow_spec::served::Endpoint`); how long one waits for it is decided in one place ([`Client`]).
//!
//! Nothing here knows of recipes, stages or tensors.

mod answers;
mod chat;
mod client;
mod encode;
mod http;
mod judge;
pub mod protocol;
mod questions;
mod remote;
#[cfg(feature = "server")]
pub mod server;

pub use answers::{Answer, Answers};
pub use client::{Client, Failure, Stop, Unread};
pub use encode::png;
pub use judge::{Judge, Resize};
pub use questions::Questioned;
