"""Compares what two runs of a recipe recorded."""

from __future__ import annotations


def first_difference(native: list[str], ours: list[str]) -> str | None:
    """Say where two records part, with what came before."""
    for number, (one, other) in enumerate(zip(native, ours, strict=False)):
        if one != other:
            before = "\n  ".join(native[max(0, number - 3) : number])
            return f"line {number}, after\n  {before}\nnative: {one}\nours:   {other}"
    if len(native) != len(ours):
        longer = (native if len(native) > len(ours) else ours)[min(len(native), len(ours)) :]
        return f"native has {len(native)} lines, ours {len(ours)}; the rest begins: {longer[:3]}"
    return None
