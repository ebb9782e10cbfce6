"""SpeechBrain's progress bar: one bar a stage, the running train_loss after it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm
from typing_extensions import override

from brain_lightning.ground.stage import Stage

SCREEN_SECONDS = 0.1
"""How often a bar on a screen is drawn anew."""

FILE_SECONDS = 30.0
"""How often a line is written where the output is no screen but a file."""

_LINE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_LINE_WITHOUT_TOTAL = "{desc}: {n_fmt} [{elapsed}, {rate_fmt}{postfix}]"


class StageBar:
    """The bar of the stage in progress, drawn by time and not by step.

    Order of calls: ``open``, ``advance`` for each batch, ``close``. On a terminal and in a notebook
    it is a tqdm bar; in a file a line now and then and one at the end.
    """

    def __init__(self, enabled: bool, colours: Mapping[str, str]) -> None:
        """Prepare a bar; ``colours`` maps "train", "valid" and "test" to tqdm's colour names."""
        self.enabled = enabled
        self._colours = colours
        self._bar: Any = None
        self._done = 0
        self._average: Any = None
        self._next_refresh = 0.0
        self._interval = SCREEN_SECONDS

    def open(self, stage: Stage, total: int | None, initial: int = 0) -> None:
        """Begin the bar of a stage of ``total`` batches, ``initial`` of which are done."""
        if not self.enabled:
            return
        self.close()
        name = stage.name.lower()
        on_screen = _is_screen()
        self._interval = SCREEN_SECONDS if on_screen else FILE_SECONDS
        self._bar = (
            _bar_class()(
                total=total,
                initial=initial,
                dynamic_ncols=True,
                colour=self._colours.get(name) or None,
                mininterval=0.0,
                miniters=1,
                disable=False,
            )
            if on_screen
            else _Lines(name, total, initial)
        )
        self._done = 0
        self._average = None
        self._next_refresh = time.monotonic() + self._interval

    def advance(self, average: Any = None, stops_here: bool = False) -> None:
        """Count a batch.

        Args:
            average: the running training loss.
            stops_here: the loop is left after this batch, which SpeechBrain's bar then leaves out.
        """
        if self._bar is None:
            return
        self._done += int(not stops_here)
        self._average = average
        now = time.monotonic()
        if now >= self._next_refresh:
            self._refresh()
            self._next_refresh = now + self._interval

    def close(self) -> None:
        """Draw the bar a last time and leave it where it is."""
        if self._bar is None:
            return
        self._refresh()
        self._bar.close()
        self._bar = None

    def _refresh(self) -> None:
        if self._average is not None:
            self._bar.set_postfix(train_loss=self._average, refresh=False)
        done, self._done = self._done, 0
        self._bar.update(done)


class _Lines:
    """Stands for a tqdm bar where the output is a file: every update is a line."""

    def __init__(self, name: str, total: int | None, initial: int) -> None:
        self._name = name
        self._total = total
        self._initial = initial
        self._n = initial
        self._start = time.monotonic()
        self._postfix = ""
        self._written = -1

    def set_postfix(self, refresh: bool, **values: Any) -> None:
        del refresh  # as tqdm's; a line is written by update
        self._postfix = ", ".join(f"{name}={_number(value)}" for name, value in values.items())

    def update(self, n: int) -> None:
        self._n += n
        if self._n == self._written:
            return
        self._written = self._n
        line = tqdm.format_meter(
            self._n,
            self._total,
            time.monotonic() - self._start,
            initial=self._initial,
            prefix=self._name,
            postfix=self._postfix,
            bar_format=_LINE if self._total else _LINE_WITHOUT_TOTAL,
        )
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is open."""


def _number(value: Any) -> str:
    return str(tqdm.format_num(value)) if isinstance(value, (int, float)) else str(value)


def _is_screen() -> bool:
    return _is_notebook() or bool(getattr(sys.stderr, "isatty", bool)())


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _bar_class() -> Any:
    # tqdm's notebook bar needs ipywidgets; its text bar is right in a notebook as well.
    if _is_notebook() and "ipywidgets" in sys.modules:
        from tqdm.notebook import tqdm as notebook_tqdm

        return notebook_tqdm
    return tqdm


class BrainProgressBar(ProgressBar):
    """Takes the Trainer's place for a progress bar; the stages drive its ``stage_bar`` directly.

    A bar that listened to callback hooks could not close before the recipe's ``on_stage_end``
    prints, because only the stage knows which batch was the last.
    """

    def __init__(self, stage_bar: StageBar) -> None:
        """Show ``stage_bar``."""
        super().__init__()
        self.stage_bar = stage_bar

    @override
    def disable(self) -> None:
        """Lightning calls this on every process but the main one."""
        self.stage_bar.enabled = False

    @override
    def enable(self) -> None:
        """Show the bar again."""
        self.stage_bar.enabled = True

    @override
    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        tqdm.write(kwargs.pop("sep", " ").join(str(argument) for argument in args), **kwargs)

    @override
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the bar where it is, so the traceback begins on a line of its own."""
        self.stage_bar.close()
