//! `opdflow score`: anybody's images by one reward, without recipe and store.

use super::args::ScoreFormat;
use super::{Exit, Failure, Session, args, tool};
use crate::exec::End;
use crate::render::metric;
use opdflow_api::{Event, ScoreOrder};
use opdflow_io::csv;
use opdflow_io::terminal::line;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What an image's file may be called.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

pub(super) fn run(session: &Session, args: &args::Score) -> Result<Exit, Failure> {
    let (threads, device) = tool::place(&args.place);
    let order = ScoreOrder {
        reward: args.reward.clone(),
        files: args.part.iter().cloned().collect(),
        with: args.with.clone(),
        model: args.model.clone(),
        images: images(&args.images)?,
        prompts: args.prompts.clone(),
        batch: args.batch,
        threads,
        device,
    };
    let mut scores = Vec::new();
    let help = "a smaller `--batch` takes less";
    let end = tool::run("score", &order, order.threads, Some(help), |event| {
        let Event::Said { text } = event else { return };
        match serde_json::from_str::<Value>(&text) {
            Ok(score) if session.json => session.print(&score.to_string()),
            Ok(score) => scores.push(score),
            Err(_) => session.note(&text),
        }
    })?;
    match end {
        End::Code(0) => {}
        End::Code(_) => return Ok(Exit::Interrupted),
        end => return Err(Failure::Store(format!("the process that scores ended: {end:?}"))),
    }
    if !session.json {
        let text = match args.format {
            ScoreFormat::Csv => as_csv(&scores),
            ScoreFormat::Table => as_table(&scores),
        };
        session.print(text.trim_end());
    }
    Ok(Exit::Done)
}

/// The images that were named, and those in the folders that were, by name.
fn images(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in named {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let cannot = |e: std::io::Error| Failure::Usage(format!("cannot read {}: {e}", path.display()));
        let mut own = Vec::new();
        for entry in std::fs::read_dir(path).map_err(cannot)? {
            own.push(entry.map_err(cannot)?.path());
        }
        own.retain(|file| is_image(file));
        if own.is_empty() {
            let what = format!("no image in {}", path.display());
            return Err(Failure::Usage(format!("{what}\nhelp: name a folder of .png, .jpg or .webp files")));
        }
        own.sort();
        found.extend(own);
    }
    Ok(found)
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|e| ENDINGS.contains(&e.as_str()))
}

/// The names of the parts that any of the scores has.
fn parts(scores: &[Value]) -> Vec<&str> {
    let all = scores.iter().flat_map(|s| s["parts"].as_object().into_iter().flat_map(|parts| parts.keys()));
    all.map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect()
}

fn as_csv(scores: &[Value]) -> String {
    let parts = parts(scores);
    let mut table = csv::Table::new(["image", "prompt", "value"].into_iter().chain(parts.iter().copied()));
    for score in scores {
        let number = |value: &Value| value.as_f64().map_or_else(String::new, |v| v.to_string());
        let text = |name: &str| score[name].as_str().unwrap_or_default().to_owned();
        let own = [text("image"), text("prompt"), number(&score["value"])].into_iter();
        table.row(own.chain(parts.iter().map(|part| number(&score["parts"][part]))));
    }
    table.finish()
}

fn as_table(scores: &[Value]) -> String {
    let parts = parts(scores);
    let value = |score: &Value, name: Option<&str>| {
        let value = name.map_or(&score["value"], |part| &score["parts"][part]);
        value.as_f64().map_or_else(|| "-".to_owned(), |v| metric(Some(v)))
    };
    let columns: Vec<(String, Option<&str>)> =
        std::iter::once(("value".to_owned(), None)).chain(parts.iter().map(|p| ((*p).to_owned(), Some(*p)))).collect();
    let width = |(title, name): &(String, Option<&str>)| {
        scores.iter().map(|s| value(s, *name).len()).max().unwrap_or(0).max(title.len())
    };
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let mut out = String::new();
    for ((title, _), width) in columns.iter().zip(&widths) {
        out.push_str(&format!("{title:>width$}  "));
    }
    out.push_str("image\n");
    for score in scores {
        for ((_, name), width) in columns.iter().zip(&widths) {
            out.push_str(&format!("{:>width$}  ", value(score, *name)));
        }
        out.push_str(&format!("{}\n", line(score["image"].as_str().unwrap_or_default())));
    }
    let all: Vec<f64> = scores.iter().filter_map(|s| s["value"].as_f64()).collect();
    if all.len() > 1 {
        #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        out.push_str(&format!("\n{} images, mean {}\n", all.len(), metric(Some(mean))));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scores_are_a_table_or_values_with_every_digit() {
        let scores = [
            json!({"image": "a.png", "prompt": "x, \"y\"", "value": 0.123_456_789, "parts": {"exact": 0.0}}),
            json!({"image": "b\u{1b}[2J.png", "prompt": "", "value": 2.0, "parts": {}}),
        ];
        let table = as_table(&scores);
        assert!(table.starts_with("value  exact  image\n0.123  0.000  a.png\n2.000      -  b"), "{table}");
        assert!(!table.contains('\u{1b}') && table.ends_with("\n2 images, mean 1.062\n"), "{table}");
        let rows = csv::read(&as_csv(&scores)).unwrap();
        assert_eq!(rows[1], ["a.png", "x, \"y\"", "0.123456789", "0"]);
        assert_eq!(rows[2][3], "");
    }
}
