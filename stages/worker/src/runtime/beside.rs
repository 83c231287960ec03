//! Judging on a thread of its own, while the next images are made.

use anyhow::{Result, anyhow};
use opdflow_rewards::Image;
use std::sync::mpsc::sync_channel;

/// Parts that may wait to be judged; beyond them what makes images waits, so that memory is bounded.
const WAITING: usize = 1;

/// What was judged, or why that ended.
pub type Judged<T, E> = Result<Vec<T>, E>;

/// What `judge` gives of the images that `make` hands over, part after part, in their order: `judge` is told the number of a part's first
/// image, counted from `first`. It works while the next part is made, and gives what it would give after it: parts come one after
/// another.
///
/// # Errors
/// What `make` says; within, what `judge` says, after which nothing more is taken from `make`.
pub fn beside<T: Send, E: Send>(
    first: usize,
    judge: impl Fn(&[Image], usize) -> Judged<T, E> + Send,
    make: impl FnOnce(&mut dyn FnMut(Vec<Image>) -> Result<()>) -> Result<()>,
) -> Result<Judged<T, E>> {
    // libtorch keeps its number of threads for each thread, and what a network makes may hang on it in its last bits.
    let threads = tch::get_num_threads();
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel::<Vec<Image>>(WAITING);
        let judging = scope.spawn(move || {
            tch::set_num_threads(threads);
            let mut judged = Vec::new();
            for images in receive {
                judged.extend(judge(&images, first + judged.len())?);
            }
            Ok(judged)
        });
        let made = make(&mut |images| send.send(images).map_err(|_| anyhow!("the judge has ended")));
        drop(send);
        match judging.join() {
            Ok(Ok(judged)) => made.map(|()| Ok(judged)),
            // What was made for a judge that has ended says nothing of its own.
            Ok(Err(error)) => Ok(Err(error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn images(levels: &[u8]) -> Vec<Image> {
        levels.iter().map(|l| Image::new(1, 1, vec![*l; 3]).unwrap()).collect()
    }

    #[test]
    fn a_part_is_judged_while_the_next_is_made() {
        // Each waits for the other: made one after the other, neither would end.
        let (begun, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let wait = |counter: &AtomicUsize, n| {
            while counter.load(Ordering::SeqCst) < n {
                std::thread::yield_now()
            }
        };
        let judge = |images: &[Image], first: usize| -> Judged<_, ()> {
            begun.fetch_add(1, Ordering::SeqCst);
            if first == 10 {
                wait(&made, 2);
            }
            Ok(images.iter().enumerate().map(|(i, image)| (first + i, image.rgb[0])).collect())
        };
        let found = beside(10, judge, |hand| {
            hand(images(&[1, 2]))?;
            wait(&begun, 1);
            hand(images(&[3]))?;
            made.store(2, Ordering::SeqCst);
            Ok(())
        });
        assert_eq!(found.unwrap().unwrap(), [(10, 1), (11, 2), (12, 3)]);
    }

    #[test]
    fn the_first_error_ends_it() {
        let fails = |_: &[Image], _: usize| -> Judged<u8, &str> { Err("x") };
        let made = AtomicUsize::new(0);
        let found = beside(0, fails, |hand| {
            while made.fetch_add(1, Ordering::SeqCst) < 1_000_000 {
                hand(images(&[1]))?;
            }
            Ok(())
        });
        assert_eq!(found.unwrap(), Err("x"));
        assert!(made.load(Ordering::SeqCst) < 1_000_000, "nothing more is made for a judge that has ended");
        // What makes images fails: what was judged is of no use.
        let judged = Mutex::new(0);
        let counts = |images: &[Image], _: usize| -> Judged<_, ()> {
            *judged.lock().unwrap() += images.len();
            Ok(vec![(); images.len()])
        };
        let found = beside(0, counts, |hand| {
            hand(images(&[1]))?;
            Err(anyhow!("a latent is not finite"))
        });
        assert_eq!(found.unwrap_err().to_string(), "a latent is not finite");
        assert_eq!(*judged.lock().unwrap(), 1);
    }
}
