//! Shapes: the prompts of GenEval's six tasks and how they are drawn.

use opdflow_rewards::Image;
use opdflow_rewards::geneval::{Exclude, Include, Metadata, Relation, Tag};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::draw::{dark_ground, shade};
use crate::{CELL, Colour, Family, GRID, Prompt, Shape, Split, WorldError, split};

/// Largest number in a counting prompt.
const MOST: usize = 4;
const NUMBERS: [&str; MOST] = ["one", "two", "three", "four"];

/// How often each task is drawn, in the order of [`Tag::ALL`].
const WEIGHTS: [u32; 6] = [1, 1, 5, 2, 7, 3];

/// Tasks with fewer texts than this keep all of them in every split: held-out ones would be too few to mean anything.
const SPLIT_FROM: usize = 16;

/// A prompt of the split: first the task, then one of its texts.
pub(crate) fn sample(rng: &mut ChaCha8Rng, split: Option<Split>) -> Prompt {
    let mut at = rng.random_range(0..WEIGHTS.iter().sum::<u32>());
    let mut tag = Tag::Position;
    for (candidate, weight) in Tag::ALL.into_iter().zip(WEIGHTS) {
        if at < weight {
            tag = candidate;
            break;
        }
        at -= weight;
    }
    let mut all = space(tag);
    let total = all.len();
    if let Some(wanted) = split.filter(|_| total >= SPLIT_FROM) {
        all.sort_by_key(|m| split::hash(&m.prompt));
        let mut rank = 0..;
        all.retain(|_| rank.next().is_some_and(|r| Split::of_rank(r, total) == wanted));
    }
    let at = rng.random_range(0..all.len());
    ask(all.swap_remove(at))
}

/// The prompt for some metadata; its text is the metadata's.
pub(crate) fn ask(metadata: Metadata) -> Prompt {
    Prompt {
        text: metadata.prompt.clone(),
        family: Family::Geneval,
        geneval: Some(metadata),
        target: None,
        landscape: None,
    }
}

/// Every prompt of a task.
fn space(tag: Tag) -> Vec<Metadata> {
    let pairs =
        || Shape::ALL.into_iter().flat_map(|a| Shape::ALL.into_iter().map(move |b| (a, b))).filter(|(a, b)| a != b);
    let mut out = Vec::new();
    match tag {
        Tag::SingleObject => out.extend(Shape::ALL.map(|s| describe(tag, vec![item(s, 1, None)]))),
        Tag::TwoObject => out.extend(pairs().map(|(a, b)| describe(tag, vec![item(a, 1, None), item(b, 1, None)]))),
        Tag::Counting => {
            for shape in Shape::ALL {
                out.extend((1..=MOST).map(|n| describe(tag, vec![item(shape, n, None)])));
            }
        }
        Tag::Colors => {
            for shape in Shape::ALL {
                out.extend(Colour::ALL.map(|c| describe(tag, vec![item(shape, 1, Some(c))])));
            }
        }
        Tag::Position => {
            for (a, b) in pairs() {
                for relation in Relation::ALL {
                    let second = Include { position: Some((relation, 0)), ..item(b, 1, None) };
                    out.push(describe(tag, vec![item(a, 1, None), second]));
                }
            }
        }
        Tag::ColorAttr => {
            for (a, b) in pairs() {
                for c in Colour::ALL {
                    // GenEval gives the two objects different colours.
                    for d in Colour::ALL.into_iter().filter(|d| *d != c) {
                        out.push(describe(tag, vec![item(a, 1, Some(c)), item(b, 1, Some(d))]));
                    }
                }
            }
        }
    }
    out
}

fn item(shape: Shape, count: usize, colour: Option<Colour>) -> Include {
    Include { class: shape.name().to_owned(), count, color: colour.map(|c| c.name().to_owned()), position: None }
}

/// Completes the metadata of a task: the words, and for counting the exclusion of one more.
fn describe(tag: Tag, include: Vec<Include>) -> Metadata {
    let exclude = match (tag, include.first()) {
        (Tag::Counting, Some(i)) => vec![Exclude { class: i.class.clone(), count: i.count + 1 }],
        _ => Vec::new(),
    };
    let phrase = |i: &Include| match &i.color {
        Some(colour) => format!("{} {colour} {}", if colour == "orange" { "an" } else { "a" }, i.class),
        None => format!("a {}", i.class),
    };
    let prompt = match include.as_slice() {
        [one] if tag == Tag::Counting => {
            let number = NUMBERS.get(one.count.wrapping_sub(1)).copied().unwrap_or("many");
            format!("{number} {}{}", one.class, if one.count == 1 { "" } else { "s" })
        }
        [first, second] => match second.position {
            // The second clause is the one that is placed, so it is named first, as in GenEval's own prompts.
            Some((relation, _)) => {
                format!("{} {} {}", phrase(second), relation.name(), phrase(first))
            }
            None => format!("{} and {}", phrase(first), phrase(second)),
        },
        all => all.iter().map(phrase).collect::<Vec<_>>().join(" and "),
    };
    Metadata { tag, include, exclude, prompt }
}

/// The same request with one thing changed: a count, a shape, a colour or the relation.
///
/// # Errors
/// [`WorldError::Shapes`] when the metadata name something this world does not have.
pub(crate) fn corrupt(metadata: &Metadata, rng: &mut ChaCha8Rng) -> Result<Prompt, WorldError> {
    let items = plan(metadata)?;
    let mut include = metadata.include.clone();
    let at = rng.random_range(0..include.len());
    let mut ways = vec![Change::Shape];
    if metadata.tag == Tag::Counting {
        // Miscounting is the commoner mistake.
        ways.extend([Change::Count; 2]);
    }
    if include[at].color.is_some() {
        ways.push(Change::Colour);
    }
    if include.iter().any(|i| i.position.is_some()) {
        ways.extend([Change::Relation; 2]);
    }
    match ways[rng.random_range(0..ways.len())] {
        Change::Count => {
            let n = include[at].count;
            include[at].count = match rng.random_bool(0.5) {
                true if n < MOST => n + 1,
                _ if n > 1 => n - 1,
                _ => n + 1,
            };
        }
        Change::Colour => {
            let used: Vec<_> = items.iter().filter_map(|i| i.colour).collect();
            let fresh: Vec<_> = Colour::ALL.into_iter().filter(|c| !used.contains(c)).collect();
            include[at].color = Some(fresh[rng.random_range(0..fresh.len())].name().to_owned());
        }
        Change::Shape => {
            let used: Vec<_> = items.iter().map(|i| i.shape).collect();
            let fresh: Vec<_> = Shape::ALL.into_iter().filter(|s| !used.contains(s)).collect();
            if let Some(shape) = (!fresh.is_empty()).then(|| fresh[rng.random_range(0..fresh.len())]) {
                include[at].class = shape.name().to_owned();
            }
        }
        Change::Relation => {
            for (relation, _) in include.iter_mut().filter_map(|i| i.position.as_mut()) {
                let other: Vec<_> = Relation::ALL.into_iter().filter(|r| r != relation).collect();
                *relation = other[rng.random_range(0..other.len())];
            }
        }
    }
    Ok(ask(describe(metadata.tag, include)))
}

#[derive(Clone, Copy)]
enum Change {
    Count,
    Colour,
    Shape,
    Relation,
}

/// One clause in the world's own terms.
struct Item {
    shape: Shape,
    count: usize,
    colour: Option<Colour>,
    position: Option<(Relation, usize)>,
}

/// Checks that the world can draw the metadata.
fn plan(metadata: &Metadata) -> Result<Vec<Item>, WorldError> {
    let wrong = |why: String| WorldError::Shapes { prompt: metadata.prompt.clone(), why };
    let mut items = Vec::new();
    for (at, clause) in metadata.include.iter().enumerate() {
        let shape = Shape::from_name(&clause.class).ok_or_else(|| wrong(format!("no class `{}`", clause.class)))?;
        let colour = match &clause.color {
            Some(name) => Some(Colour::from_name(name).ok_or_else(|| wrong(format!("no colour `{name}`")))?),
            None => None,
        };
        if let Some((_, target)) = clause.position.filter(|(_, target)| *target >= at) {
            return Err(wrong(format!("clause {at} is placed relative to clause {target}, which is not before it")));
        }
        items.push(Item { shape, count: clause.count, colour, position: clause.position });
    }
    let total: usize = items.iter().map(|i| i.count.min(GRID * GRID + 1)).sum();
    if total == 0 || total > MOST_OBJECTS {
        return Err(wrong(format!("{total} objects; the grid takes 1 to {MOST_OBJECTS}")));
    }
    Ok(items)
}

/// Objects that always fit without touching: half of the cells.
const MOST_OBJECTS: usize = GRID * GRID / 2;

/// A cell of the grid: column, row.
type Cell = (i32, i32);

/// Places the objects on cells that do not share a side, so that neighbours never run into one another.
fn place(items: &[Item], rng: &mut ChaCha8Rng) -> Option<Vec<Vec<Cell>>> {
    let side = GRID as i32;
    let mut cells: Vec<Cell> = (0..side).flat_map(|x| (0..side).map(move |y| (x, y))).collect();
    cells.shuffle(rng);
    let mut groups: Vec<Vec<Cell>> = Vec::new();
    for item in items {
        let mut group: Vec<Cell> = Vec::new();
        while group.len() < item.count {
            let at = cells.iter().position(|&(x, y)| {
                item.position.is_none_or(|(relation, target)| {
                    groups[target].iter().all(|&(tx, ty)| holds(relation, x - tx, y - ty))
                })
            })?;
            let (x, y) = cells.swap_remove(at);
            group.push((x, y));
            cells.retain(|&(cx, cy)| (cx - x).abs() + (cy - y).abs() > 1);
        }
        groups.push(group);
    }
    Some(groups)
}

/// Whether an offset in cells shows a relation plainly: the other axis moves less.
fn holds(relation: Relation, dx: i32, dy: i32) -> bool {
    match relation {
        Relation::LeftOf => dx < 0 && dy.abs() < -dx,
        Relation::RightOf => dx > 0 && dy.abs() < dx,
        Relation::Above => dy < 0 && dx.abs() < -dy,
        Relation::Below => dy > 0 && dx.abs() < dy,
    }
}

/// Draws what the metadata ask for. Colours left open are random, different for each clause.
///
/// # Errors
/// [`WorldError::Shapes`] when the metadata name something this world does not have or cannot place.
pub(crate) fn render(metadata: &Metadata, rng: &mut ChaCha8Rng) -> Result<Image, WorldError> {
    let items = plan(metadata)?;
    let mut canvas = dark_ground(rng);
    let groups = (0..1000).find_map(|_| place(&items, rng)).ok_or_else(|| WorldError::Shapes {
        prompt: metadata.prompt.clone(),
        why: "no arrangement on the grid satisfies it".to_owned(),
    })?;
    let named: Vec<Colour> = items.iter().filter_map(|i| i.colour).collect();
    let mut open: Vec<Colour> = Colour::ALL.into_iter().filter(|c| !named.contains(c)).collect();
    open.shuffle(rng);
    let mut open = open.into_iter().cycle();
    for (item, group) in items.iter().zip(groups) {
        let colour = item.colour.or_else(|| open.next()).unwrap_or(Colour::Red);
        for (column, row) in group {
            let shade = shade(colour, 10.0, rng);
            let half: f32 = rng.random_range(5.4..6.4);
            let middle = |cell: i32, jitter: f32| (cell as f32 + 0.5) * CELL as f32 + jitter;
            let x = middle(column, rng.random_range(-1.0..=1.0));
            let y = middle(row, rng.random_range(-1.0..=1.0));
            let reach = half + 1.0;
            canvas.paint(
                [x - reach, y - reach, x + reach, y + reach],
                |_, _| shade,
                |px, py| item.shape.depth(px - x, py - y, half, half),
            );
        }
    }
    Ok(canvas.image())
}
