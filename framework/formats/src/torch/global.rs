//! The names that a pickle may use.
//!
//! A pickle builds objects by calling what it names, anything that Python can import. Here a name is one of a fixed
//! list, each with a meaning of its own in [`super::call`]; nothing is ever looked up by a name from a file. What real
//! checkpoints hold beside tensors decided the list: arguments of the training script, NumPy's scalars in meters and
//! schedules, the dictionary classes of Lightning and VISSL.

use crate::{
    Dtype,
    error::{Error, visible},
};

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// A class that is a dictionary in all that matters.
    Dict,
    /// `collections.defaultdict`, whose first argument is not its content.
    DefaultDict,
    Namespace,
    List,
    Tuple,
    Set,
    /// `bytearray` and, in old protocols, empty `bytes`.
    Bytes,
    /// `_codecs.encode`, by which old protocols spell bytes.
    Encode,
    /// A class of paths, made of its parts.
    Path,
    /// `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`.
    Tensor,
    /// `torch._utils._rebuild_tensor_v3`, with an element type apart from the storage.
    TypedTensor,
    /// `torch._utils._rebuild_parameter`, also the form with attributes.
    Parameter,
    /// `torch._tensor._rebuild_from_type_v2`: a tensor with attributes.
    TensorWithAttributes,
    /// The class of tensors or parameters, only ever an argument.
    TensorClass,
    /// A class of storages; none counts bytes.
    Storage(Option<Dtype>),
    Dtype(Dtype),
    Size,
    Device,
    NumpyScalar,
    NumpyDtype,
    /// `numpy.core.multiarray._reconstruct`.
    NumpyArray,
    /// `numpy.ndarray`, only ever an argument.
    NumpyArrayClass,
    /// A class that serves as a key of a dictionary and is never called; its name stands for it.
    Key,
}

/// The meaning of `module.name`.
///
/// # Errors
/// The name is not on the list.
pub(super) fn find(module: &str, name: &str) -> Result<Global, Error> {
    let known = match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("collections", "defaultdict") => Some(Global::DefaultDict),
        ("collections", "Counter")
        | ("builtins" | "__builtin__", "dict")
        | (
            "pytorch_lightning.utilities.parsing"
            | "lightning_fabric.utilities.data"
            | "lightning.fabric.utilities.data",
            "AttributeDict",
        )
        | ("vissl.utils.hydra_config" | "vissl.config.attr_dict", "AttrDict") => Some(Global::Dict),
        ("argparse", "Namespace") => Some(Global::Namespace),
        ("builtins" | "__builtin__", "list") => Some(Global::List),
        ("builtins" | "__builtin__", "tuple") => Some(Global::Tuple),
        ("builtins" | "__builtin__", "set" | "frozenset") => Some(Global::Set),
        ("builtins" | "__builtin__", "bytearray" | "bytes") => Some(Global::Bytes),
        ("_codecs", "encode") => Some(Global::Encode),
        (
            "pathlib" | "pathlib._local",
            "PosixPath" | "PurePosixPath" | "WindowsPath" | "PureWindowsPath" | "Path",
        ) => Some(Global::Path),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::Tensor),
        ("torch._utils", "_rebuild_tensor_v3") => Some(Global::TypedTensor),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Some(Global::Parameter)
        }
        ("torch._tensor", "_rebuild_from_type_v2") => Some(Global::TensorWithAttributes),
        ("torch" | "torch._tensor", "Tensor")
        | ("torch.nn.parameter", "Parameter" | "Buffer")
        | ("torch.nn", "Parameter") => Some(Global::TensorClass),
        ("torch.storage" | "torch", "UntypedStorage") => Some(Global::Storage(None)),
        ("torch", "Size") => Some(Global::Size),
        ("torch", "device") => Some(Global::Device),
        ("torch" | "torch.cuda", _) => Dtype::of_storage_class(name)
            .map(|dtype| Global::Storage(Some(dtype)))
            .or_else(|| Dtype::of_name(name).map(Global::Dtype)),
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Some(Global::NumpyScalar),
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
            Some(Global::NumpyArray)
        }
        ("numpy", "dtype") => Some(Global::NumpyDtype),
        ("numpy", "ndarray") => Some(Global::NumpyArrayClass),
        // Older versions of Lightning file the state of each callback under its class.
        (callback, _) if callback.starts_with("pytorch_lightning.callbacks.") => Some(Global::Key),
        _ => None,
    };
    known.ok_or_else(|| refuse(module, name))
}

fn refuse(module: &str, name: &str) -> Error {
    let full = visible(&format!("{module}.{name}"));
    let parts_of = |package: &str| {
        let rest = module.strip_prefix(package);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let save_weights =
        "save the weights alone, such as with `torch.save(model.state_dict(), path)`";
    if parts_of("torch.nn") || parts_of("torchvision") || parts_of("timm") || parts_of("__torch__")
    {
        return Error::code(format!(
            "holds a whole model rather than its weights: it names `{full}`, and such a file runs that code when \
             Python opens it"
        ))
        .remedy(format!(
            "if you trust its maker, open it in Python and {save_weights}"
        ));
    }
    if module == "torch._utils" || module.starts_with("torch.") && name.starts_with("_rebuild") {
        return Error::content(format!(
            "holds a kind of tensor that is not read, made by `{full}`"
        ))
        .remedy(format!("turn it into a dense tensor, then {save_weights}"));
    }
    Error::code(format!(
        "names `{full}`, which weights do not need: such a file runs code when Python opens it, and is refused"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn only_listed_names_have_a_meaning() {
        assert_eq!(
            find("torch", "BFloat16Storage"),
            Ok(Global::Storage(Some(Dtype::BF16)))
        );
        assert_eq!(
            find(
                "pytorch_lightning.callbacks.model_checkpoint",
                "ModelCheckpoint"
            ),
            Ok(Global::Key)
        );
        assert_eq!(
            find("torch", "float8_e5m2"),
            Ok(Global::Dtype(Dtype::F8E5M2))
        );
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("__builtin__", "getattr"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("torch.serialization", "load"),
            ("numpy", "load"),
            ("collections", "OrderedDict.fromkeys"),
            ("collections.OrderedDict", ""),
            ("torch.nn.modules.linear", "Linear"),
        ] {
            let error = find(module, name).unwrap_err();
            assert_eq!(error.kind(), Kind::Code, "{module}.{name}");
            assert!(error.problem().contains(&format!("`{module}.{name}`")));
        }
        let sparse = find("torch._utils", "_rebuild_sparse_tensor").unwrap_err();
        assert_eq!(sparse.kind(), Kind::Content);
    }
}
