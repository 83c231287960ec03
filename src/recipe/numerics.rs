//! `numerics`: how much of the arithmetic belongs to a result's identity.

use super::text::diagnostic::Diagnostic;
use super::text::near::hint;
use super::text::shape::{map, text, wrong};
use super::text::tree::{Data, Entry};
use serde_json::Value;

/// How much of the machine's arithmetic belongs to a result's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Numerics {
    /// Results are shared between machines whose last bits may differ.
    #[default]
    Portable,
    /// Device class, number type and libtorch version are part of the key. The recipe names them, so that a plan has the
    /// same keys wherever it is made.
    Strict(Strict),
}

/// What a recipe with strict numerics is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strict {
    /// What stages that can use a GPU run on.
    pub device: Device,
    /// The version of libtorch, if the recipe names one; else that of the program.
    pub libtorch: Option<String>,
}

/// A class of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// A processor, GPUs or not.
    Cpu,
    /// An NVIDIA GPU; which one does not matter.
    Cuda,
}

impl Device {
    /// As recipes and keys write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

const EXAMPLE: &str = "write `numerics: {profile: strict, device: cpu}`, or `device: cuda`";

/// Reads the entry.
pub(super) fn read(entry: &Entry, faults: &mut Vec<Diagnostic>) -> Option<Numerics> {
    match &entry.value.data {
        Data::Scalar(Value::String(word)) => match word.as_str() {
            "portable" => Some(Numerics::Portable),
            "strict" => {
                let title = "`numerics: strict` does not say for which device";
                let label = "the device belongs to the keys";
                faults.push(Diagnostic::error("E011", title, entry.value.span.clone(), label).help(EXAMPLE));
                None
            }
            word => {
                let help = hint(word, ["portable", "strict"]);
                faults.push(wrong(&entry.value, "`numerics`", "`portable`, or a map with `profile`").maybe_help(help));
                None
            }
        },
        Data::Map(_) => strict(entry, faults),
        Data::Unknown => None,
        _ => {
            faults.push(wrong(&entry.value, "`numerics`", "`portable`, or a map with `profile`"));
            None
        }
    }
}

fn strict(entry: &Entry, faults: &mut Vec<Diagnostic>) -> Option<Numerics> {
    let node = map(&entry.value, "`numerics`", &["profile", "device", "libtorch"], faults)?;
    let mut choice = |name: &str, choices: &[&str]| -> Option<String> {
        let Some(found) = node.get(name) else {
            let title = format!("`numerics` has no `{name}`");
            faults.push(
                Diagnostic::error("E011", title, entry.key_span.clone(), format!("`{name}` is missing")).help(EXAMPLE),
            );
            return None;
        };
        let word = text(found, faults)?;
        if choices.contains(&word.as_str()) {
            return Some(word);
        }
        let expected = choices.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(" or ");
        let help = hint(&word, choices.iter().copied());
        faults.push(wrong(&found.value, &format!("`{name}`"), &expected).maybe_help(help));
        None
    };
    let profile = choice("profile", &["strict", "portable"]);
    if profile.as_deref() == Some("portable") {
        // Anything else that is written beside it would be without effect.
        return match node.entries().iter().find(|e| e.key != "profile") {
            None => Some(Numerics::Portable),
            Some(other) => {
                let title = format!("`{}` has no effect: portable numerics are for all devices", other.key);
                let help = "take it out, or write `profile: strict`";
                faults.push(Diagnostic::error("E010", title, other.key_span.clone(), "without effect").help(help));
                None
            }
        };
    }
    let device = choice("device", &["cpu", "cuda"]);
    let libtorch = match node.get("libtorch") {
        None => Some(None),
        Some(found) => text(found, faults).map(Some),
    };
    profile?;
    let device = if device? == "cuda" { Device::Cuda } else { Device::Cpu };
    Some(Numerics::Strict(Strict { device, libtorch: libtorch? }))
}
