"""Which strategy was asked for, and whether the recipe and this machine allow it."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import connection_of
from brain_lightning.engine.defaults import overridden_places
from brain_lightning.engine.hyperparameters import hyperparameters_of
from brain_lightning.engine.processes.whole_batch import wrap_whole
from brain_lightning.engine.sharded_modules.sharding import shard_entries
from brain_lightning.engine.trainer.placement import check_accelerator
from brain_lightning.engine.trainer.strategy_choice import sharding_policy, strategy_in
from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.sharded_tensors import is_sharded_tensor
from brain_lightning.parts.checkpoints.checkpointer import Checkpointer
from brain_lightning.parts.checkpoints.gathering import why_not_gathered
from brain_lightning.parts.precision.autocast import dtype_of_precision
from brain_lightning.parts.recipe_rules.optimization_rules import OWNED_BY_LIGHTNING
from brain_lightning.parts.recipe_rules.recipe_traits import RecipeTraits
from brain_lightning.parts.recipe_rules.strategy_rules import (
    DDP,
    DEEPSPEED,
    FSDP2,
    WHOLE_MODULE_DDP,
    why_not,
    why_not_beside,
)

logger = get_logger(__name__)


def check_strategy(brain: BrainProtocol) -> None:
    """See that strategy and accelerator that were asked for can be had, before anything is done.

    Raises:
        ValueError: the recipe, or what is installed, does not allow it; says what, and where.
    """
    trainer = connection_of(brain).settings.trainer
    check_accelerator(brain, trainer)
    strategy = strategy_in(trainer)
    if strategy == DEEPSPEED:
        _require_deepspeed()
        if brain.skip_nonfinite_grads:
            logger.warning("skip_nonfinite_grads is ignored: DeepSpeed keeps the gradients.")
    if strategy in (None, DDP):
        return
    assert strategy is not None
    if strategy != DEEPSPEED and not brain.distributed_launch:
        logger.warning(
            "trainer.strategy=%r is ignored: this is one process alone. Start several with "
            "brain-lightning run and --trainer.devices, or with torchrun.",
            trainer["strategy"],
        )
        return
    recipe = RecipeTraits(type(brain).__name__, overridden_places(brain, OWNED_BY_LIGHTNING))
    _require(strategy, trainer["strategy"], recipe)
    if strategy == FSDP2:
        _check_sharding(brain, trainer)


def _require(strategy: str, asked: object, recipe: RecipeTraits) -> None:
    reason = why_not(strategy, recipe)
    if reason is not None:
        raise OptionError(f"trainer.strategy={asked!r} cannot be had: {reason}.")


def _require_deepspeed() -> None:
    if importlib.util.find_spec("deepspeed") is None:
        raise OptionError(
            "trainer.strategy is DeepSpeed's, but the package deepspeed is not installed. Install "
            "it with `pip install deepspeed`, or use fsdp2, which needs no package."
        )


# -- FSDP2 -------------------------------------------------------------------------------------


def _check_sharding(brain: BrainProtocol, trainer: Mapping[str, Any]) -> None:
    if brain.checkpointer is not None and not isinstance(brain.checkpointer, Checkpointer):
        raise OptionError(
            f"trainer.strategy={trainer['strategy']!r} cannot be had with the checkpointer "
            f"{type(brain.checkpointer).__module__}.{type(brain.checkpointer).__name__}, which "
            "would save the main process's part only. Use brain_lightning.Checkpointer, or start "
            "the recipe with brain-lightning run."
        )
    given = trainer.get("callbacks") or ()
    for callback in given if isinstance(given, (list, tuple)) else (given,):
        kinds = [kind.__name__ for kind in type(callback).__mro__]
        reason = why_not_beside(FSDP2, type(callback).__name__, kinds)
        if reason is not None:
            raise OptionError(f"trainer: {reason}.")
    _check_dtype(brain, sharding_policy(trainer).param_dtype)


def _check_dtype(brain: BrainProtocol, dtype: object) -> None:
    if dtype in (None, torch.float32):
        return
    for option in ("precision", "eval_precision"):
        value = getattr(brain, option)
        if dtype_of_precision(value) != dtype:
            raise OptionError(
                f"FSDP2: param_dtype is {dtype}, but the run option {option} is {value!r}. What is "
                f"computed with such parameters needs the same precision: set {option}, or leave "
                "out param_dtype."
            )


def distribute(brain: BrainProtocol, wrap_in_ddp: Callable[..., None]) -> None:
    """Prepare ``modules`` for several processes, as the strategy does it.

    Args:
        brain: the recipe.
        wrap_in_ddp: wraps each entry; given modules, device, backend and find_unused_parameters.

    Raises:
        ValueError: the strategy cannot do it with these modules.
    """
    connection = connection_of(brain)
    strategy = strategy_in(connection.settings.trainer)
    if strategy == FSDP2:
        shard_modules(brain)
    elif strategy == WHOLE_MODULE_DDP:
        connection.whole_batch = wrap_whole(brain, connection.whole_batch)
    elif strategy != DEEPSPEED:
        wrap_in_ddp(
            brain.modules, brain.device, brain.distributed_backend, brain.find_unused_parameters
        )


def shard_modules(brain: BrainProtocol) -> None:
    """Shard the trainable entries of ``modules``: the strategy FSDP2.

    Raises:
        ValueError: an entry cannot be sharded, an optimizer exists that knows its parameters, or a
            recoverable has a save hook that would write a part of it.
    """
    trainer = connection_of(brain).settings.trainer
    early = _early_optimizer(brain)
    if early is not None:
        traits = RecipeTraits(type(brain).__name__, early_optimizer=early)
        _require(FSDP2, trainer.get("strategy"), traits)
    policy = sharding_policy(trainer)
    shard_entries(brain.modules, policy, brain.device, brain.find_unused_parameters)
    if brain.checkpointer is not None:
        for chosen in brain.checkpointer.choose_save_hooks():
            reason = why_not_gathered(chosen)
            if reason is not None:
                raise OptionError(reason)


def _early_optimizer(brain: BrainProtocol) -> str | None:
    """Where an optimizer is, if one is, that steps parameters which are about to be sharded."""
    whole = {id(each) for each in brain.modules.parameters() if not is_sharded_tensor(each)}
    for place, optimizer in _optimizers_with_places(brain):
        steps = (id(each) for group in optimizer.param_groups for each in group["params"])
        if any(each in whole for each in steps):
            return place
    return None


def _optimizers_with_places(brain: Any) -> Iterator[tuple[str, torch.optim.Optimizer]]:
    for name, value in vars(brain).items():
        for each in value.values() if isinstance(value, Mapping) else (value,):
            if isinstance(each, torch.optim.Optimizer):
                yield _assignment(brain, name), each
    for name, value in hyperparameters_of(brain).items():
        if isinstance(value, torch.optim.Optimizer):
            yield f"{name} of the hyperparameters", value


def _assignment(brain: object, name: str) -> str:
    """Return where in the recipe ``self.<name>`` is first assigned, or at least its name."""
    for kind in type(brain).__mro__[:-1]:
        try:
            lines, first = inspect.getsourcelines(kind)
            file = Path(inspect.getsourcefile(kind) or "").name
        except (OSError, TypeError):
            continue
        for number, line in enumerate(lines, first):
            if re.search(rf"\bself\.{name}\s*=[^=]", line):
                return f"{file}:{number} (self.{name})"
    return f"self.{name}"
