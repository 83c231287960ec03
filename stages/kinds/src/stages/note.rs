//! `note`: words among the results.

use crate::code;
use anyhow::{Context as _, Result};
use opdflow_api::port::{Input, Output};
use opdflow_api::{Code, Description, Ports, Stage, StageContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The stage kind.
pub struct Note;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Markdown.
    text: String,
}

impl Stage for Note {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "note",
            semantics: 1,
            about: "Writes a text, and below it the names and digests of its inputs. A run prints it at its end.",
            inputs: const { &[Input::any("about", &[], "what the text is about")] },
            outputs: const { &[Output::new("markdown", "markdown", "the text").result().file("md")] },
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("note", &[])
    }
}

/// Writes the note.
///
/// # Errors
/// The disk is full.
pub fn run(params: Params, context: &mut StageContext) -> Result<()> {
    let mut text = params.text.trim_end().to_owned();
    text.push('\n');
    for (i, name) in context.names("about").into_iter().enumerate() {
        let digest = context.object(&format!("about.{name}")).map(|o| o.digest.to_string());
        let gap = if i == 0 { "\n" } else { "" };
        writeln!(text, "{gap}- {name}: `{}`", digest.as_deref().unwrap_or_default())?;
    }
    std::fs::write(context.output("markdown"), text).context("writing the note")
}
