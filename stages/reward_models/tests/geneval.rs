//! What stands round GenEval's detector against OpenCV and a second writing of mmdetection's steps: the fixtures of
//! `geneval/make_fixtures.py`. Then the whole reward on hand-made logits.

mod place;

use opdflow_models::config::read_json;
use opdflow_models::weights::read_tensors;
use opdflow_reward_models::clip::{Checkpoint, Clip};
use opdflow_reward_models::geneval::{
    COLOURS, Colours, Frame, Input, Namer, Photographs, Segmenter, instances, linear, name_of,
};
use opdflow_reward_models::mask2former::{Mask2FormerConfig, Segments};
use opdflow_reward_models::named;
use opdflow_reward_models::pixels::{Fit, Pixels};
use opdflow_rewards::detector::{Detector as _, Object};
use opdflow_rewards::geneval::Metadata;
use opdflow_rewards::{Geneval, Image, Reward, Subject};
use place::{at, device};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Device, Kind, Tensor};

fn tensors(name: &str) -> BTreeMap<String, Tensor> {
    read_tensors(at(name), Device::Cpu, None).unwrap().0
}

/// `[H, W, 3]` of bytes.
fn image(x: &Tensor) -> Image {
    let size = x.size();
    Image::new(size[1] as usize, size[0] as usize, bytes(x)).unwrap()
}

fn bytes(x: &Tensor) -> Vec<u8> {
    Vec::try_from(x.contiguous().view(-1)).unwrap()
}

const LIMITS: [usize; 2] = [90, 64];

fn input() -> Input {
    let folder = tempfile::tempdir().unwrap();
    let numbers =
        r#"{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "size": {"height": 384}}"#;
    std::fs::write(folder.path().join("preprocessor_config.json"), numbers).unwrap();
    Input::open(folder.path()).unwrap().within(LIMITS)
}

#[test]
fn images_are_resized_as_by_opencv() {
    let f = tensors("geneval/resized.safetensors");
    for i in 0..5 {
        let wanted = image(&f[&format!("after{i}")]);
        let found = linear(&image(&f[&format!("before{i}")]), wanted.width, wanted.height);
        let apart = found.rgb.iter().zip(&wanted.rgb).filter(|(a, b)| a != b).count();
        println!("{}x{}: {apart} of {} bytes differ", wanted.width, wanted.height, wanted.rgb.len());
        assert_eq!(found, wanted);
    }
}

#[test]
fn an_image_is_made_ready_as_by_mmdetection() {
    let f = tensors("geneval/objects.safetensors");
    let (x, frame) = input().of(&image(&f["picture"]), Device::Cpu).unwrap();
    assert_eq!(frame, Frame { image: [57, 41], fitted: [89, 64], padded: [96, 64] });
    assert_eq!(x.size(), f["pixels"].size());
    let diff = (x - &f["pixels"]).abs().max().double_value(&[]);
    println!("pixels: max |difference| {diff:.2e}");
    assert!(diff <= 1e-5);
}

#[test]
fn logits_become_objects_as_by_mmdetection() {
    let f = tensors("geneval/objects.safetensors");
    let segments = Segments { classes: f["classes"].unsqueeze(0), masks: f["masks"].unsqueeze(0) };
    let frame = Frame::of(57, 41, LIMITS);
    let found = instances(&segments, &frame, 0.0);
    let numbers = |name: &str| Vec::<f64>::try_from(f[name].to_kind(Kind::Double).view(-1)).unwrap();
    let (query, class, score, bounds) = (numbers("query"), numbers("class"), numbers("score"), numbers("bounds"));
    let kept: Vec<usize> = (0..100).filter(|&i| score[i] > 0.0).collect();
    assert_eq!(found.len(), kept.len());
    assert!(kept.len() < 100, "no empty mask among them");
    let mut apart = 0f64;
    for (object, &i) in found.iter().zip(&kept) {
        assert_eq!(object.class as f64, class[i], "{i}");
        apart = apart.max((object.confidence - score[i]).abs());
        assert_eq!(object.bounds.map(|b| b as f64), bounds[4 * i..4 * i + 4], "{i}");
        let [left, top, right, bottom] = object.bounds.map(|b| b as i64);
        let inside = f["inside"].get(query[i] as i64).narrow(0, top, bottom - top).narrow(1, left, right - left);
        assert_eq!(object.mask, bytes(&inside).iter().map(|&b| b == 1).collect::<Vec<_>>(), "{i}");
    }
    println!("{} objects; confidences: max |difference| {apart:.2e}", found.len());
    assert!(apart <= 1e-6);
    // A floor leaves out what is not sure enough, and changes nothing else.
    let sure = instances(&segments, &frame, 0.3);
    assert!(!sure.is_empty() && sure.len() < found.len());
    assert_eq!(sure, found[..sure.len()]);
    assert!(found[sure.len()..].iter().all(|o| o.confidence <= 0.3));
}

#[test]
fn colours_are_told_as_by_geneval() {
    let f = tensors("geneval/objects.safetensors");
    let folder = at("rewards/clip");
    let pixels = Pixels { fit: Fit::Pillow, ..Pixels::from_folder(&folder).unwrap() };
    let checkpoint = Checkpoint::open(&folder, None, device()).unwrap();
    let mut colours = Colours::new(Clip::new(checkpoint, &folder, pixels, device()).unwrap());
    let segments = Segments { classes: f["classes"].unsqueeze(0), masks: f["masks"].unsqueeze(0) };
    let found = instances(&segments, &Frame::of(57, 41, LIMITS), 0.0);
    let mut seen = BTreeSet::new();
    for (i, (found, class)) in found.into_iter().zip(["cup", "tv remote", "cup", "dog", "car"]).enumerate() {
        let bounds = found.bounds.map(|side| side as f64);
        let object = Object { class: class.into(), bounds, confidence: found.confidence, mask: Some(found.mask) };
        let cosines = colours.cosines(&image(&f["picture"]), &[&object]).unwrap().remove(0);
        let wanted = f["colours"].get(i as i64);
        let diff = (cosines - &wanted).abs().max().double_value(&[]);
        println!("cosines of object {i} with ten colours: max |difference| {diff:.2e}");
        assert!(diff <= 1e-5);
        let colour = colours.of(&image(&f["picture"]), &[&object]).unwrap()[0];
        assert_eq!(colour, COLOURS[wanted.argmax(0, false).int64_value(&[]) as usize]);
        seen.insert(colour);
    }
    assert!(seen.len() > 1, "all objects have one colour");
}

fn labels() -> Vec<String> {
    read_json::<Mask2FormerConfig>(&at("mask2former/equal/config.json")).unwrap().id2label
}

/// GenEval's metadata name COCO's classes as COCO does, but for three.
#[test]
fn all_classes_have_geneval_s_names() {
    let (coco, geneval): (BTreeSet<String>, BTreeSet<String>) =
        (labels().into_iter().collect(), labels().iter().map(|l| name_of(l)).collect());
    assert_eq!((coco.len(), geneval.len()), (80, 80));
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!(only(&coco, &geneval), ["keyboard", "mouse", "remote"]);
    assert_eq!(only(&geneval, &coco), ["computer keyboard", "computer mouse", "tv remote"]);
}

/// Something drawn by hand: a class's label, how sure it is, and its box on a mask of 24x16.
type Drawn = (&'static str, f64, [i64; 4]);

/// The logits of one image in which this is drawn, on a mask of this height and width.
fn hand(drawn: &[Drawn], [height, width]: [i64; 2]) -> (Tensor, Tensor) {
    let (labels, f32_cpu) = (labels(), (Kind::Float, Device::Cpu));
    let n = drawn.len() as i64;
    let (classes, masks) =
        (Tensor::full([1, n, 81], -30.0, f32_cpu), Tensor::full([1, n, height, width], -20.0, f32_cpu));
    for (i, (label, sure, [left, top, right, bottom])) in drawn.iter().enumerate() {
        let class = labels.iter().position(|l| l == label).unwrap() as i64;
        let query = classes.get(0).get(i as i64);
        let _ = query.get(class).fill_(sure.ln());
        let _ = query.get(80).fill_((1.0 - sure).ln());
        let mask = masks.get(0).get(i as i64);
        let _ = mask.narrow(0, *top, bottom - top).narrow(1, *left, right - left).fill_(20.0);
    }
    (classes, masks)
}

/// Says what is drawn, whatever the image.
struct Hand(Vec<Drawn>);

impl Segmenter for Hand {
    fn segment(&self, images: &Tensor) -> Segments {
        let (_, channels, height, width) = images.size4().unwrap();
        assert_eq!((channels, height, width), (3, 64, 96));
        let batch = images.size()[0];
        let (classes, masks) = hand(&self.0, [16, 24]);
        let each = |x: Tensor| x.repeat([batch, 1, 1, 1].into_iter().take(x.dim()).collect::<Vec<i64>>());
        Segments { classes: each(classes), masks: each(masks) }
    }
}

/// Red, green and blue lie along the axes, all other colours behind.
struct Axes;

impl Namer for Axes {
    fn images(&self, images: &[Image]) -> anyhow::Result<Tensor> {
        let row = |image: &Image| {
            let sum = |c: usize| image.rgb.iter().skip(c).step_by(3).map(|&v| f32::from(v)).sum::<f32>();
            Tensor::from_slice(&[sum(0), sum(1), sum(2)])
        };
        Ok(Tensor::stack(&images.iter().map(row).collect::<Vec<_>>(), 0))
    }

    fn texts(&self, texts: &[String]) -> anyhow::Result<Tensor> {
        let row = |text: &String| {
            ["red", "green", "blue"].map(|c| if text.starts_with(&format!("a photo of a {c}")) { 1f32 } else { -0.1 })
        };
        Ok(Tensor::from_slice(&texts.iter().flat_map(row).collect::<Vec<_>>()).view([-1, 3]))
    }
}

/// The reward whose detector sees what is drawn.
fn reward(drawn: &[Drawn]) -> Geneval {
    let detector = Photographs::new(Hand(drawn.to_vec()), &labels(), input(), Colours::new(Axes), Device::Cpu);
    Geneval::new(detector)
}

/// 60x40, red on the left half, blue on the right; `correct` and `partial` of a prompt's metadata.
fn marks(drawn: &[Drawn], metadata: &str) -> (f64, f64) {
    let line = [[230, 20, 20].repeat(30), [10, 30, 220].repeat(30)].concat();
    let image = Image::new(60, 40, line.repeat(40)).unwrap();
    let metadata: Metadata = serde_json::from_str(metadata).unwrap();
    let subject = Subject { text: "a prompt", geneval: Some(&metadata), ..Subject::default() };
    let reward = reward(drawn);
    assert!(reward.refuses(&subject).is_none());
    let scores = reward.score(&[image.clone(), image], &[subject, subject]).unwrap();
    assert_eq!(scores[0], scores[1]);
    (scores[0].parts["correct"], scores[0].value)
}

#[test]
fn hand_made_logits_are_judged() {
    const CUP: Drawn = ("cup", 0.8, [2, 4, 8, 12]);
    const MOUSE: Drawn = ("mouse", 0.7, [14, 5, 21, 10]);
    let attributes = |cup: &str, mouse: &str| {
        format!(
            r#"{{"tag": "color_attr", "exclude": [], "include": [{{"class": "cup", "count": 1, "color": "{cup}"}},
                {{"class": "computer mouse", "count": 1, "color": "{mouse}"}}]}}"#
        )
    };
    assert_eq!(marks(&[CUP, MOUSE], &attributes("red", "blue")), (1.0, 1.0));
    assert_eq!(marks(&[CUP, MOUSE], &attributes("red", "green")), (0.0, 0.75));
    assert_eq!(marks(&[CUP], &attributes("red", "blue")), (0.0, 0.5));
    // Not sure enough to be there, and an object that is sure of a class that nobody asked for.
    let faint = ("mouse", 0.29, MOUSE.2);
    assert_eq!(marks(&[CUP, faint, ("tv", 0.9, [0, 0, 24, 16])], &attributes("red", "blue")), (0.0, 0.5));
    let place = |relation: &str| {
        format!(
            r#"{{"tag": "position", "exclude": [], "include": [{{"class": "cup", "count": 1}},
                {{"class": "computer mouse", "count": 1, "position": ["{relation}", 0]}}]}}"#
        )
    };
    assert_eq!(marks(&[CUP, MOUSE], &place("right of")), (1.0, 1.0));
    assert_eq!(marks(&[CUP, MOUSE], &place("above")).0, 0.0);
    // Two cups were asked for, and counting wants to be surer than 0.9.
    let two =
        r#"{"tag": "counting", "include": [{"class": "cup", "count": 2}], "exclude": [{"class": "cup", "count": 3}]}"#;
    let cup = |sure: f64, left: i64| ("cup", sure, [left, 4, left + 5, 9]);
    assert_eq!(marks(&[cup(0.95, 1), cup(0.95, 9)], two), (1.0, 1.0));
    assert_eq!(marks(&[cup(0.95, 1), cup(0.85, 9)], two), (0.0, 0.5));
    assert_eq!(marks(&[cup(0.95, 1), cup(0.95, 9), cup(0.95, 17)], two), (0.0, 0.5));
}

#[test]
fn prompts_that_can_never_be_met_are_refused() {
    let metadata: Metadata =
        serde_json::from_str(r#"{"tag": "single_object", "include": [{"class": "mouse", "count": 1}], "exclude": []}"#)
            .unwrap();
    let subject = Subject { text: "a mouse", geneval: Some(&metadata), ..Subject::default() };
    let says = reward(&[]).refuses(&subject).unwrap().to_string();
    assert!(says.contains("asks for `mouse`, which the detector `mask2former` cannot find"), "{says}");
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let metadata: Metadata =
        serde_json::from_str(r#"{"tag": "single_object", "include": [{"class": "cup", "count": 1}], "exclude": []}"#)
            .unwrap();
    let subject = Subject { text: "a cup", geneval: Some(&metadata), ..Subject::default() };
    let image = Image::new(60, 40, vec![0; 7200]).unwrap();
    // The logarithm of a negative number.
    let error = reward(&[("cup", -1.0, [0, 0, 1, 1])]).score(&[image], &[subject]).unwrap_err().to_string();
    assert_eq!(error, "the reward `geneval` failed: the detector's logits are not finite");
}

/// A reward model's folder with the small random networks as its parts, less one file or folder.
fn folder(without: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (part, from) in [("detector", "mask2former/equal"), ("clip", "rewards/clip")] {
        let to = dir.path().join(part);
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(at(from)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    match without.map(|name| dir.path().join(name)) {
        Some(lost) if lost.is_dir() => std::fs::remove_dir_all(lost).unwrap(),
        Some(lost) => std::fs::remove_file(lost).unwrap(),
        None => (),
    }
    dir
}

#[test]
fn the_reward_model_opens_from_its_folder_and_scores() {
    let reward_model = named("geneval").unwrap();
    assert_eq!(
        reward_model.parts.iter().map(|p| (p.name, p.weights)).collect::<Vec<_>>(),
        [("detector", true), ("clip", true)]
    );
    let dir = folder(None);
    let reward = opdflow_reward_models::open("geneval", dir.path(), device()).unwrap();
    assert_eq!(reward.name(), "geneval");
    let metadata: Metadata = serde_json::from_str(
        r#"{"tag": "colors", "include": [{"class": "tv remote", "count": 1, "color": "red"}], "exclude": []}"#,
    )
    .unwrap();
    let subject = Subject { text: "a red tv remote", geneval: Some(&metadata), ..Subject::default() };
    assert!(reward.applies(&subject) && reward.refuses(&subject).is_none());
    let f = tensors("geneval/resized.safetensors");
    let images = [0, 4].map(|i| image(&f[&format!("before{i}")]));
    let scores = reward.score(&images, &[subject, subject]).unwrap();
    assert!(scores.iter().all(|s| s.value.is_finite() && s.parts.contains_key("strict")));
    let alone = reward.score(&images[1..], &[subject]).unwrap();
    assert_eq!(scores[1], alone[0], "a score depends on the image beside it");
}

/// Says what a batch looks like: a cup where the image is bright, its place by the image's size.
struct Bright;

impl Segmenter for Bright {
    fn segment(&self, images: &Tensor) -> Segments {
        let (batch, _, height, width) = images.size4().unwrap();
        let all = (0..batch).map(|i| {
            let bright = images.get(i).mean(Kind::Float).double_value(&[]) > 0.0;
            let drawn = if bright { [height / 16, height / 8] } else { [0, height / 16] };
            let [top, bottom] = drawn;
            let (classes, masks) = hand(&[("cup", 0.8, [0, top, 2, bottom])], [height / 4, width / 4]);
            (classes, masks)
        });
        let (classes, masks): (Vec<Tensor>, Vec<Tensor>) = all.unzip();
        Segments { classes: Tensor::cat(&classes, 0), masks: Tensor::cat(&masks, 0) }
    }
}

#[test]
fn images_that_go_through_the_network_together_keep_their_own_objects() {
    let photographs = || Photographs::new(Bright, &labels(), input(), Colours::new(Axes), Device::Cpu);
    let even =
        |width: usize, height: usize, level: u8| Image::new(width, height, vec![level; width * height * 3]).unwrap();
    // More than one batch, of two sizes that lie among each other.
    let images =
        [even(60, 40, 255), even(60, 40, 0), even(40, 60, 255), even(60, 40, 255), even(40, 60, 0), even(60, 40, 0)];
    let together = photographs().detect(&images).unwrap();
    let bounds: Vec<[f64; 4]> = together.iter().map(|objects| objects[0].bounds).collect();
    assert!(together.iter().all(|objects| objects.len() == 1));
    assert_ne!(bounds[0], bounds[1], "they are told apart");
    assert_ne!(bounds[0], bounds[2]);
    for (image, objects) in images.iter().zip(&together) {
        let alone = photographs().detect(std::slice::from_ref(image)).unwrap();
        assert_eq!(&alone[0], objects);
    }
    // What is cut out of one image is named together.
    let colours = photographs().colours(&images[0], &together[0].iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(colours.len(), 1);
}

#[test]
fn what_is_missing_is_named() {
    for (without, says) in [
        ("detector", "the part `detector` is missing: the folder facebook/mask2former-swin-small-coco-instance"),
        ("clip", "the part `clip` is missing: the folder openai/clip-vit-large-patch14"),
        ("detector/preprocessor_config.json", "detector/preprocessor_config.json"),
        ("detector/model.safetensors", "detector: no weights here"),
        ("detector/config.json", "detector/config.json"),
        ("clip/preprocessor_config.json", "clip/preprocessor_config.json"),
    ] {
        let error =
            opdflow_reward_models::open("geneval", folder(Some(without)).path(), Device::Cpu).err().expect("an error");
        assert!(format!("{error:#}").contains(says), "{without}: {error:#}");
    }
}
