"""One DDP around everything that computes the loss of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.ground.stage import Stage


class WholeBatch(torch.nn.Module):
    """``compute_forward`` and ``compute_objectives`` of a recipe as one forward pass.

    Its parameters are those of the Brain's ``modules``, so that DDP around it exchanges all
    gradients of a batch together, however the recipe calls its modules.
    """

    def __init__(self, brain: BrainProtocol) -> None:
        """Compute with ``brain``."""
        super().__init__()
        self.brain_modules = brain.modules
        self.__dict__["_brain"] = brain
        self.__dict__["outputs"] = None

    _brain: BrainProtocol
    outputs: Any
    """What the last ``compute_forward`` returned; DDP is to see the loss only."""

    def forward(self, batch: Any) -> torch.Tensor:
        """Return the loss of a training batch."""
        brain = self._brain
        outputs = brain.compute_forward(batch, Stage.TRAIN)
        self.__dict__["outputs"] = outputs
        loss: torch.Tensor = brain.compute_objectives(outputs, batch, Stage.TRAIN)
        return loss


def wrap_whole(
    brain: BrainProtocol, before: DistributedDataParallel | None
) -> DistributedDataParallel:
    """Return DDP around ``brain``'s batches, the one of ``before`` if its parameters still hold.

    Batches are not moved, and batch norms in trained entries become synchronized ones.
    """
    for key, module in brain.modules.items():
        if any(parameter.requires_grad for parameter in module.parameters()):
            brain.modules[key] = torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    if before is not None and _trained(before) == _trained(brain.modules):
        return before
    return DistributedDataParallel(
        WholeBatch(brain), find_unused_parameters=brain.find_unused_parameters
    )


def _trained(module: torch.nn.Module) -> list[int]:
    return [id(each) for each in module.parameters() if each.requires_grad]
