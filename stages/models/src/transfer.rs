//! Small tensors that the CPU makes in every step, on their way to a GPU that is busy.

use tch::{Device, Tensor};

/// `t` on `device`. Towards a GPU the copy is from pinned memory and is put into the queue behind what was asked for before: the CPU does
/// not wait for that, as it does in [`Tensor::to_device`]. libtorch keeps the pinned memory until the copy is done. Noise, levels and
/// indices go this way.
pub fn send(t: &Tensor, device: Device) -> Tensor {
    match device {
        Device::Cuda(_) if t.device() == Device::Cpu => t.pin_memory(device).to_device_(device, t.kind(), true, false),
        _ => t.to_device(device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_where_it_is() {
        let t = Tensor::from_slice(&[1.0, 2.0]);
        assert_eq!(send(&t, Device::Cpu).data_ptr(), t.data_ptr());
    }
}
