//! What the text encoders make of prompts, as an artefact: so that they need not be loaded where images are made.
//!
//! A folder: `embeddings.safetensors` with the tensors of the condition, `[N, ..]` each and f32, under the names that the
//! model's family gives them; `prompts.json`, the words of each row, the empty prompt first; `opdflow.json`, the base that the
//! encoders belong to. Rows are written and read one by one, because all of them may be larger than memory.

use anyhow::{Context as _, Result, ensure};
use opdflow_api::Fault;
use opdflow_api::cache::Digest;
use opdflow_models::condition::Condition;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const ROWS: &str = "embeddings.safetensors";
const PROMPTS: &str = "prompts.json";

const ORIGIN: &str = "opdflow.json";

/// Where the rows of one tensor lie in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    name: String,
    start: u64,
    rows: u64,
    /// The shape of a row.
    shape: Vec<i64>,
    /// Numbers of a row.
    numbers: usize,
}

impl Block {
    /// A block of rows of this shape. Nothing if a side is not at least 1, or if there is no room for so many numbers.
    fn new(name: &str, start: u64, rows: u64, shape: &[i64]) -> Option<Self> {
        let mut sides = shape.iter().map(|side| usize::try_from(*side).ok().filter(|side| *side > 0));
        let numbers = sides.try_fold(1_usize, |product, side| product.checked_mul(side?))?;
        let bytes = (numbers as u64).checked_mul(4)?.checked_mul(rows)?;
        start.checked_add(bytes)?;
        Some(Self { name: name.to_owned(), start, rows, shape: shape.to_owned(), numbers })
    }

    fn end(&self) -> u64 {
        self.at(self.rows)
    }

    fn at(&self, row: u64) -> u64 {
        self.start + row * self.numbers as u64 * 4
    }

    /// The shape of so many rows.
    fn with(&self, rows: usize) -> Vec<i64> {
        std::iter::once(rows as i64).chain(self.shape.iter().copied()).collect()
    }
}

/// A file of embeddings that is being written.
pub struct Writer {
    file: File,
    blocks: Vec<Block>,
    total: u64,
    done: u64,
}

impl Writer {
    /// Begins an artefact at `folder` for these prompts. `like` has the names and widths of each row.
    ///
    /// # Errors
    /// The disk is full.
    pub fn new(folder: &Path, base: Digest, prompts: &[String], like: &Condition) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        std::fs::write(folder.join(PROMPTS), serde_json::to_string(prompts)?).context("writing the prompts")?;
        std::fs::write(folder.join(ORIGIN), serde_json::to_string(&Origin { base })? + "\n")
            .context("writing the origin")?;
        let total = prompts.len() as u64;
        let (mut blocks, mut end, mut header) = (Vec::new(), 0, Map::new());
        for (name, tensor) in like.tensors() {
            let block = Block::new(name, end, total, &tensor.size()[1..]).context("more numbers than fit a file")?;
            let entry = json!({"dtype": "F32", "shape": block.with(prompts.len()), "data_offsets": [end, block.end()]});
            header.insert(name.to_owned(), entry);
            end = block.end();
            blocks.push(block);
        }
        let header = serde_json::Value::Object(header).to_string();
        // The format wants its data at a multiple of 8.
        let header = format!("{header:width$}", width = header.len().next_multiple_of(8));
        let file = File::create(folder.join(ROWS)).with_context(|| folder.join(ROWS).display().to_string())?;
        file.write_all_at(&(header.len() as u64).to_le_bytes(), 0).context("writing embeddings")?;
        file.write_all_at(header.as_bytes(), 8).context("writing embeddings")?;
        blocks.iter_mut().for_each(|block| block.start += 8 + header.len() as u64);
        Ok(Self { blocks, file, total, done: 0 })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// The disk is full; rows of another shape.
    pub fn push(&mut self, rows: &Condition) -> Result<()> {
        let count = rows.len() as usize;
        for block in &self.blocks {
            let tensor = rows.tensor(&block.name)?.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
            ensure!(tensor.size() == block.with(count), "rows of another shape: {:?}", tensor.size());
            let mut bytes = vec![0; tensor.numel() * 4];
            tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
            self.file.write_all_at(&bytes, block.at(self.done)).context("writing embeddings")?;
        }
        self.done += count as u64;
        Ok(())
    }

    /// Ends the artefact.
    ///
    /// # Errors
    /// Rows are missing.
    pub fn finish(self) -> Result<()> {
        ensure!(self.done == self.total, "{} rows of {}", self.done, self.total);
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
    blocks: Vec<Block>,
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
        let blocks = blocks(&file).with_context(|| path.display().to_string())?;
        let all = blocks.iter().all(|block| block.rows == prompts.len() as u64);
        let end = blocks.iter().map(Block::end).max();
        ensure!(all && end == Some(file.metadata()?.len()), "{}: not as long as it says", path.display());
        let rows = prompts.into_iter().enumerate().map(|(i, p)| (p, i)).collect();
        Ok(Self { file, rows, blocks, device })
    }

    /// The rows of these prompts.
    ///
    /// # Errors
    /// A prompt that was not embedded.
    pub fn embed(&self, prompts: &[&str]) -> Result<Condition> {
        let rows = prompts
            .iter()
            .map(|prompt| {
                self.rows.get(*prompt).copied().ok_or_else(|| {
                    let fault = Fault::user(format!("the embeddings on `embeddings` lack the prompt {prompt:?}"));
                    fault.help("give the stage `embed` all sets of prompts that this stage reads").into()
                })
            })
            .collect::<Result<Vec<usize>>>()?;
        let tensors = self.blocks.iter().map(|block| Ok((block.name.clone(), self.gather(block, &rows)?)));
        Condition::new(tensors.collect::<Result<Vec<_>>>()?)
    }

    fn gather(&self, block: &Block, rows: &[usize]) -> Result<Tensor> {
        let width = block.numbers * 4;
        let mut bytes = vec![0; rows.len() * width];
        for (part, &row) in bytes.chunks_exact_mut(width).zip(rows) {
            self.file.read_exact_at(part, block.at(row as u64)).context("reading embeddings")?;
        }
        Ok(Tensor::f_from_data_size(&bytes, &block.with(rows.len()), Kind::Float)?.to_device(self.device))
    }
}

/// Where the tensors lie, by the header, in their order in the file.
fn blocks(file: &File) -> Result<Vec<Block>> {
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
    let block = |(name, entry): (String, Entry)| -> Result<Block> {
        let rows =
            entry.shape.split_first().and_then(|(n, row)| Some((u64::try_from(*n).ok().filter(|n| *n > 0)?, row)));
        let (rows, shape) = rows.with_context(|| format!("tensor `{name}` has shape {:?}", entry.shape))?;
        let [start, end] = entry.data_offsets.map(|at| at.checked_add(8 + length));
        let block = start.and_then(|start| Block::new(&name, start, rows, shape));
        let found = block.filter(|block| Some(block.end()) == end);
        found.with_context(|| format!("tensor `{name}` is not as long as its shape"))
    };
    let mut blocks = header.into_iter().map(block).collect::<Result<Vec<_>>>()?;
    blocks.sort_by_key(|block| block.start);
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: i64, seed: i64) -> Condition {
        tch::manual_seed(seed);
        let context = Tensor::randn([n, 3, 5], (Kind::Float, Device::Cpu));
        let pooled = Tensor::randn([n, 2], (Kind::Float, Device::Cpu));
        Condition::new([("context", context), ("pooled", pooled)]).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let base = Digest::of(b"base");
        let prompts = ["", "a dog", "a cat"].map(str::to_owned);
        let all = rows(3, 1);
        let mut writer = Writer::new(dir.path(), base, &prompts, &all).unwrap();
        writer.push(&all.narrow(0, 2)).unwrap();
        let of = |name: &str| all.tensor(name).unwrap();
        let shorter =
            [("context", of("context").narrow(2, 0, 2).narrow(0, 0, 1)), ("pooled", of("pooled").narrow(0, 0, 1))];
        assert!(writer.push(&Condition::new(shorter).unwrap()).is_err());
        writer.push(&all.narrow(2, 1)).unwrap();
        writer.finish().unwrap();
        let read = Embeddings::open(dir.path(), base, Device::Cpu).unwrap();
        let found = read.embed(&["a cat", "", "a cat"]).unwrap();
        let wanted = all.rows(&[2, 0, 2]);
        for (name, tensor) in wanted.tensors() {
            assert!(found.tensor(name).unwrap().equal(tensor), "{name}");
        }
        assert_eq!(found.tensors().map(|(name, _)| name).collect::<Vec<_>>(), ["context", "pooled"]);
        // Any reader of the format understands it.
        let tensors = Tensor::read_safetensors(dir.path().join(ROWS)).unwrap();
        assert!(tensors.iter().any(|(name, t)| name == "context" && t.equal(of("context"))));
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

    /// Stores hold files from before a family said what is in them: the same bytes.
    #[test]
    fn the_file_is_what_it_always_was() {
        let dir = tempfile::tempdir().unwrap();
        let numbers = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
        let one = Condition::new([("context", numbers(&[1, 2, 1])), ("pooled", numbers(&[1, 3]) * 2.0)]).unwrap();
        let mut writer = Writer::new(dir.path(), Digest::of(b"base"), &[String::new()], &one).unwrap();
        writer.push(&one).unwrap();
        writer.finish().unwrap();
        let bytes = std::fs::read(dir.path().join(ROWS)).unwrap();
        let header = r#"{"context":{"data_offsets":[0,8],"dtype":"F32","shape":[1,2,1]},"pooled":{"data_offsets":[8,20],"dtype":"F32","shape":[1,3]}}"#;
        let length = header.len().next_multiple_of(8);
        assert_eq!(bytes[..8], (length as u64).to_le_bytes());
        assert_eq!(std::str::from_utf8(&bytes[8..8 + length]).unwrap().trim_end(), header);
        let numbers: Vec<u8> = [1.0_f32, 1.0, 2.0, 2.0, 2.0].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(bytes[8 + length..], numbers);
    }
}
