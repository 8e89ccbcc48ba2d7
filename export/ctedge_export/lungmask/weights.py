"""What torch does for an export of the U-Net R231: it reads the weights, and answers as trained."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from ctedge.errors import BundleNotFound, InvalidBundle, UnsafeModel
from ctedge_export.lungmask import network
from ctedge_export.lungmask.gate import Floats, Reference
from ctedge_export.lungmask.network import EPSILON, Weights

#: The published file has 0.13 GB.
MAX_WEIGHTS_BYTES = 1 << 30


def read_weights(path: Path) -> bytes:
    """The bytes of the file; nothing of them is understood yet.

    Raises:
        BundleNotFound: there is no such file.
        InvalidBundle: it is too large.
    """
    try:
        size = path.stat().st_size
        if size > MAX_WEIGHTS_BYTES:
            raise InvalidBundle(
                f"{path} is too large for the weights of a U-Net",
                found=f"{size} bytes",
                expected=f"at most {MAX_WEIGHTS_BYTES}",
                fix="give the file unet_r231-*.pth that its authors publish",
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise BundleNotFound(
            f"the weights {path} cannot be read",
            found=error,
            fix="name the file unet_r231-*.pth; ctedge downloads none",
        ) from error


def state_dict(data: bytes, torch: ModuleType) -> dict[str, Floats]:
    """The tensors of a state dict, as NumPy arrays; shapes are compared before any is converted.

    Raises:
        UnsafeModel: the file wants more of Python than tensors.
        InvalidBundle: it is damaged, or holds another network.
    """
    try:
        with warnings.catch_warnings():  # of a file that is refused anyway
            warnings.simplefilter("ignore")
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeModel(
            "the weights are no plain tensors, and torch refuses to load them",
            found=str(error).partition("\n")[0][:200],
            expected="a state dict that torch.load(weights_only=True) reads",
            fix="do not load this file otherwise; fetch it again from its authors",
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError and others
        raise InvalidBundle(
            "the file of the weights is damaged",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            expected="a state dict saved by torch",
            fix="fetch it again from its authors",
        ) from error
    if not isinstance(loaded, dict) or not all(map(torch.is_tensor, loaded.values())):
        raise InvalidBundle(
            "the file holds no state dict",
            found=type(loaded).__name__,
            expected="tensors by name",
            fix="save model.state_dict(), not the model or a checkpoint around it",
        )
    network.check_shapes({name: _facts(tensor, torch) for name, tensor in loaded.items()})
    counters = set(network.counters())
    return {
        name: tensor.detach().contiguous().numpy()
        for name, tensor in loaded.items()
        if name not in counters
    }


def _facts(tensor: Any, torch: ModuleType) -> tuple[tuple[int, ...], str]:
    kind = tensor.dtype if tensor.layout == torch.strided else tensor.layout
    return tuple(tensor.shape), str(kind).removeprefix("torch.")


def torch_reference(weights: Weights, torch: ModuleType) -> Reference:
    """The network as it was trained, in torch: nothing folded, nothing moved."""
    state = {name: torch.from_numpy(values) for name, values in weights.items()}
    functional = torch.nn.functional

    def block(x: Any, name: str) -> Any:
        for convolution, norm in ((0, 2), (3, 5)):
            kernel, bias = (state[f"{name}.{convolution}.{part}"] for part in ("weight", "bias"))
            x = functional.relu(functional.conv2d(x, kernel, bias, padding=1))
            mean, variance, scale, shift = (
                state[f"{name}.{norm}.{part}"]
                for part in ("running_mean", "running_var", "weight", "bias")
            )
            x = functional.batch_norm(x, mean, variance, scale, shift, eps=EPSILON)
        return x

    def answer(batch: Floats) -> Floats:
        down, x = [], torch.from_numpy(batch)
        with torch.inference_mode():
            for level in range(len(network.WIDTHS)):
                x = block(functional.avg_pool2d(x, 2) if level else x, f"down_path.{level}.block")
                down.append(x)
            for step, joined in enumerate(reversed(down[:-1])):
                name = f"up_path.{step}"
                x = functional.interpolate(x, scale_factor=2, mode="bilinear")
                x = functional.conv2d(x, state[f"{name}.up.1.weight"], state[f"{name}.up.1.bias"])
                x = block(torch.cat([x, joined], 1), f"{name}.conv_block.block")
            x = functional.conv2d(x, state["last.weight"], state["last.bias"])
            found: Floats = functional.log_softmax(x, 1).numpy()
        return found

    return answer
