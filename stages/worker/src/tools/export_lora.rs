//! `opdflow get .. --format`: an adapter out of the store, in the form that another program reads.

use crate::artefacts::origin;
use crate::runtime::precision;
use anyhow::{Context as _, Result};
use opdflow_api::{Event, EventSink, ExportLoraOrder, Fault, StopFlag, Tool, read_order};
use opdflow_kinds::precision::Precision;
use opdflow_models::adapter::Format;
use opdflow_models::lora::Lora;
use serde_json::Value;
use tch::Device;

/// The tool.
pub struct ExportLora;

impl Tool for ExportLora {
    fn name(&self) -> &'static str {
        "export_lora"
    }

    fn run(&self, order: &Value, events: &EventSink, _: &StopFlag) -> Result<()> {
        let order: ExportLoraOrder = read_order(order)?;
        let format: Format = serde_json::from_value(order.format.clone().into())
            .map_err(|_| Fault::user(format!("there is no form `{}`", order.format)))?;
        let precision: Precision = serde_json::from_value(order.dtype.clone().into())
            .map_err(|_| Fault::user(format!("there is no number format `{}`", order.dtype)))?;
        // An adapter of the store is whole and in our own names: its own layers are all there is to know of the model.
        let lora =
            Lora::load_own(&order.source, Device::Cpu).map_err(|e| Fault::user(format!("the adapter: {e:#}")))?;
        let family = origin::family_of(&order.source).map_err(|e| Fault::user(format!("{e:#}")))?;
        let written = format
            .save(&lora, family.naming(), precision::kind(precision), &order.output)
            .map_err(|e| Fault::user(format!("{e:#}")))?;
        if format == Format::Peft {
            origin::copy_origin(&order.source, &order.output)?;
        }
        let path = written.strip_prefix(&order.output).context("written elsewhere")?;
        events.send(&Event::Said { text: path.display().to_string() });
        Ok(())
    }
}
