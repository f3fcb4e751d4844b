"""Is what we hear our own voice, come back? The caller's level and our own, compared over the last second or so.

A phone's echo is our audio later and softer, through a codec: its waveform is no match, but the rise and fall of its
level is. Two things count: the level itself, which survives noise, and more so its change over two frames, which
another speaker seldom shares by chance.
"""

from collections import deque

import numpy as np
import numpy.typing as npt

WINDOW = 1.4  # seconds of the caller's audio that are compared: with 1.0, any two speakers are alike now and then
LAG = 0.5  # seconds that an echo may take
SLACK = 0.1  # seconds that the two directions may be ahead of each other: packets come in bursts
LEAST = 0.3  # seconds of heard audio that tell anything
FLOOR = -66.0  # dBFS: what is softer is silence; an echo is soft itself
AUDIBLE = -50.0  # dBFS: what is louder can be heard
STEADY = 1.0  # dB: a level that moves less than this has no shape to compare
CHANGE = 0.7  # how much the change counts, against the level
# Measured on synthetic speech, 20 in 20 of each: other speech correlates up to 0.6 at its best lag, an echo from 0.8.
UNLIKE, ALIKE = 0.35, 0.85  # what is 0 and what is 1 of the answer

Floats = npt.NDArray[np.float64]


class Echo:
    """Levels in dBFS, one each way per ``frame`` seconds; -inf is silence.

    :meth:`sent` is for frames as they play, not as they are queued; while nothing plays it may be left out.
    :meth:`likeness` computes when it is asked; the rest only takes note.
    """

    def __init__(self, frame: float = 0.02) -> None:
        self._window = round(WINDOW / frame)
        self._lag = round(LAG / frame)
        self._slack = round(SLACK / frame)
        self._least = round(LEAST / frame)
        self._heard: deque[float] = deque(maxlen=self._window)
        # Where the caller's packets are late, our audio is ahead of them; where ours are, it is behind.
        self._sent: deque[float] = deque(maxlen=self._window + self._lag + 2 * self._slack)
        self._ahead = 0  # frames sent that nothing was heard beside yet; negative: heard, with nothing sent
        self._audible = 0  # frames until an echo of what was sent is over

    def sent(self, level_db: float) -> None:
        """A frame of ours plays."""
        self._sent.append(max(level_db, FLOOR))
        self._ahead += 1
        if level_db > AUDIBLE:
            self._audible = self._lag + max(self._ahead, 0)
        if self._ahead > self._slack:
            self._heard.append(FLOOR)  # nothing comes from the caller: that is silence
            self._ahead -= 1

    def heard(self, level_db: float) -> None:
        """A frame of the caller's came."""
        self._heard.append(max(level_db, FLOOR))
        self._ahead -= 1
        if self._audible:
            self._audible -= 1
        if self._ahead < -self._slack:
            self._sent.append(FLOOR)  # nothing of ours plays
            self._ahead += 1

    @property
    def is_agent_audible(self) -> bool:
        """Could anything of ours be heard now, be it by its echo?"""
        return self._audible > 0

    def likeness(self) -> float:
        """How much what was heard last is like what we sent up to half a second before it, 0 to 1.

        An echo is mostly above 0.8, other speech below 0.5, and speech over an echo is as other speech.
        """
        if not self._audible or len(self._heard) < self._least or not self._sent:
            return 0.0
        heard = np.array(self._heard)
        if heard.std() < STEADY:
            return 0.0
        sent = self._lagged(len(heard))
        level = _correlation(sent, heard)
        change = _correlation(sent[:, 2:] - sent[:, :-2], heard[2:] - heard[:-2])
        best = float((CHANGE * change + (1 - CHANGE) * level).max())
        return min(max((best - UNLIKE) / (ALIKE - UNLIKE), 0.0), 1.0)

    def _lagged(self, frames: int) -> Floats:
        """What was sent, as it may come back: a row for each lag, in steps of half a frame."""
        sent = np.full(frames + self._lag + 2 * self._slack, FLOOR)
        have = np.array(self._sent)[-len(sent) :]
        # The last frame of the row with lag 0 is the one that played when the last one was heard.
        end = len(sent) - self._slack + self._ahead
        begin = end - len(have)
        sent[max(begin, 0) : end] = have[max(-begin, 0) :][: max(end, 0)]
        first = np.arange(2 * self._slack + self._lag + 1)[:, None]
        whole = sent[first + np.arange(frames)]
        power = 10 ** (whole / 10)
        between = 10 * np.log10((power[1:] + power[:-1]) / 2)
        return np.concatenate([whole, between])


def _correlation(rows: Floats, one: Floats) -> Floats:
    """Pearson's, of each row with the one; 0 where a row has no shape."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    one = one - one.mean()
    sizes = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    product: Floats = rows @ one
    least = STEADY * len(one) ** 0.5
    return np.where(sizes < least, 0.0, product / np.maximum(sizes * np.sqrt(one @ one), 1e-9))
