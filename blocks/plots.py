"""Draws the chart of a watch, in a process of its own: `python -m blocks.plots`.

matplotlib takes seconds to load on a busy machine, and a watch that has failed has none to lose:
neither the start of a flow nor a rollback waits for it, and nothing that goes wrong in it can end
a watch.
"""

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from blocks.program import run
from release.duration import say_duration
from release.errors import Unreachable
from release.watch.chart import Chart

_GROUND = "#14181f"  # dark, and its own: the UI's may be light or dark, and it is 3 am
_INK = "#d5dbe3"
_FAINT = "#8a94a3"
_GRID = "#2a313c"
_LIMIT = "#ff6b6b"
_COLOURS = {
    "new": ("#ffb454", "#ffd9a0", "#c98a3a", "#ffe9c9"),
    "old": ("#59a6ff", "#a5cfff", "#3f78b8", "#cfe5ff"),
    "before": ("#8a94a3", "#8a94a3", "#8a94a3"),
}
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))
_PATH = re.compile(rb' d="[^"]*"')
_DECIMALS = re.compile(rb"(\.[0-9]{2})[0-9]+")  # a hundredth of a point is enough
_LARGEST = 150_000  # bytes of a picture; a third more as text


def picture_of(chart: Chart, within: timedelta) -> str:
    """The chart as an image in Markdown, with the picture itself in its address.

    Raises Unreachable if it could not be drawn in time, or is too big for a page.
    """
    try:
        command = [sys.executable, "-m", "blocks.plots"]
        done = run(command, within, given=json.dumps(asdict(chart)).encode())
    except (OSError, subprocess.TimeoutExpired) as error:
        why = f"not within {say_duration(within)}"
        if not isinstance(error, subprocess.TimeoutExpired):
            why = type(error).__name__
        raise Unreachable(f"the plots could not be drawn: {why}") from error
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        raise Unreachable(f"the plots could not be drawn: {said[-1][:200]}")
    if len(done.stdout) > _LARGEST:
        raise Unreachable(f"the plots are too big for a page: {len(done.stdout):,} bytes")
    return f"![{chart.title}](data:image/svg+xml;base64,{base64.b64encode(done.stdout).decode()})"


def main() -> None:
    """Read a chart from standard input, write its picture to standard output."""
    os.nice(10)  # a rollback may be under way on the same cores
    sys.stdout.buffer.write(draw(json.load(sys.stdin)))


def draw(chart: Mapping[str, Any]) -> bytes:
    """The chart, as ``asdict`` writes it, as an SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text: sharp at any size, and a tenth of the bytes of its outlines.
    matplotlib.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif"})
    figure = Figure(figsize=(9.5, 8.5), facecolor=_GROUND, layout="constrained")
    figure.suptitle(chart["title"], color=_INK, fontsize=12, x=0.01, ha="left")
    panels = chart["panels"]
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
    for (axes,), panel in zip(rows, panels, strict=True):
        _draw_panel(axes, panel, chart)
    _name_marks(rows[0][0], chart)
    bottom = rows[-1][0]
    margin = 0.01 * (chart["until"] - chart["since"])  # a mark at the very end is the verdict
    bottom.set_xlim(chart["since"] - margin, chart["until"] + margin)
    bottom.set_xticks([at for at, _ in chart["ticks"]], [label for _, label in chart["ticks"]])
    bottom.set_xlabel("UTC", color=_FAINT, fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", facecolor=_GROUND, metadata={"Date": None})
    return _PATH.sub(lambda path: _DECIMALS.sub(rb"\1", path[0]), picture.getvalue())


def _draw_panel(axes: Any, panel: Mapping[str, Any], chart: Mapping[str, Any]) -> None:
    axes.set_facecolor(_GROUND)
    axes.set_title(f"{panel['title']}, {panel['unit']}", loc="left", color=_INK, fontsize=10)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.tick_params(colors=_FAINT, labelsize=9)
    for spine in axes.spines.values():
        spine.set_color(_GRID)
    for number, (since, until) in enumerate(chart["unhealthy"]):
        label = "" if number else "health check failed"
        axes.axvspan(since, until, color=_LIMIT, alpha=0.18, linewidth=0, label=label)
    for line in panel["lines"]:
        _draw_line(axes, line)
    for limit in panel["limits"]:
        axes.axhline(
            limit["value"], color=_LIMIT, linewidth=1.4, linestyle=(0, (6, 3)), label=limit["label"]
        )
    for mark in chart["marks"]:
        colour = _LIMIT if mark["fired"] else _INK
        style = "-" if mark["label"] == "cutover" else ":"
        axes.axvline(mark["at"], color=colour, linewidth=1.2, linestyle=style)
    _scale(axes, panel)
    if panel["lines"] or panel["limits"]:
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, labelcolor=_INK, frameon=False
        )
    if not any(value is not None for line in panel["lines"] for _, value in line["points"]):
        axes.text(0.5, 0.5, "nothing was measured", color=_FAINT, transform=axes.transAxes,
                  ha="center", va="center")  # fmt: skip


def _draw_line(axes: Any, line: Mapping[str, Any]) -> None:
    colours = _COLOURS[line["role"]]
    rank = line["rank"]
    axes.plot(
        [at for at, _ in line["points"]],
        [float("nan") if value is None else value for _, value in line["points"]],
        color=colours[rank % len(colours)],
        linestyle=":" if line["role"] == "before" else _DASHES[rank % len(_DASHES)],
        linewidth=2.0 if rank == 0 and line["role"] != "before" else 1.3,
        marker="." if len(line["points"]) < 3 and line["role"] != "before" else "",
        label=line["label"],
    )


def _scale(axes: Any, panel: Mapping[str, Any]) -> None:
    """From zero; times by decades where they differ by more than one line can show."""
    values = [v for line in panel["lines"] for _, v in line["points"] if v is not None]
    top = max([*values, *(limit["value"] for limit in panel["limits"])], default=1.0) or 1.0
    positive = [value for value in values if value > 0]
    if panel["unit"] == "ms" and positive and top > 20 * min(positive):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylim(min(positive) / 1.5, top * 1.5)
    else:
        axes.set_ylim(0, top * 1.25)  # room for the names of the marks


def _name_marks(axes: Any, chart: Mapping[str, Any]) -> None:
    """Beside their lines, atop the first panel; in rows, so that neighbours can be read."""
    middle = (chart["since"] + chart["until"]) / 2
    for number, mark in enumerate(chart["marks"]):
        before = mark["at"] > middle
        axes.annotate(
            mark["label"],
            (mark["at"], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if before else 3, -3 - 11 * (number % 3)),
            textcoords="offset points",
            color=_LIMIT if mark["fired"] else _INK,
            fontsize=9,
            fontweight="bold",
            ha="right" if before else "left",
            va="top",
        )


if __name__ == "__main__":
    main()
