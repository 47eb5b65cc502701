//! The tensors that cross plugin borders: run-time sizes, one element type, one device.
//!
//! Plugins compute with ordinary dfdx operations. What dfdx's public interface lacks stands here, for both devices:
//! the thread's device, host data in and out ([`import`], [`values`]), gradients inside a custom operation
//! ([`gradient`], [`add_gradient`]), rows replaced in place ([`replace_rows`]) and trained parameters as tensors
//! ([`parameter`]). A newcomer's traps: a permuted or broadcast tensor shares the buffer of the tensor it came from, so
//! its physical order is not its logical one ([`values`] always gives the logical one); and a tensor with a tape must
//! stay on the thread that made it.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{
        Gradients, HasErr, NoneTape, OwnedTape, PutTape, Tape, Tensor, TensorFromVec, ZerosTensor,
    },
};
use smallfry_nn::Parameters;

/// The device of every border tensor; the `cuda` feature makes it a GPU.
pub type Device = dfdx::tensor::AutoDevice;

/// What goes wrong on a device: in practice, memory that runs out.
pub type DeviceError = <Device as HasErr>::Err;

/// The shape of a batch of embeddings, `[batch, width]`.
pub type Features = (usize, usize);

/// A tensor that records nothing.
pub type Plain<S> = Tensor<S, f32, Device, NoneTape>;

/// A tensor that carries the tape of the operations that made it.
pub type Traced<S> = Tensor<S, f32, Device, OwnedTape<f32, Device>>;

thread_local! {
    // Opening a GPU loads every kernel, so each thread does it once.
    static DEVICE: Device = Device::default();
}

/// The device of this thread.
pub fn device() -> Device {
    DEVICE.with(Clone::clone)
}

/// A tensor of `values`, row-major; on the CPU the vector is moved, not copied.
///
/// # Panics
/// If the number of values is not that of the shape.
pub fn import<S: Shape>(values: Vec<f32>, shape: S) -> Plain<S> {
    device().tensor_from_vec(values, shape)
}

/// The elements of a tensor in row-major order: borrowed where they lie so in host memory, copied otherwise.
pub fn values<S: Shape, T>(tensor: &Tensor<S, f32, Device, T>) -> Cow<'_, [f32]> {
    #[cfg(not(feature = "cuda"))]
    if let Some(values) = contiguous(tensor) {
        return Cow::Borrowed(values);
    }
    Cow::Owned(tensor.as_vec())
}

/// The one element of a scalar.
pub fn scalar<T>(tensor: &Tensor<(), f32, Device, T>) -> f32 {
    tensor.as_vec()[0]
}

/// The elements of a CPU tensor in place, unless its strides are not those of its shape.
#[cfg(not(feature = "cuda"))]
fn contiguous<S: Shape, T>(tensor: &Tensor<S, f32, Device, T>) -> Option<&[f32]> {
    let shape = *tensor.shape();
    let elements = shape.num_elements();
    if elements == 0 {
        return Some(&[]);
    }
    let sizes = shape.concrete();
    let origin = S::Concrete::default();
    let first: *const f32 = &tensor[origin];
    // Strides are private to dfdx: the address of each axis' second element gives them away.
    let mut expected = 1;
    for axis in (0..S::NUM_DIMS).rev() {
        if sizes[axis] > 1 {
            let mut second = origin;
            second[axis] = 1;
            let address: *const f32 = &tensor[second];
            let stride = (address as usize).wrapping_sub(first as usize) / size_of::<f32>();
            if stride != expected {
                return None;
            }
        }
        expected *= sizes[axis];
    }
    // SAFETY: `first` is element 0 of the tensor's one buffer, which every element reached through `Index` lies in; the
    // strides are those of a dense row-major tensor, so the last of `elements` consecutive floats is the tensor's last
    // element and within the buffer. The buffer is borrowed as long as `tensor`, and dfdx writes only through `&mut`.
    Some(unsafe { std::slice::from_raw_parts(first, elements) })
}

/// Overwrites rows `first..` of `target`, `[rows, width]`, with `rows`, `[some, width]`, row-major.
///
/// On the CPU this is in place where no other tensor shares the buffer; on a GPU the whole tensor passes through the
/// host.
///
/// # Panics
/// If `rows` does not fit.
pub fn replace_rows(target: &mut Plain<Features>, first: usize, rows: &[f32]) {
    let (height, width) = *target.shape();
    let start = first * width;
    assert!(
        start + rows.len() <= height * width,
        "{} floats at row {first} do not fit into [{height}, {width}]",
        rows.len()
    );
    if rows.is_empty() {
        return;
    }
    #[cfg(not(feature = "cuda"))]
    if contiguous(target).is_some() {
        let place: *mut f32 = &mut target[[first, 0]];
        // SAFETY: the tensor is dense and row-major (just checked; `IndexMut` may move it to a buffer of its own but
        // keeps the order), so `rows.len()` floats from row `first` on lie within its buffer (asserted above), which is
        // borrowed mutably and which `rows` cannot overlap.
        unsafe { std::slice::from_raw_parts_mut(place, rows.len()) }.copy_from_slice(rows);
        return;
    }
    let mut all = target.as_vec();
    all[start..start + rows.len()].copy_from_slice(rows);
    *target = import(all, (height, width));
}

/// Inside a backward operation: the gradient that has reached `tensor`, row-major.
///
/// # Errors
/// If the device lacks memory.
pub fn gradient<S: Shape>(
    gradients: &mut Gradients<f32, Device>,
    tensor: &Plain<S>,
) -> Result<Vec<f32>, DeviceError> {
    #[cfg(not(feature = "cuda"))]
    return Ok(gradients.get_or_alloc_mut(tensor)?.to_vec());
    #[cfg(feature = "cuda")]
    {
        gradients.try_alloc_for(tensor)?;
        Ok(gradients.get(tensor).as_vec())
    }
}

/// Inside a backward operation: adds `scale` times `values`, row-major, to the gradient of `tensor`, which must be
/// contiguous.
///
/// # Errors
/// If the device lacks memory.
///
/// # Panics
/// If the number of values is not that of the tensor.
pub fn add_gradient<S: Shape>(
    gradients: &mut Gradients<f32, Device>,
    tensor: &Plain<S>,
    values: &[f32],
    scale: f32,
) -> Result<(), DeviceError> {
    #[cfg(not(feature = "cuda"))]
    {
        let slot = gradients.get_or_alloc_mut(tensor)?;
        assert_eq!(slot.len(), values.len());
        for (slot, value) in slot.iter_mut().zip(values) {
            *slot += scale * value;
        }
    }
    #[cfg(feature = "cuda")]
    {
        use cudarc::driver::DeviceSlice;
        let slot = gradients.get_or_alloc_mut(tensor)?;
        assert_eq!(slot.len(), values.len());
        let device = slot.device();
        let mut sum = device.dtoh_sync_copy(&**slot)?;
        for (sum, value) in sum.iter_mut().zip(values) {
            *sum += scale * value;
        }
        device.htod_sync_copy_into(&sum, slot)?;
    }
    Ok(())
}

/// A trained tensor as a leaf of a tape: backward adds its gradient to `parameters`.
///
/// This is how an encoder written in dfdx, without the executor, keeps its weights where optimisers, momentum updates
/// and checkpoints look for them.
///
/// # Panics
/// If no trained tensor is named so, or its size is not that of `shape`.
pub fn parameter<S: Shape>(parameters: &Arc<Mutex<Parameters>>, name: &str, shape: S) -> Traced<S> {
    let (values, place) = {
        let parameters = parameters.lock().unwrap_or_else(PoisonError::into_inner);
        let place = parameters.weight_place(name);
        (parameters.values()[place.clone()].to_vec(), place)
    };
    let leaf = import(values, shape);
    let mut tape = OwnedTape::default();
    let (parameters, tensor) = (parameters.clone(), leaf.clone());
    // Backward runs operations from the youngest to the oldest; this one is older than every use of the leaf.
    tape.add_backward_op(move |gradients| {
        let gradient = gradient(gradients, &tensor)?;
        let mut parameters = parameters.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, sums) = parameters.values_and_gradients_mut();
        for (sum, gradient) in sums[place].iter_mut().zip(&gradient) {
            *sum += gradient;
        }
        Ok(())
    });
    leaf.put_tape(tape)
}

/// A scalar zero on a tape of its own, to which custom operations can be added.
pub fn traced_zero() -> Traced<()> {
    let zero: Plain<()> = device().zeros_like(&());
    zero.put_tape(OwnedTape::default())
}

#[cfg(test)]
mod tests {
    use dfdx::{
        shapes::{Axes2, Axis},
        tensor::SplitTape,
        tensor_ops::{Backward, BroadcastTo, PermuteTo, SumTo, TryMatMul},
    };
    use smallfry_nn::{
        init::Init,
        network::{Role, Spec},
    };

    use super::*;

    fn ramp(rows: usize, columns: usize) -> Plain<Features> {
        import(
            (0..rows * columns).map(|i| i as f32).collect(),
            (rows, columns),
        )
    }

    #[test]
    fn values_are_in_logical_order_whatever_the_strides() {
        let tensor = ramp(2, 3);
        assert_eq!(&*values(&tensor), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        #[cfg(not(feature = "cuda"))]
        assert!(matches!(values(&tensor), Cow::Borrowed(_)));
        let turned: Plain<Features> = tensor.permute::<_, Axes2<1, 0>>();
        assert_eq!(&*values(&turned), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let row = import(vec![7.0, 8.0], (2,));
        let wide: Plain<Features> = row.clone().broadcast_like::<_, Axis<0>>(&(3, 2));
        assert_eq!(&*values(&wide), [7.0, 8.0, 7.0, 8.0, 7.0, 8.0]);
        let tall: Plain<Features> = row.broadcast_like::<_, Axis<1>>(&(2, 2));
        assert_eq!(&*values(&tall), [7.0, 7.0, 8.0, 8.0]);
        assert!(values(&ramp(0, 3)).is_empty());
        assert_eq!(&*values(&ramp(1, 1)), [0.0]);
    }

    #[test]
    fn replaced_rows_leave_copies_alone() {
        let mut tensor = ramp(3, 2);
        let before = tensor.clone();
        replace_rows(&mut tensor, 1, &[9.0, 8.0]);
        assert_eq!(&*values(&tensor), [0.0, 1.0, 9.0, 8.0, 4.0, 5.0]);
        assert_eq!(&*values(&before), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let mut turned: Plain<Features> = ramp(2, 3).permute::<_, Axes2<1, 0>>();
        replace_rows(&mut turned, 2, &[9.0, 8.0]);
        assert_eq!(&*values(&turned), [0.0, 3.0, 1.0, 4.0, 9.0, 8.0]);
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn rows_beyond_the_end_are_refused() {
        replace_rows(&mut ramp(3, 2), 2, &[0.0; 3]);
    }

    #[test]
    fn a_parameter_collects_its_gradient_from_every_use() {
        let spec = Spec {
            name: "w".into(),
            shape: vec![2, 2],
            role: Role::Weight,
            init: Init::Constant(0.0),
        };
        let mut parameters = Parameters::new(vec![spec]);
        parameters
            .values_mut()
            .copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
        let parameters = Arc::new(Mutex::new(parameters));
        let (w, tape) = parameter(&parameters, "w", (2, 2)).split_tape();
        // loss = sum(w · c + w): each element's gradient is one plus its column's row sum of c.
        let product = w
            .clone()
            .put_tape(tape)
            .matmul(import(vec![1.0, 2.0, 3.0, 4.0], (2, 2)));
        let loss = (product + w).sum::<(), _>();
        assert_eq!(scalar(&loss), 64.0);
        loss.backward();
        let parameters = parameters.lock().expect("no test panics with it");
        assert_eq!(parameters.gradient("w"), [4.0, 8.0, 4.0, 8.0]);
    }
}
