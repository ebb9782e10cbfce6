"""Finds the first difference between two traces and says it readably."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .recorder import ALL_HOOKS, ORDINARY_HOOKS, Event

# What we save in addition in a checkpoint (DESIGN 7); SpeechBrain ignores it.
ADDITIONAL_FILES = frozenset(
    {
        "checksums.json",
        "brain.ckpt.resume",
        "dataloader-TRAIN.ckpt.resume",
        "loader.ckpt.resume",
    }
)
CONTEXT = 8


def first_difference(
    expected: Sequence[Event],
    found: Sequence[Event],
    ignore: tuple[str, ...] = (),
    hooks: tuple[str, ...] = ALL_HOOKS,
) -> str | None:
    """Describe the first difference, with what came before it, or return None."""
    expected = _comparable(expected, ignore, hooks)
    found = _comparable(found, ignore, hooks)
    for index in range(max(len(expected), len(found))):
        left = expected[index] if index < len(expected) else None
        right = found[index] if index < len(found) else None
        if left != right:
            before = [f"    {event}" for event in expected[max(0, index - CONTEXT) : index]]
            return "\n".join(
                [
                    f"event {index} of {len(expected)} (found {len(found)}) differs",
                    "  before it, the same on both sides:",
                    *before,
                    *_describe_difference(left, right),
                    "  SpeechBrain goes on with:",
                    *[f"    {event}" for event in expected[index : index + 5]],
                    "  the candidate goes on with:",
                    *[f"    {event}" for event in found[index : index + 5]],
                ]
            )
    return None


def assert_same(
    expected: Sequence[Event],
    found: Sequence[Event],
    ignore: tuple[str, ...] = (),
    hooks: tuple[str, ...] = ALL_HOOKS,
) -> None:
    """Fail with the first difference, if there is one."""
    assert expected, "the reference recorded nothing"
    difference = first_difference(expected, found, ignore, hooks)
    assert difference is None, difference


def _comparable(
    events: Sequence[Event], ignore: tuple[str, ...], hooks: tuple[str, ...]
) -> list[Event]:
    hidden = set(ALL_HOOKS) - set(hooks)
    chosen = [event for event in events if event.name not in hidden]
    if hooks == ORDINARY_HOOKS:
        # Hooks called by other hooks differ in nothing but what is observed.
        assert all(event.name in ORDINARY_HOOKS for event in chosen if event.kind == "call")
    return [_without_additions(_without(event, ignore)) for event in chosen]


def _without(event: Event, ignore: tuple[str, ...]) -> Event:
    state = {key: value for key, value in event.state.items() if not key.startswith(ignore)}
    return replace(event, state=state) if ignore else event


def _without_additions(event: Event) -> Event:
    if (event.kind, event.name) != ("final", "files"):
        return event
    details = {
        key: " ".join(name for name in value.strip("'").split() if name not in ADDITIONAL_FILES)
        for key, value in event.details.items()
    }
    return replace(event, details=details)


def _describe_difference(left: Event | None, right: Event | None) -> list[str]:
    if left is None or right is None:
        return [f"  SpeechBrain: {left}", f"  the candidate: {right}"]
    if (left.kind, left.name) != (right.kind, right.name):
        return [
            f"  SpeechBrain: {left.kind} {left.name}",
            f"  the candidate: {right.kind} {right.name}",
        ]
    title = f"  at {left.kind} {left.name}:"
    lines = _differing(left.details, right.details) + _differing(left.state, right.state)
    return [title, *(lines or ["    the order of the arguments"])]


def _differing(left: Mapping[str, str], right: Mapping[str, str]) -> list[str]:
    lines = []
    for key in dict.fromkeys([*left, *right]):
        if left.get(key) != right.get(key):
            lines.append(f"    {key}: SpeechBrain {left.get(key, 'has none')}")
            lines.append(f"    {' ' * len(key)}  candidate   {right.get(key, 'has none')}")
    return lines
