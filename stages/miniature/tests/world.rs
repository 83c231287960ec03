//! The promises of the world: the same bytes for the same seed, disjoint splits, sound metadata, short captions.

use std::collections::{BTreeMap, BTreeSet};

use opdflow_miniature::{
    Colour, Family, LETTERS, Landscape, Mix, Mood, Prompt, Shape, Split, WorldError, corrupt, prompt, prompts, render,
    stream,
};
use opdflow_rewards::geneval::{Metadata, Tag};
use proptest::prelude::*;

const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

fn texts(family: Family, split: Split) -> BTreeSet<String> {
    prompts(&Mix::from(family), 6000, 5, split).into_iter().map(|p| p.text).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let bytes = |seed| -> Vec<u8> {
        let all = prompts(&Mix::all(), 24, seed, Split::Train);
        all.iter().zip(0..).flat_map(|(p, i)| render(p, &mut stream(seed, i)).unwrap().rgb).collect()
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
    // Images are inputs of cached results: a change of this number is a change of the world.
    let all = prompts(&Mix::all(), 24, 1, Split::Train);
    let lines: String = all.iter().map(|p| serde_json::to_string(p).unwrap() + "\n").collect();
    assert_eq!((fnv(lines.as_bytes()), fnv(&bytes(1))), GOLDEN);
}

const GOLDEN: (u64, u64) = (7586943724417801162, 14205830049593848310);

#[test]
fn splits_share_no_word_and_no_landscape() {
    for family in [Family::Ocr, Family::Scene] {
        let [train, validation, test] = SPLITS.map(|s| texts(family, s));
        assert!(train.is_disjoint(&test) && train.is_disjoint(&validation) && validation.is_disjoint(&test));
        assert!(!validation.is_empty() && test.len() > validation.len() / 2 && train.len() > test.len());
    }
}

#[test]
fn splits_of_shapes_are_disjoint_but_for_the_small_tasks() {
    let by_tag = |split| {
        let mut out: BTreeMap<Tag, BTreeSet<String>> = BTreeMap::new();
        for p in prompts(&Mix::from(Family::Geneval), 20_000, 5, split) {
            out.entry(p.geneval.unwrap().tag).or_default().insert(p.text);
        }
        out
    };
    let [train, validation, test] = SPLITS.map(by_tag);
    for tag in [Tag::Position, Tag::Colors, Tag::ColorAttr] {
        assert!(train[&tag].is_disjoint(&test[&tag]) && train[&tag].is_disjoint(&validation[&tag]));
        assert!(validation[&tag].is_disjoint(&test[&tag]));
        assert!(validation[&tag].len() >= 2 && test[&tag].len() >= 3);
    }
    for (tag, texts) in [(Tag::SingleObject, 3), (Tag::TwoObject, 6), (Tag::Counting, 12)] {
        assert!([&train, &validation, &test].iter().all(|s| s[&tag].len() == texts));
    }
}

#[test]
fn tasks_come_in_the_training_mix() {
    let mut counts: BTreeMap<Tag, f64> = BTreeMap::new();
    for p in prompts(&Mix::from(Family::Geneval), 19_000, 5, Split::Train) {
        *counts.entry(p.geneval.unwrap().tag).or_default() += 1.0 / 1000.0;
    }
    for (tag, share) in Tag::ALL.into_iter().zip([1.0, 1.0, 5.0, 2.0, 7.0, 3.0]) {
        assert!((counts[&tag] - share).abs() < 0.3, "{tag:?} {}", counts[&tag]);
    }
}

fn check(p: &Prompt) {
    assert!(p.text.split_whitespace().count() <= 8, "{}", p.text);
    let Some(m) = &p.geneval else { return };
    assert_eq!(m.prompt, p.text);
    assert!(m.include.iter().all(|i| Shape::from_name(&i.class).is_some() && i.count >= 1));
    assert!(m.include.iter().flat_map(|i| &i.color).all(|c| Colour::from_name(c).is_some()));
    match m.tag {
        Tag::Counting => {
            assert_eq!((m.include.len(), m.exclude.len()), (1, 1));
            assert_eq!(m.exclude[0].count, m.include[0].count + 1);
        }
        Tag::Position => assert_eq!(m.include[1].position.map(|p| p.1), Some(0)),
        _ => assert!(m.exclude.is_empty()),
    }
    if m.include.len() == 2 {
        assert_ne!(m.include[0].class, m.include[1].class);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn every_prompt_is_sound_and_can_be_drawn(seed: u64, which in 0..3usize) {
        let mut rng = stream(seed, 0);
        let true_one = prompt(Family::ALL[which], &mut rng);
        let wrong = corrupt(&true_one, &mut rng).unwrap();
        check(&true_one);
        check(&wrong);
        prop_assert_ne!(&true_one.text, &wrong.text);
        prop_assert!(render(&true_one, &mut rng).unwrap().is_whole());
        prop_assert!(render(&wrong, &mut rng).unwrap().is_whole());
        let line = serde_json::to_string(&true_one).unwrap();
        prop_assert_eq!(serde_json::from_str::<Prompt>(&line).unwrap(), true_one);
    }
}

#[test]
fn metadata_are_genevals_own_json() {
    let line = r#"{"tag":"position","include":[{"class":"square","count":1},{"class":"circle","count":1,"position":["left of",0]}],"prompt":"a circle left of a square"}"#;
    let metadata: Metadata = serde_json::from_str(line).unwrap();
    assert_eq!(serde_json::to_string(&metadata).unwrap(), line);
    let p = Prompt {
        text: metadata.prompt.clone(),
        family: Family::Geneval,
        geneval: Some(metadata),
        target: None,
        landscape: None,
    };
    assert!(render(&p, &mut stream(1, 0)).is_ok());
}

#[test]
fn what_cannot_be_drawn_is_an_error() {
    let word = |w: &str| Prompt {
        text: String::new(),
        family: Family::Ocr,
        geneval: None,
        target: Some(w.to_owned()),
        landscape: Some(Landscape { mood: Mood::Warm, hills: Colour::Red }),
    };
    for bad in ["", "TOOLONG", "hat", "Ä"] {
        assert!(matches!(render(&word(bad), &mut stream(1, 0)), Err(WorldError::Word { .. })));
    }
    assert!(render(&Prompt { target: None, ..word("HAT") }, &mut stream(1, 0)).is_err());
    for include in [
        r#"[]"#,
        r#"[{"class":"bench","count":1}]"#,
        r#"[{"class":"circle","count":0}]"#,
        r#"[{"class":"circle","count":18446744073709551615},{"class":"circle","count":18446744073709551615}]"#,
        r#"[{"class":"circle","count":1,"color":"pink"}]"#,
        r#"[{"class":"circle","count":1,"position":["above",0]}]"#,
    ] {
        let metadata = serde_json::from_str(&format!(r#"{{"tag":"counting","include":{include}}}"#)).unwrap();
        let p = Prompt { family: Family::Geneval, geneval: Some(metadata), ..word("HAT") };
        assert!(matches!(render(&p, &mut stream(1, 0)), Err(WorldError::Shapes { .. })), "{include}");
        assert!(corrupt(&p, &mut stream(1, 0)).is_err(), "{include}");
    }
    assert!("geneval:0".parse::<Mix>().is_err() && "photo".parse::<Mix>().is_err());
    assert!("geneval:2, ocr:1".parse::<Mix>().is_ok());
}

#[test]
fn letters_are_distinct_capitals() {
    assert!(LETTERS.windows(2).all(|w| w[0] < w[1]) && LETTERS.iter().all(u8::is_ascii_uppercase));
}
