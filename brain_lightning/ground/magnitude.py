"""Numbers written with their order of magnitude: 123.5k."""

import math

LETTERS = {
    -24: "y", -21: "z", -18: "a", -15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "",
    3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E", 21: "Z", 24: "Y",
}  # fmt: skip
# The short scale. SpeechBrain writes small orders in lower case.
WORDS = {
    -24: "septillionths", -21: "sextillionths", -18: "quintillionths", -15: "quadrillionths",
    -12: "trillionths", -9: "billionths", -6: "millionths", -3: "thousandths", 0: "",
    3: "Thousand", 6: "Million", 9: "Billion", 12: "Trillion", 15: "Quadrillion",
    18: "Quintillion", 21: "Sextillion", 24: "Septillion",
}  # fmt: skip


def format_order_of_magnitude(number: float, abbreviate: bool = True) -> str:
    """Write a number with its order of magnitude, as ``123.5k`` or ``123.5 Thousand``.

    Args:
        number: any finite number; an integer below a thousand is written as it is.
        abbreviate: whether to use letters (k, M, G) rather than words.
    """
    order = _order_of(number)
    if order != 0:
        text = f"{number / 10**order:3.1f}"
    else:
        text = str(number) if isinstance(number, int) else f"{number:3.1f}"
    name = (LETTERS if abbreviate else WORDS)[order]
    return text + name if abbreviate or not name else f"{text} {name}"


def _order_of(number: float) -> int:
    """Return the nearest power of a thousand below, as an exponent of ten that has a name."""
    if number == 0:
        return 0
    order = 3 * math.floor(math.log(math.fabs(number), 1000))
    return max(min(LETTERS), min(order, max(LETTERS)))
