"""The model card: made of any manifest, and it says what the manifest says."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from models.release import artefact, card_formats, verdicts
from models.release.card import sections
from models.release.verdicts import Judged, Range
from schemas.releases import CARD, CARD_PAGE, RANKER, Manifest, ReleaseFile
from schemas.state.counting import FORMAT_1, Counting
from tests.support.releases import ONE, TWO, manifest, saved

REFUSED = {
    "outcome": "refused",
    "why": "NDCG@10 0.1040 against 0.1019 of the best rival built_in",
    "ratio": 1.02,
    "lower": 0.951,
    "upper": 1.09,
    "rival": "built_in",
    "n": 1500,
    "people": 64,
    "needed": None,
    "rivals": {"built_in": {"ratio": 1.02, "lower": 0.951, "upper": 1.09}},
    "slices": {"category a|b <i>": {"ratio": 0.8, "lower": 0.7, "upper": None}},
    "checks": {"parity": {"passed": False, "why": "scores differ by 0.1"}},
}
UNDECIDED = {
    "outcome": "undecided",
    "why": "it needs more",
    "ratio": 1.01,
    "needed": 34_000,
    "n": 900,
}
METRICS: dict[str, Any] = {
    "gate": {"ranker": REFUSED, "coarse": UNDECIDED},
    "arms": {
        "built_in": {"hit_rate_at_10": 0.2, "ndcg_at_10": 0.1019},
        "ranker": {
            "hit_rate_at_10": 0.21,
            "ndcg_at_10": 0.104,
            "ndcg_at_10_lo": 0.09,
            "ndcg_at_10_hi": 0.12,
        },
    },
    "choices": {"judged": 1500, "lists": 5000},
    "data": {"dropped": {"bots": 20_000, "capped": 3}},
    "gain": {"covisit": 3.0, "popular_24h": 1.0},
    "people": 610,
}


def text_of(held: Manifest) -> str:
    """The card in Markdown, without what only fills up its tables."""
    return re.sub(" +", " ", card_formats.markdown(held))


def whole() -> Manifest:
    return manifest(
        TWO,
        parent=ONE,
        features=("popular_24h", "covisit"),
        metrics=METRICS,
        counting=Counting(),
        files={RANKER: ReleaseFile(sha256="0" * 64, bytes=1)},
    )


def test_a_card_says_what_the_manifest_says() -> None:
    text = text_of(whole())
    for line in (
        "# Release 2026-11-24.2",
        "a ranker of 2 columns",
        "| ranker | refused | 1.020 (0.951 to 1.090) | built_in | 1,500 | 64 | |",
        "| coarse | undecided | 1.010 | | 900 | | 34,000 |",
        "ranker: NDCG@10 0.1040 against 0.1019 of the best rival built_in.",
        "| ranker | parity | FAILED | scores differ by 0.1 |",
        "| people | 610 |",
        "| events | 1,000 |",
        "| bots | 20,000 |",
        "| pairs | at any gap |",
        "| popularity | 24h + 7d + 90d |",
        "| covisit | 75.0% |",
        "| ranker | 0.2100 | 0.1040 (0.0900 to 0.1200) |",
        "| category a\\|b &lt;i> | 0.800 (0.700 to ?) |",
        "It was judged on 1,500 choices of 64 people",
        "`freshet release rollback` returns to 2026-11-24.1, its parent",
    ):
        assert line in text, line


class Page(HTMLParser):
    """The tags of a page that are open, and all that it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loads += [f"{name}={value}" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_loads_nothing_and_draws_the_intervals() -> None:
    text = card_formats.html(whole())
    page = Page()
    page.feed(text)
    assert (page.open, page.loads) == ([], [])
    assert "a|b &lt;i&gt;" in text
    assert text.count("<svg") == 4, "two verdicts, a rival and a slice"
    assert all(
        0 <= float(it) <= card_formats.WIDTH for it in re.findall(r'[cx12]+="([\d.]+)"', text)
    )


def test_a_release_has_its_card_as_files_that_are_checked(tmp_path: Path) -> None:
    saved(tmp_path, ONE, metrics=METRICS)
    held, _ = artefact.read_manifest(tmp_path / ONE)
    assert {CARD, CARD_PAGE} < held.files.keys()
    assert (tmp_path / ONE / CARD).read_text() == card_formats.markdown(held)
    assert artefact.load(tmp_path / ONE).id == ONE


def test_a_release_of_format_1_has_a_card_too() -> None:
    held = manifest(
        format=1, metrics={"gate": {"ranker": {"outcome": "released", "why": "x", "ratio": 1.0}}}
    )
    assert held.counting == FORMAT_1
    text = text_of(held)
    assert "| pairs | within a session |" in text
    assert "| ranker | released | 1.000 |" in text
    assert "It has no parent." in text
    assert "Evaluation" not in text


def test_the_verdict_on_a_release_is_that_on_its_ranker_where_it_has_one() -> None:
    assert verdicts.overall(whole()).text() == "refused 1.020 (0.951 to 1.090)"
    alone = manifest(metrics=METRICS)
    assert verdicts.overall(alone) == Judged(
        "undecided", "it needs more", Range(1.01), n=900, needed=34_000
    )
    assert "About 34,000 choices would decide" in card_formats.markdown(alone)
    assert verdicts.overall(manifest()).outcome == verdicts.UNKNOWN


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    sorted({*METRICS, "ranker", "checks", "slices", "rivals", *METRICS["gate"]["ranker"]})
)


@settings(max_examples=10, deadline=None)
@given(st.dictionaries(KEYS, st.dictionaries(KEYS, st.dictionaries(KEYS, JSON) | JSON) | JSON))
def test_any_metrics_have_a_card(metrics: dict[str, Any]) -> None:
    held = manifest(metrics=metrics)
    assert sections(held)
    page = Page()
    page.feed(card_formats.html(held))
    assert page.open == []
    assert card_formats.markdown(held).startswith("# Release")
