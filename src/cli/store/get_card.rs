//! `opdflow get .. --card`: an adapter ready to publish, with its model card, sample images and a lock.

use crate::cli::store::deliver::put;
use crate::cli::store::{found, get_as, lock};
use crate::cli::{Exit, Failure, Session, args};
use crate::plan::{Plan, Verdict, verdicts};
use crate::report::artefacts::{self, Score};
use crate::report::card::{Base, Card, Form, Licence, Made, Row, Scored, licence_of};
use crate::report::params::{self, Shown};
use opdflow_api::cache::{ActionRecord, Digest, Output, Store};
use opdflow_io::file as files;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The name of the lock beside the card.
const LOCK: &str = "recipe.lock.yaml";
/// Images of each set of prompts, and of all.
const IMAGES: [usize; 2] = [4, 16];
/// Most files of a stage that are listed one by one.
const FILES: usize = 8;

pub(crate) fn run(session: &Session, store: &Store, args: &args::Get) -> Result<Exit, Failure> {
    let plan = session.plan(&args.recipe)?;
    let (stage, port) = found::parse(session, &plan, &args.port)?;
    let (key, output) = found::find(&plan, store, stage, &port)?;
    if output.port_type != "lora" {
        let what = format!("`{}` is of type {}, and `--card` is for adapters", args.port, output.port_type);
        return Err(Failure::Usage(format!("{what}\nhelp: leave `--card` away")));
    }
    if args.output.as_os_str() == "-" || args.output.extension().is_some_and(|e| e == "safetensors") {
        let at = args.output.display();
        return Err(Failure::Usage(format!(
            "a card and an adapter are a folder, and {at} is none\nhelp: name a folder: `-o FOLDER`"
        )));
    }
    let temporary = tempfile::tempdir().map_err(|e| Failure::Store(format!("cannot make a temporary folder: {e}")))?;
    let made = match args.format {
        Some(format) => get_as::make(store, &output, args, format, temporary.path())?.0,
        None => {
            let made = temporary.path().join("made");
            store.place(&output.object, &made)?;
            made
        }
    };
    let view = View::new(session, args, &plan, store, stage, &output);
    let mut card = view.card(&key, &output);
    card.images = view.images(&made, &mut card.lacking)?;
    card.with_base = card.images.iter().any(|row| row.base.is_some());
    if !args.no_prompts {
        let stages: Vec<usize> =
            [stage].into_iter().chain(view.own.iter().chain(&view.of_base).map(|(i, _)| *i)).collect();
        let text = lock::of(
            session,
            &plan,
            &lock::For { output: &args.port, stage, key, digest: output.object.digest, stages: &stages },
            store,
        )?;
        write(&made.join(LOCK), text.as_bytes())?;
        card.lock = Some(LOCK.to_owned());
    }
    write(&made.join("README.md"), card.markdown().as_bytes())?;
    put(session, store, args, || store.deliver_made(&made, &args.output, args.overwrite))?;
    let at = args.output.display().to_string();
    if session.json {
        let found = json!({"output": args.port, "type": output.port_type, "digest": output.object.digest, "path": at,
            "card": args.output.join("README.md").display().to_string(), "lock": card.lock, "lacking": card.lacking});
        session.print(&found.to_string());
    } else if !session.quiet {
        session.note(&format!("{} with its card: {at}", args.port));
        card.lacking.iter().for_each(|text| session.note(text));
    }
    Ok(Exit::Done)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|e| Failure::Store(format!("cannot write {}: {e}", path.display())))
}

/// What a card is made of.
struct View<'a> {
    session: &'a Session,
    args: &'a args::Get,
    plan: &'a Plan,
    store: &'a Store,
    stage: usize,
    records: Vec<Option<ActionRecord>>,
    /// Evaluations of the adapter.
    own: Vec<(usize, Vec<Score>)>,
    /// Evaluations of the same base without it.
    of_base: Vec<(usize, Vec<Score>)>,
}

impl<'a> View<'a> {
    fn new(
        session: &'a Session,
        args: &'a args::Get,
        plan: &'a Plan,
        store: &'a Store,
        stage: usize,
        output: &Output,
    ) -> Self {
        let records: Vec<Option<ActionRecord>> = verdicts(plan, store)
            .into_iter()
            .map(|(verdict, _)| if let Verdict::Hit { record } = verdict { Some(*record) } else { None })
            .collect();
        let input = |record: &ActionRecord, port: &str| record.manifest["inputs"][port].as_str().map(ToOwned::to_owned);
        let digest = output.object.digest.to_string();
        let all: Vec<(usize, &ActionRecord, Vec<Score>)> = records
            .iter()
            .enumerate()
            .filter_map(|(i, record)| {
                let record = record.as_ref()?;
                let scores = record.outputs.values().find(|o| o.port_type == "scores")?;
                Some((i, record, artefacts::scores(&store.read(&scores.object.digest).ok()?)))
            })
            .collect();
        let own: Vec<_> = all.iter().filter(|(_, r, _)| input(r, "lora").as_ref() == Some(&digest)).collect();
        let bases: BTreeSet<Option<String>> = own.iter().map(|(_, r, _)| input(r, "base")).collect();
        let of_base = all.iter().filter(|(_, r, _)| input(r, "lora").is_none() && bases.contains(&input(r, "base")));
        let pair = |(i, _, scores): &(usize, &ActionRecord, Vec<Score>)| (*i, scores.clone());
        let (own, of_base) = (own.into_iter().map(pair).collect(), of_base.map(pair).collect());
        Self { session, args, plan, store, stage, records, own, of_base }
    }

    fn card(&self, key: &Digest, output: &Output) -> Card {
        let maker = self.records[self.stage].as_ref();
        let program = maker.and_then(|r| r.note.get("program").cloned()).unwrap_or_else(|| crate::PROGRAM.to_owned());
        let form = match self.args.format {
            None | Some(args::LoraFormat::Peft) => Form::Peft,
            Some(args::LoraFormat::Diffusers) => Form::Diffusers,
            Some(_) => Form::Other,
        };
        let mut card = Card {
            recipe: self.plan.recipe.name.clone(),
            output: self.args.port.clone(),
            base: self.base(),
            form,
            made: self.plan.needed(&[self.stage]).into_iter().filter_map(|i| self.made(i)).collect(),
            scores: self.scores(),
            digest: Some(output.object.digest),
            key: Some(*key),
            program,
            ..Card::default()
        };
        let judges = |i: usize| {
            let reads = self.plan.stages[i]
                .needs
                .values()
                .any(|(up, port)| *up == self.stage && self.args.port.ends_with(&format!(".{port}")));
            let scores = self.plan.stages[i].spec.kind.describe().outputs.iter().any(|o| o.port_type == "scores");
            reads && scores && self.records[i].is_none()
        };
        for i in (0..self.plan.stages.len()).filter(|i| judges(*i)) {
            card.lacking.push(format!("`{}` has no result in the store", self.plan.stages[i].spec.name));
        }
        card
    }

    fn made(&self, i: usize) -> Option<Made> {
        let (planned, record) = (&self.plan.stages[i], self.records[i].as_ref()?);
        let about = planned.spec.kind.describe();
        let shown = if self.args.no_prompts { Shown::Shared(Some(planned.spec.kind.schema())) } else { Shown::All };
        let read = lock::files(self.session, self.plan, i);
        let by_name = || planned.assets.iter().map(|a| (a.name.clone(), a.digest)).collect();
        let by_path = || read.iter().map(|f| (f.path.display().to_string(), f.digest)).collect();
        let listed = !self.args.no_prompts && (1..=FILES).contains(&read.len());
        Some(Made {
            stage: planned.spec.name.clone(),
            kind: about.kind.to_owned(),
            about: about.about.to_owned(),
            key: record.key,
            params: params::flat(&record.manifest, shown),
            inputs: if listed { by_path() } else { by_name() },
            prompts: record.outputs.values().any(|o| o.port_type == "prompts"),
        })
    }

    fn scores(&self) -> Vec<Scored> {
        let several = self.own.len() > 1;
        let mut rows = Vec::new();
        for (i, scores) in &self.own {
            for score in scores {
                let alike = |s: &&Score| s.set == score.set && s.column == score.column;
                let base = self.of_base.iter().flat_map(|(_, scores)| scores).find(alike).cloned();
                let mut own = score.clone();
                if several {
                    own.set = format!("{}, {}", own.set, self.plan.stages[*i].spec.name);
                }
                rows.push(Scored { own, base });
            }
        }
        rows
    }

    /// Copies the first images of each set below `made`, those of the base beside them.
    fn images(&self, made: &Path, lacking: &mut Vec<String>) -> Result<Vec<Row>, Failure> {
        let Some((own, _)) = self.own.first() else { return Ok(Vec::new()) };
        let own = self.kept(*own, lacking);
        let base = self.of_base.first().map(|(i, _)| self.kept(*i, lacking)).unwrap_or_default();
        let mut rows = Vec::new();
        for (n, (place, (png, prompt))) in
            own.iter().filter(|((_, number), _)| *number < IMAGES[0]).take(IMAGES[1]).enumerate()
        {
            let copy = |digest: &Digest, of: &str| -> Result<String, Failure> {
                let path = format!("images/{of}-{n:02}.png");
                let bytes = self.store.read(digest)?;
                let folder = made.join("images");
                fs::create_dir_all(&folder)
                    .map_err(|e| Failure::Store(format!("cannot create {}: {e}", folder.display())))?;
                write(&made.join(&path), &bytes)?;
                Ok(path)
            };
            let text = prompt.filter(|_| !self.args.no_prompts).and_then(|d| self.store.read(&d).ok());
            let base = base.get(place).map(|(png, _)| copy(png, "base")).transpose()?;
            let prompt = text.map(|t| String::from_utf8_lossy(&t).trim().to_owned());
            rows.push(Row { prompt, base, own: copy(png, "adapter")? });
        }
        Ok(rows)
    }

    /// The images of an evaluation by set and number, with their prompts.
    fn kept(&self, i: usize, lacking: &mut Vec<String>) -> BTreeMap<(String, usize), (Digest, Option<Digest>)> {
        let tree = self.records[i].as_ref().and_then(|r| r.outputs.values().find(|o| o.port_type == "images"));
        let Some(tree) = tree else { return BTreeMap::new() };
        match self.store.tree(&tree.object.digest) {
            Ok(entries) => {
                let place = |k: artefacts::Kept<'_>| ((k.set.to_owned(), k.number), (*k.png, k.prompt.copied()));
                artefacts::images(&entries).0.into_iter().map(place).collect()
            }
            // An error has paths in it, which are nothing for a card.
            Err(_) => {
                lacking.push(format!("images of `{}`, which cannot be read", self.plan.stages[i].spec.name));
                BTreeMap::new()
            }
        }
    }

    /// The base: what stands on the port of that name, of the adapter's stage or of the nearest one above it.
    fn base(&self) -> Base {
        let on_port = |i: &usize| self.plan.stages[*i].needs.get("base").cloned();
        let above = self.plan.needed(&[self.stage]);
        let Some((mut base, port)) = above.iter().rev().find_map(on_port) else { return Base::default() };
        let output = |i: usize, port: &str| Some(self.records[i].as_ref()?.outputs.get(port)?.object.digest);
        let digest = output(base, &port);
        // A base may have been made of another one.
        while let Some((up, _)) = on_port(&base) {
            base = up;
        }
        let read = lock::paths(self.session, self.plan, base);
        let Some(root) = root(&read) else {
            // One that was trained by the recipe itself is nobody else's.
            let own = self.plan.stages[base].needs.is_empty() && !self.plan.stages[base].assets.is_empty();
            return Base { digest, licence: if own { Licence::Own } else { Licence::Unsaid }, ..Base::default() };
        };
        let class = files::read_text(&root.join("model_index.json"), files::DESCRIPTION).ok();
        let class = class.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let class = class.and_then(|index| Some(index["_class_name"].as_str()?.to_owned()));
        let path = Some(root.display().to_string()).filter(|_| !self.args.no_prompts);
        Base { hub: hub(&root), path, class, licence: licence(&root), digest }
    }
}

/// The folder that holds all files, or a file alone.
fn root(paths: &[PathBuf]) -> Option<PathBuf> {
    let mut root = paths.first()?.parent()?.to_owned();
    while !paths.iter().all(|path| path.starts_with(&root)) {
        root = root.parent()?.to_owned();
    }
    Some(root)
}

/// A base's name on the Hub, of a folder in its download cache: `models--OWNER--NAME/snapshots/REVISION`.
fn hub(root: &Path) -> Option<String> {
    let full = std::path::absolute(root).ok()?;
    let name =
        full.components().find_map(|c| c.as_os_str().to_str()?.strip_prefix("models--").map(ToOwned::to_owned))?;
    let (owner, name) = name.split_once("--")?;
    Some(format!("{owner}/{name}"))
}

fn licence(root: &Path) -> Licence {
    let text = |name: &str| files::read_text(&root.join(name), files::DESCRIPTION).ok();
    if let Some(said) = text("README.md").and_then(|card| licence_of(&card)) {
        return Licence::Card(said);
    }
    for name in ["LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "LICENCE.md", "LICENCE.txt"] {
        if let Some(text) = text(name) {
            let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            return Licence::File(name.to_owned(), opdflow_io::terminal::cut(first, 200).to_string());
        }
    }
    Licence::Unsaid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_files_and_its_name_on_the_hub() {
        let paths = ["/c/models--a--b-c/snapshots/0f/vae/x", "/c/models--a--b-c/snapshots/0f/model_index.json"]
            .map(PathBuf::from);
        let found = root(&paths).unwrap();
        assert_eq!(found, Path::new("/c/models--a--b-c/snapshots/0f"));
        assert_eq!(hub(&found).as_deref(), Some("a/b-c"));
        assert_eq!(hub(Path::new("/models/sd3")), None);
        assert_eq!(root(&[]), None);
    }
}
