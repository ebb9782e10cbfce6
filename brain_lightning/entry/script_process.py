"""Running a script inside this process as ``python script.py`` would in one of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType, TracebackType

# What spawned workers send back names the script's classes by the second one: multiprocessing makes
# it an alias of __main__ when it is imported.
_MAIN_NAMES = ("__main__", "__mp_main__")


def run_as_main(script: str) -> None:
    """Run the script as the module ``__main__`` that it is now; see ``prepared_for``."""
    main = sys.modules["__main__"]
    path = os.path.abspath(script)
    source = Path(path).read_bytes()
    try:
        _require_text(source, path)
        code = SourceFileLoader("__main__", path).source_to_code(source, path)
    except (SyntaxError, ValueError) as error:
        raise error.with_traceback(None) from None  # it says itself where in the script it is
    exec(code, vars(main))


def _require_text(source: bytes, path: str) -> None:
    """Refuse what the interpreter refuses of a file: of bytes it does not look into comments."""
    try:
        decode_source(source)
    except UnicodeDecodeError as error:
        raise SyntaxError(f"{path} is not text of the encoding it declares: {error}") from error


@contextmanager
def prepared_for(script: str, arguments: Sequence[str]) -> Iterator[None]:
    """Let ``sys.argv``, ``__main__`` and the import path be those of ``python SCRIPT ARGUMENTS``.

    Afterwards they are as before, and modules that were imported from the script's folder are
    forgotten, so that the next script finds its own.
    """
    folder = os.path.dirname(os.path.realpath(script))
    modules_before = dict(sys.modules)
    before = (sys.argv, list(sys.path))
    sys.argv = [script, *arguments]
    main = _main_module(script)
    sys.modules.update(dict.fromkeys(_MAIN_NAMES, main))
    # Python puts there the folder of the program that was started, unless it is told not to.
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path[:1] = [folder]
    try:
        yield
    finally:
        sys.argv, sys.path[:] = before
        for name in _MAIN_NAMES:
            sys.modules[name] = modules_before.get(name, modules_before["__main__"])
        _forget_modules_in(folder, sys.modules.keys() - modules_before.keys())


def _main_module(script: str) -> ModuleType:
    path = os.path.abspath(script)
    module = ModuleType("__main__")
    module.__file__ = path
    module.__package__ = None
    module.__spec__ = None
    module.__loader__ = SourceFileLoader("__main__", path)
    vars(module).update({"__builtins__": sys.modules["builtins"], "__cached__": None})
    if sys.version_info < (3, 14):  # later ones make it from the annotations there are
        vars(module)["__annotations__"] = {}
    return module


def _forget_modules_in(folder: str, names: set[str]) -> None:
    for name in names:
        file = getattr(sys.modules[name], "__file__", None)
        if isinstance(file, str) and Path(folder) in Path(os.path.realpath(file)).parents:
            del sys.modules[name]


def script_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins in the script; all of it if none does."""
    part = traceback
    while part is not None:
        if part.tb_frame.f_code is run_as_main.__code__:
            return part.tb_next
        part = part.tb_next
    return traceback
