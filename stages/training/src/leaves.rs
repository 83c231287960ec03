//! The micro-batches of an update as the leaves of a sum: dealt to the processes of the stage, and added up in an order that is theirs.

use anyhow::Result;
use opdflow_models::transfer::send;
use opdflow_ranks::Ranks;
use opdflow_ranks::tree::{Tree, places};
use tch::{Device, Kind, Tensor, no_grad};

/// Asks `give` for each of this process's part of `work`, in order, and adds up what all processes found.
///
/// `give` adds the gradient of its micro-batch to the `.grad` of `params`, which are zero or undefined before, and returns numbers to
/// report, scalars of any kind and device, as many each time. Afterwards `.grad` holds the sum over all of `work`, the same bytes in each process
/// and for any number of them. The numbers come back in f64, those of all micro-batches in the order of `work`.
///
/// # Errors
/// What `give` says; another process of the stage is gone.
pub fn over<W>(
    ranks: Ranks,
    params: &[Tensor],
    work: &[W],
    mut give: impl FnMut(&W) -> Result<Vec<Tensor>>,
) -> Result<Vec<Vec<f64>>> {
    let own = ranks.own(work.len());
    // With one micro-batch, the gradient is where it belongs.
    let one = work.len() == 1 && ranks.world() == 1;
    let (mut tree, mut numbers) = (Tree::of(work.len()), Vec::with_capacity(own.len()));
    for index in own.clone() {
        let given = give(&work[index])?;
        let given: Vec<Tensor> = given.iter().map(|t| t.detach().to_kind(Kind::Double).reshape([1])).collect();
        numbers.push(if given.is_empty() {
            Tensor::zeros([0], (Kind::Double, Device::Cpu))
        } else {
            Tensor::cat(&given, 0)
        });
        if one {
            no_grad(|| params.iter().map(Tensor::grad).filter(Tensor::defined).for_each(positive));
        } else {
            tree.push(index, taken(params));
        }
    }
    if !one {
        put(params, &whole(ranks, tree, params, work.len())?);
    }
    told(ranks, &numbers, work.len(), params)
}

/// The gradients in one row, f32; what has none has zeros. They are zero afterwards.
fn taken(params: &[Tensor]) -> Tensor {
    no_grad(|| {
        let flat = |p: &Tensor| {
            let grad = p.grad();
            if grad.defined() { grad.reshape([-1]).to_kind(Kind::Float) } else { zeros(p) }
        };
        let row = Tensor::cat(&params.iter().map(flat).collect::<Vec<_>>(), 0);
        params.iter().map(Tensor::grad).filter(Tensor::defined).for_each(|mut grad| drop(grad.zero_()));
        positive(row.shallow_clone());
        row
    })
}

/// Makes -0 of a gradient 0: which one it is hangs on whether there was a gradient to add it to.
fn positive(mut gradient: Tensor) {
    let _ = gradient.g_add_scalar_(0.0);
}

fn zeros(p: &Tensor) -> Tensor {
    Tensor::zeros([p.numel() as i64], (Kind::Float, p.device()))
}

/// The sum of all processes' trees.
fn whole(ranks: Ranks, tree: Tree, params: &[Tensor], terms: usize) -> Result<Tensor> {
    let nothing = || Tensor::cat(&params.iter().map(zeros).collect::<Vec<_>>(), 0);
    if ranks.world() == 1 {
        return Ok(tree.root().unwrap_or_else(nothing));
    }
    let own = tree.sums();
    let mut all = Tree::of(terms);
    let like = own.first().map_or_else(nothing, Tensor::shallow_clone);
    for rank in 0..ranks.world() {
        for (i, place) in places(ranks.part(terms, rank), terms).into_iter().enumerate() {
            let sent = if rank == ranks.rank() { &own[i] } else { &like };
            let sum = ranks.broadcast(sent, rank)?;
            // The tree adds into what it is given.
            all.graft(place, if rank == ranks.rank() { sum.copy() } else { sum });
        }
    }
    Ok(all.root().unwrap_or_else(nothing))
}

/// Puts a row of gradients back.
fn put(params: &[Tensor], row: &Tensor) {
    let mut at = 0;
    for p in params {
        let count = p.numel() as i64;
        let part = row.narrow(0, at, count).view_as(p).to_kind(p.kind());
        if !p.grad().defined() {
            // Makes it: there is no other way to set one.
            (p * &part.zeros_like()).sum(Kind::Float).backward();
        }
        no_grad(|| p.grad().copy_(&part));
        at += count;
    }
}

/// The numbers of all micro-batches.
fn told(ranks: Ranks, own: &[Tensor], count: usize, params: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    let read = |rows: &Tensor| -> Result<Vec<Vec<f64>>> {
        let rows = rows.to_device(Device::Cpu);
        (0..rows.size()[0]).map(|i| Ok(Vec::try_from(rows.get(i))?)).collect()
    };
    if ranks.world() == 1 {
        return if own.is_empty() { Ok(Vec::new()) } else { read(&Tensor::stack(own, 0)) };
    }
    // How many each gives, even where this process has none to ask.
    let device = params.first().map_or(Device::Cpu, Tensor::device);
    let width = own.first().map_or(0, |t| t.size()[0]);
    let widths = ranks.gather_rows(&send(&Tensor::from_slice(&[width]), device), ranks.world(), 1)?;
    let width = widths.max().int64_value(&[]);
    let rows = match own {
        [] => Tensor::zeros([0, width], (Kind::Double, device)),
        _ => send(&Tensor::stack(own, 0), device),
    };
    read(&ranks.gather_rows(&rows, count, 1)?)
}

/// The sum of `x`, of any shape and kind, times `scale`: a number for [`over`], f64, which nobody waits for yet.
pub fn summed(x: &Tensor, scale: f64) -> Tensor {
    no_grad(|| x.detach().sum(Kind::Float).to_kind(Kind::Double) * scale)
}

/// Column `at` of numbers, added up in order.
#[must_use]
pub fn sum(numbers: &[Vec<f64>], at: usize) -> f64 {
    numbers.iter().filter_map(|row| row.get(at)).copied().reduce(|a, b| a + b).unwrap_or(0.0)
}

/// The largest of column `at`, 0 of none; not a number if one of them is not.
#[must_use]
pub fn most(numbers: &[Vec<f64>], at: usize) -> f64 {
    let larger = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
    numbers.iter().filter_map(|row| row.get(at)).copied().reduce(larger).unwrap_or(0.0)
}
