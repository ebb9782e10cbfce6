"""What all tests need."""

import sys

import pytest

from brain_lightning.parts.checkpoints.hooks import register_with_loaded_speechbrain


def _let_speechbrain_be_looked_at():
    """Give SpeechBrain's lazily imported modules a ``__file__``.

    hypothesis asks every loaded module for it, and SpeechBrain answers by importing the module
    with a warning that it is deprecated, which is an error in our tests.
    """
    import_tools = sys.modules.get("speechbrain.utils.importutils")
    if import_tools is not None:
        import_tools.LazyModule.__file__ = None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems():
    _let_speechbrain_be_looked_at()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    _let_speechbrain_be_looked_at()
    # Where an earlier test file has imported ours before SpeechBrain, nobody has told SpeechBrain.
    register_with_loaded_speechbrain()
