"""Ending a process whose run has failed without taking a second over it."""

from __future__ import annotations

import atexit
import functools
import gc
import io


@functools.cache
def end_quickly() -> None:
    """Have this process, once it ends, leave its objects to the operating system.

    The interpreter otherwise searches all objects for cycles when it ends, several times, which
    takes over a second behind torch and Lightning; meanwhile the connections to the processes that
    wait for this one stay open. Files in cycles, which that search would close, are flushed.
    """
    atexit.register(_flush_files_and_keep_objects)


def _flush_files_and_keep_objects() -> None:
    written = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    for each in gc.get_objects():
        # Not isinstance, which asks objects for their class: some warn, some compute.
        if issubclass(type(each), written) and not each.closed:
            try:
                each.flush()
            except (OSError, ValueError):  # the other end of a pipe is gone, or it is not writable
                continue
    gc.freeze()
