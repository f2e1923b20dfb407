"""The plots of a watch, really drawn."""

import base64
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from blocks.plots import picture_of
from release.configuration.rules import WatchRules
from release.errors import Unreachable
from release.measure.sample import Sample
from release.measure.traffic import PROBES, ROUTER, Times, Traffic
from release.model import Baseline, Release
from release.watch.chart import Chart, Moment, chart_of_watch
from release.watch.watched import Watch
from tests.fakes.samples import PROMETHEUS

START = datetime(2026, 1, 8, 2, 14, 7, tzinfo=UTC)
MS = timedelta(milliseconds=1)
BASELINE = Baseline("production", Release("v1.0.0", "a" * 40), (), "", 0.01, 40 * MS, START)
WITHIN = timedelta(minutes=2)


def long_watch(samples: int) -> Chart:
    """As big as they get: three sources, two releases, thousands of samples, many moments."""
    seen = [
        Sample(
            START + n * 500 * MS,
            health=n % 90 > 3,
            traffic=tuple(
                Traffic(source, release, 100 + n % 17, n % 13)
                for source in (ROUTER, PROBES, PROMETHEUS)
                for release in ("", "v1.1.0", "v1.0.0")
            ),
            times=tuple(
                Times(source, "", (5 + n % 7) * MS, (50 + n % 31) * MS, (900 + n % 97) * MS)
                for source in (PROBES, PROMETHEUS)
            ),
        )
        for n in range(samples)
    ]
    moments = [Moment(s.at, str(n), "") for n, s in enumerate(seen[:: max(1, samples // 20)])]
    cutover = START - timedelta(seconds=20)
    watch = Watch("v1.1.0", BASELINE, WatchRules(), START, cutover)
    return chart_of_watch(watch, seen, moments)


def svg_of(picture: str) -> bytes:
    found = re.fullmatch(r"!\[(.*)\]\(data:image/svg\+xml;base64,(.*)\)", picture)
    assert found is not None
    return base64.b64decode(found[2])


@pytest.mark.parametrize("samples", [0, 1, 41, 2400])
def test_a_watch_of_any_length_makes_a_small_picture_with_all_its_words(samples: int) -> None:
    picture = picture_of(long_watch(samples), WITHIN)

    assert len(picture) < 200_000
    words = " ".join(ElementTree.fromstring(svg_of(picture)).itertext())
    assert "v1.1.0 on production, watched from 2026-01-08 02:14:07 UTC" in words
    for title in ("Error rate, %", "Answer times, ms", "Traffic, /s", "limit: 5.0% for 5 min"):
        assert title in words
    if samples > 1:
        assert "cutover" in words
        assert "v1.0.0 (prometheus)" in words


def test_a_picture_that_takes_too_long_is_an_error_that_says_so() -> None:
    with pytest.raises(Unreachable, match="could not be drawn: not within 1 ms"):
        picture_of(long_watch(1), MS)


def test_a_picture_that_fails_is_an_error_with_the_last_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unreachable, match="could not be drawn: no output"):
        picture_of(long_watch(1), WITHIN)


def test_a_version_stands_as_it_is_as_text_and_not_as_markup() -> None:
    versions = ("v1.1.20260108", "<script>")
    seen = [Sample(START, traffic=tuple(Traffic(ROUTER, v, 9, 0) for v in versions))]
    chart = chart_of_watch(Watch("v1.1.20260108", BASELINE, WatchRules(), START), seen)
    drawn = svg_of(picture_of(chart, WITHIN))
    assert b"v1.1.20260108 (router)" in drawn
    assert b"<script" not in drawn


def test_flows_start_without_loading_matplotlib() -> None:
    code = "import sys, flows.deploy; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
