"""Which extra brings the package that an object of Lightning's asked for in vain."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, TracebackType

EXTRA_OF_MODULE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "lightning.pytorch.loggers.wandb": ("WandbLogger", "wandb"),
        "lightning.pytorch.loggers.mlflow": ("MLFlowLogger", "mlflow"),
        "lightning.pytorch.loggers.comet": ("CometLogger", "comet"),
        "lightning.fabric.loggers.tensorboard": ("TensorBoardLogger", "tensorboard"),
        "lightning.pytorch.callbacks.progress.rich_progress": ("RichProgressBar", "rich"),
        "lightning.pytorch.callbacks.rich_model_summary": ("RichModelSummary", "rich"),
    }
)
"""A module of Lightning's -> the class in it that needs an optional package, and our extra."""

PACKAGE_OF_MODULE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "lightning.pytorch.loggers.litlogger": ("LitLogger", "litlogger"),
        "lightning.pytorch.loggers.neptune": ("NeptuneLogger", "neptune"),
        "lightning.pytorch.callbacks.device_stats_monitor": ("DeviceStatsMonitor", "psutil"),
        "lightning.pytorch.profilers.xla": ("XLAProfiler", "torch_xla"),
    }
)
"""The same for packages that no extra brings."""


def missing_package(error: ImportError) -> tuple[str, str, bool] | None:
    """Tell what a recipe's file names that needs a package which is not installed.

    Args:
        error: what was raised while the object was made.

    Returns:
        The class, what brings the package, and whether that is an extra of ours; None where the
        error is about something else.
    """
    for module in _modules(error.__traceback__):
        if module in EXTRA_OF_MODULE:
            return (*EXTRA_OF_MODULE[module], True)
        if module in PACKAGE_OF_MODULE:
            return (*PACKAGE_OF_MODULE[module], False)
    return None


def _modules(traceback: TracebackType | None) -> list[str]:
    """Return the names of the modules that the traceback comes through, the innermost first."""
    names = []
    while traceback is not None:
        names.append(str(traceback.tb_frame.f_globals.get("__name__")))
        traceback = traceback.tb_next
    return names[::-1]
