"""One process of several: performs scenarios under a library and leaves their traces in a folder.

python -m tests.distributed.performing LIBRARY FOLDER SCENARIO...
"""

from __future__ import annotations

import pickle
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.parity.library import LIBRARIES
from tests.parity.recorder import Event
from tests.parity.scenario import Run, perform

from .scenarios import SCENARIOS


def performed(scenario: Callable[[Run], None]) -> Callable[[Run], None]:
    """A scenario in which the processes differ at first and wait for each other at last."""

    def perform_together(run: Run) -> None:
        run.__class__ = DistributedRun
        torch.manual_seed(100 + torch.distributed.get_rank())
        scenario(run)
        torch.distributed.barrier()

    return perform_together


class DistributedRun(Run):
    """A run whose Brains are told the backend; SpeechBrain needs hparams with several processes."""

    def brain(  # type: ignore[override]
        self,
        recipe: type[Any],
        modules: Any = None,
        opt_class: Any = None,
        hparams: dict[str, Any] | None = None,
        run_opts: dict[str, Any] | None = None,
        checkpointer: Any = None,
    ) -> Any:
        options = {"distributed_backend": "gloo", **(run_opts or {})}
        return super().brain(recipe, modules, opt_class, hparams or {}, options, checkpointer)


def _without_the_processs_own(event: Event) -> Event:
    """An event without what differs between two processes that did the same.

    torch's exception hook is printed with its address; importing SpeechBrain sets the precision of
    matrix products on a GPU.
    """
    if (event.kind, event.name) != ("final", "process"):
        return event
    details = {key: value for key, value in event.details.items() if key in ("SIGINT", "SIGTERM")}
    return replace(event, details=details)


def main(library_name: str, folder: Path, names: list[str]) -> None:
    warnings.simplefilter("ignore")
    library = LIBRARIES[library_name]()
    if library_name == "speechbrain":
        from speechbrain.utils.distributed import ddp_init_group
    else:
        from brain_lightning import ddp_init_group
    ddp_init_group({"distributed_backend": "gloo"})
    rank = torch.distributed.get_rank()
    for name in names:
        print(f"--- {name}", flush=True)
        try:
            trace = perform(performed(SCENARIOS[name]), library, folder / name)
        except BaseException:
            traceback.print_exc()
            raise
        trace = [_without_the_processs_own(event) for event in trace]
        (folder / f"{name}-{rank}.pickle").write_bytes(pickle.dumps(trace))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
