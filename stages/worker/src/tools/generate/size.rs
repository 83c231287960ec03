//! The size of the images that `opdflow generate` makes.

use crate::runtime::unfit::unfit;
use anyhow::Result;
use opdflow_api::{Fault, GenerateOrder};
use opdflow_models::family::{Architecture, Sides};

/// Sides of image and latent.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub width: i64,
    pub height: i64,
    pub latent: [i64; 3],
}

impl Size {
    /// The size asked for, held against the model before any weights are read.
    pub fn of(order: &GenerateOrder, model: &dyn Architecture) -> Result<Size> {
        let Sides { unit, own, most } = model.sides();
        let (width, height) = (order.width.unwrap_or(own), order.height.unwrap_or(own));
        for (name, side) in [("width", width), ("height", height)] {
            if side < unit || side % unit != 0 {
                let near = ((side + unit / 2) / unit * unit).max(unit);
                let fault = Fault::user(format!("the {name} is {side}, expected a multiple of {unit}"));
                let why = format!("a token of this model is {unit} pixels wide and high; {near} is near");
                return Err(fault.help(why).into());
            }
            if let Some(most) = most.filter(|most| side > *most) {
                let fault = Fault::user(format!("the {name} is {side}, this model's positions end at {most}"));
                return Err(fault.help(format!("ask for {most} or less")).into());
            }
        }
        Ok(Size { width, height, latent: model.latent(height, width).map_err(|e| unfit(&e))? })
    }
}
