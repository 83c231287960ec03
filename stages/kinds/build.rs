//! Embeds the miniature's folder and its reward models; says which versions of the code this build computes with.
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[path = "build/parts.rs"]
mod parts;
#[path = "build/sources.rs"]
mod sources;

fn here() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"))
}

fn write(name: &str, code: &str) {
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it")).join(name);
    std::fs::write(out, code).expect("the build folder is writable");
}

fn main() {
    mini();
    versions();
}

fn mini() {
    let code = embedded("MINI", "The files of the miniature", "mini");
    let judges = embedded("JUDGES", "The files of its reward models", "mini_reward_models");
    write("mini.rs", &(code + &judges));
}

/// A table of the files in a folder: path below it, and bytes.
fn embedded(name: &str, about: &str, folder: &'static str) -> String {
    let root = here().join(folder);
    let mut code = format!("/// {about}: path below its folder, and bytes.\nstatic {name}: &[(&str, &[u8])] = &[\n");
    for path in sources::files(&here(), &[folder]) {
        let relative = path.strip_prefix(&root).expect("below the root");
        writeln!(code, "    ({:?}, include_bytes!({:?})),", relative.to_string_lossy(), path.to_string_lossy())
            .expect("a string");
    }
    code.push_str("];\n");
    println!("cargo:rerun-if-changed={folder}");
    code
}

/// Writes the parts with their committed versions and the digests of the sources as they are now.
fn versions() {
    let here = here();
    let stages = here.parent().expect("it lies in `stages`");
    let committed = sources::table(&std::fs::read_to_string(here.join("code.txt")).unwrap_or_default());
    let mut code =
        String::from("/// The parts of the code, as this program was built.\nstatic PARTS: &[CodePart] = &[\n");
    let mut line = |name: &str, digest: Option<String>| {
        let known = committed.get(name).cloned().unwrap_or_default();
        let (version, then) = (known.version, known.digest);
        writeln!(
            code,
            "    CodePart {{ name: {name:?}, version: {version}, committed: {then:?}, built: {digest:?} }},"
        )
        .expect("a string");
    };
    for (name, listed) in parts::SHARED.iter().chain(parts::KINDS) {
        line(name, sources::digest(stages, listed));
    }
    let unlisted = unlisted(stages);
    if !unlisted.is_empty() {
        line("unlisted", Some(sources::digest_of(stages, &unlisted)));
    }
    code.push_str("];\n");
    write("parts.rs", &code);
    for path in ["code.txt", "build", "build.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for folder in parts::CRATES.map(|c| stages.join(c).join("src")).iter().filter(|f| f.is_dir()) {
        println!("cargo:rerun-if-changed={}", folder.display());
    }
}

/// Sources that stand in no part.
fn unlisted(stages: &Path) -> Vec<PathBuf> {
    let listed = |parts: &[parts::CodePart]| -> Vec<PathBuf> {
        parts.iter().flat_map(|(_, listed)| sources::files(stages, listed)).collect()
    };
    let known = [parts::SHARED, parts::KINDS, parts::OUTSIDE].map(listed).concat();
    let all = parts::CRATES.map(|c| format!("{c}/src"));
    sources::files(stages, &all.each_ref().map(String::as_str)).into_iter().filter(|f| !known.contains(f)).collect()
}
