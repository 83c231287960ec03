//! `opdflow reward-server`: what the arguments ask for, handed to the program that has libtorch.

use super::{Exit, Failure, Session, args};
use crate::exec::{End, run_tool};
use crate::sched::Slots;
use opdflow_api::{Event, FaultClass, RewardServerOrder};
use opdflow_io::terminal::message;
use serde_json::Value;

pub(super) fn run(session: &Session, args: &args::RewardServer) -> Result<Exit, Failure> {
    let slots = Slots::of_machine(args.threads);
    let device = if slots.gpus() > 0 { "cuda:0" } else { "cpu" };
    let order = RewardServerOrder {
        reward: args.reward.clone(),
        files: args.part.iter().cloned().collect(),
        listen: args.listen.clone(),
        threads: slots.cpus(),
        device: args.device.clone().unwrap_or_else(|| device.to_owned()),
    };
    let mut failed = None;
    let end = run_tool("reward_server", &order, order.threads, |event| match event {
        Event::Failed { class, message } => failed = Some((class, message)),
        Event::Said { text } => session.print(&said(session, &order.reward, &text)),
        _ => {}
    })
    .map_err(|e| Failure::Store(format!("{e:#}")))?;
    match (failed, end) {
        (Some((FaultClass::User | FaultClass::NotFinite, text)), _) => Err(Failure::Usage(text)),
        (Some((FaultClass::OutOfMemory | FaultClass::Machine, text)), _) => Err(Failure::Store(text)),
        (Some((FaultClass::Bug, text)), _) => Err(Failure::Bug(text)),
        (None, End::Code(0)) => Ok(Exit::Done),
        (None, End::Code(_)) => Ok(Exit::Interrupted),
        (None, end) => Err(Failure::Store(format!("the process of the server ended: {end:?}"))),
    }
}

/// What the server says of itself when it listens: JSON as it is, or words with what a recipe and the environment need.
fn said(session: &Session, reward: &str, text: &str) -> String {
    let Some(about) = serde_json::from_str::<Value>(text).ok().filter(|_| !session.json) else {
        return text.to_owned();
    };
    let of = |name: &str| message(about[name].as_str().unwrap_or_default());
    let token = if about["token"] == true { ", with the token of OPDFLOW_REWARD_SERVER_TOKEN" } else { "" };
    format!(
        "serving `{reward}` at {}{token}; Ctrl-C ends it\nin a recipe: uses: served_reward, with: {{reward: {reward}_served, protocol: \
         {{opdflow: {{digest: {}}}}}}}\nwhere the recipe runs: OPDFLOW_REWARD_{}_SERVED_URL={}",
        of("url"),
        of("digest"),
        reward.to_ascii_uppercase(),
        of("url")
    )
}
