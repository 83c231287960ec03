//! The text reader against what RapidOCR reads in the images of `ocr/make_answers.py`. The models are those that
//! `scripts/setup.sh` fetches.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use opdflow_rewards::ocr::{Assets, Channels, Files, Line, Normalization, Preset, Reading, Resize};
use opdflow_rewards::{Image, Ocr, Reward, Subject};
use serde::Deserialize;

/// Images in which a line may be read otherwise: on another CPU the networks' sums round otherwise, and a letter that
/// was nearly another may become it.
const OTHERWISE: usize = 3;
/// By how many pixels a corner may then lie elsewhere.
const ELSEWHERE: f32 = 2.0;

/// One image's answer.
#[derive(Deserialize)]
struct Answer {
    /// What was drawn.
    #[serde(default)]
    words: String,
    /// What RapidOCR reads: a text and the corners of its box for each line.
    lines: Vec<(String, [[f32; 2]; 4])>,
}

fn assets() -> Assets {
    let deps = std::env::var_os("OPDFLOW_DEPS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.deps"), PathBuf::from);
    Assets::in_folder(&deps)
}

fn ocr() -> Arc<Ocr> {
    Ocr::shared(&assets()).unwrap_or_else(|e| panic!("{e}"))
}

fn answers() -> (Vec<Image>, Vec<Answer>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ocr");
    let answers: Vec<Answer> = serde_json::from_slice(&std::fs::read(folder.join("answers.json")).unwrap()).unwrap();
    let open = |i: usize| {
        let image = image::open(folder.join(format!("{i:02}.png"))).unwrap().to_rgb8();
        Image { width: image.width() as usize, height: image.height() as usize, rgb: image.into_raw() }
    };
    ((0..answers.len()).map(open).collect(), answers)
}

fn mean_score(words: &[Answer], reads: impl Fn(usize) -> String) -> f64 {
    let score = |(i, answer): (usize, &Answer)| {
        let plain = |text: &str| text.replace([' ', '\n'], "").to_lowercase();
        let (read, words) = (plain(&reads(i)), plain(&answer.words));
        let length = words.chars().count();
        let distance = strsim::levenshtein(&read, &words).min(length);
        if read.contains(&words) { 1.0 } else { 1.0 - distance as f64 / length as f64 }
    };
    words.iter().enumerate().map(score).sum::<f64>() / words.len() as f64
}

/// Holds our lines against what somebody else reads: the same texts at the same places, but for a few images.
fn alike(who: &str, read: &[Vec<Line>], answers: &[Answer]) {
    let (mut otherwise, mut farthest) = (Vec::new(), 0f32);
    for (i, (lines, answer)) in read.iter().zip(answers).enumerate() {
        let (ours, theirs): (Vec<&str>, Vec<&str>) =
            (lines.iter().map(|l| l.text.as_str()).collect(), answer.lines.iter().map(|l| l.0.as_str()).collect());
        assert!(!ours.is_empty() || theirs.is_empty(), "image {i}: {who} reads {theirs:?}, we nothing");
        if ours != theirs {
            otherwise.push(format!("{i}: {ours:?}, not {theirs:?}"));
            continue;
        }
        let corners = lines.iter().flat_map(|l| l.corners).zip(answer.lines.iter().flat_map(|l| l.1));
        let far = corners.map(|(a, b)| (a[0] - b[0]).abs().max((a[1] - b[1]).abs())).fold(0.0, f32::max);
        farthest = farthest.max(far);
        if far > ELSEWHERE {
            otherwise.push(format!("{i}: {:?}, not {:?}", lines[0].corners, answer.lines[0].1));
        }
    }
    println!("{who}: read otherwise {otherwise:?}; corners {farthest} pixels apart at most");
    assert!(otherwise.len() <= OTHERWISE, "{otherwise:?}");
}

#[test]
fn images_are_read_as_by_rapidocr() {
    let (images, answers) = answers();
    assert_eq!(answers.len(), 60);
    let read = ocr().lines(&images).unwrap();
    alike("RapidOCR", &read, &answers);

    let join = |i: usize| read[i].iter().map(|l| l.text.as_str()).collect();
    let ours = mean_score(&answers, join);
    let theirs = mean_score(&answers, |i| answers[i].lines.iter().map(|l| l.0.as_str()).collect());
    println!("mean score {ours:.4}, of RapidOCR {theirs:.4}");
    assert!((ours - theirs).abs() < 0.01 && theirs > 0.7, "{ours} {theirs}");
    // The reward itself has these values too.
    let words: Vec<String> = answers.iter().map(|a| a.words.replace('\n', "")).collect();
    let subjects: Vec<Subject> = words.iter().map(|w| Subject { target: Some(w), ..Subject::default() }).collect();
    let scores = ocr().score(&images, &subjects).unwrap();
    assert!((scores.iter().map(|s| s.value).sum::<f64>() / 60.0 - ours).abs() < 1e-12);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (images, _) = answers();
    let images = &images[..24];
    let on = |threads: usize| -> Vec<Vec<Line>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| ocr().lines(images)).unwrap()
    };
    let one = on(1);
    // Texts, boxes and confidences, the latter to the bit.
    assert_eq!(one, on(3));
    assert_eq!(one, on(8));
    // Nor do the other images of the list.
    let backwards: Vec<Image> = images.iter().rev().cloned().collect();
    let mut read = ocr().lines(&backwards).unwrap();
    read.reverse();
    assert_eq!(one, read);
}

#[test]
fn a_process_loads_the_models_once() {
    assert!(Arc::ptr_eq(&ocr(), &ocr()));
    let missing = Assets { det: "/nowhere/det.onnx".into(), ..assets() };
    assert!(Ocr::shared(&missing).is_err());
    // An attempt that failed leaves what is there.
    let before = ocr();
    assert!(Ocr::shared(&missing).is_err() && Arc::ptr_eq(&before, &ocr()));
}

/// The steps of the published rewards' judge, with the bundled networks (`ocr/make_paddleocr_answers.py`), which are the user's
/// files here: their characters out of the model and out of a file.
#[test]
fn images_are_read_as_by_paddleocr() {
    let (images, _) = answers();
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ocr/paddleocr.json");
    let answers: Vec<Answer> = serde_json::from_slice(&std::fs::read(at).unwrap()).unwrap();
    assert_eq!(answers.len(), 60);
    let assets = assets();
    let files = Files { det: assets.det.clone(), rec: assets.rec.clone(), characters: None };
    let reading = Preset::PaddleocrEn.reading();
    let reader = Ocr::of_files(&assets, &files, reading).unwrap();
    let read = reader.lines(&images).unwrap();
    alike("PaddleOCR", &read, &answers);
    // Every number that a recipe can change does change something here.
    let (some, read) = (&images[..16], &read[..16]);
    let with = |change: &dyn Fn(&mut Reading)| {
        let mut other = reading;
        change(&mut other);
        Ocr::of_files(&assets, &files, other).unwrap().lines(some).unwrap() != read
    };
    assert!(with(&|r| r.box_threshold = 0.9) && with(&|r| r.unclip_ratio = 1.0) && with(&|r| r.drop_score = 0.95));
    assert!(with(&|r| r.dilation = true) && with(&|r| r.normalization = Normalization::Half));
    assert!(with(&|r| r.channels = Channels::Bgr) && with(&|r| r.resize = Resize::Longest { pixels: 64 }));
    // Characters of a file stand for the classes in its order.
    let folder = tempfile::tempdir().unwrap();
    let characters = folder.path().join("characters.txt");
    std::fs::write(&characters, "a\nb\n").unwrap();
    let files = Files { characters: Some(characters), ..files };
    let refused = |files: &Files| Ocr::of_files(&assets, files, reading).err().unwrap().to_string();
    assert!(refused(&files).contains("for 4 characters"), "{}", refused(&files));
    std::fs::write(files.characters.as_ref().unwrap(), [0xff, 0xfe]).unwrap();
    assert!(refused(&files).contains("no text of UTF-8"));
    // Neither network stands in the place of the other.
    let own = |det: &Path, rec: &Path| Files { det: det.to_owned(), rec: rec.to_owned(), characters: None };
    assert!(refused(&own(&assets.rec, &assets.rec)).contains("finder"), "{}", refused(&own(&assets.rec, &assets.rec)));
    assert!(
        refused(&own(&assets.det, &assets.det)).contains("character"),
        "{}",
        refused(&own(&assets.det, &assets.det))
    );
}
