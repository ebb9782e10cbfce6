"""Parameter names that SpeechBrain has corrected since some checkpoints were written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from brain_lightning.ground.loggers import get_logger

logger = get_logger(__name__)

Value = TypeVar("Value")

KEYS_MAPPING: dict[str, str] = {
    ".mutihead_attn": ".multihead_attn",
    ".convs_intermedite": ".convs_intermediate",
}
"""Part of an old parameter name -> what stands there now (SpeechBrain #2489 and #2463)."""


def map_old_state_dict_weights(
    state_dict: dict[str, Value], mapping: Mapping[str, str]
) -> dict[str, Value]:
    """Rename every key of ``state_dict`` that contains an old part, in place.

    Any key that contains the old text is renamed, also where the text is only a part of a layer's
    name, as in SpeechBrain. A renamed entry moves to the end of the dict, as there.

    Returns the same ``state_dict``.
    """
    for old_part, new_part in mapping.items():
        affected = [key for key in state_dict if isinstance(key, str) and old_part in key]
        for key in affected:
            renamed = key.replace(old_part, new_part)
            state_dict[renamed] = state_dict.pop(key)
            logger.info("Parameter %r was renamed to %r (%s)", key, renamed, old_part)
    return state_dict


def hook_on_loading_state_dict_checkpoint(state_dict: dict[str, Value]) -> dict[str, Value]:
    """Bring the keys of a state dict that was just read from disk up to date."""
    return map_old_state_dict_weights(state_dict, KEYS_MAPPING)
