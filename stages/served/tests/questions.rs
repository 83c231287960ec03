//! Questions about an image, against the published code of GenEval 2 and DPG-Bench, and through a server.

mod hostile;

use hostile::{Server, chat};
use opdflow_rewards::questions::{Question, dpg_bench, soft_tifa};
use opdflow_rewards::{Image, Reward, RewardError, Subject};
use opdflow_served::{Answers, Client, Judge, Questioned};
use opdflow_spec::served::{Asking, Endpoint, Parser, Protocol, Reply, Requests, Served};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Case {
    Geneval2 {
        questions: Vec<(String, String)>,
        tokens: Vec<Vec<(String, f64)>>,
        scores: Vec<f64>,
        mean: f64,
        score: f64,
    },
    DpgBench {
        after: Vec<Vec<usize>>,
        answers: Vec<String>,
        score: f64,
        unconditional: f64,
    },
}

fn asked(question: &str, answer: &str, after: Vec<usize>) -> Question {
    Question { question: question.to_owned(), answer: answer.to_owned(), about: String::new(), after }
}

/// `questions/generate.py` made the table by their own functions.
#[test]
fn every_score_is_the_published_code_s() {
    let (mut met, mut struck) = ([0, 0], 0);
    for line in include_str!("questions/answers.jsonl").lines() {
        match serde_json::from_str(line).unwrap() {
            Case::Geneval2 { questions, tokens, scores, mean, score } => {
                let read = |((question, answer), first): (&(String, String), Vec<(String, f64)>)| {
                    let reply = Reply { first, ..Reply::default() };
                    Parser::SoftTifa.read(&reply, Some((question, answer))).unwrap().value
                };
                let found: Vec<f64> = questions.iter().zip(tokens).map(read).collect();
                let close = |a: f64, b: f64| (a - b).abs() <= 1e-12;
                assert!(found.iter().zip(&scores).all(|(a, b)| close(*a, *b)), "{found:?} {scores:?}");
                let (geometric, arithmetic) = soft_tifa(&found);
                assert!(close(geometric, score) && close(arithmetic, mean), "{line}");
                met[0] += 1;
            }
            Case::DpgBench { after, answers, score, unconditional } => {
                let read = |text: &String| {
                    Parser::DpgBench.read(&Reply { text: text.clone(), ..Reply::default() }, None).unwrap().value > 0.0
                };
                let yes: Vec<bool> = answers.iter().map(read).collect();
                // Theirs begin with 1, and 0 stands for none.
                let places = |after: Vec<usize>| after.into_iter().filter_map(|n| n.checked_sub(1)).collect();
                let questions: Vec<Question> = after.into_iter().map(|a| asked("?", "yes", places(a))).collect();
                assert_eq!(dpg_bench(&questions, &yes), (score, unconditional), "{line}");
                struck += usize::from(score < unconditional);
                met[1] += 1;
            }
        }
    }
    assert_eq!(met, [40, 40]);
    assert!(struck > 5, "nothing was struck out in {struck}");
}

fn served(parser: &str, template: &str) -> Served {
    let text = format!(
        r#"{{"reward": "judge", "protocol": {{"chat": {{"model": "m", "template": "{template}", "parser": "{parser}"}}}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn open(server: &Server, parser: &str, template: &str) -> (Questioned, Arc<Answers>) {
    let url = server.url.clone();
    let endpoint = Endpoint::from("judge", |name| name.ends_with("_URL").then(|| url.clone())).unwrap();
    let requests = Requests { concurrency: 3, timeout_seconds: 5.0, patience_seconds: 1.0, max_calls: None };
    let (answers, served) = (Arc::<Answers>::default(), served(parser, template));
    let client = Client::new("judge", endpoint, requests, answers.clone(), Arc::new(|| false));
    let Protocol::Chat(chat) = served.protocol.clone() else { panic!("a chat") };
    (
        Questioned::new(
            Judge::open(served, client, |image, _, _| image.clone()).unwrap(),
            chat.parser.asking().unwrap(),
        ),
        answers,
    )
}

fn image(level: u8) -> Image {
    Image::new(2, 1, vec![level; 6]).unwrap()
}

#[test]
fn each_question_is_a_request_of_its_own() {
    // Whoever is asked about cats says yes.
    let server = Server::new(|_, request| chat(if request.body.contains("cat") { "Yes." } else { "no" }));
    let (judge, answers) = open(&server, "dpg_bench", "{prompt}");
    let questions = [
        asked("Is there a cat?", "yes", vec![]),
        asked("Is there a dog?", "yes", vec![]),
        asked("Is the dog's cat red?", "yes", vec![1]),
    ];
    let subject = Subject { text: "a cat and a dog", questions: &questions, ..Subject::default() };
    assert!(judge.applies(&subject) && !judge.applies(&Subject { questions: &[], ..subject }));
    let alone = Subject { questions: &questions[..1], ..subject };
    let scores = judge.score(&[image(1), image(2)], &[subject, alone]).unwrap();
    assert!(
        (scores[0].value - 1.0 / 3.0).abs() < 1e-12 && (scores[0].parts["unconditional"] - 2.0 / 3.0).abs() < 1e-12
    );
    assert_eq!((scores[1].value, answers.len()), (1.0, 4));
    // What was answered is not asked again.
    let before = server.asked();
    assert_eq!(judge.score(&[image(1), image(2)], &[subject, alone]).unwrap(), scores);
    assert_eq!(server.asked(), before);
    let bare = judge.score(&[image(1)], &[Subject { questions: &[], ..subject }]).unwrap_err();
    assert!(matches!(bare, RewardError::Missing { .. }), "{bare}");
}

#[test]
fn an_answer_without_probabilities_names_its_image() {
    let server = Server::new(|_, _| chat("Yes"));
    let (judge, _) = open(&server, "soft_tifa", "{prompt} Answer in one word.");
    let questions = [asked("Is it red?", "Yes", vec![]), asked("Is it big?", "Yes", vec![])];
    let subject = Subject { text: "a big red box", questions: &questions, ..Subject::default() };
    let said = judge.score(&[image(1), image(2)], &[subject, subject]).unwrap_err();
    assert!(matches!(said, RewardError::Unjudged { image: 0 | 1, .. }), "{said}");
    assert!(said.to_string().contains("without the probabilities of its first token"), "{said}");
}

#[test]
fn what_an_answer_cannot_be_is_refused() {
    let server = Server::new(|_, _| chat("Yes, there is a cat."));
    let (judge, _) = open(&server, "dpg_bench", "{prompt}");
    let of = |question: Question| {
        let questions = [question];
        let subject = Subject { text: "a cat", questions: &questions, ..Subject::default() };
        judge.score(&[image(1)], &[subject]).unwrap_err().to_string()
    };
    assert!(of(asked("Is there a cat?", "yes", vec![])).contains("yes and more"));
    // A question whose right answer is no would be counted the wrong way round.
    assert!(of(asked("Is there a dog?", "no", vec![])).contains("each with the right answer yes"));
    for (question, answer, after, suits) in [
        ("Is it red?", "Yes", vec![], true),
        ("Is it red?", "no", vec![], false),
        ("Is it red?", "Yes", vec![0], false),
        ("How many cats are in the image?", "two", vec![], true),
        ("How many cats are in the image?", "two or three", vec![], false),
    ] {
        assert_eq!(Asking::SoftTifa.suits(question, answer, !after.is_empty()), suits, "{question} {answer}");
    }
    let first = vec![("Yes".to_owned(), -0.1), ("yes".to_owned(), -0.1)];
    let why = Parser::SoftTifa.read(&Reply { first, ..Reply::default() }, Some(("Is it red?", "Yes"))).unwrap_err();
    assert!(why.contains("add up to 1.810"), "{why}");
}
