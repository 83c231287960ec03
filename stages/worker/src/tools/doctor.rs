//! `opdflow doctor`: what this program has to compute with.

use crate::runtime::device;
use anyhow::Result;
use opdflow_api::{DoctorOrder, Event, EventSink, Fault, StopFlag, Tool, read_order};
use opdflow_kinds::LIBTORCH;
use opdflow_kinds::judging::recogniser;
use opdflow_spec::reward_models::REWARD_MODELS;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// The tool.
pub struct Doctor;

impl Tool for Doctor {
    fn name(&self) -> &'static str {
        "doctor"
    }

    fn run(&self, order: &Value, events: &EventSink, _: &StopFlag) -> Result<()> {
        let order: DoctorOrder = read_order(order)?;
        let say = |about: &str, ok: Option<bool>, found: &str, help: Option<&str>| {
            let finding = json!({"about": about, "ok": ok, "found": found, "help": help});
            events.send(&Event::Said { text: finding.to_string() });
        };
        say("libtorch", Some(true), &format!("{LIBTORCH}, built for this program"), None);
        for name in std::iter::once("cpu".to_owned()).chain(order.devices) {
            match tried(&name) {
                Ok(words) => say(&name, Some(true), &words, None),
                Err(error) => {
                    let fault = error.downcast_ref::<Fault>();
                    let help = fault.and_then(|f| f.help.clone());
                    let found = fault.map_or_else(|| format!("{error:#}"), |f| f.message.clone());
                    say(&name, Some(false), &found, help.as_deref());
                }
            }
        }
        match recogniser::fault(&recogniser::assets()) {
            None => say("reward ocr", Some(true), "ONNX Runtime and PP-OCR are there, as pinned", None),
            Some((found, help)) => say("reward ocr", Some(false), &found, Some(&help)),
        }
        say(
            "rewards geneval, looks",
            Some(true),
            "rules of the program; `geneval` on photographs is a reward model",
            None,
        );
        let names: Vec<&str> = REWARD_MODELS.iter().map(|model| model.name).collect();
        let found = format!("{}: each reads the files that its stage `reward_model` names", names.join(", "));
        say("reward models", None, &found, Some("docs/reference/rewards.md says which, and where they are published"));
        let mut served: Vec<String> = std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter_map(|name| Some(name.strip_prefix("OPDFLOW_REWARD_")?.strip_suffix("_URL")?.to_owned()))
            .collect();
        served.sort();
        let found = match served.len() {
            0 => "no variable OPDFLOW_REWARD_NAME_URL names a server".to_owned(),
            _ => format!(
                "variables name servers of {}; whether they answer, a stage asks before it begins",
                served.join(", ")
            ),
        };
        say("served rewards", None, &found, Some("docs/how-to/served-reward.md"));
        Ok(())
    }
}

/// Computes a little on a device, and compares it with what is right.
fn tried(name: &str) -> Result<String> {
    let device = device::open(name, 1, 0)?;
    // 1 + 2 + ... + 64, on each of 64 rows.
    let row = Tensor::arange_start(1, 65, (Kind::Float, Device::Cpu)).to_device(device);
    let product = row.view([1, 64]).matmul(&Tensor::ones([64, 64], (Kind::Float, device)));
    let sum = f64::try_from(product.mean(Kind::Double).to_device(Device::Cpu))?;
    if (sum - 2080.0).abs() > 1e-3 {
        return Err(Fault::machine(format!("a product of matrices is {sum}, and should be 2080")).into());
    }
    let kind = device::kind(name);
    Ok(if kind == name { "computes".to_owned() } else { format!("{kind}, computes") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_tried() {
        assert_eq!(tried("cpu").unwrap(), "computes");
        assert!(tried("cuda:99").is_err());
    }
}
