//! Adapters in every published form, against what peft, diffusers and the readers of original names make of them: the
//! fixtures of `adapters/make_fixtures.py`.
#![allow(missing_docs)]

mod common;

use common::{largest, same_adapters};
use opdflow_models::adapter::{self, Format};
use opdflow_models::config::read_json;
use opdflow_models::families::sd3::{Mmdit, OriginalNames};
use opdflow_models::lora::Lora;
use opdflow_models::weights::{Weights, read_tensors, save_tensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters").join(name)
}

fn parity(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(name)
}

fn model() -> Mmdit {
    let folder = parity("pipeline/transformer");
    let w = Weights::load(&folder, CPU, Kind::Float).unwrap();
    Mmdit::new(&w.root(), &read_json(&folder.join("config.json")).unwrap()).unwrap()
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    read_tensors(path, CPU, None).unwrap().0
}

fn velocity(model: &Mmdit, lora: &Lora) -> Tensor {
    let f = tensors(&parity("mmdit_dual.safetensors"));
    tch::no_grad(|| model.forward(&f["latent"], &f["timestep"], &f["context"], &f["pooled"], Some(lora)))
}

/// A hundred-thousandth of the largest value: the fixtures' adapters are strong, and machines round otherwise.
fn allowed(wanted: &Tensor) -> f64 {
    1e-5 * largest(wanted).max(1.0)
}

#[test]
fn every_form_gives_its_library_s_velocity() {
    let (model, expected) = (model(), tensors(&at("out.safetensors")));
    assert_eq!(expected.len(), 7);
    let plain = &tensors(&parity("mmdit_dual.safetensors"))["out"];
    for (name, wanted) in &expected {
        let read = adapter::read(&at(name), &model.linears(), CPU).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert!(read.notes.is_empty(), "{name}: {:?}", read.notes);
        let found = velocity(&model, &read.lora);
        let apart = |t: &Tensor| (&found - t).abs().max().double_value(&[]);
        println!("{name}: {:.1e}, from the base alone {:.1e}", apart(wanted), apart(plain));
        assert!(apart(wanted) < allowed(wanted), "{name}: {:e}", apart(wanted));
        assert!(apart(plain) > 1e-2, "{name} changes nothing");
        // What a stage keeps of it is the same adapter.
        let dir = tempfile::tempdir().unwrap();
        read.lora.save(dir.path()).unwrap();
        let kept = Lora::load(dir.path(), &model.linears(), CPU).unwrap();
        assert!(velocity(&model, &kept) == found, "{name}: kept otherwise");
    }
}

#[test]
fn a_round_trip_is_bit_equal() {
    let linears = model().linears();
    for source in [parity("lora_r2"), parity("lora_r8"), at("patterns"), at("layers"), at("onetrainer.safetensors")] {
        let lora = Lora::load(&source, &linears, CPU).unwrap();
        for format in [Format::Peft, Format::Diffusers, Format::Kohya, Format::Comfyui] {
            let dir = tempfile::tempdir().unwrap();
            let what = format!("{} as {format:?}", source.display());
            let original = matches!(format, Format::Kohya | Format::Comfyui);
            // q, k and v of one product have one scale there: with others, the ratio goes into B.
            let mixed = source == at("onetrainer.safetensors") || source == at("patterns");
            if original && mixed {
                continue;
            }
            format.save(&lora, &OriginalNames, Kind::Float, dir.path()).unwrap();
            same_adapters(&lora, &Lora::load(dir.path(), &linears, CPU).unwrap(), &what);
            // At 16 bits the first writing rounds, and from there on nothing changes.
            let (first, second) = (dir.path().join("1"), dir.path().join("2"));
            format.save(&lora, &OriginalNames, Kind::Half, &first).unwrap();
            let rounded = Lora::load(&first, &linears, CPU).unwrap();
            format.save(&rounded, &OriginalNames, Kind::Half, &second).unwrap();
            same_adapters(&rounded, &Lora::load(&second, &linears, CPU).unwrap(), &what);
            let file = |folder: &Path| {
                let path = format.save(&rounded, &OriginalNames, Kind::Half, folder).unwrap();
                let path = if format == Format::Peft { path.join("adapter_model.safetensors") } else { path };
                std::fs::read(path).unwrap()
            };
            assert_eq!(file(&first), file(&second), "{what}: other bytes");
        }
    }
}

#[test]
fn mixed_scales_go_through_original_names_up_to_rounding() {
    let model = model();
    for name in ["patterns", "onetrainer.safetensors"] {
        let lora = Lora::load(at(name), &model.linears(), CPU).unwrap();
        let wanted = velocity(&model, &lora);
        for format in [Format::Kohya, Format::Comfyui] {
            let dir = tempfile::tempdir().unwrap();
            format.save(&lora, &OriginalNames, Kind::Float, dir.path()).unwrap();
            let found = velocity(&model, &Lora::load(dir.path(), &model.linears(), CPU).unwrap());
            let apart = (&found - &wanted).abs().max().double_value(&[]);
            assert!(apart < allowed(&wanted), "{name} as {format:?}: {apart:e}");
        }
    }
}

/// The names that we write are those that the published readers look for, with all that belongs to each.
#[test]
fn written_names_are_the_readers_own() {
    let linears = model().linears();
    let table: BTreeMap<String, BTreeSet<String>> = read_json(&at("names.json")).unwrap();
    for source in [parity("lora_r2"), at("patterns"), at("kohya.safetensors")] {
        let lora = Lora::load(&source, &linears, CPU).unwrap();
        for (format, name) in [(Format::Kohya, "kohya"), (Format::Comfyui, "comfyui")] {
            let dir = tempfile::tempdir().unwrap();
            let written = tensors(&format.save(&lora, &OriginalNames, Kind::Float, dir.path()).unwrap());
            let endings = [".lora_down.weight", ".lora_up.weight", ".alpha"];
            let stems: BTreeSet<&str> =
                written.keys().map(|k| endings.iter().find_map(|e| k.strip_suffix(e)).unwrap_or(k)).collect();
            for stem in &stems {
                assert!(table[name].contains(*stem), "{name}: no reader knows {stem}");
                assert!(
                    endings.iter().all(|e| written.contains_key(&format!("{stem}{e}"))),
                    "{name}: {stem} is not whole"
                );
            }
            assert_eq!(written.len(), 3 * stems.len());
        }
    }
}

/// Writes tensors and gives the words with which they are refused.
fn refused(tensors: &[(&str, Tensor)], more: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let peft = more.iter().any(|(n, _)| *n == "adapter_config.json");
    let file = dir.path().join(if peft { "adapter_model.safetensors" } else { "x.safetensors" });
    let all: Vec<_> = tensors.iter().map(|(n, t)| ((*n).to_owned(), t.shallow_clone())).collect();
    save_tensors(&file, &all, Kind::Float).unwrap();
    for (name, text) in more {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    match adapter::read(if peft { dir.path() } else { &file }, &model().linears(), CPU) {
        Ok(_) => panic!("{:?} were taken", tensors.iter().map(|t| t.0).collect::<Vec<_>>()),
        Err(e) => format!("{e:#}"),
    }
}

fn t(shape: &[i64]) -> Tensor {
    Tensor::ones(shape, (Kind::Float, CPU))
}

#[test]
fn what_is_no_plain_lora_of_this_model_is_refused_by_name() {
    let (a, b) = (
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
        "transformer.transformer_blocks.0.attn.to_q.lora_B.weight",
    );
    let pair = || [(a, t(&[2, 32])), (b, t(&[32, 2]))];
    let with = |name: &'static str, x: Tensor| pair().into_iter().chain([(name, x)]).collect::<Vec<_>>();
    for (tensors, says) in [
        (with("transformer.transformer_blocks.0.attn.to_q.lora_magnitude_vector", t(&[32])), "DoRA"),
        (with("lora_unet_joint_blocks_0_x_block_mlp_fc1.dora_scale", t(&[32])), "DoRA"),
        (vec![("lora_unet_joint_blocks_0_x_block_mlp_fc1.lokr_w1", t(&[2, 2]))], "LoKr"),
        (vec![("lora_unet_joint_blocks_0_x_block_mlp_fc1.hada_w1_a", t(&[2, 2]))], "LoHa"),
        (vec![("joint_blocks.0.x_block.mlp.fc1.weight", t(&[2, 2]))], "a whole model is no adapter"),
        (vec![], "the file is empty"),
        (
            vec![("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", t(&[2, 2]))],
            "adapters of text encoders are not read",
        ),
        (
            vec![("lora_unet_joint_blocks_30_x_block_attn_qkv.lora_down.weight", t(&[2, 32]))],
            "block 30, and this model has 3",
        ),
        (vec![(a, t(&[2, 32]))], "to_q.lora_B.weight` is missing"),
        (vec![(a, t(&[2, 64])), (b, t(&[64, 2]))], "has shape [2, 64], expected [2, 32]"),
        (vec![(a, t(&[0, 32])), (b, t(&[32, 0]))], "has rank 0"),
        (
            with("transformer.transformer_blocks.0.attn.to_q.alpha", t(&[]) * 0.0),
            "is 0, so that the adapter changes nothing",
        ),
        (
            with("lora_transformer_transformer_blocks_0_attn_to_q.lora_down.weight", t(&[2, 32])),
            "lora_up.weight` is missing",
        ),
    ] {
        let found = refused(&tensors, &[]);
        assert!(found.contains(says), "no `{says}` in {found}");
    }
    // Written by others: our own writer refuses to.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken.safetensors");
    for (value, kind, says) in [
        (f64::INFINITY, Kind::Float, "lora_A.weight` holds inf at [0, 0]"),
        (1e300, Kind::Double, "1e300, for which Float has no room"),
    ] {
        let broken = (t(&[2, 32]).to_kind(Kind::Double) * value).to_kind(kind);
        Tensor::write_safetensors(&[(a, broken), (b, t(&[32, 2]))], &file).unwrap();
        let found = format!("{:#}", adapter::read(&file, &model().linears(), CPU).err().unwrap());
        assert!(found.contains(says), "no `{says}` in {found}");
    }
    // Twice the same layer, under two namings.
    let twice = [
        (a, t(&[2, 32])),
        (b, t(&[32, 2])),
        ("lora_transformer_transformer_blocks_0_attn_to_q.lora_down.weight", t(&[2, 32])),
        ("lora_transformer_transformer_blocks_0_attn_to_q.lora_up.weight", t(&[32, 2])),
    ];
    assert!(refused(&twice, &[]).contains("are the same layer"));
    let [a, b] = [
        "base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight",
        "base_model.model.transformer_blocks.0.attn.to_q.lora_B.weight",
    ];
    let peft = [(a, t(&[2, 32])), (b, t(&[32, 2]))];
    for (fields, says) in [
        (r#""target_modules": ["to_q"]"#, "transformer_blocks.0.attn2.to_q.lora_A.weight` is missing"),
        (r#""target_modules": ["to_k"]"#, "does not name it as a target"),
        (r#""rank_pattern": {"to_q": 4}"#, "has rank 2 by its tensors, 4 by its configuration"),
        (r#""init_lora_weights": "pissa""#, "has changed the base"),
        (r#""use_dora": true"#, "DoRA is no sum"),
    ] {
        let config = format!(r#"{{"r": 2, "lora_alpha": 2, {fields}}}"#);
        let found = refused(&peft, &[("adapter_config.json", &config)]);
        assert!(found.contains(says), "no `{says}` in {found}");
    }
}

#[test]
fn what_is_left_out_or_taken_for_granted_is_said() {
    let linears = model().linears();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.safetensors");
    let mut all: Vec<_> = tensors(&at("kohya.safetensors")).into_iter().collect();
    all.push(("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight".into(), t(&[2, 3])));
    save_tensors(&file, &all, Kind::Float).unwrap();
    let read = adapter::read(&file, &linears, CPU).unwrap();
    assert!(
        read.notes.len() == 1 && read.notes[0].contains("1 tensors of text encoders are left out"),
        "{:?}",
        read.notes
    );
    same_adapters(
        &read.lora,
        &Lora::load(at("kohya.safetensors"), &linears, CPU).unwrap(),
        "without the text encoder's",
    );
    // A peft folder's file alone does not say the scale; inside its folder it does.
    let copy = dir.path().join("alone.safetensors");
    std::fs::copy(parity("lora_r2/adapter_model.safetensors"), &copy).unwrap();
    assert!(adapter::read(&copy, &linears, CPU).unwrap().notes[0].contains("alpha is taken to be the rank"));
    let inside = adapter::read(&parity("lora_r2/adapter_model.safetensors"), &linears, CPU).unwrap();
    assert!(inside.notes.is_empty());
    same_adapters(&inside.lora, &Lora::load(parity("lora_r2"), &linears, CPU).unwrap(), "the file in its folder");
}

#[test]
fn files_that_are_no_adapter_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| format!("{:#}", adapter::inspect(path).expect_err("taken"));
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    assert!(error(&dir.path().join("none")).contains("there is no such file or folder"));
    assert!(error(dir.path()).contains("no adapter here"));
    write("x.bin", b"PK\x03\x04");
    assert!(error(dir.path()).contains("x.bin: a pickle") && error(&dir.path().join("x.bin")).contains("a pickle"));
    write("adapter_config.json", b"{}");
    assert!(error(dir.path()).contains("adapter_model.safetensors: this file is missing"));
    write("adapter_model.bin", b"\x80\x02");
    assert!(
        error(dir.path()).contains("adapter_model.bin: a pickle") && error(dir.path()).contains("weights_only=True")
    );
    std::fs::remove_file(dir.path().join("adapter_config.json")).unwrap();
    for name in ["a.safetensors", "b.safetensors"] {
        write(name, b"version https://git-lfs.github.com/spec/v1\n");
    }
    assert!(error(dir.path()).contains("several safetensors files (a.safetensors, b.safetensors)"));
    assert!(error(&dir.path().join("a.safetensors")).contains("git lfs pull"));
    let sub = dir.path().join("c/default");
    std::fs::create_dir_all(&sub).unwrap();
    std::fs::write(sub.join("adapter_config.json"), "{}").unwrap();
    assert!(error(&dir.path().join("c")).contains("name that folder"));
    for good in [
        "patterns",
        "packed.safetensors",
        "kohya.safetensors",
        "comfyui.safetensors",
        "onetrainer.safetensors",
        "omi.safetensors",
    ] {
        adapter::inspect(&at(good)).unwrap_or_else(|e| panic!("{good}: {e:#}"));
    }
}
