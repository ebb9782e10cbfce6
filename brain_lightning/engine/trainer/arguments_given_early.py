"""Trainer arguments of a command line, checked before there is a Brain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import StrategyRegistry

from brain_lightning.engine.trainer.short_names import check_packages, check_short_names
from brain_lightning.engine.trainer.strategy_choice import check_strategy_name
from brain_lightning.engine.trainer.trainer_argument_types import with_checked_types
from brain_lightning.engine.trainer.trainer_configuration import check_argument_names


def check_given_early(trainer: Mapping[str, Any]) -> None:
    """Refuse what no Trainer could be made with, whether it is a Brain's or the recipe's own.

    Args:
        trainer: arguments of ``lightning.Trainer`` as a command line has them, without objects.

    Raises:
        OptionError: an unknown argument, or a value of a wrong type or name.
        ImportError: the package of a logger is missing; says what to install.
    """
    check_argument_names(trainer)
    with_checked_types(trainer)
    check_short_names(trainer)
    strategy = trainer.get("strategy", "auto")
    if strategy not in StrategyRegistry.available_strategies():
        check_strategy_name(strategy)
    check_packages(trainer)
