//! Files that are no safetensors files, by how they begin: each kind with the way out.

use std::io::Read as _;
use std::path::Path;

/// What a file that begins like this is, and what to do with it; nothing if it may be a safetensors file.
pub(super) fn kind(head: &[u8]) -> Option<&'static str> {
    let text = |t: &str| head.len() >= t.len() && head[..t.len()].eq_ignore_ascii_case(t.as_bytes());
    if text("version https://git-lfs") {
        Some("only a pointer of Git LFS, not the weights: `git lfs pull` fetches them")
    } else if text("GGUF") {
        Some(
            "a GGUF file, whose weights are quantised: take the safetensors file of the same model, in f32, f16 or bf16",
        )
    } else if text("PK\u{3}\u{4}") || (head.len() > 1 && head[0] == 0x80 && (2..=5).contains(&head[1])) {
        Some(PICKLE)
    } else if text("<!doctype") || text("<html") {
        Some("a web page, not weights: the download asked for a login or a licence; accept it and fetch the file again")
    } else {
        None
    }
}

const PICKLE: &str = "a pickle of PyTorch, which can run any program when it is read, and is not read here: take the \
    safetensors file of the same model, or make one in Python: \
    `safetensors.torch.save_file(torch.load(FILE, weights_only=True), \"x.safetensors\")`";

/// The words for a file that is a pickle by its name.
pub fn pickled(path: &Path) -> String {
    let mut head = [0; 64];
    let n = opdflow_io::file::open(path).and_then(|mut f| f.read(&mut head)).unwrap_or(0);
    format!("{}: {}", path.display(), kind(&head[..n]).unwrap_or(PICKLE))
}

/// The weights in a folder that are in no form that is read: what they are, for the first that `names` has.
pub(super) fn among(folder: &Path, names: &[String]) -> Option<String> {
    let ends = |n: &&String| {
        [".bin", ".pt", ".pth", ".ckpt", ".gguf", ".msgpack", ".h5", ".onnx"].iter().any(|e| n.ends_with(e))
    };
    let name = names.iter().find(ends)?;
    if [".msgpack", ".h5", ".onnx"].iter().any(|e| name.ends_with(e)) {
        return Some(format!(
            "{} is another framework's form: take the safetensors file of the same model",
            folder.join(name).display()
        ));
    }
    if name.ends_with(".gguf") {
        return Some(format!("{}: {}", folder.join(name).display(), kind(b"GGUF").unwrap_or_default()));
    }
    Some(pickled(&folder.join(name)))
}
