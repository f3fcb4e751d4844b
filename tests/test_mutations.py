"""The tests are worth something: seeded bugs do not get past them."""

import pytest

from tests.mutations import BUGS, ROOT, Bug, main, mutated


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_seeded_bug_still_has_its_place(bug: Bug) -> None:
    text = (ROOT / bug.file).read_text()
    assert mutated(text, bug) != text


@pytest.mark.nightly
def test_at_most_two_seeded_bugs_get_past_the_tests() -> None:
    assert len(BUGS) >= 30
    assert main() <= 2
