//! Reward models that only tables ask, at work.

use crate::judging::asking::Asking;
use crate::judging::dealt::{BATCH, Dealing};
use crate::judging::{reward_set, score};
use crate::runtime::ranks::parted;
use crate::runtime::unfit::unfit;
use anyhow::{Context as _, Result};
use opdflow_api::StageContext;
use opdflow_kinds::judging::held_out::{DIVERSITY, PORT, PROMPT_DIVERSITY, SEES, column};
use opdflow_kinds::prompt::record::Record;
use opdflow_ranks::Ranks;
use opdflow_reward_models::clip::Clip;
use opdflow_rewards::{Image, Reward, Subject};
use opdflow_training::teacher::Canvas;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// What is connected to the port `held_out`.
pub struct HeldOut {
    /// Each with its column.
    judges: Vec<(String, Box<dyn Reward>)>,
    clip: Option<Clip>,
    dealing: Dealing,
    ranks: Ranks,
}

impl HeldOut {
    /// Opens them.
    ///
    /// # Errors
    /// One is connected under another name than that of its reward, or does not open.
    pub fn connected(context: &StageContext, canvas: Canvas, asking: &Asking) -> Result<Self> {
        let Canvas { device, ranks, .. } = canvas;
        let dealing = Dealing::new(ranks, device).with(asking.answers());
        let mut found = Self { judges: Vec::new(), clip: None, dealing, ranks };
        for name in context.names(PORT) {
            let (judge, folder) = reward_set::open_connected(context, PORT, &name, (device, asking))?;
            if name == SEES {
                found.clip = Some(Clip::open(&folder.join("clip"), device).map_err(|e| unfit(&e))?);
            }
            found.judges.push((column(&name), judge));
        }
        Ok(found)
    }

    /// The same with these rewards of the program beside them, for images that are only looked at.
    ///
    /// # Errors
    /// What one reads with is not there.
    pub fn with_rules(mut self, names: &[String]) -> Result<Self> {
        for name in names {
            let rule = reward_set::rule(name)?.with_context(|| format!("`{name}` is no reward of the program"))?;
            self.judges.push((name.clone(), rule));
        }
        Ok(self)
    }

    /// The headlines of each image, by column, of those that can judge its prompt.
    ///
    /// # Errors
    /// One fails.
    pub fn headlines(&self, images: &[Image], records: &[Record]) -> Result<Vec<BTreeMap<String, f64>>> {
        let mut found = vec![BTreeMap::new(); images.len()];
        for (column, judge) in &self.judges {
            let can = |record: &Record| judge.applies(&record.subject()) && judge.refuses(&record.subject()).is_none();
            let places: Vec<usize> = (0..images.len()).filter(|i| can(&records[*i])).collect();
            let (own, of): (Vec<Image>, Vec<Record>) =
                places.iter().map(|i| (images[*i].clone(), records[*i].clone())).unzip();
            let subjects: Vec<Subject> = of.iter().map(Record::subject).collect();
            let scores = self.dealing.score(&**judge, &own, &subjects).map_err(score::fault)?;
            let values = score::columns(judge.name(), &scores, &of)?.remove(judge.name()).unwrap_or_default();
            for (place, value) in places.into_iter().zip(values) {
                found[place].insert(column.clone(), value);
            }
        }
        Ok(found)
    }

    /// What judges, each with the column of its headline.
    #[must_use]
    pub fn judges(&self) -> &[(String, Box<dyn Reward>)] {
        &self.judges
    }

    /// How far apart the images of a set are, `each` of every prompt in a row; nothing without a `clipscore`.
    ///
    /// # Errors
    /// An image that the network cannot see; another process is gone.
    pub fn diversity(&self, images: &[Image], each: usize) -> Result<BTreeMap<String, Vec<f64>>> {
        let mut columns = BTreeMap::new();
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
