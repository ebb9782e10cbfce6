import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speechbrain.utils.logger import format_order_of_magnitude as theirs

from brain_lightning.ground.magnitude import format_order_of_magnitude

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=300)
@given(numbers.filter(bool), st.booleans())
def test_writes_what_speechbrain_writes(number, abbreviate):
    assert format_order_of_magnitude(number, abbreviate) == theirs(number, abbreviate)


@pytest.mark.parametrize(
    ("number", "letters", "words"),
    [
        (123456, "123.5k", "123.5 Thousand"),
        (0.00000123, "1.2µ", "1.2 millionths"),
        (5, "5", "5"),
        (-2_500_000, "-2.5M", "-2.5 Million"),
        (0, "0", "0"),  # SpeechBrain raises
        (0.0, "0.0", "0.0"),
    ],
)
def test_examples(number, letters, words):
    assert format_order_of_magnitude(number) == letters
    assert format_order_of_magnitude(number, abbreviate=False) == words
