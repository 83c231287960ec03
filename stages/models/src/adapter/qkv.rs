//! Several layers in one product, as the original names have them, and apart: q, k and v, and in a single block of FLUX.1 what
//! enters the feed-forward part.
//!
//! A file may hold one product for all: then A is shared and each takes its part of B's rows. Or it holds several in
//! one: A's rows in as many blocks, and B zero but for blocks along its diagonal. sd-scripts writes that with `split_qkv`,
//! and so do we. The scale is alpha over all of A's rows, as ComfyUI and sd-scripts read it.

use tch::{Kind, Tensor};

/// One of the parts.
pub(super) struct QkvPart {
    pub a: Tensor,
    pub b: Tensor,
    pub alpha: Option<f64>,
}

/// Takes a product apart; `a` `[R, in]`, `b` `[sum of rows, R]`. A part that is padding alone is none.
pub(super) fn apart(a: &Tensor, b: &Tensor, alpha: Option<f64>, rows: &[i64]) -> Vec<Option<QkvPart>> {
    let (rank, parts) = (a.size()[0], rows.len().max(1) as i64);
    let own = rank / parts;
    let zero = |t: &Tensor| t.count_nonzero(None).int64_value(&[]) == 0;
    let mut first = 0;
    let places: Vec<(i64, Tensor)> = (0..parts)
        .zip(rows)
        .map(|(n, rows)| {
            first += rows;
            (n, b.narrow(0, first - rows, *rows))
        })
        .collect();
    let beside = |(n, t): &(i64, Tensor)| {
        zero(&t.narrow(1, 0, n * own)) && zero(&t.narrow(1, (n + 1) * own, rank - (n + 1) * own))
    };
    let blocks = rank % parts == 0 && places.iter().all(beside);
    let part = |(n, t): (i64, Tensor)| {
        if !blocks {
            return Some(QkvPart { a: a.copy(), b: t.copy(), alpha });
        }
        let (a, b) = (a.narrow(0, n * own, own), t.narrow(1, n * own, own));
        // Padding: rows of A and columns of B that are zero, at the end.
        let live =
            a.abs().sum_dim_intlist(1i64, false, Kind::Double) + b.abs().sum_dim_intlist(0i64, false, Kind::Double);
        let live = Vec::<f64>::try_from(&live).unwrap_or_default();
        let kept = live.iter().rposition(|x| *x != 0.0).map_or(0, |i| i as i64 + 1);
        let alpha = alpha.unwrap_or(rank as f64) * kept as f64 / rank as f64;
        (kept > 0).then(|| QkvPart {
            a: a.narrow(0, 0, kept).copy(),
            b: b.narrow(1, 0, kept).copy(),
            alpha: Some(alpha),
        })
    };
    places.into_iter().map(part).collect()
}

/// A part's A, B and scale.
pub(super) type Scaled<'a> = (&'a Tensor, &'a Tensor, f64);

/// Puts pairs, each with its scale, into one product: A, B, alpha. `units` are the rows of each part in units of the columns
/// of A. Where scales differ, that of the first is kept and the others' B are multiplied by what is left, which rounds. Nothing if
/// all are absent.
pub(super) fn together(parts: &[Option<Scaled>], units: &[i64]) -> Option<(Tensor, Tensor, f64)> {
    let (first_a, _, scale) = parts.iter().flatten().next().copied()?;
    let own = parts.iter().flatten().map(|(a, _, _)| a.size()[0]).max()?;
    let (d_in, of) = (first_a.size()[1], units.len() as i64);
    let whole = (first_a.kind(), first_a.device());
    let a = Tensor::zeros([of * own, d_in], whole);
    let b = Tensor::zeros([units.iter().sum::<i64>() * d_in, of * own], whole);
    let mut row = 0;
    for (n, (part, unit)) in (0i64..).zip(parts.iter().zip(units)) {
        if let Some((down, up, s)) = part {
            let rank = down.size()[0];
            a.narrow(0, n * own, rank).copy_(down);
            let up = if s.to_bits() == scale.to_bits() { up.shallow_clone() } else { *up * (s / scale) };
            b.narrow(0, row, unit * d_in).narrow(1, n * own, rank).copy_(&up);
        }
        row += unit * d_in;
    }
    Some((a, b, scale * (of * own) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn random(shape: [i64; 2]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    fn change(a: &Tensor, b: &Tensor, scale: f64) -> Tensor {
        b.matmul(a) * scale
    }

    #[test]
    fn one_product_becomes_three_that_add_up_to_it() {
        let (a, b) = (random([6, 5]), random([12, 6]));
        let parts: Vec<QkvPart> = apart(&a, &b, Some(3.0), &[4; 3]).into_iter().map(Option::unwrap).collect();
        let rows: Vec<_> = parts.iter().map(|p| change(&p.a, &p.b, p.alpha.unwrap() / p.a.size()[0] as f64)).collect();
        assert!(Tensor::cat(&rows, 0).allclose(&change(&a, &b, 0.5), 0.0, 1e-6, false));
        assert!(apart(&random([4, 5]), &random([12, 4]), None, &[4; 3]).iter().flatten().all(|p| p.alpha.is_none()));
    }

    #[test]
    fn three_go_into_one_and_come_out_bit_by_bit() {
        let pairs = [
            (random([2, 4]), random([4, 2])),
            (random([2, 4]), random([4, 2]) * 0.0),
            (random([2, 4]), random([4, 2])),
        ];
        let (a, b, alpha) = together(&pairs.each_ref().map(|(a, b)| Some((a, b, 1.5))), &[1; 3]).unwrap();
        assert_eq!((a.size(), b.size(), alpha), (vec![6, 4], vec![12, 6], 9.0));
        for ((a, b), part) in pairs.iter().zip(apart(&a, &b, Some(alpha), &[4; 3])) {
            let part = part.expect("a part");
            assert!(part.a == *a && part.b == *b && part.alpha == Some(3.0));
        }
    }

    #[test]
    fn other_ranks_absent_members_and_other_scales() {
        let (q, v) = ((random([3, 4]), random([4, 3])), (random([1, 4]), random([4, 1])));
        let (a, b, alpha) = together(&[Some((&q.0, &q.1, 2.0)), None, Some((&v.0, &v.1, 0.5))], &[1; 3]).unwrap();
        let [one, none, three] = <[_; 3]>::try_from(apart(&a, &b, Some(alpha), &[4; 3])).ok().unwrap();
        let (one, three) = (one.unwrap(), three.unwrap());
        assert!(none.is_none());
        assert!(one.a == q.0 && one.b == q.1 && one.alpha == Some(6.0));
        assert!(three.a == v.0 && three.alpha == Some(2.0));
        // A quarter of the scale is in B.
        assert!(three.b.allclose(&(&v.1 * 0.25), 1e-6, 0.0, false));
    }

    #[test]
    fn a_single_block_of_flux_has_a_fourth_part_of_its_own_height() {
        let (k, mlp) = ((random([2, 4]), random([4, 2])), (random([3, 4]), random([16, 3])));
        let units = [1, 1, 1, 4];
        let (a, b, alpha) =
            together(&[None, Some((&k.0, &k.1, 2.0)), None, Some((&mlp.0, &mlp.1, 2.0))], &units).unwrap();
        assert_eq!((a.size(), b.size(), alpha), (vec![12, 4], vec![28, 12], 24.0));
        // The product is the parts below each other.
        let zero = Tensor::zeros([4, 4], (Kind::Float, Device::Cpu));
        let rows = [&zero, &change(&k.0, &k.1, 2.0), &zero, &change(&mlp.0, &mlp.1, 2.0)];
        assert!(change(&a, &b, alpha / 12.0).allclose(&Tensor::cat(&rows, 0), 0.0, 1e-6, false));
        let parts = apart(&a, &b, Some(alpha), &[4, 4, 4, 16]);
        let [None, Some(one), None, Some(two)] = &parts[..] else { panic!("other parts") };
        assert!(one.a == k.0 && one.b == k.1 && one.alpha == Some(4.0));
        assert!(two.a == mlp.0 && two.b == mlp.1 && two.alpha == Some(6.0));
        // A shared A: each takes its rows of B.
        let (a, b) = (random([4, 4]), random([28, 4]));
        let shared = apart(&a, &b, None, &[4, 4, 4, 16]);
        assert!(shared[3].as_ref().unwrap().b == b.narrow(0, 12, 16) && shared[0].as_ref().unwrap().a == a);
    }
}
