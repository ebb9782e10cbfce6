"""The strategy FSDP2 and its settings: what of each entry of ``modules`` is sharded, and how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from brain_lightning.ground.errors import OptionError

_DTYPES = {
    "fp32": torch.float32,
    "float32": torch.float32,
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class FSDP2:
    """``trainer.strategy``: parameters, gradients and optimizer states in parts, one a process.

    Each trainable entry of ``modules`` is sharded on its own, in place, with torch's
    ``fully_shard``. ``"fsdp2"`` is the same with these defaults. In YAML::

        trainer:
            strategy: !new:brain_lightning.FSDP2
                wrap: [TransformerEncoderLayer]

    Args:
        wrap: classes, or their names, whose instances are gathered one at a time. Without it, and
            without ``wrap_parameters``, an entry is gathered as a whole.
        wrap_parameters: gather a part by itself once it has so many parameters of its own.
        param_dtype: gather and compute with parameters of this type (``"bf16"``). It must be the
            type of ``precision`` and of ``eval_precision``. Without it, parameters are gathered as
            they are, and ``precision`` rules by autocast, as under DDP.
        reduce_dtype: exchange gradients in this type.
        cpu_offload: keep parameters, gradients and optimizer states in the CPU's memory.
        reshard_after_forward: free the gathered parameters between forward and backward. Without
            it they are exchanged once less for each batch; then every forward pass whose module
            steps next must have been followed by its backward pass.
    """

    wrap: Iterable[str | type[torch.nn.Module]] = ()
    wrap_parameters: int | None = None
    param_dtype: str | torch.dtype | None = None
    reduce_dtype: str | torch.dtype | None = None
    cpu_offload: bool = False
    reshard_after_forward: bool = True

    def __post_init__(self) -> None:
        """Check the settings, and bring each into one form.

        Raises:
            OptionError: one of them cannot be.
        """
        wrap = (self.wrap,) if isinstance(self.wrap, (str, type)) else tuple(self.wrap)
        for each in wrap:
            if not isinstance(each, (str, type)):
                raise OptionError(f"FSDP2: wrap holds {each!r}; give classes or their names.")
        if self.wrap_parameters is not None and not _is_positive(self.wrap_parameters):
            raise OptionError(
                f"FSDP2: wrap_parameters={self.wrap_parameters!r} is no number of parameters; "
                "give 1 or more, such as 1_000_000."
            )
        object.__setattr__(self, "wrap", wrap)
        for name in ("param_dtype", "reduce_dtype"):
            object.__setattr__(self, name, _as_dtype(name, getattr(self, name)))

    def wraps(self, module: torch.nn.Module) -> bool:
        """Whether ``wrap`` names the class of a module, or one of its bases."""
        kinds = type(module).__mro__
        return any(
            each in kinds if isinstance(each, type) else each in (kind.__name__ for kind in kinds)
            for each in self.wrap
        )


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _as_dtype(name: str, value: object) -> torch.dtype | None:
    if value is None or isinstance(value, torch.dtype):
        return value
    if value in _DTYPES:
        return _DTYPES[str(value)]
    raise OptionError(f"FSDP2: {name}={value!r} is none of fp32, bf16, fp16.")
