//! Regions of text in a map of yes and no, and the holes in them, each by the points that span it.

/// A map of yes and no.
pub(super) struct Mask {
    pub width: usize,
    pub height: usize,
    pub yes: Vec<bool>,
}

impl Mask {
    /// A map in which every region has grown by a pixel to the right and below, which joins near letters: the
    /// reference's dilation by two by two pixels.
    pub fn grown(width: usize, height: usize, text: impl Fn(usize, usize) -> bool) -> Mask {
        let near = |x: usize, y: usize| {
            text(x, y)
                || (x > 0 && text(x - 1, y))
                || (y > 0 && text(x, y - 1))
                || (x > 0 && y > 0 && text(x - 1, y - 1))
        };
        Mask::of(width, height, near)
    }

    /// A map as it is.
    pub fn of(width: usize, height: usize, text: impl Fn(usize, usize) -> bool) -> Mask {
        let yes = (0..width * height).map(|i| text(i % width, i / width)).collect();
        Mask { width, height, yes }
    }

    /// Points on every contour, outer ones and those of holes, as `findContours` lists them; of an outer one all of its
    /// region, which has the same hull.
    ///
    /// A region hangs together at edges and corners, a hole at edges alone; a hole's contour is on the pixels beside it.
    pub fn contours(&self) -> Vec<Vec<[i64; 2]>> {
        let (w, h) = (self.width, self.height);
        let mut seen = vec![false; w * h];
        let (mut contours, mut stack) = (Vec::new(), Vec::new());
        for start in 0..w * h {
            if std::mem::replace(&mut seen[start], true) {
                continue;
            }
            let yes = self.yes[start];
            let (mut points, mut enclosed) = (Vec::new(), true);
            stack.push(start);
            while let Some(i) = stack.pop() {
                let (x, y) = (i % w, i / w);
                if yes {
                    points.push([x as i64, y as i64]);
                }
                enclosed &= x > 0 && y > 0 && x + 1 < w && y + 1 < h;
                for ny in y.saturating_sub(1)..(y + 2).min(h) {
                    for nx in x.saturating_sub(1)..(x + 2).min(w) {
                        let n = ny * w + nx;
                        let beside = nx == x || ny == y;
                        if self.yes[n] != yes {
                            if !yes && beside {
                                points.push([nx as i64, ny as i64]);
                            }
                        } else if (yes || beside) && !std::mem::replace(&mut seen[n], true) {
                            stack.push(n);
                        }
                    }
                }
            }
            if yes || enclosed {
                contours.push(points);
            }
        }
        contours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(rows: &[&str]) -> Vec<[i64; 4]> {
        let (width, height) = (rows[0].len(), rows.len());
        let yes = rows.concat().bytes().map(|b| b == b'#').collect();
        let contours = Mask { width, height, yes }.contours();
        let span = |axis: usize, points: &Vec<[i64; 2]>| {
            let of = || points.iter().map(|p| p[axis]);
            [of().min().unwrap(), of().max().unwrap()]
        };
        contours.iter().map(|c| [span(0, c), span(1, c)].concat().try_into().unwrap()).collect()
    }

    #[test]
    fn regions_and_holes() {
        // Two regions that touch at a corner are one. A hole has the pixels round it; one that is open at a corner only
        // is closed; what touches the edge of the map is none.
        assert_eq!(spans(&["#...", ".#..", "...#"]), [[0, 1, 0, 1], [3, 3, 2, 2]]);
        assert_eq!(spans(&["####.", "#..#.", "####."]), [[0, 3, 0, 2], [0, 3, 0, 2]]);
        assert_eq!(spans(&[".#.", "#.#", ".#."]), [[0, 2, 0, 2], [0, 2, 0, 2]]);
        assert_eq!(spans(&["###", "#.#", "#.#"]), [[0, 2, 0, 2]]);
        assert!(spans(&["...", "..."]).is_empty());
    }

    #[test]
    fn regions_grow_to_the_right_and_below() {
        let mask = Mask::grown(3, 3, |x, y| (x, y) == (0, 0) || (x, y) == (2, 2));
        assert_eq!(mask.yes, [true, true, false, true, true, false, false, false, true]);
    }
}
