//! A served reward behind the trait of all rewards: which questions there are, and who asks them at a time.

use crate::answers::Answer;
use crate::client::{Client, Failure};
use crate::protocol::{Form, HEALTH, SCORE};
use crate::{chat, encode, remote};
use opdflow_rewards::{Image, Reward, RewardError, Score, Subject, check};
use opdflow_spec::served::{Chat, Pinned, Protocol, Served};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An image at another size, by Pillow's bicubic.
pub type Resize = fn(&Image, usize, usize) -> Image;

/// How often one looks whether the stage should stop.
const LOOK: Duration = Duration::from_millis(50);

/// A reward that a server gives.
pub struct Judge {
    served: Served,
    client: Arc<Client>,
    resize: Resize,
    /// How another program wants images.
    form: Form,
}

/// A question: a chat model is asked about one image, another program about several.
struct Asked {
    /// The images that it is about, by their first place. Of equal ones with equal prompts only the first is asked for.
    places: Vec<usize>,
    body: Vec<u8>,
    /// The question beside a prompt that it is, with its right answer.
    right: Option<(String, String)>,
}

/// What came of it.
type Came = Result<Vec<Found>, Failure>;

/// The places of a question and what came of it; nothing where it was not asked any more.
type Heard = (Vec<usize>, Option<Came>);

/// A score, or why the answer has none; and the answer where it is kept.
type Found = (Result<Score, String>, Option<String>);

impl Judge {
    /// A judge, once it is seen that its server is there. `resize` is for images that are sent at another size.
    ///
    /// # Errors
    /// The server is away, refuses the token, or is another one than is pinned.
    pub fn open(served: Served, client: Client, resize: Resize) -> Result<Self, RewardError> {
        let probed = match &served.protocol {
            Protocol::Chat(_) => client.probe(chat::MODELS, |_| Ok(())).map(|_| Form::Png),
            Protocol::Opdflow(pinned) => match client.probe(HEALTH, |body| remote::health(body, pinned)) {
                Ok(None) => Err(Failure::Refused(
                    format!("at {} knows no {HEALTH}", client.host()),
                    "see docs/reference/reward_server.md for what a server of a reward answers".to_owned(),
                )),
                other => other.map(|health| health.map_or(Form::Png, |health| health.form)),
            },
        };
        let form = probed.map_err(|failure| error(&served.reward, failure))?;
        Ok(Self { served, client: Arc::new(client), resize, form })
    }

    /// What tells one question from another.
    fn key(&self, image: &Image, subject: &Subject) -> String {
        let mut hasher = blake3::Hasher::new();
        let about = (&self.served, subject.text, subject.target, subject.geneval);
        let mut about = serde_json::to_vec(&about).unwrap_or_default();
        if let [right] = subject.questions {
            about.extend(right.answer.as_bytes());
        }
        hasher.update(&(about.len() as u64).to_le_bytes());
        hasher.update(&about);
        hasher.update(encode::digest(image).as_bytes());
        hasher.finalize().to_hex().to_string()
    }

    /// The question about the images at these places.
    fn question(&self, places: &[usize], images: &[Image], subjects: &[Subject]) -> Result<Vec<u8>, String> {
        match &self.served.protocol {
            Protocol::Chat(chat) => {
                let (image, prompt) = (&images[places[0]], subjects[places[0]].text);
                match chat.image_size.map(|side| side as usize) {
                    Some(side) if (image.width, image.height) != (side, side) => {
                        chat::question(chat, &(self.resize)(image, side, side), prompt)
                    }
                    _ => chat::question(chat, image, prompt),
                }
            }
            Protocol::Opdflow(_) => {
                let some: Vec<&Image> = places.iter().map(|&i| &images[i]).collect();
                let of: Vec<Subject> = places.iter().map(|&i| subjects[i]).collect();
                remote::question(self.form, &some, &of)
            }
        }
    }

    /// Asks all questions, and gives the score of each first place.
    fn asked(
        &self,
        groups: Vec<Vec<usize>>,
        (images, subjects): (&[Image], &[Subject]),
        mut heard: impl FnMut(usize, Found) -> Result<(), RewardError>,
    ) -> Result<(), RewardError> {
        let fault = |why: String| RewardError::Failed { reward: self.served.reward.clone(), why };
        let workers = self.client.requests().concurrency.clamp(1, groups.len().max(1));
        let abandon = Arc::new(AtomicBool::new(false));
        let (hand, results) = self.workers(workers, &abandon).map_err(fault)?;
        let (mut left, mut out, mut next) = (groups.into_iter(), 0_usize, None::<Asked>);
        let mut failed: Vec<(usize, RewardError)> = Vec::new();
        let mut ended = false;
        loop {
            if self.client.stopped() {
                return Err(RewardError::Stopped(self.served.reward.clone()));
            }
            if next.is_none() && !ended {
                match left.next() {
                    Some(places) => {
                        let body = self.question(&places, images, subjects).map_err(fault)?;
                        let right = subjects[places[0]].questions.first();
                        let right = right.map(|q| (q.question.clone(), q.answer.clone()));
                        next = Some(Asked { places, body, right });
                    }
                    None => ended = true,
                }
            }
            if let Some(asked) = next.take() {
                match hand.try_send(asked) {
                    Ok(()) => {
                        out += 1;
                        continue;
                    }
                    Err(TrySendError::Full(asked)) => next = Some(asked),
                    Err(TrySendError::Disconnected(_)) => return Err(fault("its threads are gone: a bug".to_owned())),
                }
            }
            if out == 0 {
                break;
            }
            let (places, came) = match results.recv_timeout(LOOK) {
                Ok(found) => found,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Err(fault("its threads are gone: a bug".to_owned())),
            };
            out -= 1;
            match came {
                Some(Ok(found)) => {
                    for (place, found) in places.into_iter().zip(found) {
                        failed.extend(heard(place, found).err().map(|e| (place, e)));
                    }
                }
                Some(Err(failure)) => failed.push((places[0], error(&self.served.reward, failure))),
                None => {}
            }
            // What is on its way is waited for, since its answer is paid for; nothing more is asked.
            if !failed.is_empty() {
                abandon.store(true, Ordering::SeqCst);
                (ended, next) = (true, None);
            }
        }
        failed.into_iter().min_by_key(|(place, _)| *place).map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Threads that ask. They end when the questions do; one that waits for a slow answer is not waited for when the stage stops.
    fn workers(&self, count: usize, abandon: &Arc<AtomicBool>) -> Result<(SyncSender<Asked>, Receiver<Heard>), String> {
        let (hand, take) = sync_channel::<Asked>(count);
        let (tell, results) = channel();
        let take = Arc::new(Mutex::new(take));
        for n in 0..count {
            let (take, tell, abandon) = (take.clone(), tell.clone(), abandon.clone());
            let (client, protocol) = (self.client.clone(), self.served.protocol.clone());
            let work = move || {
                loop {
                    let asked = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Asked { places, body, right }) = asked else { return };
                    let came = match &protocol {
                        _ if abandon.load(Ordering::SeqCst) => None,
                        Protocol::Chat(chat) => Some(ask_chat(&client, chat, &body, right.as_ref())),
                        Protocol::Opdflow(pinned) => Some(ask_remote(&client, pinned, &body, places.len())),
                    };
                    if tell.send((places, came)).is_err() {
                        return;
                    }
                }
            };
            std::thread::Builder::new()
                .name(format!("asks {n}"))
                .spawn(work)
                .map_err(|e| format!("no thread to ask its server: {e}"))?;
        }
        Ok((hand, results))
    }

    /// Keeps an answer that a number was read from.
    fn keep(&self, key: &str, image: &Image, prompt: &str, score: &Score, answer: String) {
        self.client.answers().put(Answer {
            reward: self.served.reward.clone(),
            question: key.to_owned(),
            image: encode::digest(image).to_hex().to_string(),
            prompt: prompt.to_owned(),
            answer,
            value: score.value,
            parts: score.parts.clone(),
        });
    }
}

fn ask_chat(client: &Client, chat: &Chat, body: &[u8], right: Option<&(String, String)>) -> Came {
    let reply = client.ask(chat::PATH, body, chat::reply)?;
    let found = match chat.parser.read(&reply, right.map(|(question, answer)| (question.as_str(), answer.as_str()))) {
        Ok(read) => {
            let parts = read.parts.into_iter().map(|(name, v)| (name.to_owned(), v)).collect();
            (Ok(Score { value: read.value, parts }), Some(chat::kept(&reply)))
        }
        Err(why) => (Err(format!("the answer {why}: \"{}\"", client.shown(&chat::kept(&reply)))), None),
    };
    Ok(vec![found])
}

fn ask_remote(client: &Client, pinned: &Pinned, body: &[u8], images: usize) -> Came {
    let scores = client.ask(SCORE, body, |body| remote::scores(body, pinned, images))?;
    let whole = |score: Score| match score.broken() {
        None => match pinned.measures.iter().find(|m| !score.parts.contains_key(*m)) {
            None => Ok(score),
            Some(absent) => Err(format!("the answer has no measure `{absent}`")),
        },
        Some((part, value)) => Err(format!("the answer gives {} {value}", part.unwrap_or("the score"))),
    };
    Ok(scores.into_iter().map(|score| (whole(score), None)).collect())
}

/// What a failure is to those who ask rewards.
fn error(reward: &str, failure: Failure) -> RewardError {
    let reward = reward.to_owned();
    match failure {
        Failure::Away(why) => RewardError::Away { reward, why },
        Failure::Spent(why) => RewardError::Spent { reward, why },
        Failure::Stopped => RewardError::Stopped(reward),
        Failure::Refused(why, help) => RewardError::Failed { reward, why: format!("its server {why}; {help}") },
    }
}

impl Reward for Judge {
    fn name(&self) -> &str {
        &self.served.reward
    }

    fn applies(&self, _subject: &Subject) -> bool {
        true
    }

    fn score(&self, images: &[Image], subjects: &[Subject]) -> Result<Vec<Score>, RewardError> {
        check(images, subjects)?;
        let keys: Vec<String> = images.iter().zip(subjects).map(|(i, s)| self.key(i, s)).collect();
        let (mut known, mut open): (BTreeMap<&str, Score>, Vec<usize>) = Default::default();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, key) in keys.iter().enumerate() {
            if let Some(kept) = self.client.answers().get(&self.served.reward, key) {
                known.insert(key, Score { value: kept.value, parts: kept.parts });
            } else if !places.contains_key(key.as_str()) {
                places.insert(key, i);
                open.push(i);
            }
        }
        let each = self.served.protocol.images_of_request();
        let groups = open.chunks(each).map(<[usize]>::to_vec).collect();
        self.asked(groups, (images, subjects), |place, (found, answer)| {
            let score = found.map_err(|why| RewardError::Unjudged {
                reward: self.served.reward.clone(),
                image: place,
                text: subjects[place].text.to_owned(),
                why,
            })?;
            if let Some(answer) = answer {
                self.keep(&keys[place], &images[place], subjects[place].text, &score, answer);
            }
            known.insert(&keys[place], score);
            Ok(())
        })?;
        let lost = || RewardError::Failed {
            reward: self.served.reward.clone(),
            why: "an image without an answer: a bug".to_owned(),
        };
        keys.iter().map(|key| known.get(key.as_str()).cloned().ok_or_else(lost)).collect()
    }
}
