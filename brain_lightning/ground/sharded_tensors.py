"""Whether a tensor is one of which each process has a part."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_HOME = "torch.distributed.tensor"


def is_sharded_tensor(value: object) -> TypeGuard[DTensor]:
    """Whether ``value`` is a DTensor. Where nothing is sharded, their module is not imported."""
    kind = getattr(sys.modules.get(_HOME), "DTensor", None)
    return kind is not None and isinstance(value, kind)
