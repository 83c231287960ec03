//! What a stage left in the store that a tracker shows.

use crate::report::artefacts::{self, Sample, Score};
use crate::report::params::{self, Shown};
use crate::runlog::RunFolder;
use opdflow_api::Registry;
use opdflow_api::cache::{ActionRecord, Digest, Store, moment};
use serde_json::Value;
use std::collections::BTreeMap;

/// Images of one stage: of each set the first prompts, which are the same in all runs.
const PROMPTS: usize = 8;
/// Most bytes of them.
const MOST_BYTES: usize = 20 << 20;

/// Where what a tracker shows is read, and what of it is shown.
pub struct Source {
    /// The folder of the run.
    pub folder: RunFolder,
    /// The store.
    pub store: Store,
    /// The kinds of stage.
    pub registry: Registry,
    /// Leave prompts and paths out.
    pub no_prompts: bool,
    /// Give the images of results that another run computed, too.
    pub images_of_hits: bool,
}

/// What one stage left.
#[derive(Debug, Default)]
pub struct Left {
    /// When it was finished: seconds since 1970.
    pub finished: f64,
    /// All metrics, if it left any.
    pub metrics: Option<Vec<Sample>>,
    /// Means over sets of prompts, if it judged a model.
    pub scores: Vec<Score>,
    /// Of which adapter, if of one.
    pub adapter: Option<Digest>,
    /// Images of prompts.
    pub pictures: Vec<Picture>,
    /// Digests of its outputs by type of port.
    pub outputs: Vec<(String, Digest)>,
    /// What its key was made of.
    pub manifest: Value,
}

/// An image of a prompt.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The set of prompts.
    pub set: String,
    /// Which of the set, from 0.
    pub number: usize,
    /// The prompt, unless prompts are left out.
    pub prompt: Option<String>,
    /// By reward.
    pub scores: BTreeMap<String, f64>,
    /// The PNG.
    pub png: Vec<u8>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl Source {
    /// What the stage with this key left, and what cannot be read of it.
    pub(super) fn left(&self, stage: &str, key: &Digest, hit: bool, lacking: &mut Vec<String>) -> Option<Left> {
        let record = artefacts::record(&self.store, stage, key, lacking)?;
        let mut left = Left { finished: moment(&record.finished).unwrap_or_default(), ..Left::default() };
        for (port, output) in &record.outputs {
            left.outputs.push((output.port_type.clone(), output.object.digest));
            let mut read = || artefacts::bytes(&self.store, (stage, port), output, lacking);
            match output.port_type.as_str() {
                "metrics" => left.metrics = read().map(|bytes| artefacts::metrics(&bytes)),
                "scores" => left.scores = read().map(|bytes| artefacts::scores(&bytes)).unwrap_or_default(),
                "images" if !hit || self.images_of_hits => {
                    left.pictures = self.pictures(stage, &record, &output.object.digest, lacking);
                }
                _ => {}
            }
        }
        left.adapter = record.manifest.pointer("/inputs/lora").and_then(Value::as_str).and_then(|d| d.parse().ok());
        left.manifest = record.manifest;
        Some(left)
    }

    fn pictures(&self, stage: &str, record: &ActionRecord, tree: &Digest, lacking: &mut Vec<String>) -> Vec<Picture> {
        let entries = match self.store.tree(tree) {
            Ok(entries) => entries,
            Err(error) => {
                lacking.push(format!("`{stage}`, images: {error}"));
                return Vec::new();
            }
        };
        let samples = record.outputs.get("samples").and_then(|o| self.store.read(&o.object.digest).ok());
        let scores = artefacts::scores_of_images(samples.as_deref().unwrap_or_default());
        let (mut found, mut room, mut left_out) = (Vec::new(), MOST_BYTES, 0);
        for kept in artefacts::images(&entries).0.into_iter().filter(|kept| kept.number < PROMPTS) {
            let Ok(png) = self.store.read(kept.png) else {
                lacking.push(format!("`{stage}`: the image {} of `{}` cannot be read", kept.number, kept.set));
                continue;
            };
            let Some((width, height)) = size(&png) else {
                lacking.push(format!("`{stage}`: the image {} of `{}` is no PNG", kept.number, kept.set));
                continue;
            };
            if png.len() > room {
                left_out += 1;
                continue;
            }
            room -= png.len();
            let text = kept.prompt.filter(|_| !self.no_prompts).and_then(|digest| self.store.read(digest).ok());
            let prompt = text.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
            let (set, number) = (kept.set.to_owned(), kept.number);
            let scores = scores.get(&(set.clone(), number)).cloned().unwrap_or_default();
            found.push(Picture { set, number, prompt, scores, png, width, height });
        }
        if left_out > 0 {
            lacking.push(format!("`{stage}`: {left_out} images are above {} MB together", MOST_BYTES >> 20));
        }
        found
    }

    /// The manifest of a stage that has begun in this run.
    pub(super) fn begun(&self, stage: &str) -> Option<Value> {
        let job = opdflow_io::file::read(&self.folder.job(stage), opdflow_io::file::DESCRIPTION).ok()?;
        serde_json::from_slice::<Value>(&job).ok().map(|mut job| job["manifest"].take())
    }

    /// The parameters of a stage.
    pub(super) fn params(&self, manifest: &Value) -> BTreeMap<String, Value> {
        let kind = manifest["kind"].as_str().and_then(|kind| self.registry.get(kind));
        params::flat(manifest, if self.no_prompts { Shown::Shared(kind.map(|k| k.schema())) } else { Shown::All })
    }
}

/// Width and height of a PNG, of which the first chunk says them.
fn size(png: &[u8]) -> Option<(u32, u32)> {
    let head = png.strip_prefix(b"\x89PNG\r\n\x1a\n")?.strip_prefix(b"\0\0\0\x0dIHDR")?;
    let number = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
    Some((number(0)?, number(4)?)).filter(|(width, height)| *width > 0 && *height > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_says_its_size() {
        assert_eq!(size(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x02\0\0\0\x03\x08"), Some((2, 3)));
        for bad in [
            &b""[..],
            b"GIF89a",
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0",
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(size(bad), None);
        }
    }
}
