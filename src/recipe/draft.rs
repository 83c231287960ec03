//! Stages as far as they could be read, before their inputs are known.

use super::cell::Cell;
use super::text::near::Hints;
use super::text::source::Span;
use super::text::tree::Entry;
use opdflow_api::{Input, Kind};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// A stage as far as it could be read.
pub(crate) struct Draft {
    pub name: String,
    pub name_span: Span,
    pub kind: Option<Arc<dyn Kind>>,
    pub uses_span: Span,
    pub needs_span: Option<Span>,
    pub with: Option<Entry>,
    pub seed: Option<(u64, Span)>,
    pub cpus: Option<usize>,
    pub gpu_memory: Option<u64>,
    pub ranks: Option<(usize, Span)>,
    pub gpus: Option<(usize, Span)>,
    pub deadline: Option<u64>,
}

/// All stages, and which of them a name means.
pub(crate) struct Drafts {
    pub list: Vec<Draft>,
    /// Places in the list by the name as it is written: one, or that of each cell.
    written: HashMap<String, Vec<usize>>,
    pub hints: RefCell<Hints>,
    /// The first outputs of the recipe that fit an input of these types.
    fitting: RefCell<HashMap<&'static [&'static str], Outputs>>,
}

/// Outputs as `stage.port`, with the places of their stages.
type Outputs = Vec<(usize, String)>;

/// As many outputs are named to who looks for one.
const FITTING: usize = 4;

impl Drafts {
    pub fn new(list: Vec<Draft>) -> Self {
        let mut written: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, draft) in list.iter().enumerate() {
            let name = draft.name.split('[').next().unwrap_or_default();
            written.entry(name.to_owned()).or_default().push(i);
        }
        Self { list, written, hints: RefCell::default(), fitting: RefCell::default() }
    }
    pub fn iter(&self) -> std::slice::Iter<'_, Draft> {
        self.list.iter()
    }
    pub fn len(&self) -> usize {
        self.list.len()
    }
    /// The first few outputs, as `stage.port`, that an input takes which is of another stage than `reader`.
    pub fn fitting(&self, reader: &str, input: &Input) -> Vec<String> {
        let mut known = self.fitting.borrow_mut();
        let fits = known.entry(input.types).or_insert_with(|| {
            let kinds = self.list.iter().enumerate().filter_map(|(at, d)| Some((at, d.kind.as_ref()?)));
            let outputs = kinds.flat_map(|(at, kind)| kind.describe().outputs.iter().map(move |o| (at, o)));
            let fits = outputs.filter(|(_, o)| input.takes(o.port_type));
            let named = fits.map(|(at, o)| (at, format!("`{}.{}`", self.list[at].name, o.name)));
            // One stage, the reader, may have several of them.
            let (mut stages, mut last) = (0, usize::MAX);
            named
                .take_while(|(at, _)| {
                    stages += usize::from(*at != last);
                    last = *at;
                    stages <= FITTING + 1
                })
                .collect()
        });
        let others = fits.iter().filter(|(at, _)| self.list[*at].name != reader);
        others.take(FITTING).map(|(_, name)| name.clone()).collect()
    }
    /// The stages that a name means: one, or cells.
    pub fn select(&self, name: &str) -> Vec<(&Draft, Cell<'_>)> {
        let Some(wanted) = Cell::parse(name) else { return Vec::new() };
        let places = self.written.get(wanted.stage).map(Vec::as_slice).unwrap_or_default();
        let drafts = places.iter().map(|i| &self.list[*i]);
        drafts.filter_map(|d| Some((d, Cell::parse(&d.name)?))).filter(|(_, cell)| wanted.means(cell)).collect()
    }
}
