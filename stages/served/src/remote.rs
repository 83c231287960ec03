//! A reward of another program: the question as JSON, and scores out of the answer.

use crate::client::Unread;
use crate::encode;
use crate::protocol::{About, Form, Health, Question, Verdict};
use opdflow_rewards::{Image, Score, Subject};
use opdflow_spec::served::Pinned;

/// The question about these images.
pub(crate) fn question(form: Form, images: &[&Image], subjects: &[Subject]) -> Result<Vec<u8>, String> {
    let shapes = match form {
        Form::Png => Vec::new(),
        Form::Rgb => images.iter().map(|image| [image.height, image.width, 3]).collect(),
    };
    let one = |image: &&Image| match form {
        Form::Png => encode::base64(image),
        Form::Rgb => Ok(encode::base64_of(&image.rgb)),
    };
    let images = images.iter().map(one).collect::<Result<_, _>>()?;
    let subjects = subjects.iter().map(About::of).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    serde_json::to_vec(&Question { form, images, shapes, subjects }).map_err(|e| e.to_string())
}

/// What the server says of itself, if it is the one that is pinned.
pub(crate) fn health(body: &[u8], pinned: &Pinned) -> Result<Health, Unread> {
    let health: Health = serde_json::from_slice(body).map_err(|e| Unread::Malformed(e.to_string()))?;
    same(&health.digest, pinned)?;
    if let Some(absent) = pinned.measures.iter().find(|m| !health.measures.contains(m)) {
        let help = format!(
            "it has {}",
            if health.measures.is_empty() { "none".to_owned() } else { health.measures.join(", ") }
        );
        return Err(Unread::Other(format!("has no measure `{absent}`"), help));
    }
    Ok(health)
}

fn same(found: &str, pinned: &Pinned) -> Result<(), Unread> {
    if found == pinned.digest {
        return Ok(());
    }
    let found: String = found.chars().take(100).collect();
    let found = opdflow_io::terminal::line(&found).into_owned();
    let what = format!("is another one: its digest is `{found}`, and the recipe pins `{}`", pinned.digest);
    Err(Unread::Other(
        what,
        "start the one that the recipe pins, or pin this one: its scores are then made anew".to_owned(),
    ))
}

/// The scores of so many images.
pub(crate) fn scores(body: &[u8], pinned: &Pinned, images: usize) -> Result<Vec<Score>, Unread> {
    let verdict: Verdict = serde_json::from_slice(body).map_err(|e| Unread::Malformed(e.to_string()))?;
    same(&verdict.digest, pinned)?;
    if verdict.scores.len() != images {
        return Err(Unread::Malformed(format!("{} scores for {images} images", verdict.scores.len())));
    }
    Ok(verdict.scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_is_refused_and_a_lack_of_scores_is_no_answer() {
        let pinned = Pinned { digest: "d1".to_owned(), measures: vec!["sharp".to_owned()] };
        let of = |text: &str| scores(text.as_bytes(), &pinned, 2);
        // 0.1 + 0.2, and the smallest number there is.
        let good = of(
            r#"{"digest": "d1", "scores": [{"value": 0.30000000000000004, "parts": {"sharp": 5e-324}}, {"value": 1, "parts": {}}]}"#,
        );
        let good = good.unwrap();
        assert_eq!((good[0].value, good[0].parts["sharp"], good[1].value), (0.1 + 0.2, f64::from_bits(1), 1.0));
        assert!(
            matches!(of(r#"{"digest": "d2", "scores": []}"#), Err(Unread::Other(what, _)) if what.contains("`d2`"))
        );
        for bad in [
            "",
            "{}",
            r#"{"digest": "d1", "scores": [{"value": 1, "parts": {}}]}"#,
            r#"{"digest": "d1", "scores": [{"value": NaN}]}"#,
        ] {
            assert!(matches!(of(bad), Err(Unread::Malformed(_))), "{bad}");
        }
        let well = |text: &str| health(text.as_bytes(), &pinned);
        assert!(well(r#"{"name": "x", "version": "1", "digest": "d1", "measures": ["sharp", "soft"]}"#).is_ok());
        assert!(
            matches!(well(r#"{"name": "x", "version": "1", "digest": "d1"}"#), Err(Unread::Other(what, _)) if what.contains("`sharp`"))
        );
    }
}
