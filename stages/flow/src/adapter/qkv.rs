//! q, k and v in one product, as the original names have them, and apart.
//!
//! A file may hold one product for all three: then A is shared and each takes its third of B's rows. Or it holds three in
//! one: A's rows in three blocks, and B zero but for three blocks along its diagonal. sd-scripts writes that with `split_qkv`,
//! and so do we. The scale is alpha over all of A's rows, as ComfyUI and sd-scripts read it.

use tch::{Kind, Tensor};

/// One of the three.
pub(super) struct Part {
    pub a: Tensor,
    pub b: Tensor,
    pub alpha: Option<f64>,
}

/// Takes a product apart; `a` `[R, in]`, `b` `[3 d, R]`. A part that is padding alone is none.
pub(super) fn apart(a: &Tensor, b: &Tensor, alpha: Option<f64>) -> [Option<Part>; 3] {
    let (rank, rows) = (a.size()[0], b.size()[0] / 3);
    let own = rank / 3;
    let zero = |t: &Tensor| t.count_nonzero(None).int64_value(&[]) == 0;
    let third = |n: i64| b.narrow(0, n * rows, rows);
    let beside = |n: i64| {
        let t = third(n);
        zero(&t.narrow(1, 0, n * own)) && zero(&t.narrow(1, (n + 1) * own, rank - (n + 1) * own))
    };
    let blocks = rank % 3 == 0 && (0..3).all(beside);
    [0, 1, 2].map(|n| {
        if !blocks {
            return Some(Part { a: a.copy(), b: third(n).copy(), alpha });
        }
        let (a, b) = (a.narrow(0, n * own, own), third(n).narrow(1, n * own, own));
        // Padding: rows of A and columns of B that are zero, at the end.
        let live =
            a.abs().sum_dim_intlist(1i64, false, Kind::Double) + b.abs().sum_dim_intlist(0i64, false, Kind::Double);
        let live = Vec::<f64>::try_from(&live).unwrap_or_default();
        let kept = live.iter().rposition(|x| *x != 0.0).map_or(0, |i| i as i64 + 1);
        let alpha = alpha.unwrap_or(rank as f64) * kept as f64 / rank as f64;
        (kept > 0).then(|| Part { a: a.narrow(0, 0, kept).copy(), b: b.narrow(1, 0, kept).copy(), alpha: Some(alpha) })
    })
}

/// Puts three pairs, each with its scale, into one product: A, B, alpha. Where scales differ, that of the first is kept and
/// the others' B are multiplied by what is left, which rounds. Nothing if all three are absent.
pub(super) fn together(parts: [Option<(&Tensor, &Tensor, f64)>; 3]) -> Option<(Tensor, Tensor, f64)> {
    let (first_a, first_b, scale) = parts.iter().flatten().next().copied()?;
    let own = parts.iter().flatten().map(|(a, _, _)| a.size()[0]).max()?;
    let (d_in, rows) = (first_a.size()[1], first_b.size()[0]);
    let whole = (first_a.kind(), first_a.device());
    let a = Tensor::zeros([3 * own, d_in], whole);
    let b = Tensor::zeros([3 * rows, 3 * own], whole);
    for (n, (down, up, s)) in (0i64..).zip(parts).filter_map(|(n, p)| Some((n, p?))) {
        let rank = down.size()[0];
        a.narrow(0, n * own, rank).copy_(down);
        let up = if s.to_bits() == scale.to_bits() { up.shallow_clone() } else { up * (s / scale) };
        b.narrow(0, n * rows, rows).narrow(1, n * own, rank).copy_(&up);
    }
    Some((a, b, scale * 3.0 * own as f64))
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
        let parts = apart(&a, &b, Some(3.0)).map(Option::unwrap);
        let rows: Vec<_> = parts.iter().map(|p| change(&p.a, &p.b, p.alpha.unwrap() / p.a.size()[0] as f64)).collect();
        assert!(Tensor::cat(&rows, 0).allclose(&change(&a, &b, 0.5), 0.0, 1e-6, false));
        assert!(apart(&random([4, 5]), &random([12, 4]), None).iter().flatten().all(|p| p.alpha.is_none()));
    }

    #[test]
    fn three_go_into_one_and_come_out_bit_by_bit() {
        let pairs = [
            (random([2, 5]), random([4, 2])),
            (random([2, 5]), random([4, 2]) * 0.0),
            (random([2, 5]), random([4, 2])),
        ];
        let (a, b, alpha) = together(pairs.each_ref().map(|(a, b)| Some((a, b, 1.5)))).unwrap();
        assert_eq!((a.size(), b.size(), alpha), (vec![6, 5], vec![12, 6], 9.0));
        for ((a, b), part) in pairs.iter().zip(apart(&a, &b, Some(alpha))) {
            let part = part.expect("a part");
            assert!(part.a == *a && part.b == *b && part.alpha == Some(3.0));
        }
    }

    #[test]
    fn other_ranks_absent_members_and_other_scales() {
        let (q, v) = ((random([3, 5]), random([4, 3])), (random([1, 5]), random([4, 1])));
        let (a, b, alpha) = together([Some((&q.0, &q.1, 2.0)), None, Some((&v.0, &v.1, 0.5))]).unwrap();
        let [one, none, three] = apart(&a, &b, Some(alpha));
        let (one, three) = (one.unwrap(), three.unwrap());
        assert!(none.is_none());
        assert!(one.a == q.0 && one.b == q.1 && one.alpha == Some(6.0));
        assert!(three.a == v.0 && three.alpha == Some(2.0));
        // A quarter of the scale is in B.
        assert!(three.b.allclose(&(&v.1 * 0.25), 1e-6, 0.0, false));
    }
}
