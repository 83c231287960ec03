//! Reward models that only tables ask, at work.

use crate::judging::asking::Asking;
use crate::judging::dealt::{BATCH, Dealt};
use crate::judging::{reward_set, score};
use crate::runtime::ranks::parted;
use crate::runtime::unfit::unfit;
use anyhow::Result;
use opdflow_api::StageContext;
use opdflow_kinds::judging::held_out::{DIVERSITY, PORT, PROMPT_DIVERSITY, SEES, column};
use opdflow_kinds::prompt::record::Record;
use opdflow_ranks::Ranks;
use opdflow_reward_models::clip::Clip;
use opdflow_rewards::Image;
use opdflow_training::teacher::Canvas;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// What is connected to the port `held_out`.
pub struct HeldOut {
    judges: Vec<(String, Dealt)>,
    clip: Option<Clip>,
    ranks: Ranks,
}

impl HeldOut {
    /// Opens them.
    ///
    /// # Errors
    /// One is connected under another name than that of its reward, or does not open.
    pub fn connected(context: &StageContext, canvas: Canvas, asking: &Asking) -> Result<Self> {
        let Canvas { device, ranks, .. } = canvas;
        let mut found = Self { judges: Vec::new(), clip: None, ranks };
        for name in context.names(PORT) {
            let (judge, folder) = reward_set::open_connected(context, PORT, &name, (device, asking))?;
            if name == SEES {
                found.clip = Some(Clip::open(&folder.join("clip"), device).map_err(|e| unfit(&e))?);
            }
            found.judges.push((name, Dealt::new(judge, ranks, device).with(asking.answers())));
        }
        Ok(found)
    }

    /// Their columns for the images of a set, `each` of every prompt in a row.
    ///
    /// # Errors
    /// One cannot judge these prompts, or gives a number that is not finite.
    pub fn columns(&self, images: &[Image], records: &[Record], each: usize) -> Result<BTreeMap<String, Vec<f64>>> {
        let mut columns = BTreeMap::new();
        for (name, judge) in &self.judges {
            reward_set::judges(judge, records)?;
            // Its headline alone.
            columns.extend(score::columns(judge, images, records)?.remove(name).map(|values| (column(name), values)));
        }
        if let Some(clip) = &self.clip {
            let own = clip.encode_image(&images[self.ranks.own_rows(images.len(), BATCH)]).map_err(|e| unfit(&e))?;
            let rows = self.ranks.gather_rows(&own, images.len(), BATCH).map_err(parted)?;
            columns.insert(DIVERSITY.to_owned(), apart(&rows)?);
            if each > 1 {
                let own = rows.split(each as i64, 0).iter().map(apart).collect::<Result<Vec<_>>>()?;
                columns.insert(PROMPT_DIVERSITY.to_owned(), own.concat());
            }
        }
        Ok(columns)
    }
}

/// Of rows `[N, P]` of length 1, for each the mean of 1 - cosine to all others; of a single one 0.
fn apart(rows: &Tensor) -> Result<Vec<f64>> {
    let rows = rows.to_device(Device::Cpu).to_kind(Kind::Double);
    let others = (rows.size()[0] - 1).max(1) as f64;
    let far: Tensor = 1.0 - rows.matmul(&rows.tr());
    // A row is as far from itself as rounding makes it.
    let own = far.diagonal(0, 0, 1);
    let sums = far.sum_dim_intlist([1i64].as_slice(), false, Kind::Double) - own;
    Ok(Vec::try_from(sums / others)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_apart_by_hand() {
        // Two equal ones and one at a right angle to both.
        let rows = Tensor::from_slice(&[1.0f32, 0.0, 1.0, 0.0, 0.0, 1.0]).view([3, 2]);
        let found = apart(&rows).unwrap();
        for (found, expected) in found.iter().zip([0.5, 0.5, 1.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        }
        assert_eq!(apart(&Tensor::from_slice(&[0.6f32, 0.8]).view([1, 2])).unwrap(), [0.0]);
    }
}
