//! Operators as they were asked for, of real work on a CPU; and a GPU's trace as PyTorch's documentation shows its events.

use opdflow_profiler::{Profile, profiled, read};
use std::path::Path;
use tch::{Device, Kind, Tensor};

fn product(n: usize) -> Tensor {
    let x = Tensor::ones([4, 4], (Kind::Float, Device::Cpu));
    (0..n).fold(x.shallow_clone(), |y, _| y.mm(&x))
}

#[test]
fn what_is_asked_for_is_counted_and_the_trace_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, n: usize, numbers: usize| {
        let work = || Ok((0..numbers).map(|_| product(n).double_value(&[0, 0])).sum::<f64>());
        profiled(false, &folder.path().join(name), work).unwrap()
    };
    let ((four, once), (_, twice)) = (of("once", 1, 1), of("twice", 1, 2));
    assert_eq!(four, 4.0);
    assert_eq!((once.numbers_read, twice.numbers_read), (1, 2));
    assert_eq!(twice.operators, 2 * once.operators);
    assert!((of("more", 11, 1).1.operators - once.operators).is_multiple_of(10), "each product is the same again");
    assert_eq!((once.launches, once.kernels, once.copies, once.synchronisations), (0, 0, 0, 0), "no GPU");
    let text = std::fs::read_to_string(folder.path().join("once")).unwrap();
    assert!(text.contains("aten::mm") && text.contains("traceEvents"));
}

#[test]
fn gradients_are_counted_too() {
    let folder = tempfile::tempdir().unwrap();
    let x = Tensor::ones([4, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let count = |name: &str, backward: bool| {
        let work = || {
            let y = x.mm(&x).sum(Kind::Float);
            if backward {
                y.backward();
            }
            Ok(())
        };
        profiled(false, &folder.path().join(name), work).unwrap().1.operators
    };
    let forward = count("forward", false);
    assert!(count("both", true) > forward + 2, "two products at least");
}

#[test]
fn work_that_fails_ends_the_profile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let failed = profiled(false, &path, || -> anyhow::Result<()> { anyhow::bail!("no") });
    assert_eq!(failed.unwrap_err().to_string(), "no");
    let panics = || profiled(false, &path, || -> anyhow::Result<()> { panic!("never") });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert!(!path.exists());
    assert!(profiled(false, &path, || Ok(product(1))).unwrap().1.operators > 0);
    assert!(profiled(false, &folder.path().join("no/such/folder"), || Ok(())).is_err());
}

#[test]
fn a_trace_of_a_gpu_is_counted_by_its_kinds_of_events() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let event = |cat: &str, name: &str, micros: f64| serde_json::json!({"ph": "X", "cat": cat, "name": name, "pid": 0, "tid": 7, "ts": 1.5, "dur": micros, "args": {"stream": 7}});
    let write = |events: &[serde_json::Value]| {
        std::fs::write(&path, serde_json::json!({"schemaVersion": 1, "traceEvents": events}).to_string()).unwrap();
    };
    write(&[
        serde_json::json!({"ph": "M", "name": "process_name", "args": {"name": "x"}}),
        event("cpu_op", "aten::mm", 30.0),
        event("cpu_op", "aten::_local_scalar_dense", 30.0),
        event("cpu_op", "autograd::engine::evaluate_function: MmBackward0", 9.0),
        event("cuda_runtime", "cudaLaunchKernel", 4.0),
        event("cuda_runtime", "cudaLaunchKernelExC", 4.0),
        event("cuda_driver", "cuLaunchKernelEx", 4.0),
        event("cuda_runtime", "cudaGraphLaunch", 4.0),
        event("cuda_runtime", "cudaMemcpyAsync", 4.0),
        event("cuda_runtime", "cudaStreamSynchronize", 400.0),
        event("cuda_runtime", "cudaStreamIsCapturing", 1.0),
        event("kernel", "void cutlass::Kernel2<...>(...)", 250.0),
        event("kernel", "vectorized_elementwise_kernel", 50.0),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 3.0),
    ]);
    let found = read(&path).unwrap();
    let expected = Profile {
        operators: 2,
        numbers_read: 1,
        launches: 4,
        kernels: 2,
        kernel_seconds: found.kernel_seconds,
        copies: 1,
        synchronisations: 1,
    };
    assert_eq!(found, expected);
    assert!((found.kernel_seconds - 300e-6).abs() < 1e-12);
    write(&[]);
    assert!(read(&path).unwrap_err().to_string().contains("no event"));
    assert!(read(Path::new("/no/such/trace")).is_err());
}
