//! How a stage asks the servers of its rewards: when it stops, what is kept of the answers, and how it goes on from there.

use crate::judging::score;
use crate::runtime::learn::Course;
use crate::runtime::pause::{ended, paused};
use anyhow::{Context as _, Result};
use opdflow_api::{Fault, StageContext, StopFlag};
use opdflow_kinds::judging::reward_models::{HELD_OUT, REWARD_MODELS};
use opdflow_kinds::judging::{reward, served};
use opdflow_reward_models::pixels::resample::bicubic;
use opdflow_rewards::{Reward, RewardError};
use opdflow_served::{Answers, Client, Judge, Questioned};
use opdflow_spec::served::{Endpoint, EndpointFault, FILE, Requests, Served};
use std::path::Path;
use std::sync::Arc;

/// The file of a checkpoint that holds the answers.
const KEPT: &str = "answers.jsonl";

/// Why a server cannot be asked.
pub enum Unasked {
    /// No variable says where it is.
    Nowhere(Fault),
    /// It is away, or another one.
    Refused(RewardError),
}

/// What asks the server of this reward: about an image, or a prompt's questions about it.
///
/// # Errors
/// No variable says where it is; it is away, or another one.
pub fn judge(
    served: Served,
    requests: Requests,
    answers: Arc<Answers>,
    stop: StopFlag,
) -> Result<Box<dyn Reward>, Unasked> {
    let nowhere = |fault: EndpointFault| Unasked::Nowhere(Fault::user(fault.what).help(fault.help));
    let endpoint = Endpoint::of(&served.reward).map_err(nowhere)?;
    let client = Client::new(&served.reward, endpoint, requests, answers, Arc::new(move || stop.raised()));
    let asking = served.protocol.asking();
    let judge = Judge::open(served, client, bicubic).map_err(Unasked::Refused)?;
    Ok(match asking {
        Some(asking) => Box::new(Questioned::new(judge, asking)),
        None => Box::new(judge),
    })
}

/// What asks servers in this process.
pub struct Asking {
    requests: Requests,
    stop: StopFlag,
    answers: Arc<Answers>,
    /// Whether a server is asked at all.
    some: bool,
}

impl Asking {
    /// As the parameters of the stage have it.
    #[must_use]
    pub fn new(context: &StageContext, requests: &Requests) -> Self {
        let ports = [REWARD_MODELS.name, HELD_OUT].into_iter();
        let some = ports.flat_map(|port| context.names(port)).any(|name| reward::may_be_served(&name));
        Self { requests: requests.clone(), stop: context.stop_flag(), answers: Arc::default(), some }
    }

    /// The answers so far.
    #[must_use]
    pub fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// The served reward whose description lies in this folder, if one does.
    ///
    /// # Errors
    /// No variable says where its server is; the server is away, or another one.
    pub fn open(&self, folder: &Path) -> Result<Option<Box<dyn Reward>>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let served: Served = crate::artefacts::json::read(&path, "how a reward is asked")?;
        let judge = judge(served, self.requests.clone(), self.answers.clone(), self.stop.clone());
        Ok(Some(judge.map_err(|unasked| match unasked {
            Unasked::Nowhere(fault) => fault.into(),
            Unasked::Refused(error) => score::fault(error),
        })?))
    }

    /// The work of a stage that has nothing to go on from but the answers: `work` begins with those of an earlier attempt, and where it
    /// stops, they are kept.
    ///
    /// # Errors
    /// What `work` says.
    pub fn resumable(
        &self,
        context: &mut StageContext,
        work: impl FnOnce(&mut StageContext) -> Result<()>,
    ) -> Result<()> {
        if !self.some {
            return work(context);
        }
        if let Some(checkpoint) = context.resume(u64::MAX)? {
            self.load(&checkpoint.path)?;
        }
        let before = self.answers.len();
        match work(context) {
            Ok(()) => self.leave(context),
            Err(error) => {
                if self.answers.len() > before {
                    context.checkpoint(self.answers.len() as u64, |folder| self.save(folder))?;
                }
                match paused(&error) {
                    Some(pause) => Err(ended(pause, self.answers.len() as u64, context)),
                    None => Err(error),
                }
            }
        }
    }

    /// Keeps the answers of a stage of that sort, where that is due.
    ///
    /// # Errors
    /// The disk.
    pub fn keep(&self, context: &mut StageContext) -> Result<()> {
        if !self.answers.is_empty() && context.checkpoint_due() {
            context.checkpoint(self.answers.len() as u64, |folder| self.save(folder))?;
        }
        Ok(())
    }

    /// Leaves the answers as an output, if there are any.
    ///
    /// # Errors
    /// The disk.
    pub fn leave(&self, context: &StageContext) -> Result<()> {
        if self.answers.is_empty() {
            return Ok(());
        }
        self.answers.write(&context.output(served::ANSWERS.name)).context("writing the answers")
    }

    fn save(&self, folder: &Path) -> Result<()> {
        if self.answers.is_empty() {
            return Ok(());
        }
        self.answers.write(&folder.join(KEPT)).context("keeping the answers")
    }

    fn load(&self, folder: &Path) -> Result<()> {
        let path = folder.join(KEPT);
        if !path.exists() {
            return Ok(());
        }
        self.answers.read(&path).with_context(|| format!("the answers of an earlier attempt, {}", path.display()))
    }
}

/// Checkpoints of a training have the answers too.
impl Course for &Asking {
    fn save(&self, folder: &Path) -> Result<()> {
        Asking::save(self, folder)
    }

    fn load(&mut self, folder: &Path) -> Result<()> {
        Asking::load(self, folder)
    }
}
