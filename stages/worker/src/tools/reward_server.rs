//! `opdflow reward-server`: a reward of this machine for stages on others, until it is asked to stop.

use crate::runtime::device;
use anyhow::{Context as _, Result};
use opdflow_api::cache::{Digest, Memo};
use opdflow_api::{Event, EventSink, Fault, RewardServerOrder, Stage as _, StopFlag, Tool, read_order};
use opdflow_kinds::LIBTORCH;
use opdflow_kinds::code;
use opdflow_kinds::judging::reward;
use opdflow_kinds::stages::reward_model::{Params, RewardModel};
use opdflow_served::protocol::{Form, Health};
use opdflow_served::server::{Limits, Served, serve};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use tch::Device;

/// The variable that holds what every request must bring.
const TOKEN: &str = "OPDFLOW_REWARD_SERVER_TOKEN";

/// The tool.
pub struct RewardServer;

impl Tool for RewardServer {
    fn name(&self) -> &'static str {
        "reward_server"
    }

    fn run(&self, order: &Value, events: &EventSink, stop: &StopFlag) -> Result<()> {
        let order: RewardServerOrder = read_order(order)?;
        let token = std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty());
        let address = address(&order.listen, token.is_some())?;
        // The port first: a model takes long to load.
        let listener = TcpListener::bind(address).map_err(|e| {
            Fault::user(format!("cannot listen at {address}: {e}"))
                .help("take another port: `--listen 127.0.0.1:0` finds one")
        })?;
        let device = device::open(&order.device, order.threads, 0)?;
        let params = super::reward::params(&order.reward, &order.files, &order.with)?;
        // What the networks are read from lies there as long as they do.
        let (reward, _parts) = super::reward::open(&params, device)?;
        let digest = digest(&params, device)?;
        let health = Health {
            name: order.reward.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            digest: digest.clone(),
            measures: reward::measures(&order.reward),
            form: Form::Png,
        };
        let url = format!("http://{}", listener.local_addr().context("the address of the server")?);
        let said = json!({"url": url, "digest": digest, "measures": health.measures, "token": token.is_some()});
        events.send(&Event::Said { text: said.to_string() });
        let served = Served { reward: Arc::from(reward), health, token, limits: Limits::default() };
        // Nobody would end it after the command that began it is gone.
        let (stop, parent) = (stop.clone(), std::os::unix::process::parent_id());
        serve(served, listener, move || stop.raised() || std::os::unix::process::parent_id() != parent)
            .context("serving")
    }
}

/// Where to listen: this machine alone, or with a token.
fn address(listen: &str, token: bool) -> Result<SocketAddr> {
    let help = "an address and a port, such as 127.0.0.1:7400 or 0.0.0.0:7400";
    let found = listen.to_socket_addrs().map_err(|e| Fault::user(format!("`{listen}`: {e}")).help(help))?.next();
    let address = found.ok_or_else(|| Fault::user(format!("`{listen}` is no address")).help(help))?;
    if !address.ip().is_loopback() && !token {
        let fault = Fault::user(format!("{address} can be reached from other machines, and there is no token"));
        return Err(fault
            .help(format!("set {TOKEN}, which every request must then bring, or listen on 127.0.0.1"))
            .into());
    }
    Ok(address)
}

/// A digest of all that the scores hang on: the reward, its files, the code of this build, libtorch, and whether it is a GPU.
fn digest(params: &Params, device: Device) -> Result<String> {
    let assets = match params.files.is_empty() {
        true => reward::assets(std::iter::once(&params.reward)),
        false => RewardModel.assets(params, Path::new("."), &Memo::none()).map_err(super::reward::first)?,
    };
    let assets: Vec<_> = assets.into_iter().map(|asset| (asset.name, asset.digest.to_string())).collect();
    let port = format!("reward_models.{}", params.reward);
    let ports = (!params.files.is_empty()).then_some((port, String::new())).into_iter().collect();
    let parts = code::judging([params.reward.as_str()], &ports);
    let code = code::of("", &[&parts]);
    let device = if device == Device::Cpu { "cpu" } else { "cuda" };
    let mut all =
        json!({"reward": params.reward, "assets": assets, "code": code, "libtorch": LIBTORCH, "device": device});
    if let (Some(reader), Some(all)) = (&params.reader, all.as_object_mut()) {
        all.insert("reader".to_owned(), serde_json::to_value(reader)?);
    }
    Ok(Digest::of(all.to_string().as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_need_a_token() {
        assert!(address("127.0.0.1:0", false).is_ok() && address("[::1]:0", false).is_ok());
        assert!(address("0.0.0.0:0", true).is_ok());
        let fault = address("0.0.0.0:0", false).unwrap_err().to_string();
        assert!(fault.contains("no token") && fault.contains(TOKEN), "{fault}");
        assert!(address("nowhere", true).unwrap_err().to_string().contains("127.0.0.1:7400"));
    }

    #[test]
    fn the_digest_is_of_what_the_scores_hang_on() {
        let of = |reward: &str, files: &[(&str, &str)]| {
            let files = files.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            digest(&Params { reward: reward.to_owned(), files, reader: None }, Device::Cpu).unwrap()
        };
        assert_eq!(of("looks", &[]), of("looks", &[]));
        assert_ne!(of("looks", &[]), of("geneval", &[]));
        let pick = |set| of("pickscore", &[("model", set), ("tokenizer", set)]);
        assert_ne!(pick("bundled:mini"), of("clipscore", &[("clip", "bundled:mini")]));
        assert_ne!(of("clipscore", &[("clip", "bundled:mini")]), of("clipscore", &[("clip", "bundled:mini-heldout")]));
    }
}
