//! The standard output: what a command was asked for goes there, and nothing is lost on the way without a word.

use std::io::{self, ErrorKind, Write as _};
use std::sync::{Mutex, PoisonError};

/// The one way to the standard output. It remembers what could not be written, for the command's end.
#[derive(Debug, Default)]
pub struct Output(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// Nobody reads any more (`opdflow logs ... | head`), which is no fault.
    Closed,
    Failed(String),
}

impl Output {
    /// A line, or several.
    pub fn line(&self, text: &str) {
        self.write(|out| writeln!(out, "{text}"));
    }

    /// Bytes as they are.
    pub fn bytes(&self, bytes: &[u8]) {
        self.write(|out| out.write_all(bytes));
    }

    /// What writes to the standard output by itself, through `print`. Each piece is flushed: only then is it known to be
    /// written.
    pub fn by(&self, print: impl FnOnce() -> io::Result<()>) {
        self.heed(|| print().and_then(|()| io::stdout().flush()));
    }

    /// Columns of the terminal that it is; nothing where it is none.
    pub fn width(&self) -> Option<usize> {
        use std::os::fd::AsRawFd as _;
        if !io::IsTerminal::is_terminal(&io::stdout()) {
            return None;
        }
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the call fills in the place that it is given, which lives until it returns.
        let asked = unsafe { libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        (asked == 0 && size.ws_col > 0).then(|| usize::from(size.ws_col))
    }

    /// Whether it makes no sense to write more.
    pub fn is_over(&self) -> bool {
        !matches!(*self.state(), State::Open)
    }

    /// Why something could not be written, if that was not the reader's own wish.
    pub fn failure(&self) -> Option<String> {
        match &*self.state() {
            State::Failed(why) => Some(why.clone()),
            State::Open | State::Closed => None,
        }
    }

    fn write(&self, print: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) {
        self.heed(|| {
            let mut out = io::stdout().lock();
            print(&mut out).and_then(|()| out.flush())
        });
    }

    fn heed(&self, write: impl FnOnce() -> io::Result<()>) {
        let mut state = self.state();
        if !matches!(*state, State::Open) {
            return;
        }
        match write() {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::BrokenPipe => *state = State::Closed,
            Err(e) => *state = State::Failed(e.to_string()),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
