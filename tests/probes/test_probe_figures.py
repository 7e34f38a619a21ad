"""What the figures of probes show: named axes, n in doublings, a size that is read on a page, and a dark mode."""

import re

import pytest

from rmeval.probes.curves import Curve, Point
from rmeval.probes.plots import draw


def curve(panel, name, at, value=0.5):
    return Curve(panel, name, "", tuple(Point(x, value, (value - 0.1, value + 0.1), 9) for x in at))


def texts(svg):
    """(text, x, y) of all texts, in the order drawn."""
    found = []
    for attributes, said in re.findall(r"<text([^>]*)>([^<]*)</text>", svg.decode()):
        place = re.search(r'x="([\d.]+)" y="([\d.]+)"', attributes) or re.search(
            r"translate\(([\d.]+) ([\d.]+)\)", attributes
        )
        found.append((said, float(place[1]), float(place[2])))
    return found


def size(svg):
    return tuple(float(x) for x in re.search(rb'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups())


def test_the_axis_of_n_is_logarithmic_with_a_mark_at_every_n_that_has_room():
    svg = draw("t", [curve("gold", "best of n", (1, 2, 4, 8, 10)), curve("gold", "oracle", (1, 2, 4, 8, 10))])["svg"]
    drawn = texts(svg)
    said = [one for one, *_ in drawn]
    assert [one for one in said if one in ("1", "2", "3", "4", "5", "6", "8", "10")] == ["1", "2", "4", "10"]
    assert {"n", "mean gold", "best of n", "oracle"} <= set(said)
    assert {"KL from the base, at most, nats", "0.19", "0.64", "1.4"} <= set(said)  # above the marks 2, 4 and 10
    # equal steps of log n: the marks at 1, 2 and 4 are as far from each other
    one, two, four = (next(x for said, x, _ in drawn if said == n) for n in "124")
    assert two - one == pytest.approx(four - two, abs=0.01)


def test_dollar_signs_in_names_are_no_mathematics():
    """A model or file may be called so; what stands between two of them was read as a formula, and ended the probe."""
    drawn = draw("a$b_$", [curve("gold", "x$_^$", (1, 2)), curve("drop", "drop", ["y$_$", "z"])])["svg"]
    assert {"a$b_$", "y$_$"} <= {said for said, *_ in texts(drawn)}


def test_two_panels_beside_each_other_are_seven_hundred_pixels_wide():
    two = draw("t", [curve("gold", "a", (1, 2)), curve("regret", "b", (1, 2))])["svg"]
    assert size(two)[0] == pytest.approx(525.6)  # points; 700 pixels
    three = draw("t", [curve(panel, "a", (1, 2)) for panel in ("gold", "regret", "gain")])["svg"]
    assert size(three)[0] == size(two)[0]
    assert size(three)[1] > size(two)[1] * 1.7


def test_a_panel_of_many_names_is_as_high_as_they_need():
    few, many = (draw("t", [curve("drop", "drop", [f"edit {i}" for i in range(k)])])["svg"] for k in (3, 25))
    assert size(many)[1] - size(few)[1] > 22 * 12  # points


def test_the_names_of_many_lines_stand_below_them():
    at = (4, 8, 16)
    drawn = texts(draw("t", [curve("right", name, at, 0.1 * i) for i, name in enumerate("abcdefg")])["svg"])
    axis = max(y for said, _, y in drawn if said == "n")
    assert all(y > axis for said, _, y in drawn if said in set("abcdefg"))


def test_a_law_has_no_marks_and_a_value_that_is_missing_says_so_within_its_panel():
    law = Curve("over-optimisation", "bon law", "", tuple(Point(x, x, None, 0) for x in (0.0, 0.5, 1.0)))
    seen = curve("over-optimisation", "gold", (0.0, 0.5, 1.0))
    with_law, without = (draw("t", curves)["svg"].count(b"<use") for curves in ([seen, law], [seen, seen]))
    assert with_law < without
    gone = Curve("calibration error", "fitted", "", (Point("all", 0.4, None, 9), Point("few", None, None, 2)))
    drawn = texts(draw("t", [gone, curve("calibration error", "raw", ("all", "few"), 0.3)])["svg"])
    at = {said: x for said, x, _ in drawn}
    assert at["undefined"] > at["few"]


def test_figures_turn_dark_where_the_reader_asked_for_it():
    files = draw("t", [curve("gold", "a", (1, 2))])
    assert files["svg"].count(b"prefers-color-scheme: dark") == 1
    assert files["svg"] == draw("t", [curve("gold", "a", (1, 2))])["svg"]


def test_shares_that_lie_close_together_are_drawn_apart():
    def heights(*values):
        drawn = texts(draw("t", [curve("right", str(v), (1, 2), v) for v in values])["svg"])
        return [float(said) for said, x, _ in drawn if x < 60 and said.replace(".", "").isdigit()]

    assert min(heights(0.9, 0.92)) > 0.7  # intervals from 0.8 on
    assert (min(heights(0.2, 0.9)), max(heights(0.2, 0.9))) == (0.0, 1.0)
    flat = Curve("right", "all", "", (Point(1, 1.0, None, 9), Point(2, 1.0, None, 9)))
    assert "1.04" not in {said for said, *_ in texts(draw("t", [flat])["svg"])}  # no share is above 1


def test_lines_that_are_undefined_everywhere_are_named_and_not_drawn():
    gone = Curve("regret", "regret", "", tuple(Point(n, None, None, 0, 3, "every score is missing") for n in (1, 2, 4)))
    said = [one for one, *_ in texts(draw("t", [curve("gold", "oracle", (1, 2, 4)), gone])["svg"])]
    assert "not drawn: regret (every score is missing)" in said
    assert said.count("n") == 1


def test_the_only_n_of_a_panel_is_called_n():
    said = [
        one for one, *_ in texts(draw("t", [curve("gold", "oracle", (1,)), curve("uplift", "within", (1,))])["svg"])
    ]
    assert ("n = 1" in said, "kept 1" in said) == (True, True)
