//! Reward models that only tables ask: nothing is trained by them, and nothing is chosen by them.

use crate::code;
use crate::judging::reward;
use crate::judging::served::{self, Counted};
use crate::judging::wanted::Columns;
use opdflow_api::port::Input;
use opdflow_api::{Foreseen, Ports};

/// What their port is called, and their columns begin with.
pub use crate::judging::reward_models::HELD_OUT as PORT;

/// The port.
pub const HELD_OUT: Input = Input::any(
    PORT,
    &["reward_model"],
    "reward models that nothing was trained or chosen by, each under the name of its reward; columns `held_out.NAME` of every set, and with a `clipscore` `held_out.diversity` and, of several images a prompt, `held_out.prompt_diversity`",
);

/// The reward whose network sees how far apart images are.
pub const SEES: &str = "clipscore";

/// The column of it: of an image the mean of 1 - cosine to the others of its set.
pub const DIVERSITY: &str = "held_out.diversity";

/// The column, in sets with several images of each prompt, of how far those of one prompt are apart: of an image the mean of
/// 1 - cosine to the others of its prompt.
pub const PROMPT_DIVERSITY: &str = "held_out.prompt_diversity";

/// The column of a reward.
#[must_use]
pub fn column(reward: &str) -> String {
    format!("{PORT}.{reward}")
}

/// The reward models among connected places.
fn connected<'a>(places: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    places.filter_map(|place| place.strip_prefix(PORT)?.strip_prefix('.'))
}

/// Adds their columns to what is foreseen of the scores under an output's name; `repeated` says of which sets several
/// images of each prompt are made.
#[must_use]
pub fn foresee(output: &str, mut foreseen: Foreseen, inputs: &Foreseen, repeated: impl Fn(&str) -> bool) -> Foreseen {
    let names: Vec<&str> = connected(inputs.keys().map(String::as_str)).filter(|n| reward::may_be_whole(n)).collect();
    let mut own: Vec<String> = names.iter().map(|name| column(name)).collect();
    own.extend(names.contains(&SEES).then(|| DIVERSITY.to_owned()));
    if let Some(mut sets) = foreseen.get(output).and_then(|v| serde_json::from_value::<Columns>(v.clone()).ok()) {
        for (set, columns) in &mut sets {
            columns.extend(own.iter().cloned());
            columns.extend((names.contains(&SEES) && repeated(set)).then(|| PROMPT_DIVERSITY.to_owned()));
        }
        foreseen.extend(serde_json::to_value(sets).ok().map(|sets| (output.to_owned(), sets)));
    }
    foreseen
}

/// What they ask of servers, of the images of each set, so many times; nothing of that if it is not known.
pub fn count(counted: &mut Counted, inputs: &Foreseen, images: impl Fn(&str, u64) -> u64, times: Option<u64>) {
    let sets = || inputs.iter().filter_map(|(port, known)| Some((port.strip_prefix("prompts.")?, known)));
    for name in connected(inputs.keys().map(String::as_str)) {
        for (set, known) in sets() {
            let asked = served::about_each(inputs, PORT, name, known).map(|each| images(set, each));
            counted.judges(inputs, PORT, name, asked, times);
        }
    }
}

/// The parts of the code that they compute with.
#[must_use]
pub fn parts(ports: &Ports) -> Vec<&'static str> {
    let all = connected(ports.iter().map(String::as_str)).flat_map(code::reward_model);
    all.chain(ports.iter().any(|p| p.starts_with(PORT)).then_some("judging.held_out")).collect()
}
