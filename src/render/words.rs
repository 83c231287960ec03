//! Events in words: the lines that a run leaves on the screen, in every mode.

use super::numbers::{duration, metric};
use super::paint::{Paint, Tone};
use crate::report::{StageSummary, Standing, Summary, job_words};
use crate::runlog::{RunEvent, process};
use opdflow_api::RankState;
use opdflow_io::terminal::{self, cut};
use std::borrow::Cow;

/// A word as a shell reads it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-=+:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The line for an event, if it is worth one. `summary` has taken the event in already.
#[must_use]
pub fn line(event: &RunEvent, summary: &Summary, paint: Paint) -> Option<String> {
    let head = |tone, word: &str, stage: &str| format!("{} {}", paint.tint(tone, &format!("{word:>8}")), name(stage));
    Some(match event {
        RunEvent::Hit { stage, saved_seconds, .. } => {
            let saved = if *saved_seconds >= 1.0 {
                format!("  (took {} when it was computed)", duration(*saved_seconds))
            } else {
                String::new()
            };
            format!("{}{saved}", head(Tone::Calm, "hit", stage))
        }
        RunEvent::Waits { stage, pid, host, note } => {
            let note = if note.is_empty() { String::new() } else { format!(": {}", name(note)) };
            format!("{}  another run ({}) computes it{note}", head(Tone::Calm, "waits", stage), process(*pid, host))
        }
        RunEvent::Job { stage, job, text, .. } => {
            format!("{}  {}", head(Tone::Calm, "slurm", stage), indent(&job_words(job, text)))
        }
        RunEvent::Done { stage, seconds, found, .. } => done(&head, summary, stage, *seconds, *found),
        RunEvent::Begun { stage, step } if *step > 0 => {
            format!("{}  from the checkpoint of step {step}", head(Tone::Calm, "resumes", stage))
        }
        RunEvent::Retried { stage, message } => {
            format!("{}  {}; trying once more", head(Tone::Warn, "lost", stage), indent(message))
        }
        RunEvent::Damaged { stage, message } => {
            format!("{}  {}; it is computed again", head(Tone::Warn, "damaged", stage), indent(message))
        }
        RunEvent::Stopped { stage, step, why } => {
            let at = step.map(|step| format!("  at the checkpoint of step {step}")).unwrap_or_default();
            let why = why.as_ref().map(|why| format!("{}{}", if at.is_empty() { "  " } else { ": " }, indent(why)));
            head(Tone::Warn, "stopped", stage) + &at + &why.unwrap_or_default()
        }
        RunEvent::Failed { stage, message, .. } => format!("{}  {}", head(Tone::Bad, "FAILED", stage), indent(message)),
        RunEvent::Blocked { stage, by } => format!("{}  it needs `{}`", head(Tone::Warn, "blocked", stage), name(by)),
        RunEvent::Warning { stage, warning, again: false } => {
            format!("{}  {}", head(Tone::Warn, "warning", stage), indent(&warning.to_string()))
        }
        RunEvent::Warned { text } => format!("{} {}", paint.tint(Tone::Warn, " warning"), indent(text)),
        RunEvent::Stopping { kill: false } => {
            "stopping: waiting for checkpoints (once more to stop at once)".to_owned()
        }
        RunEvent::Stopping { kill: true } => "stopping at once".to_owned(),
        RunEvent::RunEnded { seconds, .. } => ending(summary, *seconds),
        _ => return None,
    })
}

fn done(
    head: &dyn Fn(Tone, &str, &str) -> String,
    summary: &Summary,
    stage: &str,
    seconds: f64,
    found: bool,
) -> String {
    let took = duration(seconds);
    if found {
        return format!("{}  another run computed it ({took})", head(Tone::Calm, "hit", stage));
    }
    let known = summary.stage(stage);
    let from = known.map_or(0, |s| s.resumed_at);
    let from = if from > 0 { format!(", from step {from} on") } else { String::new() };
    // What a busy machine cannot stretch. Of moments it says nothing.
    let cpu = known.and_then(|s| s.cpu_seconds).filter(|_| seconds >= 1.0);
    let cpu = cpu.map_or_else(String::new, |cpu| format!(" (CPU {})", duration(cpu)));
    format!("{}  {took}{cpu}{from}{}", head(Tone::Good, "done", stage), known.map_or_else(String::new, beside))
}

/// What stands beside a stage's progress: its own words, which it chose as the ones that tell most, or else its first
/// two metrics by name.
#[must_use]
pub fn beside(stage: &StageSummary) -> String {
    if stage.note.is_empty() {
        stage.metrics.iter().take(2).map(|(n, (_, value))| format!("  {} {}", name(n), metric(*value))).collect()
    } else {
        format!("  {}", name(&stage.note))
    }
}

/// A wait of so many seconds may be one in vain.
const LONG_WAIT: f64 = 20.0;

/// How the processes of a stage get on, if it has several: what share of their time they wait for each other, and, while that takes long,
/// for which of them. Their steps are not compared: those of one may be two seconds older than those of another.
#[must_use]
pub fn of_ranks(stage: &StageSummary) -> String {
    let all = &stage.ranks;
    if stage.state != Standing::Running || all.len() < 2 {
        return String::new();
    }
    let share = |find: fn(f64, f64) -> f64| all.iter().map(|r| r.waited).reduce(find).unwrap_or(0.0) * 100.0;
    let (least, longest) = (share(f64::min), share(f64::max));
    let mut text = format!("  {} processes wait {least:.0} to {longest:.0} % of their time", all.len());
    // A few are named; of many more, how many they are.
    let named = |found: Vec<usize>, what: &str| match found.as_slice() {
        [] => String::new(),
        [one] => format!(", rank {one} {what}"),
        [first, .., last] if found.len() > 4 => format!(", {} ranks {what} ({first} to {last})", found.len()),
        some => format!(", ranks {} {what}", some.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let those = |is: &dyn Fn(&RankState) -> bool| {
        all.iter().enumerate().filter(|(_, r)| is(r)).map(|(rank, _)| rank).collect::<Vec<_>>()
    };
    text += &named(those(&|r| r.silent > 0.0), "without a sign of life");
    let wait = all.iter().map(|r| r.waits).fold(0.0, f64::max);
    let working = those(&|r| r.silent == 0.0 && r.waits == 0.0);
    if wait >= LONG_WAIT && !working.is_empty() && working.len() < all.len() {
        text += &named(working, &format!("waited for ({})", duration(wait)));
    }
    text
}

/// Characters of a sparkline.
const SPARKLINE: usize = 16;

/// The last values of the metrics that stand beside a stage's own words, and the way of its headline; for a line that moves.
#[must_use]
pub fn course(stage: &StageSummary) -> String {
    let Some(headline) = stage.headline() else { return String::new() };
    let line = stage.traces.get(headline).map_or_else(String::new, |trace| trace.sparkline(SPARKLINE));
    // Where the stage's own words begin with that metric, its name stands there already.
    let named = if stage.note.starts_with(headline) { String::new() } else { format!("{} ", name(headline)) };
    let line = if line.is_empty() || !draws() { String::new() } else { format!("  {named}{line}") };
    // What is looked at beside the reward, as far as the training has it.
    let watched = ["loss", "kl", "clipped", "grad_norm"];
    let last = watched.into_iter().filter_map(|n| Some((n, stage.metrics.get(n)?.1)));
    let own = |n: &str| n == headline || stage.note.starts_with(n);
    let last: String = last.filter(|(n, _)| !own(n)).map(|(n, value)| format!("  {n} {}", metric(value))).collect();
    format!("{line}{last}")
}

/// Whether the terminal's letters have what a sparkline is drawn with.
fn draws() -> bool {
    let of = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let letters = of("LC_ALL").or_else(|| of("LC_CTYPE")).or_else(|| of("LANG")).unwrap_or_default();
    let letters = letters.to_lowercase();
    letters.contains("utf-8") || letters.contains("utf8")
}

/// How long a stage still needs, as far as that can be told.
#[must_use]
pub fn left(stage: &StageSummary, now: f64) -> String {
    stage.left(now).map_or_else(String::new, |s| format!("  {} left", duration(s)))
}

/// A name, or a few words, from outside: one line, of no more than a line's length.
#[must_use]
pub fn name(text: &str) -> Cow<'_, str> {
    match cut(text, 200) {
        Cow::Borrowed(text) => terminal::line(text),
        Cow::Owned(text) => Cow::Owned(terminal::line(&text).into_owned()),
    }
}

/// A message from outside. Everything after the first line stands below it.
fn indent(text: &str) -> String {
    terminal::message(text.trim_end()).replace('\n', "\n         ")
}

fn ending(summary: &Summary, seconds: f64) -> String {
    let counted: Vec<_> = [
        (Standing::Hit, "hit"),
        (Standing::Run, "run"),
        (Standing::Resumed, "resumed"),
        (Standing::Stopped, "stopped"),
        (Standing::Failed, "failed"),
        (Standing::Blocked, "blocked"),
    ]
    .into_iter()
    .map(|(standing, word)| (summary.count(standing), word))
    .filter(|(n, _)| *n > 0)
    .map(|(n, word)| format!("{n} {word}"))
    .collect();
    let stages = summary.stages.len();
    let plural = if stages == 1 { "" } else { "s" };
    format!("{stages} stage{plural}: {} ({}){}", counted.join(", "), duration(seconds), warned(summary))
}

/// All warnings with their final counts, a line each below the last line of a run; nothing if there are none.
fn warned(summary: &Summary) -> String {
    let count: usize = summary.stages.iter().map(|s| s.warnings.len()).sum();
    if count == 0 {
        return String::new();
    }
    let all = summary.stages.iter().flat_map(|s| s.warnings.iter().map(|w| (s.name.as_str(), w)));
    let lines: String = all.map(|(stage, w)| format!("\n  {stage}  {}", indent(&w.to_string()))).collect();
    let plural = if count == 1 { "" } else { "s" };
    format!("\n{count} warning{plural} (`opdflow help CODE` says more):{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runlog::{RunStarted, StageLine};

    #[test]
    fn lines_read_well() {
        let stages = ["a", "b"].map(|n| StageLine { name: n.into(), ..Default::default() }).to_vec();
        let mut summary = Summary::default();
        let events = [
            RunEvent::RunStarted(RunStarted { stages, ..Default::default() }),
            RunEvent::Hit { stage: "a".into(), saved_seconds: 134.2, outputs: Default::default() },
            RunEvent::Failed {
                stage: "b".into(),
                class: opdflow_api::FaultClass::User,
                message: "no file\nhelp: give one".into(),
            },
            RunEvent::RunEnded { ok: false, seconds: 2.34 },
        ];
        let mut text = String::new();
        for event in &events {
            summary.take(0.0, event);
            text += &line(event, &summary, Paint::plain()).map_or_else(String::new, |l| l + "\n");
        }
        let expected = "     hit a  (took 2m 14s when it was computed)\n  FAILED b  no file\n         help: give one\n\
                        2 stages: 1 hit, 1 failed (2.3 s)\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn processes_are_named_that_others_wait_for() {
        let rank = |step, waited, waits, silent| RankState { step, waited, waits, silent };
        let said = |ranks: &[RankState]| {
            let stage = StageSummary { ranks: ranks.to_vec(), state: Standing::Running, ..StageSummary::default() };
            of_ranks(&stage)
        };
        let fine = [rank(7, 0.02, 0.0, 0.0), rank(7, 0.405, 1.0, 0.0)];
        assert_eq!(said(&fine), "  2 processes wait 2 to 40 % of their time");
        assert_eq!((said(&[]), said(&fine[..1])), (String::new(), String::new()));
        assert_eq!(of_ranks(&StageSummary { ranks: fine.to_vec(), ..StageSummary::default() }), "", "not running");
        let hangs = [rank(7, 0.5, 34.0, 0.0), rank(6, 0.0, 0.0, 0.0), rank(7, 0.5, 30.0, 0.0)];
        let words = "  3 processes wait 0 to 50 % of their time, rank 1 waited for (34.0 s)";
        assert_eq!(said(&hangs), words);
        let mut many = vec![rank(7, 0.5, 34.0, 0.0); 12];
        many[2..9].iter_mut().for_each(|r| r.silent = 20.0);
        (many[10].waits, many[11].waits) = (0.0, 0.0);
        let words = "  12 processes wait 50 to 50 % of their time, 7 ranks without a sign of life (2 to 8), ranks 10, 11 waited for (34.0 s)";
        assert_eq!(said(&many), words);
    }
}
