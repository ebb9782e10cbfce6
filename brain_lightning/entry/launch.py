"""Starting a recipe again in several processes: decides, and builds the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from brain_lightning.ground.device_count import (
    as_count,
    chosen_devices,
    number_of_processes,
)
from brain_lightning.ground.errors import OptionError
from brain_lightning.ground.launch_detection import detect_launch, read_slurm
from brain_lightning.parts.options.parser import own_options_in


def torchrun_command(
    program: Sequence[str],
    trainer: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> list[str] | None:
    """Return the command line that starts a program in as many processes as the user asked for.

    On one machine torchrun needs nothing else; on several each machine's torchrun is started by the
    user or by SLURM.

    Args:
        program: what is to be started, without Python itself: ``["-m", "brain_lightning", "run",
            ...]`` or ``["train.py", "hparams.yaml", ...]``.
        trainer: the Trainer arguments of the command line, of which ``devices``, ``num_nodes`` and
            ``accelerator`` count.
        environment: the variables that tell whether this process is one of several already; if not
            given, this process's.

    Returns:
        The arguments for ``subprocess`` or ``os.execv``, or None where nothing is to be started:
        one device is asked for, or a launcher started this process already.

    Raises:
        ValueError: the number of devices cannot be understood, or several machines are asked for.
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


def start_again_if_asked(arguments: Sequence[str]) -> None:
    """Become ``torchrun`` with the processes that ``--trainer.devices`` asks for.

    Where one process is enough, or a launcher started this one, nothing happens; else this call
    does not return. The recipe has done nothing yet. ``--no_slurm_detection`` holds from here on.

    Args:
        arguments: what stands after ``brain-lightning run``: the recipe and its own command line.

    Raises:
        ValueError: the number of devices cannot be understood, several machines are asked for, or
            no Trainer could be made with its arguments.
        ImportError: a package that they need is missing.
    """
    options = own_options_in(arguments[1:])
    if options.get("no_slurm_detection"):
        read_slurm(False)
    trainer = options.get("trainer", {})
    program = ["-m", "brain_lightning", "run", *arguments, *_backend(arguments)]
    command = torchrun_command(program, trainer)
    if command is None:
        return
    _check_once_for_all(trainer)
    numbers = chosen_devices(trainer)
    if numbers is not None:
        os.environ[VISIBLE] = _visible(numbers, os.environ.get(VISIBLE))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


_OF_THE_START = frozenset({"devices", "num_nodes", "accelerator"})


def _check_once_for_all(trainer: Mapping[str, Any]) -> None:
    """Check the arguments here, where one process says what is wrong with them, and not each."""
    if trainer.keys() <= _OF_THE_START:
        return
    from brain_lightning.engine.trainer.arguments_given_early import check_given_early

    check_given_early(trainer)


VISIBLE = "CUDA_VISIBLE_DEVICES"


def _visible(numbers: Sequence[int], before: str | None) -> str:
    """Return the GPUs ``numbers`` among those that this process sees."""
    if before is None:
        return ",".join(map(str, numbers))
    names = before.split(",")
    if max(numbers) >= len(names):
        raise OptionError(
            f"trainer: devices={list(numbers)} names GPU {max(numbers)}, but {VISIBLE}={before} "
            f"leaves {len(names)}. GPUs are numbered from 0."
        )
    return ",".join(names[number] for number in numbers)


def _backend(arguments: Sequence[str]) -> list[str]:
    """Return the option for processes on the CPU, which the default backend cannot connect."""
    if any(argument.startswith("--distributed_backend") for argument in arguments):
        return []
    return ["--distributed_backend", "gloo"] if _is_on_cpu(arguments) else []


def _is_on_cpu(arguments: Sequence[str]) -> bool:
    for index, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name == "--device":
            following = arguments[index + 1] if index + 1 < len(arguments) else ""
            return (value if separator else following).startswith("cpu")
    import torch  # late: most runs need no answer

    return not torch.cuda.is_available()
