//! The CLIP rewards against transformers, torchvision, Pillow and hpsv2: the fixtures of `make_fixtures.py`.

use crate::place::device;
use crate::rig::{aesthetic, at, close, fixture, image, images, open, prompts, reward_model, scores};
use opdflow_reward_models::clip::{Checkpoint, Clip};
use opdflow_reward_models::pixels::{Fit, Pixels, resample};
use opdflow_rewards::{Image, Score};
use tch::Tensor;

const SIDE: usize = 20;

#[test]
fn pillow_s_bicubic_to_the_byte() {
    let (f, images) = (fixture("pixels.safetensors"), images());
    let mut compared = 0;
    for (name, expected) in f.iter().filter_map(|(n, t)| Some((n.strip_prefix("resized.")?, t))) {
        let number: usize = name.split('.').next().unwrap().parse().unwrap();
        let expected = image(expected);
        let found = resample::bicubic(&images[number], expected.width, expected.height);
        assert!(found == expected, "image {name}");
        compared += 1;
    }
    // Five sizes each; one image has one of them already.
    assert_eq!(compared, 5 * images.len() - 1);
}

#[test]
fn pixels() {
    let (f, images) = (fixture("pixels.safetensors"), images());
    for (name, pixels, limit) in [
        ("processor.clip", Pixels::from_folder(&at("clip")).unwrap(), 1e-6),
        ("processor.pick_processor", Pixels::from_folder(&at("pick_processor")).unwrap(), 1e-6),
        ("pillow", Pixels::clip(Fit::Pillow, SIDE), 1e-6),
        ("tensor", Pixels::clip(Fit::Tensor, SIDE), 1e-6),
        ("padded", Pixels::clip(Fit::Padded, SIDE), 1e-6),
    ] {
        close(&format!("pixels, {name}"), &pixels.batch(&images).unwrap(), &f[&format!("pixels.{name}")], limit);
    }
}

#[test]
fn embeddings() {
    let (f, images, prompts) = (fixture("scores.safetensors"), images(), prompts());
    let clip = Clip::open(&at("clip"), device()).unwrap();
    close("transformers, quick_gelu: texts", &clip.encode_text(&prompts).unwrap(), &f["clip.text"], 1e-5);
    assert!((clip.scale() - 2.31f64.exp()).abs() < 1e-5);
    for (what, model, tokenizer, pixels) in [
        ("transformers, quick_gelu", "clip", "clip", Pixels::clip(Fit::Tensor, SIDE)),
        ("transformers, gelu", "pick", "pick_processor", Pixels::from_folder(&at("pick_processor")).unwrap()),
        ("open_clip", "hps", "clip", Pixels::clip(Fit::Padded, SIDE)),
    ] {
        let checkpoint = Checkpoint::open(&at(model), None, device()).unwrap();
        let clip = Clip::new(checkpoint, &at(tokenizer), pixels, device()).unwrap();
        close(&format!("{what}: images"), &clip.encode_image(&images).unwrap(), &f[&format!("{model}.image")], 1e-5);
        close(&format!("{what}: texts"), &clip.encode_text(&prompts).unwrap(), &f[&format!("{model}.text")], 1e-5);
        assert_eq!(clip.encode_image(&[]).unwrap().size(), [0, 12]);
        assert!(clip.cosines(&images, &prompts[1..]).is_err());
    }
}

#[test]
fn rewards() {
    let f = fixture("scores.safetensors");
    let (images, prompts) = (images(), prompts());
    for (name, folder, part, divisor) in [
        ("clipscore", reward_model(&[("clip", "clip")]), None, 1.0),
        ("aesthetic", aesthetic(), None, 1.0),
        ("pickscore", reward_model(&[("model", "pick"), ("tokenizer", "pick_processor")]), Some("raw"), 26.0),
        ("hpsv2", reward_model(&[("model", "hps"), ("tokenizer", "clip")]), None, 1.0),
    ] {
        let reward = open(name, &folder).unwrap();
        assert_eq!(reward.name(), name);
        let found = scores(&*reward, &images, &prompts);
        let number = |s: &Score| part.map_or(s.value, |p| s.parts[p]) as f32;
        let numbers: Vec<f32> = found.iter().map(number).collect();
        let key = part.map_or(name.to_owned(), |p| format!("{name}.{p}"));
        close(&key, &Tensor::from_slice(&numbers), &f[&key], 1e-5);
        assert!(found.iter().all(|s| (s.value - f64::from(number(s)) / divisor).abs() < 1e-6), "{name}");
        // More than a batch, in another order, and alone.
        let many: Vec<usize> = (0..19).map(|i| (3 * i + 1) % images.len()).collect();
        let shown: Vec<Image> = many.iter().map(|&i| images[i].clone()).collect();
        let told: Vec<String> = many.iter().map(|&i| prompts[i].clone()).collect();
        for (score, &i) in scores(&*reward, &shown, &told).iter().zip(&many) {
            assert!((score.value - found[i].value).abs() < 1e-5, "{name}: image {i} among others");
        }
        assert!(reward.score(&[], &[]).unwrap().is_empty());
        assert!(reward.score(&images, &[]).is_err());
    }
    let clipscore = open("clipscore", &reward_model(&[("clip", "clip")])).unwrap();
    let score = &scores(&*clipscore, &images[..1], &prompts[..1])[0];
    assert!((score.parts["logit"] - 100.0 * score.value).abs() < 1e-9);
}
