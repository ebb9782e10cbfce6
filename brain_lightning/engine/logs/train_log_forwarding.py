"""What a recipe writes with ``hparams.train_logger.log_stats`` goes to Lightning's loggers too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from functools import wraps
from typing import Any

from brain_lightning.engine.brain_protocol import BrainProtocol
from brain_lightning.engine.connection import Connection, connection_of
from brain_lightning.engine.logs.published_metrics import named_loss, publish
from brain_lightning.engine.logs.train_log_repeats import train_loggers

_STAGES = ("train", "valid", "test")


def forward_train_logs(brain: BrainProtocol) -> ExitStack:
    """Publish what the recipe's train loggers are given, until what is returned is closed.

    ``valid_stats={"WER": 7.0}`` is published as ``valid_WER``, and ``stats_meta`` under its own
    names. A loss that is the stage's own average is left out: it is published anyway.
    """
    connection = connection_of(brain)
    stack = ExitStack()
    for name, train_logger in train_loggers(brain).items():
        if "log_stats" not in vars(train_logger):  # else an outer run observes it already
            train_logger.log_stats = _forwarding(name, train_logger, connection)
            stack.callback(delattr, train_logger, "log_stats")
    return stack


def _forwarding(name: str, train_logger: Any, connection: Connection) -> Callable[..., Any]:
    log_stats = train_logger.log_stats

    @wraps(log_stats)
    def log_and_publish(
        stats_meta: Mapping[str, Any],
        train_stats: Mapping[str, Any] | None = None,
        valid_stats: Mapping[str, Any] | None = None,
        test_stats: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        repeats = connection.repeated_lines
        with nullcontext() if repeats is None else repeats.left_out(name, train_logger):
            result = log_stats(stats_meta, train_stats, valid_stats, test_stats, **options)
        values = dict(stats_meta)
        for stage, stats in zip(_STAGES, (train_stats, valid_stats, test_stats), strict=True):
            values |= {f"{stage}_{name}": value for name, value in (stats or {}).items()}
        _publish_what_is_new(values, connection)
        return result

    return log_and_publish


def _publish_what_is_new(values: Mapping[str, Any], connection: Connection) -> None:
    trainer = connection.trainer
    if connection.module is None or trainer is None:
        return
    known = connection.stage_losses
    publish(
        trainer,
        {
            name: value
            for name, value in values.items()
            if name not in known or named_loss(name, value).get(name) != known[name]
        },
    )
