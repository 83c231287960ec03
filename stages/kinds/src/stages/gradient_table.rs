//! `gradient_table`: what `gradient_variance` found, over several seeds.

use crate::code;
use opdflow_api::port::{Input, Output};
use opdflow_api::{Code, Description, Ports, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage kind.
pub struct GradientTable;

/// It takes none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {}

impl Stage for GradientTable {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "gradient_table",
            semantics: 1,
            about: "The tables of `gradient_variance` of several seeds as one: means, with half of their 95 % interval (Student's t).",
            inputs: const { &[Input::many("gradients", &["json"], "tables of `gradient_variance`, all of the same lines")] },
            outputs: const {
                &[
                    Output::new("markdown", "markdown", "the table").result().file("md"),
                    Output::new("csv", "csv", "the table, intervals in columns of their own").result().file("csv"),
                ]
            },
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }

    fn code(&self, _params: &Params, _ports: &Ports) -> Code {
        code::of("gradient_table", &[&["stages.tables", "judging"]])
    }
}
