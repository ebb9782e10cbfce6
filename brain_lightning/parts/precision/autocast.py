"""Mixed precision by name, and the context in which it holds."""

from __future__ import annotations

from contextlib import nullcontext
from types import TracebackType
from typing import Any

import torch

from brain_lightning.ground.errors import OptionError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def dtype_of_precision(name: str | None) -> torch.dtype:
    """Return the dtype that a precision computes in; None is fp32.

    Raises:
        ValueError: there is no precision of that name.
    """
    if name is None:
        return torch.float32
    try:
        return DTYPES[name]
    except (KeyError, TypeError):
        raise OptionError(
            f"The precision is {name!r}; it can be one of {', '.join(DTYPES)}."
        ) from None


class TorchAutocast:
    """``torch.autocast``, or nothing at all where the dtype is float32.

    One object can be entered again and again, and inside itself. Like SpeechBrain's, it does
    nothing unless ``dtype`` is given by its name.

    Args:
        arguments: the first of ``torch.autocast``: where the computation is, such as ``"cpu"``.
        dtype: what to compute in.
        options: further arguments of ``torch.autocast``.
    """

    def __init__(self, *arguments: Any, dtype: torch.dtype = torch.float32, **options: Any) -> None:
        """Make the first context, so that what torch cannot do shows here."""
        self.dtype = dtype
        self._arguments = arguments
        self._options = {"dtype": dtype, **options}
        # A torch.autocast remembers one state to go back to: entered inside itself, it would
        # leave autocast on. So there is one for each depth, made when first needed.
        self._contexts = [self._make_context()]
        self._depth = 0

    def _make_context(self) -> torch.autocast | nullcontext[None]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(*self._arguments, **self._options)

    def __enter__(self) -> Any:
        """Turn autocast on, where it has something to do."""
        if self._depth == len(self._contexts):
            self._contexts.append(self._make_context())
        try:
            entered = self._contexts[self._depth].__enter__()
        except RuntimeError as error:
            device = self._options.get("device_type", *self._arguments[:1])
            raise RuntimeError(
                f"Autocast to {self.dtype} cannot be turned on for {device}: {error}"
            ) from error
        self._depth += 1
        return entered

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put autocast back to what it was."""
        self._depth -= 1
        self._contexts[self._depth].__exit__(exc_type, exc_value, traceback)
