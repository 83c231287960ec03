//! Numbers in safetensors files, changed in place: what our own writer would refuse to write.

use crate::common::{self, Ran};
use crate::space::Mini;
use opdflow_cache::{Digest, Store};
use serde_json::Value;
use std::path::Path;

/// What is put into the place of a number.
#[derive(Clone, Copy, Debug)]
pub enum Spoil {
    Nan,
    Infinite,
    Number(f32),
}

/// The numbers of one tensor, f32 or f16.
pub struct Values<'a> {
    bytes: &'a mut [u8],
    width: usize,
}

impl Values<'_> {
    pub fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    pub fn set(&mut self, place: usize, to: Spoil) {
        let wide = |v: f32| v.to_le_bytes().to_vec();
        let bytes = match (to, self.width) {
            (Spoil::Nan, 2) => vec![0x00, 0x7e],
            (Spoil::Infinite, 2) => vec![0x00, 0x7c],
            (Spoil::Number(v), 2) => panic!("{v} as f16"),
            (Spoil::Nan, _) => wide(f32::NAN),
            (Spoil::Infinite, _) => wide(f32::INFINITY),
            (Spoil::Number(v), _) => wide(v),
        };
        self.bytes[place * self.width..][..self.width].copy_from_slice(&bytes);
    }

    pub fn finite(&self) -> bool {
        let whole = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite();
        self.width != 4 || self.bytes.chunks_exact(4).all(whole)
    }
}

/// Shows every float tensor of a file, in the order of the names, to `change`, and writes what becomes of it. A file that
/// `get` left read-only is replaced.
pub fn each(path: &Path, mut change: impl FnMut(&str, &mut Values)) {
    let mut all = std::fs::read(path).unwrap();
    let before = all.clone();
    let length = u64::from_le_bytes(all[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&all[8..8 + length]).unwrap();
    for (name, entry) in header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__") {
        let width = match entry["dtype"].as_str().unwrap() {
            "F32" => 4,
            "F16" => 2,
            _ => continue,
        };
        let at = |i: usize| 8 + length + entry["data_offsets"][i].as_u64().unwrap() as usize;
        change(name, &mut Values { bytes: &mut all[at(0)..at(1)], width });
    }
    if all != before {
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, all).unwrap();
    }
}

/// Puts a folder in the place of an output, as another program might have left it.
pub fn replace_output(mini: &Mini, ran: &Ran, stage: &str, port: &str, folder: &str) {
    let key: Digest = ran.json()["stages"][stage]["key"].as_str().unwrap().parse().unwrap();
    let store = Store::open(&mini.store()).unwrap();
    let mut record = store.action(&key).unwrap().unwrap();
    record.outputs.get_mut(port).unwrap().object = store.put_path(&mini.path(folder)).unwrap();
    let files = common::files(&mini.store().join("actions"));
    let own = files.iter().find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains(&key.to_string()[2..])));
    std::fs::remove_file(own.expect("the record")).unwrap();
    store.publish(&record).unwrap();
}
