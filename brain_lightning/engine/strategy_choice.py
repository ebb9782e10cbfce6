"""Which strategy for several processes the Trainer arguments ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import DeepSpeedStrategy

from brain_lightning.engine.fsdp2 import FSDP2 as ShardingPolicy
from brain_lightning.parts.recipe_rules.strategy_rules import DDP, DEEPSPEED, FSDP2, strategy_named


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
