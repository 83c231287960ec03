//! Starting values of fresh tensors, from a seed and the tensor's own name.
//!
//! libtorch's generator is global state and its order of use would matter; here each tensor has its own stream.

use tch::{Device, Kind, Tensor};

/// How a fresh tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal with mean zero and this standard deviation.
    Normal(f64),
    /// Uniform in plus or minus this bound.
    Uniform(f64),
    /// Uniform with bound sqrt(6 / (fan in + fan out)), for weights of two or more dimensions.
    Xavier,
    /// PyTorch's default for linear and convolution weights: uniform with bound 1 / sqrt(fan in).
    FanIn,
}

impl Init {
    /// The same start with nothing exactly zero.
    pub(crate) fn dense(self) -> Init {
        if self == Init::Zeros { Init::Normal(0.05) } else { self }
    }
}

/// An f32 tensor on the CPU.
pub(crate) fn make(init: Init, shape: &[i64], seed: u64, name: &str) -> Tensor {
    let numel = shape.iter().product::<i64>() as usize;
    let fan_in: i64 = shape.iter().skip(1).product();
    let fan_out: i64 = shape.first().copied().unwrap_or(1) * shape.iter().skip(2).product::<i64>();
    let mut stream = Stream::new(seed, name);
    let mut uniform = |bound: f64| (0..numel).map(|_| (bound * (2.0 * stream.unit() - 1.0)) as f32).collect::<Vec<_>>();
    let values: Vec<f32> = match init {
        Init::Zeros => return Tensor::zeros(shape, (Kind::Float, Device::Cpu)),
        Init::Ones => return Tensor::ones(shape, (Kind::Float, Device::Cpu)),
        Init::Uniform(bound) => uniform(bound),
        Init::Xavier => uniform((6.0 / (fan_in + fan_out).max(1) as f64).sqrt()),
        Init::FanIn => uniform(1.0 / (fan_in.max(1) as f64).sqrt()),
        Init::Normal(std) => (0..numel).map(|_| (std * stream.normal()) as f32).collect(),
    };
    Tensor::from_slice(&values).reshape(shape)
}

/// SplitMix64 started at a hash of seed and name.
struct Stream {
    state: u64,
    spare: Option<f64>,
}

impl Stream {
    fn new(seed: u64, name: &str) -> Stream {
        // FNV-1a over the name; the seed is mixed in by one round of the generator first.
        let start = Stream { state: seed, spare: None }.next();
        let state =
            name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ start, |h, b| (h ^ b as u64).wrapping_mul(0x100_0000_01b3));
        Stream { state, spare: None }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        if let Some(z) = self.spare.take() {
            return z;
        }
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.unit()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }
}
