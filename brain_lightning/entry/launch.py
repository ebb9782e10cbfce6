"""Starting a recipe again in several processes: decides, and builds the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from brain_lightning.ground.device_count import as_count, number_of_processes
from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.launch_detection import detect_launch


def torchrun_command(
    program: Sequence[str],
    trainer: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> list[str] | None:
    """Return the command line that starts a program in as many processes as the user asked for.

    On one machine torchrun needs nothing else; on several each machine's torchrun is started by the
    user or by SLURM.

    Arguments
    ---------
    program:
        What is to be started, without Python itself: ``["-m", "brain_lightning", "run", ...]`` or
        ``["train.py", "hparams.yaml", ...]``.
    trainer:
        The Trainer arguments of the command line, of which ``devices``, ``num_nodes`` and
        ``accelerator`` count.
    environment:
        The variables that tell whether this process is one of several already; if not given, this
        process's.

    Returns
    -------
    The arguments for ``subprocess`` or ``os.execv``, or None where nothing is to be started: one
    device is asked for, or a launcher started this process already.

    Raises
    ------
    ValueError
        When the number of devices cannot be understood, or several machines are asked for.
    """
    count = number_of_processes(trainer)
    if count < 2 or detect_launch(environment) is not None:
        return None
    if as_count(trainer.get("num_nodes", 1), "num_nodes") > 1:
        raise OptionError(
            f"trainer: num_nodes={trainer['num_nodes']!r} was given to a process that no launcher "
            "started. Start the recipe on each machine with torchrun --nnodes, or with srun."
        )
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={count}",
        *program,
    ]
