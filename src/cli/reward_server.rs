//! `opdflow reward-server`: what the arguments ask for, handed to the program that has libtorch.

use super::{Exit, Failure, Session, args, tool};
use crate::exec::End;
use opdflow_api::{Event, RewardServerOrder};
use opdflow_io::terminal::message;
use serde_json::Value;

pub(super) fn run(session: &Session, args: &args::RewardServer) -> Result<Exit, Failure> {
    let (threads, device) = tool::place(&args.place);
    let order = RewardServerOrder {
        reward: args.reward.clone(),
        files: args.part.iter().cloned().collect(),
        with: args.with.clone(),
        listen: args.listen.clone(),
        threads,
        device,
    };
    let end = tool::run("reward_server", &order, order.threads, None, |event| {
        if let Event::Said { text } = event {
            session.print(&said(session, &order.reward, &text));
        }
    })?;
    match end {
        End::Code(0) => Ok(Exit::Done),
        End::Code(_) => Ok(Exit::Interrupted),
        end => Err(Failure::Store(format!("the process of the server ended: {end:?}"))),
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
