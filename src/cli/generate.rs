//! `opdflow generate`: what the arguments ask for, checked, and handed to the program that has libtorch.

use super::{Exit, Failure, Session, args, tool};
use crate::exec::End;
use crate::render::{keep_alive, name};
use indicatif::{ProgressBar, ProgressStyle};
use opdflow_api::{Event, GenerateOrder, STOPPED};
use opdflow_io::file;
use opdflow_io::terminal::message;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) fn run(session: &Session, args: &args::Generate) -> Result<Exit, Failure> {
    let order = order(session, args)?;
    let mut view = View::new(session);
    let end = tool::run("generate", &order, order.threads, None, |event| view.show(&event));
    view.finish();
    match end? {
        End::Code(0) => {}
        End::Code(code) if code == i32::from(STOPPED) || code == 130 => return Ok(Exit::Interrupted),
        End::Signal(libc::SIGKILL) => {
            let help = "`--dtype bf16`, `--no-t5`, `--vae-tiling` and a smaller `--size` take less";
            return Err(Failure::Store(format!("the process was killed, perhaps for want of memory\nhelp: {help}")));
        }
        end => return Err(Failure::Bug(format!("the process ended without a word: {end:?}"))),
    }
    tell(session, &order);
    Ok(Exit::Done)
}

fn order(session: &Session, args: &args::Generate) -> Result<GenerateOrder, Failure> {
    let mut prompts = args.prompt.clone();
    if let Some(path) = &args.prompts {
        prompts.extend(read_prompts(path)?);
    }
    if prompts.is_empty() {
        return Err(Failure::Usage("no prompt\nhelp: give `--prompt TEXT`, or `--prompts FILE`".into()));
    }
    if let Some(path) = args.lora.as_ref().filter(|p| !p.exists()) {
        let help =
            "`--lora` takes a peft folder, or a safetensors file of diffusers, sd-scripts, ComfyUI or OneTrainer";
        return Err(Failure::Usage(format!("there is no adapter {}\nhelp: {help}", path.display())));
    }
    let total = prompts.len().saturating_mul(args.count);
    if total > args::MOST {
        let help = format!("ask for at most {} at a time", args::MOST);
        return Err(Failure::Usage(format!("{} prompts with {} images each\nhelp: {help}", prompts.len(), args.count)));
    }
    // Names sort as the images were asked for, however many they are.
    let digits = total.saturating_sub(1).to_string().len().max(4);
    let images: Vec<PathBuf> = (0..total).map(|i| args.output.join(format!("{i:0digits$}.png"))).collect();
    let sheet = (total > 1).then(|| args.output.join("sheet.png"));
    make_room(args, images.iter().chain(&sheet))?;
    let (threads, device) = tool::place(&args.place);
    Ok(GenerateOrder {
        base: args.base.clone(),
        variant: args.variant.clone(),
        lora: args.lora.clone(),
        lora_scale: args.lora_scale,
        prompts,
        negative: args.negative.clone(),
        seed: session.overrides.seed.unwrap_or(0),
        count: args.count,
        steps: args.steps,
        guidance: args.guidance,
        width: args.width.or(args.size),
        height: args.height.or(args.size),
        max_sequence_length: args.max_sequence_length,
        no_t5: args.no_t5,
        dtype: args.dtype.name().to_owned(),
        vae_tiling: args.vae_tiling,
        batch: args.batch,
        threads,
        device,
        images,
        sheet,
    })
}

/// The most bytes that a file of prompts may have.
const PROMPTS: u64 = 1 << 30;

/// One prompt a line, or a JSON object a line with `prompt` or `text`. Blank lines are skipped.
fn read_prompts(path: &Path) -> Result<Vec<String>, Failure> {
    let at = path.display();
    let text = file::read_text(path, PROMPTS)
        .map_err(|e| Failure::Usage(format!("cannot read the prompts: {at} {e}\nhelp: one prompt a line, as UTF-8")))?;
    let mut prompts = Vec::new();
    for (i, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
        if line.is_empty() {
            continue;
        }
        if let Some(c) = line.chars().find(|c| c.is_control() && *c != '\t') {
            let help = "help: one prompt a line, as UTF-8 text";
            return Err(Failure::Usage(format!(
                "{at}:{i}: a control character, U+{:04X}, is in it\n{help}",
                u32::from(c)
            )));
        }
        if !line.starts_with('{') {
            prompts.push(line.to_owned());
            continue;
        }
        let help = "help: a line that begins with `{` is a JSON object with `prompt` or `text`";
        let object: Value =
            serde_json::from_str(line).map_err(|e| Failure::Usage(format!("{at}:{i}: not JSON: {e}\n{help}")))?;
        let prompt = ["prompt", "text"].iter().find_map(|key| object.get(key)?.as_str());
        prompts.push(prompt.ok_or_else(|| Failure::Usage(format!("{at}:{i}: no prompt\n{help}")))?.to_owned());
    }
    if prompts.is_empty() {
        return Err(Failure::Usage(format!("{at} holds no prompt\nhelp: one prompt a line")));
    }
    Ok(prompts)
}

/// Makes the folder, and refuses to replace what is in it.
fn make_room<'a>(args: &args::Generate, files: impl Iterator<Item = &'a PathBuf>) -> Result<(), Failure> {
    let folder = args.output.display();
    std::fs::create_dir_all(&args.output)
        .map_err(|e| Failure::Usage(format!("cannot make the folder {folder}: {e}\nhelp: `-o` takes a folder")))?;
    let there: Vec<&PathBuf> = files.filter(|f| f.symlink_metadata().is_ok()).collect();
    // A link or a pipe would lead the image elsewhere.
    if let Some(other) = there.iter().find(|f| !f.symlink_metadata().is_ok_and(|m| m.is_file())) {
        let help = "remove it, or name another folder";
        return Err(Failure::Usage(format!("{} is no plain file and is not replaced\nhelp: {help}", other.display())));
    }
    match there[..] {
        [first, ..] if !args.overwrite => {
            let more = if there.len() > 1 { format!(" and {} more", there.len() - 1) } else { String::new() };
            let help = "name another folder, or `--overwrite`";
            Err(Failure::Usage(format!("{}{more} would be replaced\nhelp: {help}", first.display())))
        }
        _ => Ok(()),
    }
}

/// What was made, on the standard output.
fn tell(session: &Session, order: &GenerateOrder) {
    if session.json {
        let image = |(i, path): (usize, &PathBuf)| {
            let seed = order.seed.wrapping_add((i % order.count) as u64);
            json!({"path": path, "prompt": order.prompts[i / order.count], "seed": seed})
        };
        let images: Vec<Value> = order.images.iter().enumerate().map(image).collect();
        session.print(&json!({"images": images, "sheet": order.sheet}).to_string());
    } else {
        order.images.iter().chain(&order.sheet).for_each(|path| session.print(&path.display().to_string()));
    }
}

/// Progress lines for pipes and logs are at least this far apart.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// A moving line on a terminal, now and then a plain one elsewhere, nothing where nothing is wanted.
struct View<'a> {
    session: &'a Session,
    bar: Option<ProgressBar>,
    shown: Instant,
}

impl<'a> View<'a> {
    fn new(session: &'a Session) -> Self {
        let bar = (!session.quiet && session.moving).then(|| {
            let bar = ProgressBar::no_length();
            bar.set_style(style("{spinner} {msg}"));
            keep_alive(&bar);
            bar
        });
        Self { session, bar, shown: Instant::now() }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Progress { step, total, note } => match &self.bar {
                Some(bar) => {
                    if *total > 0 && bar.length() != Some(*total) {
                        bar.set_style(style("[{bar:24}] {pos}/{len} {eta} {msg}"));
                        bar.set_length(*total);
                        // The time of loading says nothing of that of the steps.
                        bar.reset_eta();
                    }
                    bar.set_position(*step);
                    bar.set_message(name(note).into_owned());
                }
                None if self.shown.elapsed() >= PROGRESS_EVERY && !self.session.quiet => {
                    self.shown = Instant::now();
                    let steps = if *total > 0 { format!("step {step}/{total} ") } else { String::new() };
                    self.session.note(&format!("{steps}{note}"));
                }
                None => {}
            },
            Event::Said { text } if !self.session.quiet => self.say(text),
            Event::Warning(warning) => self.say(&format!("warning: {warning}")),
            _ => {}
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(message(text)),
            None => self.session.note(text),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()).progress_chars("=> ")
}
