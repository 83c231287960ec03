//! Adapters of AuraFlow in every published form, against what peft, diffusers and the reader of original names make of them:
//! the fixtures of `parity_aura/make_fixtures.py`.
#![allow(missing_docs)]

mod common;

use common::{largest, same_adapters, within};
use opdflow_models::adapter::{self, Format};
use opdflow_models::config::read_json;
use opdflow_models::families::aura::{At, Aura, OriginalNames};
use opdflow_models::families::{flux, sd3};
use opdflow_models::linears::{Linears, LoraConfig};
use opdflow_models::lora::Lora;
use opdflow_models::weights::{Weights, read_tensors, save_tensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;

fn of(family: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(family).join(name)
}

fn at(name: &str) -> PathBuf {
    of("parity_aura", name)
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    read_tensors(path, CPU, None).unwrap().0
}

fn loaded<M, C: serde::de::DeserializeOwned>(folder: &Path, make: impl Fn(&Weights, &C) -> anyhow::Result<M>) -> M {
    let weights = Weights::load(folder, CPU, Kind::Float).unwrap();
    make(&weights, &read_json(&folder.join("config.json")).unwrap()).unwrap()
}

fn model() -> Aura {
    loaded(&at("pipeline/transformer"), |w, c| Aura::new(&w.root(), c))
}

fn velocity(model: &Aura, lora: &Lora) -> Tensor {
    let f = tensors(&at("lora_out.safetensors"));
    let at = At { latent: &f["latent"], time: &f["sigma"], context: &f["context"] };
    tch::no_grad(|| model.forward(at, Some(lora)))
}

#[track_caller]
fn close(what: &str, found: &Tensor, wanted: &Tensor) {
    within(what, found, wanted, 1e-5 * largest(wanted));
}

#[test]
fn every_form_gives_its_library_s_velocity() {
    let (model, theirs) = (model(), tensors(&at("lora_out.safetensors")));
    let by_original = tensors(&at("comfyui_out.safetensors"));
    for (name, wanted) in [
        ("lora", &theirs["out"]),
        ("lora_single.safetensors", &theirs["out"]),
        ("comfyui.safetensors", &by_original["out"]),
    ] {
        let read = adapter::read(&at(name), &model.linears(), CPU).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert!(read.notes.is_empty(), "{name}: {:?}", read.notes);
        let found = velocity(&model, &read.lora);
        close(name, &found, wanted);
        assert!(largest(&(&found - &theirs["base"])) > 1e-2, "{name} changes nothing");
    }
    // Every linear layer of the network is in the file of original names.
    let all = Lora::load(at("comfyui.safetensors"), &model.linears(), CPU).unwrap();
    assert_eq!(all.modules().count(), model.linears().len());
}

#[test]
fn a_round_trip_is_bit_equal_in_every_form() {
    let linears = model().linears();
    for source in ["lora", "lora_single.safetensors", "comfyui.safetensors"] {
        let lora = Lora::load(at(source), &linears, CPU).unwrap();
        for format in [Format::Peft, Format::Diffusers, Format::Comfyui] {
            let dir = tempfile::tempdir().unwrap();
            format.save(&lora, &OriginalNames, Kind::Float, dir.path()).unwrap();
            let again = Lora::load(dir.path(), &linears, CPU).unwrap();
            same_adapters(&lora, &again, &format!("{source} as {format:?}"));
        }
    }
}

#[test]
fn written_names_are_the_readers_own_and_sd_scripts_has_none() {
    let linears = model().linears();
    let names: BTreeSet<String> = read_json(&at("names.json")).unwrap();
    let all = LoraConfig { rank: 1, alpha: 1.0, target_modules: linears.iter().map(|l| l.name.clone()).collect() };
    let lora = Lora::init(&all, &linears, 1, CPU).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let written = tensors(&Format::Comfyui.save(&lora, &OriginalNames, Kind::Float, dir.path()).unwrap());
    let stems: BTreeSet<String> = written.keys().filter_map(|k| Some(k.strip_suffix(".alpha")?.to_owned())).collect();
    assert_eq!(stems, names);
    let says = Format::Kohya.save(&lora, &OriginalNames, Kind::Float, dir.path()).unwrap_err().to_string();
    assert!(says.contains("sd-scripts trains no adapters of this family") && says.contains("--format peft"), "{says}");
}

/// `ours/` holds what we wrote, and `ours_out.safetensors` what `load_lora_weights`, peft and ComfyUI's rule made of it: as long as we
/// write the same bytes, they read them. With `OPDFLOW_WRITE=1` the files are written anew.
#[test]
fn our_files_are_read_by_diffusers_and_peft() {
    let model = model();
    let lora = Lora::load(at("lora_single.safetensors"), &model.linears(), CPU).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let keep = std::env::var_os("OPDFLOW_WRITE").is_some().then(|| at("ours"));
    let out = keep.as_deref().unwrap_or(dir.path());
    Format::Diffusers.save(&lora, &OriginalNames, Kind::Float, out).unwrap();
    Format::Peft.save(&lora, &OriginalNames, Kind::Float, &out.join("peft")).unwrap();
    Format::Comfyui.save(&lora, &OriginalNames, Kind::Float, &out.join("comfyui.safetensors")).unwrap();
    if keep.is_some() {
        println!("written; `make_fixtures.py ours` asks the libraries");
        return;
    }
    for name in [
        "pytorch_lora_weights.safetensors",
        "peft/adapter_model.safetensors",
        "peft/adapter_config.json",
        "comfyui.safetensors",
    ] {
        let bytes = |p: PathBuf| std::fs::read(p).unwrap();
        assert!(bytes(out.join(name)) == bytes(at("ours").join(name)), "{name}: other bytes");
    }
    let theirs = tensors(&at("ours_out.safetensors"));
    assert_eq!(theirs.len(), 3);
    let found = velocity(&model, &lora);
    for (reader, wanted) in &theirs {
        close(&format!("our file by {reader}"), &found, wanted);
    }
}

/// Names of layers tell the families apart, and where two have the same, both are named.
#[test]
fn an_adapter_of_another_family_is_refused_by_name() {
    let aura = model().linears();
    let flux = loaded(&of("parity_flux", "dev/transformer"), |w, c| flux::Flux::new(&w.root(), c)).linears();
    let sd3 = loaded(&of("parity", "pipeline/transformer"), |w, c| sd3::Mmdit::new(&w.root(), c)).linears();
    let refused = |path: &Path, linears: &Linears| match adapter::read(path, linears, CPU) {
        Ok(_) => panic!("{} was taken", path.display()),
        Err(e) => format!("{e:#}"),
    };
    let says = |path: &Path, linears: &Linears, words: &str| {
        let found = refused(path, linears);
        assert!(found.contains(words), "no `{words}` in {found}");
    };
    for own in ["lora", "lora_single.safetensors", "comfyui.safetensors"] {
        says(&at(own), &flux, "is a layer of AuraFlow, and the base is FLUX.1");
        says(&at(own), &sd3, "is a layer of AuraFlow, and the base is Stable Diffusion 3");
    }
    for (path, words) in [
        (of("parity_flux", "kohya.safetensors"), "is a layer of FLUX.1, and the base is AuraFlow"),
        (of("adapters", "kohya.safetensors"), "is a layer of Stable Diffusion 3 and 3.5, and the base is AuraFlow"),
        // Layers of the blocks that FLUX.1 and Stable Diffusion 3 have in common.
        (of("parity_flux", "lora"), "no linear layer of this model; name the base that the adapter was trained on"),
    ] {
        says(&path, &aura, words);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    let of_one = |name: &str| {
        let down = Tensor::ones([1, 16], (Kind::Float, CPU));
        save_tensors(&file, &[(format!("{name}.lora_A.weight"), down)], Kind::Float).unwrap();
    };
    of_one("single_transformer_blocks.0.attn.to_q");
    says(&file, &sd3, "is a layer of FLUX.1 or AuraFlow, and the base is Stable Diffusion 3");
    of_one("single_transformer_blocks.7.attn.to_q");
    says(&file, &aura, "is in block 7, and this model has 2 (0 to 1)");
}
