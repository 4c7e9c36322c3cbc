"""Verdicts on accuracies made up, and the two files of the report."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from sasa.cli import main
from sasa.report import read_sweeps, write_report
from sasa.report.matplotlib_figure import new_figure
from sasa.report.sweep_plots import draw_accuracy_against_cost, draw_sweep_curves, scale_by_factors

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ([80.0, 80.3, 80.2], [78.0, 78.1, 78.2], "supported"),
        ([78.0, 78.1, 78.2], [80.0, 80.3, 80.2], "contradicted"),
        # Far apart from seed to seed, but not within one.
        ([80.0, 82.0, 84.0], [79.0, 81.1, 83.0], "supported"),
        ([80.0, 80.0, 80.0], [80.0, 80.0, 80.0], "not significant"),
        ([90.0], [10.0], "not significant"),
        ([90.0, 90.1], [], "not significant"),
        # Differences 1, 2 and 4 (t = 2.65) and 1, 2 and 2 (t = 5): two degrees need 4.303.
        ([81.0, 82.0, 84.0], [80.0, 80.0, 80.0], "not significant"),
        ([81.0, 82.0, 82.0], [80.0, 80.0, 80.0], "supported"),
        # The third seed of the first cell has no partner: differences 1 and 1.1.
        ([81.0, 82.1, 10.0], [80.0, 81.0], "supported"),
    ],
)
def test_verdicts(write_sweep: Write, better: list[float], worse: list[float], verdict: str) -> None:
    (sweep,) = read_sweeps(write_sweep({"a": better, "b": worse}, [["a", "b"]], {"a": 77.2, "b": 76.4}))
    (claim,) = sweep.claims
    assert claim.verdict == verdict
    assert claim.paper == pytest.approx(0.8)
    if worse:
        common = len(worse)
        assert claim.difference == pytest.approx((sum(better[:common]) - sum(worse)) / common)
    else:
        assert claim.difference is None


def test_each_claim_of_a_sweep_makes_the_others_harder(write_sweep: Write) -> None:
    """Differences 1, 2 and 2 have p = 0.038, and 0.076 beside another claim with a smaller one."""
    cells = {"a": [81.0, 82.0, 82.0], "b": [80.0, 80.0, 80.0], "c": [70.0, 70.0, 70.1]}
    (alone,) = read_sweeps(write_sweep(cells, [["a", "b"]]))[0].claims
    assert alone.p == pytest.approx(0.0377, abs=1e-4)
    first, second = read_sweeps(write_sweep(cells, [["a", "b"], ["b", "c"]]))[0].claims
    assert first.p == pytest.approx(alone.p)  # the larger of two
    assert second.p is not None
    assert second.verdict == "supported"
    cells["d"] = cells["a"]
    claims = read_sweeps(write_sweep(cells, [["a", "b"], ["b", "c"], ["d", "b"]]))[0].claims
    assert claims[0].p == claims[2].p == pytest.approx(2 * alone.p)
    assert [claim.verdict for claim in claims] == ["not significant", "supported", "not significant"]


def test_the_markdown_holds_means_errors_and_verdicts(write_sweep: Write) -> None:
    folder = write_sweep(
        {"a": [80.0, 81.0, 82.0], "b": [70.0, 71.0, 72.1], "c": []},
        [["b", "a"], ["a", "c"]],
        {"a": 76.0, "b": 77.5},
    )
    page, text = write_report(folder)
    assert (page, text) == (folder / "report.html", folder / "report.md")
    lines = text.read_text(encoding="utf-8").splitlines()
    assert "| table9: A title | 0 | 1 | 1 |" in lines
    assert "| a | 3 | 1.00 M | 50.0 M | 4 | 3.0 | 14 | 81.00 ± 0.58 | 76.0 |" in lines
    assert "| b | 3 | 2.00 M | 100.0 M | 4 | 3.0 | – | 71.03 ± 0.61 | 77.5 |" in lines
    assert "| c | 0 | 3.00 M | 150.0 M | – | – | – | – | – |" in lines
    assert "| b > a | +1.5 | -9.97 ± 0.03 | < 0.001 | contradicted |" in lines
    assert "| a > c | – | – | – | not significant |" in lines
    (conditions,) = (line for line in lines if line.startswith("Our runs: "))
    assert "On a CPU, memory is that of the whole process, including Python and torch." in conditions
    pictures = re.findall(r"^!\[.+\]\((.+)\)$", text.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(pictures) == 2
    assert all((folder / picture).stat().st_size > 1000 for picture in pictures)


class References(HTMLParser):
    """Every address that a page would fetch or lead to, and whether each tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_html_needs_no_other_file(write_sweep: Write, tmp_path: Path) -> None:
    folder = write_sweep({"a": [80, 81], "b": [70, 71]}, [["a", "b"]], title="q·k < q·r & <script>")
    page, _ = write_report(folder, tmp_path / "report")
    assert page.parent == tmp_path / "report"
    content = page.read_text(encoding="utf-8")
    references = References()
    references.feed(content)
    assert references.open == []
    assert len(references.addresses) == 2
    assert all(address.startswith("data:image/") for address in references.addresses)
    assert "http" not in content
    assert "url(" not in content
    assert "@import" not in content
    assert "<script" not in content
    assert "q·k < q·r & <script>" in references.text


def test_a_report_elsewhere_has_the_tables_beside_it(write_sweep: Write, tmp_path: Path) -> None:
    folder, out = write_sweep({"a": [80, 81]}, []), tmp_path / "report"
    write_report(folder, out)
    assert {path.name for path in out.iterdir()} == {
        *("figures", "report.html", "report.md", "results.csv", "results.json")
    }
    before = {name: (folder / name).read_bytes() for name in ("results.csv", "results.json")}
    assert before == {name: (out / name).read_bytes() for name in before}
    write_report(folder, out / "..")
    assert before == {name: (folder / name).read_bytes() for name in before}
    assert (folder / "report.md").read_bytes() == (out / "report.md").read_bytes()


@pytest.mark.parametrize("name", ["runs", "config.yaml"])
def test_a_report_does_not_replace_the_results_of_others(
    write_sweep: Write, tmp_path: Path, name: str
) -> None:
    folder, other = write_sweep({"a": [80, 81]}, []), tmp_path / "other"
    (other / name).mkdir(parents=True)
    (other / "results.json").write_text("theirs")
    with pytest.raises(
        FileExistsError,
        match=f"out: expected a folder without results of its own, got .*, which contains {name}",
    ):
        write_report(folder, other)
    assert (other / "results.json").read_text() == "theirs"


def test_a_folder_in_which_nothing_is_finished_has_tables_without_pictures(write_sweep: Write) -> None:
    folder = write_sweep({"a": [], "b": []}, [["a", "b"]])
    page, text = write_report(folder)
    assert "Our runs: none is finished" in text.read_text(encoding="utf-8")
    assert "<img" not in page.read_text(encoding="utf-8")


def colors(path: Path) -> set[tuple[int, ...]]:
    picture = Image.open(path).convert("RGB")
    return {color for count, color in picture.getcolors(1 << 24) or [] if count > 20}  # type: ignore[misc]


def test_series_share_a_color_and_cells_do_not(write_sweep: Write, tmp_path: Path) -> None:
    cells = {"a, small": [70, 71], "a, large": [80, 81]}
    blue, orange = (0, 114, 178), (213, 94, 0)
    (sweep,) = read_sweeps(write_sweep(cells, [], series=dict.fromkeys(cells, "a")))
    out = draw_accuracy_against_cost(sweep, tmp_path / "series.png")
    assert out is not None
    assert blue in colors(out)
    assert orange not in colors(out)
    (sweep,) = read_sweeps(write_sweep(cells, []))
    out = draw_accuracy_against_cost(sweep, tmp_path / "cells.png")
    assert out is not None
    assert {blue, orange} <= colors(out)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (45, 420, ["50", "100", "200"]),
        (0.9, 9, ["1", "2", "5"]),
        (0.09, 12, ["0.1", "0.2", "0.5", "1", "2", "5", "10"]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_few_and_plain(low: float, high: float, expected: list[str]) -> None:
    figure = new_figure(3, 3)
    axes = figure.subplots()
    axes.set_xlim(low, high)
    scale_by_factors(axes)
    figure.draw_without_rendering()
    labels = [label.get_text() for label in axes.get_xticklabels(which="both")]
    ticks = [*axes.get_xticks(), *axes.get_xticks(minor=True)]
    seen = [label for label, tick in zip(labels, ticks, strict=True) if low <= tick <= high]
    assert seen == expected


def test_curves_follow_the_metrics(write_sweep: Write, tmp_path: Path) -> None:
    (sweep,) = read_sweeps(write_sweep({"a": [80, 81]}, []))
    one = draw_sweep_curves(sweep, tmp_path, tmp_path / "one.png")
    (sweep,) = read_sweeps(write_sweep({"a": [60, 81]}, []))
    other = draw_sweep_curves(sweep, tmp_path, tmp_path / "other.png")
    assert one is not None
    assert other is not None
    assert one.read_bytes() != other.read_bytes()


def test_runs_without_their_metrics_are_in_the_tables_alone(write_sweep: Write, tmp_path: Path) -> None:
    """As in results that were committed without their runs."""
    folder = write_sweep({"a": [80, 81], "b": [70, 71]}, [["a", "b"]])
    whole = write_report(folder)[1].read_text(encoding="utf-8")
    assert "metrics.csv" not in whole
    shutil.rmtree(folder / "runs" / "hash2")
    text = write_report(folder, tmp_path / "part")[1].read_text(encoding="utf-8")
    assert "2 of 4 runs are in the tables only: their metrics.csv is missing" in text
    assert "![table9. Training loss" in text
    shutil.rmtree(folder / "runs")
    text = write_report(folder, tmp_path / "none")[1].read_text(encoding="utf-8")
    assert "4 of 4 runs are in the tables only" in text
    assert "![table9. Training loss" not in text
    tables = [line for line in whole.splitlines() if line.startswith("|")]
    assert tables == [line for line in text.splitlines() if line.startswith("|")]


def test_the_command(write_sweep: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep({"a": [80, 81]}, [])
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"wrote {folder / 'report.html'}\nwrote {folder / 'report.md'}\n"


def test_what_is_no_folder_of_sweeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "expected one written by sasa ablate" in capsys.readouterr().err
    (tmp_path / "results.json").write_text('{"top1": 0.5}')
    assert main(["report", str(tmp_path)]) == 2
    assert "got those of a single run" in capsys.readouterr().err
