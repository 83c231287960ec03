//! Adapters of FLUX.1 in every published form, against what peft, diffusers and the readers of original names make of them:
//! the fixtures of `parity_flux/make_fixtures.py`.
#![allow(missing_docs)]

mod common;

use common::{largest, same_adapters, within};
use opdflow_models::adapter::{self, Format};
use opdflow_models::config::read_json;
use opdflow_models::families::flux::{At, Flux, OriginalNames};
use opdflow_models::families::sd3;
use opdflow_models::lora::{Lora, LoraConfig};
use opdflow_models::rng::normal;
use opdflow_models::schedule::TRAIN_STEPS;
use opdflow_models::weights::{Weights, read_tensors, save_tensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;
const FORMATS: [Format; 4] = [Format::Peft, Format::Diffusers, Format::Kohya, Format::Comfyui];

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity_flux").join(name)
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    read_tensors(path, CPU, None).unwrap().0
}

fn model() -> Flux {
    let folder = at("dev/transformer");
    let w = Weights::load(&folder, CPU, Kind::Float).unwrap();
    Flux::new(&w.root(), &read_json(&folder.join("config.json")).unwrap()).unwrap()
}

fn velocity(model: &Flux, lora: &Lora) -> Tensor {
    let f = tensors(&at("lora_out.safetensors"));
    let timestep = &f["sigma"] * TRAIN_STEPS;
    let (latent, context, pooled) = (&f["latent"], &f["context"], &f["pooled"]);
    tch::no_grad(|| model.forward(At { latent, timestep: &timestep, context, pooled, guidance: 3.5 }, Some(lora)))
}

#[track_caller]
fn close(what: &str, found: &Tensor, wanted: &Tensor) {
    within(what, found, wanted, 3e-5 * largest(wanted));
}

#[test]
fn every_form_gives_its_library_s_velocity() {
    let (model, expected) = (model(), tensors(&at("forms_out.safetensors")));
    assert_eq!(expected.len(), 3);
    let plain = &tensors(&at("lora_out.safetensors"))["base"];
    for (name, wanted) in &expected {
        let read = adapter::read(&at(&format!("{name}.safetensors")), &model.linears(), CPU)
            .unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert!(read.notes.is_empty(), "{name}: {:?}", read.notes);
        let found = velocity(&model, &read.lora);
        close(name, &found, wanted);
        assert!((&found - plain).abs().max().double_value(&[]) > 1e-2, "{name} changes nothing");
        // What a stage keeps of it is the same adapter.
        let dir = tempfile::tempdir().unwrap();
        read.lora.save(dir.path()).unwrap();
        let kept = Lora::load(dir.path(), &model.linears(), CPU).unwrap();
        assert!(velocity(&model, &kept) == found, "{name}: kept otherwise");
    }
    // Every linear layer of the network is in the file of sd-scripts.
    let all = Lora::load(at("kohya.safetensors"), &model.linears(), CPU).unwrap();
    assert_eq!(all.modules().count(), model.linears().len());
}

#[test]
fn a_round_trip_is_bit_equal_in_every_form() {
    let linears = model().linears();
    for source in ["lora", "lora_single.safetensors", "kohya.safetensors", "onetrainer.safetensors"] {
        let lora = Lora::load(at(source), &linears, CPU).unwrap();
        for format in FORMATS {
            let dir = tempfile::tempdir().unwrap();
            let what = format!("{source} as {format:?}");
            format.save(&lora, &OriginalNames, Kind::Float, dir.path()).unwrap();
            same_adapters(&lora, &Lora::load(dir.path(), &linears, CPU).unwrap(), &what);
        }
    }
}

/// The names that we write are those of the published weights.
#[test]
fn written_names_are_the_readers_own() {
    let linears = model().linears();
    let table: BTreeMap<String, BTreeSet<String>> = read_json(&at("names.json")).unwrap();
    let all = LoraConfig { rank: 1, alpha: 1.0, target_modules: linears.iter().map(|l| l.name.clone()).collect() };
    let lora = Lora::init(&all, &linears, 1, CPU).unwrap();
    for (format, name) in [(Format::Kohya, "kohya"), (Format::Comfyui, "comfyui")] {
        let dir = tempfile::tempdir().unwrap();
        let written = tensors(&format.save(&lora, &OriginalNames, Kind::Float, dir.path()).unwrap());
        let stems: BTreeSet<String> =
            written.keys().filter_map(|k| Some(k.strip_suffix(".alpha")?.to_owned())).collect();
        assert_eq!(stems, table[name], "{name}");
        assert_eq!(written.len(), 3 * stems.len());
    }
}

/// An adapter on the network's own `proj_out` and on that of one single block of two, with another rank and scale: names
/// that peft takes for one another unless told.
fn heads(model: &Flux) -> Lora {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    let mut all = Vec::new();
    for (n, (module, rank)) in
        [("proj_out", 1), ("single_transformer_blocks.0.proj_out", 3), ("transformer_blocks.1.attn.to_q", 3)]
            .into_iter()
            .enumerate()
    {
        let layer = model.linears().iter().find(|l| l.name == module).unwrap().clone();
        let part = |name: &str, t: Tensor| (format!("transformer.{module}.{name}"), t);
        all.push(part("lora_A.weight", normal(&[rank, layer.d_in], 2 * n as u64, CPU) * 0.3));
        all.push(part("lora_B.weight", normal(&[layer.d_out, rank], 2 * n as u64 + 1, CPU) * 0.2));
        all.push(part("alpha", Tensor::from(if rank == 1 { 2.0f32 } else { 3.0 })));
    }
    save_tensors(&file, &all, Kind::Float).unwrap();
    Lora::load(&file, &model.linears(), CPU).unwrap()
}

/// `ours/` holds what we wrote, and `ours_out.safetensors` what diffusers' `load_lora_weights`, its converter of sd-scripts'
/// files, peft and ComfyUI's rule made of it: as long as we write the same bytes, they read them. With `OPDFLOW_WRITE=1` the
/// files are written anew.
#[test]
fn our_files_are_read_by_diffusers_and_peft() {
    let (f, model) = (tensors(&at("lora_out.safetensors")), model());
    let lora = Lora::load(at("lora_single.safetensors"), &model.linears(), CPU).unwrap();
    let found = velocity(&model, &lora);
    close("diffusers' file", &found, &f["out"]);
    let dir = tempfile::tempdir().unwrap();
    let keep = std::env::var_os("OPDFLOW_WRITE").is_some().then(|| at("ours"));
    let out = keep.as_deref().unwrap_or(dir.path());
    Format::Diffusers.save(&lora, &OriginalNames, Kind::Float, out).unwrap();
    Format::Peft.save(&lora, &OriginalNames, Kind::Float, &out.join("peft")).unwrap();
    Format::Kohya.save(&lora, &OriginalNames, Kind::Float, &out.join("kohya.safetensors")).unwrap();
    Format::Comfyui.save(&lora, &OriginalNames, Kind::Float, &out.join("comfyui.safetensors")).unwrap();
    let heads = heads(&model);
    Format::Peft.save(&heads, &OriginalNames, Kind::Float, &out.join("heads")).unwrap();
    Format::Diffusers.save(&heads, &OriginalNames, Kind::Float, &out.join("heads.safetensors")).unwrap();
    if keep.is_some() {
        println!("written; `make_fixtures.py ours` asks the libraries");
        return;
    }
    for name in [
        "pytorch_lora_weights.safetensors",
        "peft/adapter_model.safetensors",
        "peft/adapter_config.json",
        "kohya.safetensors",
        "comfyui.safetensors",
        "heads/adapter_model.safetensors",
        "heads/adapter_config.json",
        "heads.safetensors",
    ] {
        let bytes = |p: PathBuf| std::fs::read(p).unwrap();
        if name.starts_with("heads") && !name.ends_with(".json") {
            // Their numbers are drawn here, and the last bits of a draw are the processor's.
            let (found, wanted) = (tensors(&out.join(name)), tensors(&at("ours").join(name)));
            assert!(found.keys().eq(wanted.keys()), "{name}");
            wanted.iter().for_each(|(tensor, wanted)| close(&format!("{name}: {tensor}"), &found[tensor], wanted));
        } else {
            assert!(bytes(out.join(name)) == bytes(at("ours").join(name)), "{name}: other bytes");
        }
        if !name.ends_with(".json") {
            let again = Lora::load(out.join(name), &model.linears(), CPU).unwrap();
            same_adapters(&again, if name.starts_with("heads") { &heads } else { &lora }, name);
        }
    }
    let theirs = tensors(&at("ours_out.safetensors"));
    assert_eq!(theirs.len(), 6);
    let found_heads = velocity(&model, &heads);
    for (reader, wanted) in &theirs {
        let found = if reader.starts_with("heads") { &found_heads } else { &found };
        close(&format!("our file by {reader}"), found, wanted);
    }
}

/// An adapter of the blocks that FLUX.1 and SD3 have in common does not say by itself whose original names it has.
#[test]
fn the_family_rules_the_original_names() {
    let linears = model().linears();
    let config = LoraConfig { rank: 2, alpha: 2.0, target_modules: vec!["transformer_blocks.0.attn.to_q".into()] };
    let lora = Lora::init(&config, &linears, 1, CPU).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let names = |file: PathBuf| tensors(&file).into_keys().next().unwrap();
    let file = dir.path().join("x.safetensors");
    let flux = names(Format::Kohya.save(&lora, &OriginalNames, Kind::Float, &file).unwrap());
    assert_eq!(flux, "lora_unet_double_blocks_0_img_attn_qkv.alpha");
    same_adapters(&lora, &Lora::load(&file, &linears, CPU).unwrap(), "q alone");
    let sd3 = names(Format::Kohya.save(&lora, &sd3::OriginalNames, Kind::Float, &file).unwrap());
    assert_eq!(sd3, "lora_unet_joint_blocks_0_x_block_attn_qkv.alpha");
}

/// Writes tensors and gives the words with which they are refused.
fn refused(tensors: &[(&str, &[i64])]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    let all: Vec<_> = tensors.iter().map(|(n, s)| ((*n).to_owned(), Tensor::ones(*s, (Kind::Float, CPU)))).collect();
    save_tensors(&file, &all, Kind::Float).unwrap();
    match adapter::read(&file, &model().linears(), CPU) {
        Ok(_) => panic!("{tensors:?} were taken"),
        Err(e) => format!("{e:#}"),
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let qkv = "lora_unet_single_blocks_0_linear1";
    let (down, up) = (&format!("{qkv}.lora_down.weight")[..], &format!("{qkv}.lora_up.weight")[..]);
    for (tensors, says) in [
        (vec![(down, &[2, 32][..])], "linear1.lora_up.weight` is missing"),
        // q, k and v without the fourth part.
        (vec![(down, &[2, 32][..]), (up, &[96, 2][..])], "has shape [96, 2], expected [224, 2]"),
        (vec![("lora_unet_single_blocks_7_linear1.lora_down.weight", &[2, 32][..])], "block 7, and this model has 2"),
        (
            vec![("lora_unet_double_blocks_9_img_attn_qkv.lora_down.weight", &[2, 32][..])],
            "block 9, and this model has 2",
        ),
        (vec![("lora_unet_double_blocks_0_other.lora_down.weight", &[2, 32][..])], "is no linear layer of this model"),
        (
            vec![("double_blocks.0.processor.qkv_lora1.down.weight", &[2, 32][..])],
            "is not part of a LoRA in a known naming",
        ),
        (
            vec![("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", &[2, 32][..])],
            "is a layer of Stable Diffusion 3 and 3.5, and the base is FLUX.1",
        ),
    ] {
        let found = refused(&tensors);
        assert!(found.contains(says), "no `{says}` in {found}");
    }
}
