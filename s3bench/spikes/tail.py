"""The tail of a loss's noise: how far it has gone above the level, and how far it alone is expected to go."""

import math
from array import array

import numpy as np
import numpy.typing as npt

from s3bench.spikes.state import State, real, reals

LOOKS = 500  # how many of the last looks count
STEPS = 30_000  # steps in which the noise alone is to reach that far at most about once
RARE = 20  # outliers in fewer than one look in this many are not noise
POWER = 4  # the power with which the tail is assumed to fall: heavier than most
FURTHEST = 2.0  # how far the tail is taken to reach at most, unless outliers are usual
USUAL = 8  # outliers are usual where one look in this many has a score above 1

Array = npt.NDArray[np.float64]


class Tail:
    """Remembers the largest score between one look and the next; a score is an excess in parts of some unit.

    Args:
        stride: steps from look to look.
    """

    def __init__(self, stride: int) -> None:
        self._stride = stride
        self._top = -math.inf  # the largest score since the last look
        self._tops = array("d")  # the same between earlier looks

    def add(self, score: float) -> None:
        """Add the score of the next step."""
        self._top = max(self._top, score)

    def look(self) -> None:
        """Begin anew, as at each look."""
        self._tops.append(self._top)
        self._top = -math.inf
        if len(self._tops) > 2 * LOOKS:  # cut only when twice too long
            del self._tops[:-LOOKS]

    def extend(self, scores: Array, looks: npt.NDArray[np.int64]) -> None:
        """Add the scores of many steps, with a look after each of these numbers of them."""
        start = int(looks[-1]) if len(looks) else 0
        if start:
            tops = np.maximum.reduceat(scores[:start], [0, *looks[:-1]])
            self.add(float(tops[0]))
            self.look()
            self._tops.frombytes(tops[1:].tobytes())
            del self._tops[: -2 * LOOKS]
        if start < len(scores):
            self.add(float(scores[start:].max()))

    def reach(self) -> float:
        """Return the score that noise alone is expected to exceed once in STEPS steps; 0 where too little is known.

        It is extrapolated from a large score seen, assuming a tail that falls with the fourth power: the second-largest
        one, or that which one look in RARE exceeds, so that neither an outlier nor many rare ones hide the next. It is
        at most FURTHEST, unless scores above 1 are usual.
        """
        tops = np.frombuffer(self._tops[-LOOKS:])
        if len(tops) < 2:
            return 0.0
        rank = max(2, len(tops) // RARE)
        beyond_seen = math.pow(STEPS * (rank / 2) / (len(tops) * self._stride), 1 / POWER)
        usual = len(tops) // USUAL + 1
        ordered = np.partition(tops, [-rank, -usual])
        reach = float(ordered[-rank]) * beyond_seen
        return reach if ordered[-usual] > 1 else min(reach, FURTHEST)

    def state(self) -> State:
        """Return what is needed to go on."""
        return {"top": self._top, "tops": self._tops[-LOOKS:]}

    def restore(self, state: State) -> None:
        """Go on from a state in plain data; raise ValueError, TypeError or KeyError if it is none."""
        self._top, self._tops = real(state["top"]), array("d", reals(state["tops"]))
