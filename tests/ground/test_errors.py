import pickle

import pytest

from brain_lightning.ground.errors import MissingExtraError, OptionError


def test_missing_extra_names_what_to_install():
    with pytest.raises(ImportError, match=r"sb.nnet needs.*'brain-lightning\[speechbrain\]'"):
        raise MissingExtraError("sb.nnet", "speechbrain")


def test_missing_extra_can_travel_between_processes():
    error = pickle.loads(pickle.dumps(MissingExtraError("Rich", "rich")))
    assert (error.wanted, error.extra) == ("Rich", "rich")


def test_option_error_is_a_value_error():
    assert issubclass(OptionError, ValueError)
