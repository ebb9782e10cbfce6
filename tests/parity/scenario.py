"""One run of a scenario under one library, and the test that compares such runs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch

from .comparison import assert_same
from .library import LIBRARIES, Library, forget_mutable_defaults
from .recorder import ALL_HOOKS, ORDINARY_HOOKS, Event, Recorder, describe_files, optimizers_of

SEED = 1234
Trace: TypeAlias = list[Event]


class Run:
    """What a scenario is given: a library, a folder of its own, and a place for notes."""

    def __init__(self, library: Library, folder: Path, recorder: Recorder) -> None:
        self.library = library
        self.folder = folder
        self.recorder = recorder
        self.brains: list[Any] = []
        self.environment = dict(os.environ)

    def brain(
        self,
        recipe: type[Any],
        modules: Any = None,
        opt_class: Any = None,
        hparams: dict[str, Any] | None = None,
        run_opts: dict[str, Any] | None = None,
        checkpointer: Any = None,
    ) -> Any:
        """Put ``recipe``, a class without a base, on the library's Brain and construct it."""
        brain_class = type(recipe.__name__, (recipe, self.library.Brain), {"run": self})
        options = {"device": "cpu", "noprogressbar": True, **(run_opts or {})}
        brain = self.recorder.recording(brain_class)(
            modules, opt_class, hparams, run_opts=options, checkpointer=checkpointer
        )
        self.brains.append(brain)
        return brain

    def note(self, name: str, **details: Any) -> None:
        """Write something into the trace that only the scenario knows."""
        self.recorder.add("note", name, details)

    @contextlib.contextmanager
    def expecting(self, error: type[BaseException]) -> Iterator[None]:
        """Expect an error, or a more special one, and go on after it."""
        with pytest.raises(error):
            yield
        self.note("raised", error=error.__name__)

    def finish(self) -> Trace:
        """Add what is left at the end: weights, optimizer states, counters, files."""
        for index, brain in enumerate(self.brains):
            modules = brain.modules
            details: dict[str, Any] = {f"weight {k}": v for k, v in modules.state_dict().items()}
            details |= {f"gradient {name}": p.grad for name, p in modules.named_parameters()}
            for name, optimizer in optimizers_of(brain).items():
                details[f"optimizer {name}"] = optimizer.state_dict()
            self.recorder.add("final", f"brain {index}", details, brain)
        self.recorder.add("final", "process", process_wide_state(self.environment))
        self.recorder.add("final", "files", dict(describe_files(self.folder)))
        return self.recorder.events


def process_wide_state(environment: dict[str, str]) -> dict[str, Any]:
    """Look at what a library could have changed for the rest of the process."""
    return {
        "SIGINT": str(signal.getsignal(signal.SIGINT)),
        "SIGTERM": str(signal.getsignal(signal.SIGTERM)),
        "excepthook": str(sys.excepthook),
        "threads": torch.get_num_threads(),
        "matmul": torch.get_float32_matmul_precision(),
        "benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "default type": str(torch.get_default_dtype()),
        # torch sets its own whenever a part of it is imported for the first time
        "environment": sorted(
            name
            for name in set(os.environ) - set(environment)
            if not name.startswith(("TORCH", "PYTORCH"))
        ),
    }


Scenario: TypeAlias = Callable[[Run], None]


def seed_everything() -> None:
    """Seed every global random number generator."""
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    random.seed(SEED)


def perform(
    scenario: Scenario, library: Library, folder: Path, hooks: tuple[str, ...] = ALL_HOOKS
) -> Trace:
    """Run a scenario from the same start as every other run of it."""
    folder.mkdir(parents=True, exist_ok=True)
    seed_everything()
    forget_mutable_defaults()
    environment = dict(os.environ)
    run = Run(library, folder, Recorder(hooks))
    try:
        scenario(run)
        return run.finish()
    finally:
        os.environ.clear()
        os.environ.update(environment)


# candidate: the library, and which hooks are recorded
CANDIDATES = {
    "ours": ("brain_lightning", ALL_HOOKS),
    "ours_unobserved": ("brain_lightning", ORDINARY_HOOKS),
    "mixed": ("mixed", ALL_HOOKS),
    "speechbrain_again": ("speechbrain", ALL_HOOKS),
}
_references: dict[Scenario, Trace] = {}


def reference(scenario: Scenario, folder: Path) -> Trace:
    """Run a scenario under SpeechBrain, once for all candidates."""
    if scenario not in _references:
        _references[scenario] = perform(scenario, LIBRARIES["speechbrain"](), folder)
    return _references[scenario]


def parity(*, mixed: bool = False, ignore: tuple[str, ...] = ()) -> Callable[[Scenario], Any]:
    """Make a test of a scenario: SpeechBrain and each candidate leave the same trace.

    ``mixed`` adds our Brain with SpeechBrain's parts; ``ignore`` names state that may differ, by
    prefix, and belongs with a comment that says why.
    """
    candidates = [
        "ours",
        "ours_unobserved",
        *(["mixed"] if mixed else []),
        pytest.param("speechbrain_again", marks=pytest.mark.long),
    ]

    def test_of(scenario: Scenario) -> Any:
        @pytest.mark.parametrize("candidate", candidates)
        def test(candidate: str, tmp_path: Path) -> None:
            library, hooks = CANDIDATES[candidate]
            expected = reference(scenario, tmp_path / "reference")
            found = perform(scenario, LIBRARIES[library](), tmp_path / "candidate", hooks)
            assert_same(expected, found, ignore=ignore, hooks=hooks)

        test.__name__ = scenario.__name__
        test.__doc__ = scenario.__doc__
        test.__module__ = scenario.__module__
        return test

    return test_of
