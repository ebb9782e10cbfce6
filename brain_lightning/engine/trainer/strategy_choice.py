"""Which strategy for several processes the Trainer arguments ask for."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import DeepSpeedStrategy

from brain_lightning.engine.sharded_modules.fsdp2 import FSDP2 as ShardingPolicy
from brain_lightning.ground.errors import OptionError
from brain_lightning.parts.recipe_rules.strategy_rules import (
    DDP,
    DEEPSPEED,
    FSDP2,
    STRATEGY_RULES,
    strategy_named,
)

_ONE_PROCESS = ("auto", "single_device", "single_tpu", "single_xla")
"""Names of Lightning's strategies that a Brain can be used with in one process."""


def check_strategy_name(asked: object) -> None:
    """Refuse the name of a strategy that there is not; strategies as objects are not looked at.

    Raises:
        OptionError: with the nearest name.
    """
    if not isinstance(asked, str) or asked in _ONE_PROCESS or strategy_named(asked) is not None:
        return
    near = difflib.get_close_matches(asked, STRATEGY_RULES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise OptionError(
        f"trainer: strategy={asked!r} cannot be had in Brain.fit(). There are "
        f"{', '.join(STRATEGY_RULES)}.{hint} For one of Lightning's others make a Trainer yourself "
        "and give it BrainModule(brain)."
    )


def strategy_in(trainer: Mapping[str, Any]) -> str | None:
    """Return the strategy of ``STRATEGY_RULES`` that the Trainer arguments ask for.

    DDP for each entry of ``modules`` unless they do; None where it is another one.
    """
    asked = trainer.get("strategy", "auto")
    if asked == "auto":
        return DDP
    if isinstance(asked, ShardingPolicy):
        return FSDP2
    return DEEPSPEED if isinstance(asked, DeepSpeedStrategy) else strategy_named(asked)


def sharding_policy(trainer: Mapping[str, Any]) -> ShardingPolicy:
    """Return the settings of the strategy FSDP2."""
    asked = trainer.get("strategy")
    return asked if isinstance(asked, ShardingPolicy) else ShardingPolicy()
