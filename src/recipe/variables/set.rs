//! What is set of stages from outside of the recipe: `--set student.with.rounds=30`, `--set "teacher[task=ocr].seed=1"`.

use crate::recipe::cell::{self, Cell};
use crate::recipe::text::near::hint;
use crate::recipe::text::tree::{Data, Entry, Node, Origin, SetAt, shown};
use crate::recipe::{Diagnostic, Span};
use std::sync::Arc;

/// The parts of a stage that can be set.
const PARTS: [&str; 4] = ["with", "needs", "seed", "resources"];

/// One value, and where in which stages it stands.
pub(crate) struct Assignment {
    name: String,
    stage: String,
    /// From the stage on: `with`, `rounds`.
    path: Vec<String>,
    /// Where it came from, in words.
    from: String,
    data: Data,
}

impl Assignment {
    /// Takes `student.with.rounds` apart; nothing if it is no such name.
    pub fn of(name: &str) -> Option<Self> {
        let (stage, rest) = cell::reference(name);
        let path: Vec<String> = rest?.split('.').map(ToOwned::to_owned).collect();
        let fits = PARTS.contains(&path.first()?.as_str()) && !path.iter().any(String::is_empty);
        let data = Data::Unknown;
        fits.then(|| Self { name: name.to_owned(), stage: stage.to_owned(), path, from: String::new(), data })
    }

    /// The same with its value.
    pub fn with(self, from: String, data: Data) -> Self {
        Self { from, data, ..self }
    }

    /// Sets it in all stages that it means.
    fn apply(&self, stages: &mut [Entry], start: &Span, faults: &mut Vec<Diagnostic>) {
        let wanted = Cell::parse(&self.stage);
        let means =
            |name: &str| wanted.as_ref().zip(Cell::parse(name)).is_some_and(|(wanted, cell)| wanted.means(&cell));
        let mut meant = false;
        for stage in stages.iter_mut().filter(|stage| means(&stage.key)) {
            meant = true;
            let place = stage.key_span.clone();
            if let Err(path) = self.put(&mut stage.value, &place) {
                let title = format!("`{}` cannot be set: {} of `{}` is no map", self.from, shown(&path), stage.key);
                let help = "name a parameter, or give the whole of it a value";
                faults.push(Diagnostic::error("E021", title, place, "of this stage").help(help));
            }
        }
        if !meant {
            let title = format!("`{}` sets what the recipe does not have", self.from);
            let label = format!("no stage is named {}, and no variable {}", shown(&self.stage), shown(&self.name));
            let found = Diagnostic::error("E020", title, start.clone(), label);
            let names: Vec<&str> = stages.iter().map(|s| s.key.as_str()).collect();
            faults.push(found.maybe_help(hint(&self.stage, names)));
        }
    }

    /// Puts the value into a stage. The error is the path that leads into no map.
    fn put(&self, stage: &mut Node, place: &Span) -> Result<(), String> {
        let mut node = stage;
        for (at, step) in self.path.iter().enumerate() {
            if node.is_null() {
                node.data = Data::Map(Vec::new());
            }
            let fail = || Err(self.path[..at].join("."));
            node = match &mut node.data {
                Data::Map(entries) => {
                    let there = entries.iter().position(|e| e.key == *step).unwrap_or_else(|| {
                        let value = Node::new(place.clone(), Data::Map(Vec::new()));
                        entries.push(Entry { key: step.clone(), key_span: place.clone(), value });
                        entries.len() - 1
                    });
                    &mut entries[there].value
                }
                Data::List(items) => match step.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                    Some(item) => item,
                    None => return fail(),
                },
                Data::Unknown => return Ok(()),
                Data::Scalar(_) => return fail(),
            };
        }
        let mut value = Node::new(node.span.clone(), self.data.clone());
        value.stand_at(node.span.clone());
        let set = SetAt::Outside(self.from.clone());
        value.var = Some(Arc::new(Origin { name: self.name.clone(), set }));
        *node = value;
        Ok(())
    }
}

/// Sets all of them, one after the other. `start` is where to show what no stage has.
pub(crate) fn apply(all: &[Assignment], stages: &mut [Entry], start: &Span, faults: &mut Vec<Diagnostic>) {
    for assignment in all {
        assignment.apply(stages, start, faults);
    }
}
