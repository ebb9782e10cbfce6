"""The sentence about a Brain's parameters that the log begins with."""

from __future__ import annotations

from torch.nn import Module

from brain_lightning.ground.loggers import get_logger
from brain_lightning.ground.magnitude import format_order_of_magnitude

logger = get_logger(__name__)


def report_parameters(name: str, modules: Module) -> None:
    """Log how many parameters ``modules`` has and how many of them are trained."""
    total = sum(parameter.numel() for parameter in modules.parameters())
    trained = sum(
        parameter.numel() for parameter in modules.parameters() if parameter.requires_grad
    )
    if total == 0:
        logger.warning("%s: the modules have no parameters.", name)
    elif trained == 0:
        logger.warning("%s: none of the modules' parameters is trainable.", name)
    logger.info(
        "%s: %s parameters, %s of them trainable (%.2f%%)",
        name,
        format_order_of_magnitude(total),
        format_order_of_magnitude(trained),
        100 * trained / total if total else 0.0,
    )
