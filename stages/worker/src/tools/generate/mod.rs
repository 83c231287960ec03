//! `opdflow generate`: images of prompts, without recipe and store, as diffusers' pipeline of the model's family makes them.

mod origin;
mod size;

use crate::report::grid;
use crate::runtime::pipeline::{broken_image, cut_words, whole_rows};
use crate::runtime::unfit::unfit;
use crate::runtime::{device, images, precision};
use anyhow::{Context as _, Result};
use opdflow_api::warning::{IGNORED, TRUNCATED};
use opdflow_api::{Event, EventSink, Fault, GenerateOrder, StopFlag, Tool, Warning, read_order};
use opdflow_io::file;
use opdflow_kinds::model::{adapter_doubts, bundle, model_folder};
use opdflow_kinds::precision::Precision;
use opdflow_models::condition::Condition;
use opdflow_models::family::{Architecture, Guided};
use opdflow_models::field::{Field, Guidance};
use opdflow_models::finite::first_broken_row;
use opdflow_models::lora::Lora;
use opdflow_models::network::{Autoencoder, Folder, Network, Options, Text};
use opdflow_models::rng::normal_in;
use opdflow_models::solver::TakeStep as _;
use opdflow_models::{Schedule, Solver, families};
use opdflow_rewards::Image;
use origin::Origin;
use serde_json::Value;
use size::Size;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The tool.
pub struct Generate;

impl Tool for Generate {
    fn name(&self) -> &'static str {
        "generate"
    }

    fn run(&self, order: &Value, events: &EventSink, stop: &StopFlag) -> Result<()> {
        let order: GenerateOrder = read_order(order)?;
        let say = |text: &str| events.send(&Event::Said { text: text.to_owned() });
        // The miniature lies in the program; it is loaded from files like any other model.
        let placed = tempfile::tempdir().context("making a temporary folder")?;
        let base = base(&order.base, placed.path())?;
        let folder = families::open(&base, order.variant.clone()).map_err(user)?;
        let architecture = folder.architecture().map_err(user)?;
        let size = Size::of(&order, &*architecture)?;
        takes(&order, &*architecture)?;
        let guidance = order.guidance.unwrap_or_else(|| architecture.guidance());
        let schedule = architecture.schedule(order.steps, size.latent);
        let kind = kind(&order.dtype)?;
        let device = device::open(&order.device, order.threads, 0)?;
        // Gigabytes to read; meanwhile the encoders load and work.
        let origin = Origin::look(&order, &base)?;

        events.send(&Event::Progress { step: 0, total: 0, note: "reading the prompts".into() });
        let options = Options { device, kind, drop_t5: order.no_t5 };
        doubts(&order, &base).iter().for_each(|w| events.send(&Event::Warning(w.clone())));
        let (prompts, negative) = embed(&*folder, &order, options, events, stop)?;
        events.send(&Event::Progress { step: 0, total: 0, note: "loading the model".into() });
        let (network, _) = folder.network(device, kind).map_err(user)?;
        network.takes(&negative).map_err(user)?;
        let lora = lora(&order, &*network, device, say)?;
        let autoencoder = folder.autoencoder(device).map_err(user)?;
        let origin = origin.found()?;
        origin.doubt(order.lora.as_deref()).iter().for_each(|text| say(text));

        let scale = match architecture.guided() {
            // diffusers guides above 1 alone.
            Guided::Classifier => guidance.max(1.0),
            Guided::Input => guidance,
        };
        let room = Room {
            field: Field { model: &*network, lora: lora.as_ref(), guidance: Guidance { scale, empty: &negative } },
            autoencoder: &*autoencoder,
            schedule,
            size,
            kind,
            tiling: order.vae_tiling,
            stop,
        };
        let total = order.images.len();
        let mut small = Vec::with_capacity(total);
        for first in (0..total).step_by(order.batch.max(1)) {
            let places: Vec<usize> = (first..total.min(first + order.batch.max(1))).collect();
            let condition = prompts.rows(&places.iter().map(|i| (i / order.count) as i64).collect::<Vec<_>>());
            let seeds: Vec<u64> = places.iter().map(|i| order.seed.wrapping_add((i % order.count) as u64)).collect();
            let steps = (total.div_ceil(order.batch.max(1)) * order.steps) as u64;
            let before = (first / order.batch.max(1) * order.steps) as u64;
            let note = format!("image {} of {total}", first + 1);
            let latents = room.sample(&condition.to(device, kind), &seeds, |step| {
                events.send(&Event::Progress { step: before + step, total: steps, note: note.clone() });
            })?;
            if let Some(row) = first_broken_row(&latents) {
                let image = places[row];
                return Err(broken_latent(kind, image, &order.prompts[image / order.count]));
            }
            for (row, (&i, &seed)) in places.iter().zip(&seeds).enumerate() {
                let prompt = &order.prompts[i / order.count];
                let image = room.develop(&latents.narrow(0, row as i64, 1), i, prompt)?;
                let texts = origin.texts(&order, &order.prompts[i / order.count], seed, guidance, &size);
                images::write_png_with(&order.images[i], &image, &texts)?;
                small.push(grid::thumbnail(&image, THUMBNAIL));
            }
        }
        if let Some(path) = &order.sheet {
            let sheet = grid::sheet(&grid::rows(small, order.count), 1).context("a sheet without images")?;
            images::write_png(path, &sheet)?;
        }
        Ok(())
    }
}

/// Longest side of an image on the sheet.
const THUMBNAIL: usize = 256;

/// Whatever the model's files are to blame for.
fn user(error: anyhow::Error) -> anyhow::Error {
    unfit(&error).into()
}

/// Where the base lies.
fn base(source: &str, room: &Path) -> Result<PathBuf> {
    if let Some(bundle) = bundle::named(source) {
        bundle.place(room, |_| true)?;
        return Ok(room.to_owned());
    }
    if let Some(name) = source.strip_prefix("bundled:") {
        return Err(Fault::user(format!("nothing is bundled as `{name}`")).help("there is `bundled:mini`").into());
    }
    let path = PathBuf::from(source);
    let found = match path.metadata().map(|m| file::special(m.file_type())) {
        Ok(None | Some("a folder")) => return Ok(path),
        Ok(Some(special)) => format!("is {special}"),
        Err(_) => "is not there".to_owned(),
    };
    let help = "`--base` takes a folder in diffusers' layout, with model_index.json, a single .safetensors file in the original \
                names, or `bundled:mini`";
    Err(Fault::user(format!("the base {source} {found}")).help(help).into())
}

/// The number format of this name.
fn kind(name: &str) -> Result<Kind> {
    let known: Result<Precision, _> = serde_json::from_value(name.into());
    let fault = |_| Fault::user(format!("there is no number format `{name}`")).help("there are f32, bf16, f16");
    Ok(precision::kind(known.map_err(fault)?))
}

/// Refuses what models of this family have no use for.
fn takes(order: &GenerateOrder, model: &dyn Architecture) -> Result<()> {
    let family = model.family();
    if order.no_t5 && !family.parts().iter().any(|part| part.droppable) {
        let fault = Fault::user(format!("`--no-t5`: models of {} cannot do without that encoder", family.title()));
        return Err(fault.help("leave `--no-t5` out").into());
    }
    if !order.negative.is_empty() && model.guided() == Guided::Input {
        let what = "takes its guidance as a number and reads no negative prompt";
        let fault = Fault::user(format!("the negative prompt: this model of {} {what}", family.title()));
        return Err(fault.help("leave the negative prompt out").into());
    }
    if let Some(scale) = order.guidance.filter(|scale| *scale < 0.0 && model.guided() == Guided::Input) {
        let what = format!("the guidance is {scale}, and this model of {} takes a number from 0", family.title());
        return Err(Fault::user(what).help(format!("leave `--guidance-scale` out for {}", model.guidance())).into());
    }
    Ok(())
}

/// What the model's and the adapter's files hold that nothing reads.
fn doubts(order: &GenerateOrder, base: &Path) -> Vec<Warning> {
    let unread = model_folder::unread(base);
    let component = |part: String| {
        Warning::new(IGNORED, format!("nothing reads the component `{part}` of the model's model_index.json"), 1)
    };
    let adapter = order.lora.iter().flat_map(|path| adapter_doubts::doubts(path)).map(|d| d.warning());
    unread.into_iter().map(component).chain(adapter).collect()
}

/// Says how many prompts are longer than the encoders read.
fn say_cuts(text: &dyn Text, order: &GenerateOrder, events: &EventSink) -> Result<()> {
    let all: Vec<&str> = order.prompts.iter().chain([&order.negative]).map(String::as_str).collect();
    for cut in text.cut(&all, order.max_sequence_length).map_err(user)? {
        if cut.count > 0 {
            events.send(&Event::Warning(Warning::new(TRUNCATED, cut_words(&cut), cut.count as u64)));
        }
    }
    Ok(())
}

/// All prompts and the negative one, encoded and on the CPU. The encoders are gone afterwards: at full size they are
/// larger than the transformer.
fn embed(
    folder: &dyn Folder,
    order: &GenerateOrder,
    options: Options,
    events: &EventSink,
    stop: &StopFlag,
) -> Result<(Condition, Condition)> {
    let text = folder.text(options).map_err(user)?;
    say_cuts(&*text, order, events)?;
    let one = |prompt: &str| -> Result<Condition> {
        anyhow::ensure!(!stop.raised(), "stopped");
        let row = text.embed(&[prompt], order.max_sequence_length).map_err(user)?;
        whole_rows(&row, &[prompt])?;
        Ok(row.to(Device::Cpu, options.kind))
    };
    let prompts = order.prompts.iter().map(|p| one(p)).collect::<Result<Vec<_>>>()?;
    let negative = one(&order.negative)?.to(options.device, options.kind);
    Ok((Condition::cat(&prompts.iter().collect::<Vec<_>>()), negative))
}

fn lora(order: &GenerateOrder, network: &dyn Network, device: Device, say: impl Fn(&str)) -> Result<Option<Lora>> {
    let Some(path) = &order.lora else { return Ok(None) };
    let read = opdflow_models::adapter::read(path, &network.architecture().linears(), device);
    let read = read.map_err(|e| unfit(&e.context("the adapter")))?;
    read.notes.iter().for_each(|note| say(&format!("note: {note}")));
    Ok(Some(read.lora.scaled(order.lora_scale)))
}

/// The fault of a latent that is not finite. Half-precision numbers end at 65,504.
fn broken_latent(kind: Kind, image: usize, prompt: &str) -> anyhow::Error {
    if kind != Kind::Half {
        return broken_image("latent", image, prompt);
    }
    let fault = Fault::not_finite(format!("the latent of image {image}, of the prompt {prompt:?}, is not finite"));
    fault.help("use `--dtype bf16` or `f32`").into()
}

/// What turns noise into images.
struct Room<'a> {
    field: Field<'a>,
    autoencoder: &'a dyn Autoencoder,
    schedule: Schedule,
    size: Size,
    kind: Kind,
    tiling: bool,
    stop: &'a StopFlag,
}

impl Room<'_> {
    /// Latents `[B, C, h, w]` of a batch of prompts, each from the noise of its own seed, which is diffusers' own.
    fn sample(&self, condition: &Condition, seeds: &[u64], watch: impl Fn(u64)) -> Result<Tensor> {
        let _off = tch::no_grad_guard();
        let device = condition.device();
        let [c, h, w] = self.size.latent;
        let noise: Vec<Tensor> = seeds.iter().map(|s| normal_in(self.kind, &[1, c, h, w], *s, device)).collect();
        let mut x = Tensor::cat(&noise, 0);
        for j in 0..self.schedule.steps() {
            watch(j as u64);
            anyhow::ensure!(!self.stop.raised(), "stopped");
            let step = Solver::default().step(&self.schedule, j);
            let v = self.field.velocity_at(&x, step.sigma, condition);
            x = step.mean(&x, &v, None);
        }
        watch(self.schedule.steps() as u64);
        Ok(x)
    }

    /// One latent, `[1, C, h, w]`, as an image.
    fn develop(&self, latent: &Tensor, image: usize, prompt: &str) -> Result<Image> {
        let _off = tch::no_grad_guard();
        let decoder = self.autoencoder;
        let decoded = if self.tiling { decoder.decode_tiled(latent) } else { decoder.decode(latent) };
        if first_broken_row(&decoded).is_some() {
            return Err(broken_image("decoded image", image, prompt));
        }
        images::from_tensor(&decoded).pop().context("a decoder without an image")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_models::family::Configs;

    #[test]
    fn sizes_are_held_against_the_model() {
        let levels = |block: &str| serde_json::json!(vec![block; 4]);
        let vae = serde_json::json!({"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 8, "latent_channels": 16,
            "down_block_types": levels("DownEncoderBlock2D"), "up_block_types": levels("UpDecoderBlock2D")});
        let configs = [("transformer".to_owned(), serde_json::json!({})), ("vae".to_owned(), vae)];
        let model = families::FAMILIES[0].architecture(&Configs(configs.into())).unwrap();
        let order = |width, height| GenerateOrder { width, height, ..serde_json::from_str(ORDER).unwrap() };
        let size = |w, h| match Size::of(&order(w, h), &*model) {
            Ok(size) => format!("{}x{} {:?}", size.width, size.height, size.latent),
            Err(e) => e.to_string(),
        };
        assert_eq!(size(None, None), "1024x1024 [16, 128, 128]");
        assert_eq!(size(Some(64), Some(1536)), "64x1536 [16, 192, 8]");
        assert!(
            size(Some(100), None).contains("the width is 100, expected a multiple of 16")
                && size(Some(100), None).contains("96 is near")
        );
        assert!(size(None, Some(1552)).contains("the height is 1552, this model's positions end at 1536"));
        assert!(size(Some(0), None).contains("16 is near") && size(Some(-16), None).contains("expected a multiple"));
    }

    const ORDER: &str = r#"{"base": "x", "variant": null, "lora": null, "lora_scale": 1.0, "prompts": ["a"], "negative": "",
        "seed": 0, "count": 1, "steps": 1, "guidance": 1.0, "width": null, "height": null, "max_sequence_length": null,
        "no_t5": false, "dtype": "f32", "vae_tiling": false, "batch": 1, "threads": 1, "device": "cpu", "images": ["x"],
        "sheet": null}"#;
}
