//! What stage kinds say of stages before a run, each question asked once: many stages of a recipe are alike in all that the
//! answer hangs on, and an answer may take a look at files.

use crate::recipe::StageSpec;
use opdflow_api::{Asset, Calls, Code, Foreseen, Horizon, Memory, ParamFault, Ports, Resources, Unreadable, Work};
use opdflow_cache::{Digest, Memo};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The answers so far, for one recipe.
#[derive(Default)]
pub(super) struct Asked {
    assets: BTreeMap<Digest, Result<Vec<Asset>, Vec<ParamFault>>>,
    said: BTreeMap<Digest, Result<Said, Unreadable>>,
}

/// An optional output that a stage will not leave, and the way to get it.
pub(super) type Omitted = (&'static str, String);

/// What a kind says of a stage, beside its assets.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub lacking: Vec<ParamFault>,
    pub unfit: Vec<ParamFault>,
    pub omits: Vec<Omitted>,
    pub resources: Resources,
    pub foreseen: Foreseen,
    pub memory: Vec<Memory>,
    pub calls: Vec<Calls>,
    pub horizon: Option<Horizon>,
    pub code: Code,
    pub work: Option<Work>,
}

impl Asked {
    /// The content from outside the store that a stage reads, or what is missing of it.
    pub fn assets(&mut self, spec: &StageSpec, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        let about = digest_of(&(spec.kind.describe().kind, &spec.params));
        self.assets.entry(about).or_insert_with(|| spec.kind.assets(&spec.params, folder, memo)).clone()
    }

    /// All else, given what is connected and what is known of it.
    pub fn said(
        &mut self,
        spec: &StageSpec,
        folder: &Path,
        ports: &Ports,
        known: &Foreseen,
    ) -> Result<Said, Unreadable> {
        let about = digest_of(&(spec.kind.describe().kind, &spec.params, ports, known));
        let ask = || {
            let (kind, params) = (&spec.kind, &spec.params);
            Ok(Said {
                lacking: kind.lacks(params, ports)?,
                unfit: kind.unfit(params, folder, ports, known)?,
                omits: kind.omits(params)?,
                resources: kind.resources(params)?,
                foreseen: kind.foresee(params, folder, known)?,
                memory: kind.memory(params, known)?,
                calls: kind.calls(params, known)?,
                horizon: kind.horizon(params)?,
                code: kind.code(params, ports)?,
                work: kind.work(params, folder, known)?,
            })
        };
        self.said.entry(about).or_insert_with(ask).clone()
    }
}

/// What tells one question from another. Nothing that is asked about is without a form in JSON.
fn digest_of(about: &impl Serialize) -> Digest {
    Digest::of(&serde_json::to_vec(about).unwrap_or_default())
}
