//! What the text encoders make of prompts, as an artefact: so that they need not be loaded where pictures are made.
//!
//! A folder: `embeddings.safetensors` with `context` `[N, L, D]` and `pooled` `[N, P]`, both f32; `prompts.json`, the
//! words of each row, the empty prompt first; `opdflow.json`, the base that the encoders belong to. Rows are written and
//! read one by one, because all of them may be larger than memory.

use anyhow::{Context as _, Result, ensure};
use opdflow_flow::text::embed::Embedded;
use opdflow_stage::Fault;
use opdflow_stage::cache::Digest;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const ROWS: &str = "embeddings.safetensors";
const PROMPTS: &str = "prompts.json";
const ORIGIN: &str = "opdflow.json";

/// Where rows of numbers lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    start: u64,
    shape: [i64; 3],
}

impl Block {
    fn row(&self) -> usize {
        (self.shape[1] * self.shape[2]) as usize
    }
    fn end(&self) -> u64 {
        self.start + self.shape[0] as u64 * self.row() as u64 * 4
    }
    fn at(&self, row: usize) -> u64 {
        self.start + row as u64 * self.row() as u64 * 4
    }
}

/// A file of embeddings that is being written.
pub struct Writer {
    file: File,
    context: Block,
    pooled: Block,
    done: usize,
}

impl Writer {
    /// Begins an artefact at `folder` for these prompts. `like` has the lengths and widths of each row.
    ///
    /// # Errors
    /// The disk is full.
    pub fn new(folder: &Path, base: Digest, prompts: &[String], like: &Embedded) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        std::fs::write(folder.join(PROMPTS), serde_json::to_string(prompts)?).context("writing the prompts")?;
        std::fs::write(folder.join(ORIGIN), serde_json::to_string(&Origin { base })? + "\n")
            .context("writing the origin")?;
        let n = prompts.len() as i64;
        let (c, p) = (like.context.size(), like.pooled.size());
        let context = Block { start: 0, shape: [n, c[1], c[2]] };
        let pooled = Block { start: context.end(), shape: [n, 1, p[1]] };
        let header = json!({
            "context": {"dtype": "F32", "shape": context.shape, "data_offsets": [0, context.end()]},
            "pooled": {"dtype": "F32", "shape": [n, p[1]], "data_offsets": [pooled.start, pooled.end()]},
        })
        .to_string();
        // The format wants its data at a multiple of 8.
        let header = format!("{header:width$}", width = header.len().next_multiple_of(8));
        let file = File::create(folder.join(ROWS)).with_context(|| folder.join(ROWS).display().to_string())?;
        file.write_all_at(&(header.len() as u64).to_le_bytes(), 0).context("writing embeddings")?;
        file.write_all_at(header.as_bytes(), 8).context("writing embeddings")?;
        let from = |block: Block| Block { start: block.start + 8 + header.len() as u64, ..block };
        Ok(Self { context: from(context), pooled: from(pooled), file, done: 0 })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// The disk is full; rows of another shape.
    pub fn push(&mut self, rows: &Embedded) -> Result<()> {
        for (block, tensor) in [(self.context, &rows.context), (self.pooled, &rows.pooled)] {
            let tensor = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
            let count = rows.len() as usize;
            ensure!(tensor.numel() == count * block.row(), "rows of another shape: {:?}", tensor.size());
            let mut bytes = vec![0; tensor.numel() * 4];
            tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
            self.file.write_all_at(&bytes, block.at(self.done)).context("writing embeddings")?;
        }
        self.done += rows.len() as usize;
        Ok(())
    }

    /// Ends the artefact.
    ///
    /// # Errors
    /// Rows are missing.
    pub fn finish(self) -> Result<()> {
        ensure!(self.done as i64 == self.context.shape[0], "{} rows of {}", self.done, self.context.shape[0]);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Origin {
    base: Digest,
}

/// A file of embeddings to look prompts up in.
pub struct Embeddings {
    file: File,
    rows: BTreeMap<String, usize>,
    context: Block,
    pooled: Block,
    device: Device,
}

impl Embeddings {
    /// Opens an artefact for a model.
    ///
    /// # Errors
    /// The encoders were those of another base; the file is damaged.
    pub fn open(folder: &Path, base: Digest, device: Device) -> Result<Self> {
        let read =
            |name: &str| std::fs::read(folder.join(name)).with_context(|| folder.join(name).display().to_string());
        let origin: Origin = serde_json::from_slice(&read(ORIGIN)?)?;
        if origin.base != base {
            let fault = Fault::user(format!(
                "the embeddings on `embeddings` were made by the encoders of base {}, but the base here is {}",
                origin.base.short(),
                base.short()
            ));
            return Err(fault.help("give the stage `embed` the same base").into());
        }
        let prompts: Vec<String> = serde_json::from_slice(&read(PROMPTS)?)?;
        let path = folder.join(ROWS);
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        let (context, pooled) = blocks(&file).with_context(|| path.display().to_string())?;
        ensure!(
            context.shape[0] == prompts.len() as i64 && pooled.end() == file.metadata()?.len(),
            "{}: not as long as it says",
            path.display()
        );
        let rows = prompts.into_iter().enumerate().map(|(i, p)| (p, i)).collect();
        Ok(Self { file, rows, context, pooled, device })
    }

    /// The rows of these prompts.
    ///
    /// # Errors
    /// A prompt that was not embedded.
    pub fn embed(&self, prompts: &[&str]) -> Result<Embedded> {
        let rows = prompts
            .iter()
            .map(|prompt| {
                self.rows.get(*prompt).copied().ok_or_else(|| {
                    let fault = Fault::user(format!("the embeddings on `embeddings` lack the prompt {prompt:?}"));
                    fault.help("give the stage `embed` all sets of prompts that this stage reads").into()
                })
            })
            .collect::<Result<Vec<usize>>>()?;
        let pooled = self.gather(self.pooled, &rows)?;
        Ok(Embedded { context: self.gather(self.context, &rows)?, pooled: pooled.squeeze_dim(1) })
    }

    fn gather(&self, block: Block, rows: &[usize]) -> Result<Tensor> {
        let width = block.row() * 4;
        let mut bytes = vec![0; rows.len() * width];
        for (part, &row) in bytes.chunks_exact_mut(width).zip(rows) {
            self.file.read_exact_at(part, block.at(row)).context("reading embeddings")?;
        }
        let shape = [rows.len() as i64, block.shape[1], block.shape[2]];
        Ok(Tensor::f_from_data_size(&bytes, &shape, Kind::Float)?.to_device(self.device))
    }
}

/// Where both tensors lie, by the header.
fn blocks(file: &File) -> Result<(Block, Block)> {
    #[derive(Deserialize)]
    struct Entry {
        shape: Vec<i64>,
        data_offsets: [u64; 2],
    }
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 0)?;
    let length = u64::from_le_bytes(length);
    ensure!(length < file.metadata()?.len(), "a header of {length} bytes is announced");
    let mut header = vec![0; length as usize];
    file.read_exact_at(&mut header, 8)?;
    let header: BTreeMap<String, Entry> = serde_json::from_slice(&header)?;
    let block = |name: &str| -> Result<Block> {
        let entry = header.get(name).with_context(|| format!("no tensor `{name}`"))?;
        let shape = match entry.shape[..] {
            [n, l, d] => [n, l, d],
            [n, p] => [n, 1, p],
            _ => anyhow::bail!("tensor `{name}` has shape {:?}", entry.shape),
        };
        let block = Block { start: entry.data_offsets[0] + 8 + length, shape };
        ensure!(
            shape.iter().all(|&s| s > 0) && block.end() == entry.data_offsets[1] + 8 + length,
            "tensor `{name}` is not as long as its shape"
        );
        Ok(block)
    };
    Ok((block("context")?, block("pooled")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: i64, seed: i64) -> Embedded {
        tch::manual_seed(seed);
        Embedded {
            context: Tensor::randn([n, 3, 5], (Kind::Float, Device::Cpu)),
            pooled: Tensor::randn([n, 2], (Kind::Float, Device::Cpu)),
        }
    }

    #[test]
    fn what_is_written_is_read_back_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let base = Digest::of(b"base");
        let prompts = ["", "a dog", "a cat"].map(str::to_owned);
        let all = rows(3, 1);
        let mut writer = Writer::new(dir.path(), base, &prompts, &all).unwrap();
        writer.push(&all.narrow(0, 2)).unwrap();
        assert!(
            writer
                .push(&Embedded { context: all.context.narrow(2, 0, 2), pooled: all.pooled.narrow(0, 0, 1) })
                .is_err()
        );
        writer.push(&all.narrow(2, 1)).unwrap();
        writer.finish().unwrap();
        let read = Embeddings::open(dir.path(), base, Device::Cpu).unwrap();
        let found = read.embed(&["a cat", "", "a cat"]).unwrap();
        let wanted = all.rows(&[2, 0, 2]);
        assert!(found.context.equal(&wanted.context) && found.pooled.equal(&wanted.pooled));
        // Any reader of the format understands it.
        let tensors = Tensor::read_safetensors(dir.path().join(ROWS)).unwrap();
        assert!(tensors.iter().any(|(name, t)| name == "context" && t.equal(&all.context)));
        assert!(read.embed(&["a horse"]).unwrap_err().to_string().contains("a horse"));
        assert!(
            Embeddings::open(dir.path(), Digest::of(b"x"), Device::Cpu).is_err_and(|e| e.to_string().contains("base"))
        );
        let path = dir.path().join(ROWS);
        let bytes = std::fs::read(&path).unwrap();
        for cut in [4, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(Embeddings::open(dir.path(), base, Device::Cpu).is_err(), "cut at {cut}");
        }
    }
}
