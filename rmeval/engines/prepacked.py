"""Linear layers whose weights are laid out once as oneDNN reads them, instead of at every call: float32 on a CPU.

The operators are torch's own and private, so all that is asked of them is tried: they are there, and every layer gives
what it gave before. What fails is left as it was. The plain copy of the weights is let go.

What this module does not know: models, what the layers are for.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

TOLERANCE = 1e-5
"""Largest accepted difference of a layer's outputs, as a share of the largest of them."""
_TRIED = 8
"""Rows of numbers that a layer is tried on."""


def prepack(model: Any) -> int:
    """Replace the linear layers of a model by packed ones, those that share weights excepted; returns how many."""
    import torch

    owners: dict[int, int] = {}
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            owners[id(weight)] = owners.get(id(weight), 0) + 1
    count = 0
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is not torch.nn.Linear or owners[id(layer.weight)] > 1:
                continue
            packed = pack(layer)
            if packed is not None:
                setattr(module, name, packed)
                count += 1
    return count


def available() -> bool:
    """Whether this torch has the operators, and oneDNN."""
    import torch

    ops, backend = torch.ops.mkldnn, cast("Any", torch.backends.mkldnn)
    return bool(
        backend.is_available()
        and backend.enabled
        and hasattr(ops, "_reorder_linear_weight")
        and hasattr(ops, "_linear_pointwise")
    )


def pack(layer: Any) -> Any:
    """A packed layer that gives what a plain one does; None where there is none."""
    import torch

    if not available() or layer.weight.dtype != torch.float32 or layer.weight.device.type != "cpu":
        return None
    given = torch.linspace(-1, 1, _TRIED * layer.in_features).reshape(_TRIED, -1).sin()
    try:
        with torch.no_grad():
            packed = _kind()(layer).eval()
            before, after = layer(given), packed(given)
    except (RuntimeError, TypeError):  # a private operator may be gone or want other arguments: the layer stays
        return None
    apart = float((before - after).abs().max())
    return packed if apart <= TOLERANCE * max(1.0, float(before.abs().max())) else None


@cache
def _kind() -> Any:
    """The class of a packed layer: torch is imported where it is needed."""
    import torch

    class Prepacked(torch.nn.Module):
        """`torch.nn.Linear` on packed weights."""

        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.in_features, self.out_features = layer.in_features, layer.out_features
            # model code may ask a layer for the shape, dtype and device of its weight, which the packed one has too
            packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())  # noqa: SLF001
            self.weight = torch.nn.Parameter(packed, requires_grad=False)
            self.bias = layer.bias

        def forward(self, given: Any) -> Any:
            return torch.ops.mkldnn._linear_pointwise(given, self.weight, self.bias, "none", [], "")  # noqa: SLF001

    return Prepacked
