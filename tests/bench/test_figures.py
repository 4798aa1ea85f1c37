"""A figure that falls short is never hidden."""

import json
from pathlib import Path

import pytest

from bench.figures import Figure, Measured, save, table

FIGURE = Figure(name="some_ratio", says="weft / something", lowest=0.98, highest=1.02)


def measured(*ratios: float, figure: Figure = FIGURE) -> Measured:
    return Measured(figure=figure, rounds=[{"weft": each, "plain": 1.0} for each in ratios])


def test_the_median_round_counts() -> None:
    assert measured(1.0, 5.0, 1.01).value == 1.01


@pytest.mark.parametrize(("value", "holds"), [(0.97, False), (0.98, True), (1.02, True), (1.03, False)])
def test_a_figure_holds_within_its_limits(value: float, *, holds: bool) -> None:
    assert measured(value).holds is holds
    assert ("NO" in table([measured(value)])) is not holds


def test_one_figure_measured_anew_leaves_the_others(tmp_path: Path) -> None:
    other = Figure(name="other_ratio", says="weft / another thing", highest=1.0)
    save([measured(1.0), measured(0.5, figure=other)], tmp_path / "figures.json", {"ratio": "by rounds"})
    save([measured(2.0)], tmp_path / "figures.json", {"ratio": "by rounds"})
    content = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert content["figures"] == {"some_ratio": 2.0, "other_ratio": 0.5}
    assert set(content["method"]["rounds"]) == {"some_ratio", "other_ratio"}
