//! The CLIP rewards against transformers, torchvision, Pillow and hpsv2: the fixtures of `clip/make_fixtures.py`.

use opdflow_critics::clip::{Checkpoint, Clip};
use opdflow_critics::named;
use opdflow_critics::pixels::{Fit, Pixels, resample};
use opdflow_flow::weights::{read_tensors, save_tensors};
use opdflow_rewards::{Picture, Reward, Score, Subject};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

const SIDE: usize = 20;

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clip").join(name)
}

fn fixture(name: &str) -> BTreeMap<String, Tensor> {
    read_tensors(at(name), Device::Cpu, None).unwrap().0
}

fn picture(bytes: &Tensor) -> Picture {
    let (h, w, _) = bytes.size3().unwrap();
    Picture::new(w as usize, h as usize, Vec::try_from(bytes.contiguous().view(-1)).unwrap()).unwrap()
}

fn pictures() -> Vec<Picture> {
    let f = fixture("pixels.safetensors");
    (0..).map_while(|n| f.get(&format!("picture.{n}")).map(picture)).collect()
}

fn prompts() -> Vec<String> {
    serde_json::from_str(&std::fs::read_to_string(at("prompts.json")).unwrap()).unwrap()
}

/// Largest absolute difference; printed, so that `--nocapture` gives the table.
#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f64) {
    assert_eq!(found.size(), expected.size(), "{what}: shape");
    let diff = (found - expected).abs().max().double_value(&[]);
    println!("{what}: max |difference| {diff:.2e} of max |value| {:.2e}", expected.abs().max().double_value(&[]));
    assert!(diff <= limit, "{what}: differs by {diff:e}, allowed {limit:e}");
}

/// A critic's folder with copies of these fixtures as its parts.
fn critic(parts: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (part, from) in parts {
        std::fs::create_dir(dir.path().join(part)).unwrap();
        for entry in std::fs::read_dir(at(from)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(part).join(path.file_name().unwrap())).unwrap();
        }
    }
    dir
}

/// The linear stack's weights by the rule in `make_fixtures.py`.
fn head(width: i64) -> Vec<(String, Tensor)> {
    let rule = |shape: &[i64], n: i64, scale: f64| {
        let k = Tensor::arange(shape.iter().product::<i64>(), (Kind::Int64, Device::Cpu));
        let x = (k * 7919 + n * 104_729).remainder(2003).to_kind(Kind::Double) / 1001.0 - 1.0;
        (x * scale).to_kind(Kind::Float).view(shape)
    };
    let mut tensors = Vec::new();
    let mut width = width;
    for (n, (name, out)) in (0..).zip([(0, 1024), (2, 128), (4, 64), (6, 16), (7, 1)]) {
        tensors.push((format!("layers.{name}.weight"), rule(&[out, width], n, (width as f64).powf(-0.5))));
        tensors.push((format!("layers.{name}.bias"), rule(&[out], n + 100, 0.1)));
        width = out;
    }
    tensors
}

fn aesthetic() -> TempDir {
    let dir = critic(&[("clip", "clip")]);
    std::fs::create_dir(dir.path().join("head")).unwrap();
    save_tensors(dir.path().join("head/head.safetensors"), &head(12), Kind::Float).unwrap();
    dir
}

fn open(name: &str, folder: &TempDir) -> anyhow::Result<Box<dyn Reward>> {
    (named(name).unwrap().open)(folder.path(), Device::Cpu)
}

fn error(name: &str, folder: &TempDir) -> String {
    match open(name, folder) {
        Ok(_) => panic!("{name} opened"),
        Err(e) => format!("{e:#}"),
    }
}

fn scores(reward: &dyn Reward, pictures: &[Picture], prompts: &[String]) -> Vec<Score> {
    let subjects: Vec<Subject> = prompts.iter().map(|text| Subject { text, ..Subject::default() }).collect();
    reward.score(pictures, &subjects).unwrap()
}

#[test]
fn pillow_s_bicubic_to_the_byte() {
    let (f, pictures) = (fixture("pixels.safetensors"), pictures());
    let mut compared = 0;
    for (name, expected) in f.iter().filter_map(|(n, t)| Some((n.strip_prefix("resized.")?, t))) {
        let number: usize = name.split('.').next().unwrap().parse().unwrap();
        let expected = picture(expected);
        let found = resample::bicubic(&pictures[number], expected.width, expected.height);
        assert!(found == expected, "picture {name}");
        compared += 1;
    }
    // Five sizes each; one picture has one of them already.
    assert_eq!(compared, 5 * pictures.len() - 1);
}

#[test]
fn pixels() {
    let (f, pictures) = (fixture("pixels.safetensors"), pictures());
    for (name, pixels, limit) in [
        ("processor.clip", Pixels::from_folder(&at("clip")).unwrap(), 1e-6),
        ("processor.pick_processor", Pixels::from_folder(&at("pick_processor")).unwrap(), 1e-6),
        ("pillow", Pixels::clip(Fit::Pillow, SIDE), 1e-6),
        ("tensor", Pixels::clip(Fit::Tensor, SIDE), 1e-6),
        ("padded", Pixels::clip(Fit::Padded, SIDE), 1e-6),
    ] {
        close(&format!("pixels, {name}"), &pixels.batch(&pictures).unwrap(), &f[&format!("pixels.{name}")], limit);
    }
}

#[test]
fn embeddings() {
    let (f, pictures, prompts) = (fixture("scores.safetensors"), pictures(), prompts());
    let clip = Clip::open(&at("clip"), Device::Cpu).unwrap();
    close("transformers, quick_gelu: texts", &clip.encode_text(&prompts).unwrap(), &f["clip.text"], 1e-5);
    assert!((clip.scale() - 2.31f64.exp()).abs() < 1e-5);
    for (what, model, tokenizer, pixels) in [
        ("transformers, quick_gelu", "clip", "clip", Pixels::clip(Fit::Tensor, SIDE)),
        ("transformers, gelu", "pick", "pick_processor", Pixels::from_folder(&at("pick_processor")).unwrap()),
        ("open_clip", "hps", "clip", Pixels::clip(Fit::Padded, SIDE)),
    ] {
        let checkpoint = Checkpoint::open(&at(model), None, Device::Cpu).unwrap();
        let clip = Clip::new(checkpoint, &at(tokenizer), pixels, Device::Cpu).unwrap();
        close(
            &format!("{what}: pictures"),
            &clip.encode_image(&pictures).unwrap(),
            &f[&format!("{model}.image")],
            1e-5,
        );
        close(&format!("{what}: texts"), &clip.encode_text(&prompts).unwrap(), &f[&format!("{model}.text")], 1e-5);
        assert_eq!(clip.encode_image(&[]).unwrap().size(), [0, 12]);
        assert!(clip.cosines(&pictures, &prompts[1..]).is_err());
    }
}

#[test]
fn rewards() {
    let f = fixture("scores.safetensors");
    let (pictures, prompts) = (pictures(), prompts());
    for (name, folder, part, divisor) in [
        ("clipscore", critic(&[("clip", "clip")]), None, 1.0),
        ("aesthetic", aesthetic(), None, 1.0),
        ("pickscore", critic(&[("model", "pick"), ("tokenizer", "pick_processor")]), Some("raw"), 26.0),
        ("hpsv2", critic(&[("model", "hps"), ("tokenizer", "clip")]), None, 1.0),
    ] {
        let reward = open(name, &folder).unwrap();
        assert_eq!(reward.name(), name);
        let found = scores(&*reward, &pictures, &prompts);
        let number = |s: &Score| part.map_or(s.value, |p| s.parts[p]) as f32;
        let numbers: Vec<f32> = found.iter().map(number).collect();
        let key = part.map_or(name.to_owned(), |p| format!("{name}.{p}"));
        close(&key, &Tensor::from_slice(&numbers), &f[&key], 1e-5);
        assert!(found.iter().all(|s| (s.value - f64::from(number(s)) / divisor).abs() < 1e-6), "{name}");
        // More than a batch, in another order, and alone.
        let many: Vec<usize> = (0..19).map(|i| (3 * i + 1) % pictures.len()).collect();
        let shown: Vec<Picture> = many.iter().map(|&i| pictures[i].clone()).collect();
        let told: Vec<String> = many.iter().map(|&i| prompts[i].clone()).collect();
        for (score, &i) in scores(&*reward, &shown, &told).iter().zip(&many) {
            assert!((score.value - found[i].value).abs() < 1e-6, "{name}: picture {i} among others");
        }
        assert!(reward.score(&[], &[]).unwrap().is_empty());
        assert!(reward.score(&pictures, &[]).is_err());
    }
    let clipscore = open("clipscore", &critic(&[("clip", "clip")])).unwrap();
    let score = &scores(&*clipscore, &pictures[..1], &prompts[..1])[0];
    assert!((score.parts["logit"] - 100.0 * score.value).abs() < 1e-9);
}

#[test]
fn broken_parts_are_explained() {
    let edit = |folder: &TempDir, file: &str, from: &str, to: &str| {
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    let clip = || critic(&[("clip", "clip")]);
    for (file, from, to, says) in [
        ("clip/config.json", "\"clip\"", "\"siglip\"", "`model_type` is siglip"),
        ("clip/config.json", "\"patch_size\": 6", "\"patch_size\": 5", "embedding.weight` has shape"),
        (
            "clip/config.json",
            "\"image_size\": 20",
            "\"image_size\": 18",
            "takes pictures of 18x18, the preprocessing makes 20x20",
        ),
        ("clip/config.json", "{", "[", "clip/config.json does not hold what is expected"),
        ("clip/preprocessor_config.json", "\"resample\": 3", "\"resample\": 1", "`resample` is 1"),
        ("clip/vocab.json", "{", "", "vocab.json"),
    ] {
        let folder = clip();
        edit(&folder, file, from, to);
        let error = error("clipscore", &folder);
        assert!(error.contains(says), "{file}, {to}: {error}");
    }
    for (file, says) in [
        ("clip/model.safetensors", "no weights here"),
        ("clip/config.json", "cannot read"),
        ("clip/preprocessor_config.json", "cannot read"),
        ("clip/merges.txt", "cannot read"),
    ] {
        let folder = clip();
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let error = error("clipscore", &folder);
        assert!(error.contains(says) && error.contains("clip"), "without {file}: {error}");
    }
    let nothing = tempfile::tempdir().unwrap();
    for (name, says) in [
        ("clipscore", "the part `clip` is missing: the folder openai/clip-vit-large-patch14"),
        ("aesthetic", "the part `clip` is missing"),
        ("pickscore", "the part `model` is missing: the folder yuvalkirstain/PickScore_v1"),
        ("hpsv2", "the part `model` is missing: HPS_v2.1_compressed.pt"),
    ] {
        let error = error(name, &nothing);
        assert!(error.contains(says), "{name}: {error}");
    }
    let no_head = error("aesthetic", &clip());
    assert!(no_head.contains("the part `head` is missing: sac+logos+ava1-l14-linearMSE.pth"), "{no_head}");
}

#[test]
fn weights_of_something_else_are_explained() {
    let save = |folder: &TempDir, file: &str, tensors: BTreeMap<String, Tensor>| {
        let tensors: Vec<_> = tensors.into_iter().collect();
        save_tensors(folder.path().join(file), &tensors, Kind::Float).unwrap();
    };
    // A tensor less, a tensor more, a tensor of another shape, in both layouts.
    let hps = || critic(&[("model", "hps"), ("tokenizer", "clip")]);
    let file = "model/HPS.safetensors";
    let gone = "visual.transformer.resblocks.1.attn.in_proj_weight";
    for (name, tensor, says) in [
        (
            gone,
            None,
            "tensor `visual.transformer.resblocks.1.attn.in_proj_weight` is missing (expected with shape [72, 24])",
        ),
        (gone, Some(vec![71, 24]), "in_proj_weight` has shape [71, 24], expected [72, 24]"),
        ("visual.proj", Some(vec![12, 24]), "tensor `visual.proj` has shape [12, 24], expected [24, 12]"),
        ("logit_bias", Some(vec![1]), "1 tensors belong to no module of this model, the first: logit_bias"),
    ] {
        let folder = hps();
        let mut tensors = fixture("hps/HPS.safetensors");
        tensors.remove(name);
        if let Some(shape) = tensor {
            tensors.insert(name.to_owned(), Tensor::zeros(shape, (Kind::Float, Device::Cpu)));
        }
        save(&folder, file, tensors);
        let error = error("hpsv2", &folder);
        assert!(error.contains(says) && error.contains("HPS.safetensors"), "{name}: {error}");
    }
    // Without its own description the checkpoint is taken for the published ViT-H-14.
    let folder = hps();
    std::fs::remove_file(folder.path().join("model/open_clip_config.json")).unwrap();
    let published = error("hpsv2", &folder);
    assert!(
        published.contains("`visual.conv1.weight` has shape [24, 3, 5, 5], expected [1280, 3, 14, 14]"),
        "{published}"
    );
    // A head for embeddings of another width; one that holds more than the stack.
    let folder = aesthetic();
    save(&folder, "head/head.safetensors", head(13).into_iter().collect());
    let wide = error("aesthetic", &folder);
    assert!(wide.contains("`layers.0.weight` has shape [1024, 13], expected [1024, 12]"), "{wide}");
    let mut tensors: BTreeMap<String, Tensor> = head(12).into_iter().collect();
    tensors.insert("layers.9.bias".to_owned(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
    save(&folder, "head/head.safetensors", tensors);
    let more = error("aesthetic", &folder);
    assert!(more.contains("the first: layers.9.bias"), "{more}");
}

#[test]
fn scores_that_are_no_numbers_are_errors() {
    let folder = aesthetic();
    let mut tensors: BTreeMap<String, Tensor> = head(12).into_iter().collect();
    tensors.insert("layers.7.bias".to_owned(), Tensor::from_slice(&[f32::NAN]));
    save_tensors(folder.path().join("head/head.safetensors"), &tensors.into_iter().collect::<Vec<_>>(), Kind::Float)
        .unwrap();
    let reward = open("aesthetic", &folder).unwrap();
    let failed = reward.score(&pictures()[..1], &[Subject::default()]).unwrap_err().to_string();
    assert!(failed.contains("the reward `aesthetic` failed: picture 0 with \"\" gave NaN"), "{failed}");
}
