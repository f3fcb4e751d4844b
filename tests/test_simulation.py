"""Whole calls from seeds: whatever the vendors and the caller do, every law of `tests.simulation` holds."""

import pytest

from tests.simulation import simulate

SEEDS = 200
NIGHTLY = 5_000


def hold(seeds: range) -> None:
    for seed in seeds:
        try:
            problems = simulate(seed).problems
        except Exception as exc:
            problems = [f"{type(exc).__name__}: {exc}"]
        if problems:
            pytest.fail(f"{'; '.join(problems)}\nreplay: python -m tests.simulation {seed}", pytrace=False)


@pytest.mark.parametrize("start", range(0, SEEDS, 20))
def test_every_call_from_a_seed_is_sound(start: int) -> None:
    hold(range(start, start + 20))


@pytest.mark.parametrize("seed", range(0, SEEDS, 10))
def test_the_same_seed_gives_the_same_event_log_bit_for_bit(seed: int) -> None:
    assert simulate(seed).text() == simulate(seed).text()


@pytest.mark.nightly
def test_every_call_from_many_seeds_is_sound() -> None:
    hold(range(SEEDS, NIGHTLY))
