//! Boxes round regions: rectangles of least area, at any angle, and how they grow.
//!
//! Own geometry rather than a crate's: the reference has corners between pixels before a box grows and on whole pixels
//! after, rounded as OpenCV's `minAreaRect` and Clipper's offset round them, which decides about single pixels of what
//! is read.

/// Four corners (x, y): upper left, upper right, lower right, lower left.
pub(super) type Corners = [[f32; 2]; 4];

/// The rectangle of least area round points, and its shorter side; none if the points lie on one line.
pub(super) fn around(points: &[[i64; 2]]) -> Option<(Corners, f32)> {
    let hull = hull(points);
    if hull.len() < 3 {
        return None;
    }
    let mut best: Option<Laid> = None;
    for (a, b) in hull.iter().zip(hull.iter().cycle().skip(1)) {
        let laid = Laid::along([b[0] - a[0], b[1] - a[1]], &hull);
        if best.as_ref().is_none_or(|best| laid.beats(best)) {
            best = Some(laid);
        }
    }
    best.map(|laid| (laid.corners(), laid.shorter()))
}

/// A rectangle with a side along `direction`: the least and largest products of the points with `direction`, and with
/// `direction` turned.
struct Laid {
    direction: [i64; 2],
    along: [i64; 2],
    across: [i64; 2],
}

impl Laid {
    fn along(direction: [i64; 2], points: &[[i64; 2]]) -> Laid {
        let range = |of: &dyn Fn(&[i64; 2]) -> i64| {
            points.iter().map(of).fold([i64::MAX, i64::MIN], |[low, high], v| [low.min(v), high.max(v)])
        };
        let [dx, dy] = direction;
        Laid { direction, along: range(&|p| dx * p[0] + dy * p[1]), across: range(&|p| dx * p[1] - dy * p[0]) }
    }

    /// Length of `direction`, squared.
    fn unit(&self) -> i64 {
        self.direction[0] * self.direction[0] + self.direction[1] * self.direction[1]
    }

    /// Whether the area is smaller; of equal ones, upright is better.
    fn beats(&self, other: &Laid) -> bool {
        let area = |r: &Laid| i128::from(r.along[1] - r.along[0]) * i128::from(r.across[1] - r.across[0]);
        let (own, others) = (area(self) * i128::from(other.unit()), area(other) * i128::from(self.unit()));
        own < others || (own == others && self.direction.contains(&0))
    }

    fn shorter(&self) -> f32 {
        let side = (self.along[1] - self.along[0]).min(self.across[1] - self.across[0]);
        (side as f64 / (self.unit() as f64).sqrt()) as f32
    }

    fn corners(&self) -> Corners {
        let ([dx, dy], unit) = (self.direction, self.unit() as f64);
        let corner = |u: i64, v: i64| [(dx * u - dy * v) as f64, (dy * u + dx * v) as f64].map(|c| (c / unit) as f32);
        let ([u0, u1], [v0, v1]) = (self.along, self.across);
        ordered([corner(u0, v0), corner(u1, v0), corner(u1, v1), corner(u0, v1)])
    }
}

/// The corners of the convex hull, in turn (Andrew 1979).
fn hull(points: &[[i64; 2]]) -> Vec<[i64; 2]> {
    let mut sorted = points.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() < 3 {
        return sorted;
    }
    let chain = |points: &mut dyn Iterator<Item = &[i64; 2]>| {
        let mut chain: Vec<[i64; 2]> = Vec::new();
        for &p in points {
            while let [.., a, b] = chain[..]
                && (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) <= 0
            {
                chain.pop();
            }
            chain.push(p);
        }
        chain.pop();
        chain
    };
    let (mut lower, upper) = (chain(&mut sorted.iter()), chain(&mut sorted.iter().rev()));
    lower.extend(upper);
    lower
}

/// Corners in the order of [`Corners`]: the two leftmost are the left ones.
pub(super) fn ordered(mut corners: Corners) -> Corners {
    corners.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let [a, b, c, d] = corners;
    let (top_left, bottom_left) = if b[1] < a[1] { (b, a) } else { (a, b) };
    let (top_right, bottom_right) = if d[1] < c[1] { (d, c) } else { (c, d) };
    [top_left, top_right, bottom_right, bottom_left]
}

/// Points round a box that has grown on all sides by `ratio` times its area over its perimeter, corners rounded off.
///
/// As Clipper 6 offsets a polygon: corners are cut to whole pixels first, an arc strays by a quarter of a pixel at most,
/// and its points are whole pixels too.
pub(super) fn grown(corners: Corners, ratio: f64) -> Vec<[i64; 2]> {
    let exact = corners.map(|p| p.map(f64::from));
    let (mut twice, mut perimeter) = (0.0, 0.0);
    for (p, q) in exact.into_iter().zip(exact.into_iter().cycle().skip(1)) {
        twice += p[0] * q[1] - q[0] * p[1];
        perimeter += (q[0] - p[0]).hypot(q[1] - p[1]);
    }
    let by = twice.abs() / 2.0 * ratio / perimeter;
    let mut cut: Vec<[f64; 2]> = exact.iter().map(|p| p.map(f64::trunc)).collect();
    cut.dedup();

    let outward = |i: usize| {
        let (p, q) = (cut[i], cut[(i + 1) % cut.len()]);
        let length = (q[0] - p[0]).hypot(q[1] - p[1]);
        [(q[1] - p[1]) / length, (p[0] - q[0]) / length]
    };
    // Steps of a whole turn: chords that stray by the tolerance, and no more than one for a pixel of the circle's half.
    let tolerance = 0.25 * by.min(1.0);
    let turn = std::f64::consts::TAU;
    let steps = (turn / 2.0 / (1.0 - tolerance / by).acos()).min(by * turn / 2.0);
    let (sin, cos) = (turn / steps).sin_cos();
    let mut points = Vec::new();
    for (i, p) in cut.iter().enumerate() {
        let (before, after) = (outward((i + cut.len() - 1) % cut.len()), outward(i));
        let mut push = |n: [f64; 2]| points.push([p[0] + n[0] * by, p[1] + n[1] * by].map(|v| v.round() as i64));
        let angle = (before[0] * after[1] - before[1] * after[0]).atan2(before[0] * after[0] + before[1] * after[1]);
        let mut n = before;
        for _ in 0..((steps / turn * angle.abs()).round() as usize).max(1) {
            push(n);
            n = [n[0] * cos - n[1] * sin, n[0] * sin + n[1] * cos];
        }
        push(after);
    }
    points
}

/// Which pixels of a map of `width` x `height` a four-cornered box covers, edges included, as `fillPoly` has it: along
/// a row from the nearest pixel to the nearest, and every pixel that a line along an edge touches.
pub(super) fn covered(corners: [[i32; 2]; 4], width: usize, height: usize) -> Vec<bool> {
    let mut inside = vec![false; width * height];
    let edges = || corners.into_iter().zip(corners.into_iter().cycle().skip(1));
    for y in 0..height {
        let row = y as i32;
        let crossing = |(p, q): ([i32; 2], [i32; 2])| {
            let ([x0, y0], [x1, y1]) = if p[1] <= q[1] { (p, q) } else { (q, p) };
            (y0 <= row && row < y1)
                .then(|| (f64::from(x0) + f64::from(row - y0) * f64::from(x1 - x0) / f64::from(y1 - y0) + 0.5).floor())
        };
        let ends = edges()
            .filter_map(crossing)
            .fold(None, |ends: Option<[f64; 2]>, x| Some(ends.map_or([x, x], |[low, high]| [low.min(x), high.max(x)])));
        if let Some([low, high]) = ends {
            let (low, high) = (low.max(0.0) as usize, high.min(width as f64 - 1.0));
            (low..).take_while(|x| *x as f64 <= high).for_each(|x| inside[y * width + x] = true);
        }
    }
    for (p, q) in edges() {
        let steps = (q[0] - p[0]).abs().max((q[1] - p[1]).abs()).max(1);
        for i in 0..=steps {
            let [x, y] = [0, 1].map(|a| (f64::from(p[a]) + f64::from(i * (q[a] - p[a])) / f64::from(steps)).round());
            if x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64 {
                inside[y as usize * width + x as usize] = true;
            }
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_of_least_area() {
        // A bar of 7 x 4 pixels; one along (4, 3), 15 long and 5 high; a triangle on its longest side; a line.
        let bar: Vec<[i64; 2]> = (0..28).map(|i| [3 + i % 7, 2 + i / 7]).collect();
        assert_eq!(around(&bar).unwrap(), ([[3.0, 2.0], [9.0, 2.0], [9.0, 5.0], [3.0, 5.0]], 3.0));
        let (corners, shorter) = around(&[[10, 0], [22, 9], [19, 13], [7, 4], [15, 6]]).unwrap();
        assert_eq!((corners, shorter), ([[10.0, 0.0], [22.0, 9.0], [19.0, 13.0], [7.0, 4.0]], 5.0));
        let (corners, shorter) = around(&[[0, 0], [10, 0], [4, 3]]).unwrap();
        assert_eq!((corners, shorter), ([[0.0, 0.0], [10.0, 0.0], [10.0, 3.0], [0.0, 3.0]], 3.0));
        assert!(around(&[[1, 1], [2, 2], [5, 5]]).is_none() && around(&[[1, 1]]).is_none());
    }

    #[test]
    fn a_box_grows_by_hand() {
        // Sides 11 and 5: it grows by 1.6 x 55 / 32 = 2.75, which is 3 on whole pixels.
        let points = grown([[10.0, 8.0], [21.0, 8.0], [21.0, 13.0], [10.0, 13.0]], 1.6);
        assert_eq!(around(&points).unwrap().0, [[7.0, 5.0], [24.0, 5.0], [24.0, 16.0], [7.0, 16.0]]);
        // The corners are rounded off: nothing lies beyond a quarter of a pixel, and the rounding of whole pixels, off the arc.
        for [x, y] in points {
            let beyond = |v: i64, low: f64, high: f64| (low - v as f64).max(v as f64 - high).max(0.0);
            let reach = beyond(x, 10.0, 21.0).hypot(beyond(y, 8.0, 13.0));
            assert!((reach - 2.75).abs() <= 0.25 + 0.5 * 2f64.sqrt(), "{x} {y}: {reach}");
        }
    }

    #[test]
    fn pixels_of_a_box() {
        let image = |corners, w, h| {
            let inside: Vec<char> = covered(corners, w, h).iter().map(|c| if *c { '#' } else { '.' }).collect();
            inside.chunks(w).map(|row| row.iter().collect::<String>()).collect::<Vec<_>>()
        };
        assert_eq!(image([[1, 0], [3, 0], [3, 1], [1, 1]], 5, 3), [".###.", ".###.", "....."]);
        assert_eq!(image([[2, 0], [4, 2], [2, 4], [0, 2]], 5, 5), ["..#..", ".###.", "#####", ".###.", "..#.."]);
        // A part outside is left out.
        assert_eq!(image([[-2, 0], [1, 0], [1, 9], [-2, 9]], 3, 2), ["##.", "##."]);
    }
}
