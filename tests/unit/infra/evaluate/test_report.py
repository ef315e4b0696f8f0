"""The report: one file that needs nothing, with marks on their scale, which escapes what it shows."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from infra.apps.evaluate.files import CannotWrite, check, write
from infra.apps.evaluate.program import as_table
from infra.apps.evaluate.report.marks import Bar, plot, ratio_plot
from infra.apps.evaluate.report.page import page

OPEN = ("meta", "line", "circle")
"""Tags without an end."""


def arm(ndcg: float) -> dict[str, Any]:
    """The figures of an arm, as a result has them."""
    found: dict[str, Any] = dict.fromkeys(("hr", "mrr", "precision", "recall"), 2 * ndcg)
    found |= {"ndcg": ndcg, "ndcg_lo": 0.9 * ndcg, "ndcg_hi": 1.2 * ndcg, "coverage": 0.5}
    found |= {"novelty": 4.0, "diversity_category": 0.8, "diversity_owner": None}
    found |= {
        "popularity_bias": 1.1,
        "calibration": 0.2,
        "hr_debiased": ndcg,
        "ndcg_debiased": ndcg,
    }
    return found | {
        "ndcg_ties": [ndcg / 2, ndcg], "ndcg_uncapped": ndcg, "hr_100neg": 0.3, "ndcg_100neg": 0.2
    }  # fmt: skip


def ratio(value: float | None, lower: float | None, upper: float | None) -> dict[str, float | None]:
    return {"ratio": value, "ratio_lo": lower, "ratio_hi": upper}


def result() -> dict[str, Any]:
    """One with every section, and with a category and a set whose names are HTML."""
    evil = "<script>alert(1)</script>"
    sources = {"covisit": arm(0.08), "popular_24h": arm(0.02)}
    slices = {
        f"category {evil}": {
            "n": 12, "people": 3, "released": arm(0.1), "best_source": arm(0.09),
            **ratio(1.1, 0.5, None),
        }
    }  # fmt: skip
    return {
        "data": evil, "protocol": "prequential", "delay": "60s", "seen": "masked", "n": 1_500,
        "people": 60, "seed": 0, "random": {"hr": 0.001, "ndcg": 0.0005}, "sources": sources,
        "released": arm(0.09), "built_in": arm(0.085), "fresh": arm(0.2), "frozen": arm(0.01),
        "best_source": "covisit", "served": "candidate", "slices": slices, "layout": "clicks",
        "ratios": {"covisit": ratio(1.125, 0.98, 1.3), "popular_24h": ratio(40.0, 9.0, None)},
        "category_cap": {"released": ratio(0.95, 0.93, 0.97)}, "clock": True, "acts": 10_000,
        "items": 900, "history": 8_000, "excluded": {"not drawn": 3}, "dropped": {}, "notes": {},
        "gate": {"coarse": {"outcome": "released", "why": "NDCG@10 0.09 against 0.08"}},
        "seeds": {"seeds": [1, 2], "released": dict.fromkeys(
            ("hr_mean", "hr_sd", "ndcg_mean", "ndcg_sd"), 0.1)}, "seconds": 12.0,
    }  # fmt: skip


class Parsed(HTMLParser):
    """Checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in OPEN:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in OPEN or self.open.pop() == tag


def test_a_report_needs_nothing_beside_it_and_escapes_what_it_shows() -> None:
    text = page(result())
    parsed = Parsed()
    parsed.feed(text)
    assert parsed.open == []
    tags = {tag for tag, _ in parsed.seen}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    assert not [it for _, its in parsed.seen for it in its if it in ("src", "href")]
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert text.count("<svg") == text.count("<circle")


def test_every_mark_lies_on_its_scale() -> None:
    shown = page(result())
    places = [float(it) for it in re.findall(r'(?:cx|x1|x2)="([-\d.]+)%"', shown)]
    assert places
    assert all(0 <= it <= 100 for it in places)
    bars = [Bar("a", 1.0, 0.25, 16.0), Bar("b", 4.0, 2.0, None)]
    assert re.findall(r'cx="([\d.]+)%"', ratio_plot(bars)) == ["50.00", "100.00"]
    assert re.findall(r'cx="([\d.]+)%"', plot(bars, "NDCG")) == ["6.25", "25.00"]
    assert plot([], "") == ratio_plot([]) == ""


def test_both_files_are_replaced_under_a_name_that_a_folder_may_have(tmp_path: Path) -> None:
    files = write(tmp_path / "evaluate", result())
    assert files.result.name == "script-alert-1-script--prequential.json"
    assert write(tmp_path / "evaluate", result()) == files
    assert sorted(files.report.parent.iterdir()) == sorted(files)


def test_a_table_for_people_has_the_best_arm_first() -> None:
    table = as_table(result())
    assert str(next(iter(table.columns[0].cells))) == "released, fresh state"
    assert table.row_count == 7


def test_a_folder_that_takes_no_file_is_refused_and_no_draft_stays(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for refused in (check, lambda folder: write(folder, result())):
        with pytest.raises(CannotWrite, match="takes no file") as error:
            refused(tmp_path / "file" / "below")
        assert error.value.exit_code == 2
    folder = tmp_path / "evaluate"
    check(folder)
    assert not [*folder.iterdir()]
    files = write(folder, result())
    files.report.unlink()
    files.report.mkdir()  # it cannot be replaced
    with pytest.raises(CannotWrite):
        write(folder, result())
    assert {*folder.iterdir()} == {*files}
