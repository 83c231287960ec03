//! A chat model: the question as JSON, and the answer out of it.

use crate::client::Unread;
use crate::encode;
use opdflow_rewards::Image;
use opdflow_spec::served::{Chat, Reply, fill};
use serde::Deserialize;
use serde_json::json;

/// Where it is asked, below the address.
pub(crate) const PATH: &str = "/chat/completions";

/// Where one sees that it is there.
pub(crate) const MODELS: &str = "/models";

/// How many first tokens are wanted where their probabilities are read: the most that the interface allows.
const TOP: u32 = 20;

/// The question about an image of this prompt: temperature 0, which still promises no equal answers.
pub(crate) fn question(chat: &Chat, image: &Image, prompt: &str) -> Result<Vec<u8>, String> {
    let url = format!("data:image/png;base64,{}", encode::base64(image)?);
    let content = json!([
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": fill(&chat.template, prompt)},
    ]);
    let mut body = json!({
        "model": chat.model,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": chat.max_tokens,
        "stream": false,
    });
    if chat.parser.reads_tokens() {
        body["logprobs"] = true.into();
        body["top_logprobs"] = TOP.into();
        // Only the first is read.
        body["max_tokens"] = 1.into();
    }
    serde_json::to_vec(&body).map_err(|e| e.to_string())
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct Logprobs {
    #[serde(default)]
    content: Option<Vec<Token>>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    top_logprobs: Vec<Top>,
}

#[derive(Deserialize)]
struct Top {
    token: String,
    logprob: f64,
}

/// What the model said.
pub(crate) fn reply(body: &[u8]) -> Result<Reply, Unread> {
    let read: Completion = serde_json::from_slice(body).map_err(|e| Unread::Malformed(e.to_string()))?;
    let [choice] = <[Choice; 1]>::try_from(read.choices)
        .map_err(|all| Unread::Malformed(format!("{} answers to one question", all.len())))?;
    let tokens = choice.logprobs.and_then(|l| l.content).and_then(|t| t.into_iter().next());
    let first = tokens.map(|t| t.top_logprobs.into_iter().map(|t| (t.token, t.logprob)).collect());
    Ok(Reply {
        text: choice.message.content.unwrap_or_default(),
        cut: choice.finish_reason.as_deref() == Some("length"),
        first: first.unwrap_or_default(),
    })
}

/// The answer as it is kept: the words, and the first tokens where they were read.
pub(crate) fn kept(reply: &Reply) -> String {
    if reply.first.is_empty() {
        return reply.text.clone();
    }
    json!({"text": reply.text, "top_logprobs": reply.first}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    fn chat(parser: &str) -> Chat {
        let text = format!(r#"{{"model": "m", "template": "Rate [{{prompt}}]", "parser": {parser}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_question_has_the_image_as_a_png_and_the_words() {
        let image = Image::new(2, 1, vec![0, 1, 2, 253, 254, 255]).unwrap();
        let body = question(&chat("\"unified_reward\""), &image, "a \"dog\"").unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["model"], &body["temperature"], &body["max_tokens"]), (&"m".into(), &0.into(), &512.into()));
        let content = &body["messages"][0]["content"];
        assert_eq!(content[1]["text"], "Rate [a \"dog\"]");
        let url = content[0]["image_url"]["url"].as_str().unwrap().strip_prefix("data:image/png;base64,").unwrap();
        let png = base64::engine::general_purpose::STANDARD.decode(url).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut rgb).unwrap();
        assert_eq!(rgb, image.rgb);
        assert!(body.get("logprobs").is_none());
        let yes = question(&chat("\"probability_of_yes\""), &image, "x").unwrap();
        let yes: serde_json::Value = serde_json::from_slice(&yes).unwrap();
        assert_eq!((&yes["logprobs"], &yes["top_logprobs"], &yes["max_tokens"]), (&true.into(), &20.into(), &1.into()));
    }

    #[test]
    fn an_answer_is_one_choice_with_words() {
        let of = |text: &str| reply(text.as_bytes());
        let found =
            of(r#"{"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Final Score: 4"},
            "finish_reason": "stop", "logprobs": null}], "usage": {}}"#);
        assert_eq!(found.unwrap(), Reply { text: "Final Score: 4".to_owned(), ..Reply::default() });
        let cut = of(r#"{"choices": [{"message": {"content": "Final"}, "finish_reason": "length", "logprobs":
            {"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": [{"token": "Yes", "logprob": -0.1}]}]}}]}"#);
        let cut = cut.unwrap();
        assert!(cut.cut && cut.first == [("Yes".to_owned(), -0.1)] && kept(&cut).contains("Yes"));
        for bad in ["", "[]", "{}", "{\"choices\": []}", "<html>", r#"{"choices": [{"message": {"content": "#] {
            assert!(matches!(of(bad), Err(Unread::Malformed(_))), "{bad}");
        }
    }
}
