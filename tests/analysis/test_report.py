import base64
import html.parser
import re

import numpy as np
import pytest

from bgfast.analysis import figures
from bgfast.analysis.diagnostics import trust
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.report import Report, Table
from bgfast.analysis.weights import WeightAccumulator


class Page(html.parser.HTMLParser):
    """Collects tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    figures.save(figures.weight_diagnostics(np.zeros(10)), path)
    return path


def verdict():
    accumulator = WeightAccumulator()
    accumulator.update(np.random.default_rng(0).normal(size=1000))
    return trust(accumulator.result())


def test_page_holds_everything_and_needs_nothing_else(tmp_path, picture):
    report = Report("Dimer", "a subtitle")
    report.add_headline("F(closed) - F(open)", Estimate(-1.0, 0.1), "in k_B T")
    table = Table(["name", "value"], [["a", 1234], ["b", Estimate(1.5, 0.1)]], "a table")
    report.add_section("Profile", "One.\n\nTwo.", table, [(picture, "a figure")], verdict())
    report.add_details("Configuration", "seed = 1\n")
    report.add_details("Versions", {"torch": "2", "numpy": "2.4"})
    report.write(tmp_path / "report.html")
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(source)

    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", source)
    assert not re.search(r"@import|url\(|<script|<link|<iframe", source)
    (shown,) = page.all("img")
    prefix, encoded = shown["src"].split(",")
    assert prefix == "data:image/png;base64"
    assert base64.b64decode(encoded) == picture.read_bytes()
    for text in ["−1.00 ± 0.10", "1,234", "1.50 ± 0.10", "One.", "a figure", "seed = 1", "numpy"]:
        assert text in page.text
    for sentence in verdict().sentences:
        assert sentence in page.text
    assert len(page.all("details")) == 2
    assert "open" not in page.all("details")[0]


def test_all_text_is_escaped(tmp_path, picture):
    nasty = "<script>alert('x')</script>\"&"
    report = Report(nasty, nasty)
    report.add_headline(nasty, nasty, nasty)
    report.add_section(nasty, nasty, Table([nasty], [[nasty]], nasty), [(picture, nasty)])
    report.add_details(nasty, nasty)
    report.add_details(nasty, {nasty: nasty})
    page = Page(report.html())
    assert not page.all("script")
    assert page.text.count("alert('x')") == 17  # every place it was put, and the page's title
    assert page.all("img")[0]["alt"] == nasty


def test_only_columns_of_numbers_are_aligned_to_the_right():
    report = Report("t")
    table = Table(["text", "number", "mixed"], [["a", 1.0, 1.0], ["b", Estimate(1, 1), "–"]])
    report.add_section("s", table=table)
    classes = [cell.get("class") for cell in Page(report.html()).all("td")]
    assert classes == [None, "number", None] * 2


def test_the_level_of_the_verdict_shows():
    report = Report("t")
    report.add_section("s", verdict=verdict())
    classes = [block.get("class", "") for block in Page(report.html()).all("div")]
    assert f"verdict {verdict().level}" in classes


def test_empty_report_is_a_page():
    assert Page(Report("Only a title").html()).all("h1")


def test_bad_input_is_named(tmp_path):
    report = Report("t")
    with pytest.raises(ValueError, match=r"cannot read the figure .*none\.png"):
        report.add_section("s", figures=[(tmp_path / "none.png", "")])
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match="is not a PNG file"):
        report.add_section("s", figures=[(tmp_path / "text.png", "")])
    with pytest.raises(ValueError, match="a row of the table has 1 cells"):
        Table(["a", "b"], [["1"]])
