"""Why a file could not be written, when the library that wrote it does not say."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PROBE_SIZE = 1 << 16


def find_write_error(folder: Path) -> OSError | None:
    """Return the error that writing a small file into ``folder`` gives, None if it can be written.

    ``torch.save`` reports a full disk as a RuntimeError about positions in its archive. What it
    has written by then still fills the disk, so that the system's own error shows up again here.
    """
    probe = folder / ".probe"
    try:
        with open(probe, "wb") as file:
            file.write(bytes(_PROBE_SIZE))
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        with suppress(OSError):  # the folder is discarded anyway
            probe.unlink()
    return None
