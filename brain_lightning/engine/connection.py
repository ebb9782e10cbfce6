"""What ties a Brain to the Lightning runs that are made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brain_lightning.engine.interval_checkpoint import IntervalSaver
from brain_lightning.engine.settings import EngineSettings

if TYPE_CHECKING:
    import lightning.pytorch as pl
    import torch

    from brain_lightning.engine.brain_module import BrainModule
    from brain_lightning.engine.resume import Resume

ATTRIBUTE = "_brain_lightning"
"""The one attribute of a Brain that belongs to the engine."""


class Connection:
    """Knows the settings, and which run is in progress: runs may be nested."""

    def __init__(self, settings: EngineSettings) -> None:
        """Begin without a run."""
        self.settings = settings
        self._modules: list[BrainModule] = []
        self._last_trainer: pl.Trainer | None = None
        self.interval_saver = IntervalSaver()
        self.resume: Resume | None = None
        """What the checkpoint that was recovered last has for an exact resume."""

    def enter(self, module: BrainModule) -> None:
        """Note that a Trainer begins to run ``module``."""
        self._modules = [known for known in self._modules if _is_running(known)]
        self._modules.append(module)
        self._last_trainer = module.trainer

    @property
    def module(self) -> BrainModule | None:
        """The module of the innermost run in progress."""
        while self._modules and not _is_running(self._modules[-1]):
            self._modules.pop()
        return self._modules[-1] if self._modules else None

    @property
    def trainer(self) -> pl.Trainer | None:
        """The Trainer of the innermost run in progress, else of the last one."""
        module = self.module
        return self._last_trainer if module is None else module.trainer

    def backward(self, loss: torch.Tensor) -> None:
        """Go backward, through Lightning's strategy and hooks where a fit is in progress."""
        module = self.module
        if module is None or module.automatic_optimization or not module.trainer.training:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            module.manual_backward(loss)

    def log(self, name: str, value: Any, **options: Any) -> None:
        """Log a value, as ``LightningModule.log`` does.

        Raises:
            RuntimeError: no run is in progress.
        """
        module = self.module
        if module is None:
            raise RuntimeError(
                f"log({name!r}) was called while nothing runs. Call it from a hook of the Brain "
                "during fit() or evaluate()."
            )
        module.log(name, value, **options)


def _is_running(module: BrainModule) -> bool:
    return str(module.trainer.state.status) == "running"


def connection_of(brain: Any) -> Connection:
    """Return the connection of a Brain; one whose ``__init__`` was skipped gets a plain one."""
    connection = vars(brain).get(ATTRIBUTE)
    if connection is None:
        connection = Connection(EngineSettings())
        setattr(brain, ATTRIBUTE, connection)
    assert isinstance(connection, Connection)
    return connection
