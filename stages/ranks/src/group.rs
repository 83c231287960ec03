//! Processes that hold each other by libtorch's collectives.

use anyhow::{Result, anyhow, bail};
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tch::{Device, Tensor};
use torch_sys::C_tensor;

#[repr(C)]
struct RawStore([u8; 0]);

#[repr(C)]
struct RawGroup([u8; 0]);

unsafe extern "C" {
    fn ranks_error() -> *const c_char;
    fn ranks_store(
        host: *const c_char,
        port: u16,
        server: c_int,
        timeout: i64,
        out: *mut *mut RawStore,
        bound: *mut u16,
    ) -> c_int;
    fn ranks_gloo(
        store: *mut RawStore,
        rank: c_int,
        world: c_int,
        at: *const c_char,
        interface: c_int,
        timeout: i64,
        out: *mut *mut RawGroup,
    ) -> c_int;
    fn ranks_nccl(store: *mut RawStore, rank: c_int, world: c_int, timeout: i64, out: *mut *mut RawGroup) -> c_int;
    fn ranks_gather(group: *mut RawGroup, own: *mut C_tensor, all: *const *mut C_tensor, count: usize) -> c_int;
    fn ranks_broadcast(group: *mut RawGroup, tensor: *mut C_tensor, root: c_int) -> c_int;
    fn ranks_free_group(group: *mut RawGroup);
    fn ranks_free_store(store: *mut RawStore);
}

/// Another process is gone, or did not answer in time.
#[derive(Debug)]
pub struct Parted(String);

impl fmt::Display for Parted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.0.lines().next().unwrap_or_default();
        write!(f, "the processes of the stage have lost each other: {first}")
    }
}

impl std::error::Error for Parted {}

fn checked(code: c_int) -> Result<(), Parted> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the words live as long as this thread, and are copied here.
    let words = unsafe { CStr::from_ptr(ranks_error()) };
    Err(Parted(words.to_string_lossy().into_owned()))
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Where the processes of a stage find each other: a TCPStore.
#[derive(Debug)]
pub struct Meeting {
    raw: *mut RawStore,
    port: u16,
}

impl Meeting {
    /// Opens the server, on any free port for 0.
    ///
    /// # Errors
    /// The port is taken.
    pub fn open(host: &str, port: u16, timeout: Duration) -> Result<Self> {
        Self::new(host, port, true, timeout)
    }

    /// Finds the server that another process has opened, and waits for it at most `timeout`.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn find(host: &str, port: u16, timeout: Duration) -> Result<Self> {
        Self::new(host, port, false, timeout)
    }

    fn new(host: &str, port: u16, server: bool, timeout: Duration) -> Result<Self> {
        let host = CString::new(host)?;
        let (mut raw, mut bound) = (std::ptr::null_mut(), 0);
        // SAFETY: the pointers are to values of this frame, which the call fills in.
        checked(unsafe {
            ranks_store(host.as_ptr(), port, server.into(), milliseconds(timeout), &raw mut raw, &raw mut bound)
        })?;
        Ok(Self { raw, port: bound })
    }

    /// The port of the server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        // SAFETY: made by `ranks_store`, and freed once.
        unsafe { ranks_free_store(self.raw) }
    }
}

/// What carries tensors between processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Gloo, by the machine's memory; tensors of a GPU are copied there and back.
    Gloo,
    /// NCCL, between GPUs.
    Nccl,
}

impl Backend {
    /// That of a device in this build.
    #[must_use]
    pub fn of(device: Device) -> Self {
        if device.is_cuda() && cfg!(not(without_nccl)) { Self::Nccl } else { Self::Gloo }
    }
}

/// How long a process has been in calls that wait for others.
#[derive(Debug, Default)]
struct Waits {
    before: Duration,
    since: Option<Instant>,
}

/// A process among those of a stage.
pub struct Group {
    raw: *mut RawGroup,
    rank: usize,
    world: usize,
    /// Where a tensor must be to travel.
    travels: Device,
    /// Collectives are in one order, the same everywhere.
    alone: Mutex<()>,
    waits: Mutex<Waits>,
    // Freed after the group, which speaks through it.
    _meeting: Meeting,
}

// SAFETY: the group's calls are made one at a time, under its lock, from whatever thread.
unsafe impl Send for Group {}
// SAFETY: as above.
unsafe impl Sync for Group {}

impl Group {
    /// Joins `world` processes as number `rank`. `at`: for Gloo, this host's name or address, or after `interface:` the name of a
    /// network interface. Tensors of `device` are what NCCL carries. Every wait has the deadline `timeout`.
    ///
    /// # Errors
    /// [`Parted`]: not all came in time.
    pub fn join(
        meeting: Meeting,
        rank: usize,
        world: usize,
        backend: Backend,
        at: &str,
        device: Device,
        timeout: Duration,
    ) -> Result<Self> {
        if rank >= world {
            bail!("process {rank} of {world}: numbers begin at 0");
        }
        let (place, count, time) = (c_int::try_from(rank)?, c_int::try_from(world)?, milliseconds(timeout));
        let (name, interface) = match at.strip_prefix("interface:") {
            Some(interface) => (CString::new(interface)?, 1),
            None => (CString::new(at)?, 0),
        };
        let mut raw = std::ptr::null_mut();
        // SAFETY: the store is open, the words outlive the call, and the last pointer is to a value of this frame.
        checked(unsafe {
            match backend {
                Backend::Gloo => ranks_gloo(meeting.raw, place, count, name.as_ptr(), interface, time, &raw mut raw),
                Backend::Nccl => ranks_nccl(meeting.raw, place, count, time, &raw mut raw),
            }
        })?;
        let travels = if backend == Backend::Nccl { device } else { Device::Cpu };
        Ok(Self { raw, rank, world, travels, alone: Mutex::new(()), waits: Mutex::default(), _meeting: meeting })
    }

    /// The number of this process, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    #[must_use]
    pub fn world(&self) -> usize {
        self.world
    }

    /// How long this process has been in calls that wait for others, in all and in the one that it is in.
    #[must_use]
    pub fn waited(&self) -> (Duration, Option<Duration>) {
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        let now = waits.since.map(|since| since.elapsed());
        (waits.before + now.unwrap_or_default(), now)
    }

    /// Makes one call, alone, which waits for others.
    fn call(&self, call: impl FnOnce() -> c_int) -> Result<(), Parted> {
        let _one = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = || self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits().since = Some(Instant::now());
        let done = checked(call());
        let mut over = waits();
        let this = over.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        over.before += this;
        drop(over);
        done
    }

    /// What each process has, in their order: tensors of one shape and kind, on the device of `own`.
    ///
    /// # Errors
    /// [`Parted`].
    pub fn gather(&self, own: &Tensor) -> Result<Vec<Tensor>> {
        let _off = tch::no_grad_guard();
        let mut sent = own.detach().to_device(self.travels).contiguous();
        let mut all: Vec<Tensor> = (0..self.world).map(|_| sent.empty_like()).collect();
        let into: Vec<*mut C_tensor> = all.iter_mut().map(Tensor::as_mut_ptr).collect();
        // SAFETY: the tensors outlive the call, which waits until they are filled.
        self.call(|| unsafe { ranks_gather(self.raw, sent.as_mut_ptr(), into.as_ptr(), into.len()) })?;
        Ok(all.into_iter().map(|t| t.to_device(own.device())).collect())
    }

    /// The tensor of process `root`; `own` gives shape and kind, and there the values.
    ///
    /// # Errors
    /// [`Parted`].
    pub fn broadcast(&self, own: &Tensor, root: usize) -> Result<Tensor> {
        let _off = tch::no_grad_guard();
        let place = c_int::try_from(root).map_err(|_| anyhow!("there is no process {root}"))?;
        let sent = own.detach().to_device(self.travels).contiguous();
        // Others write into it.
        let mut sent = if self.rank == root { sent } else { sent.copy() };
        // SAFETY: the tensor outlives the call, which waits until it is filled.
        self.call(|| unsafe { ranks_broadcast(self.raw, sent.as_mut_ptr(), place) })?;
        Ok(sent.to_device(own.device()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by `ranks_gloo` or `ranks_nccl`, and freed once.
        unsafe { ranks_free_group(self.raw) }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.rank, self.world)
    }
}
