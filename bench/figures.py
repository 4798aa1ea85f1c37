"""What is measured, what each figure must be, and how figures are shown and kept."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A ratio: weft's time divided by the other's. None for a limit that there is none of."""

    name: str
    says: str
    lowest: float | None = None
    highest: float | None = None

    @property
    def limit(self) -> str:
        if self.highest is None:
            return "told only"
        return f"<= {self.highest:g}" if self.lowest is None else f"{self.lowest:g} to {self.highest:g}"

    def holds(self, value: float) -> bool:
        return (self.lowest is None or value >= self.lowest) and (
            self.highest is None or value <= self.highest
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The rounds of one figure; in each weft and the other were measured one after the other. Seconds."""

    figure: Figure
    rounds: Sequence[Mapping[str, float]]

    @property
    def ratios(self) -> Sequence[float]:
        return [each["weft"] / each["plain"] for each in self.rounds]

    @property
    def value(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios)

    @property
    def holds(self) -> bool:
        return self.figure.holds(self.value)


_SAME: Final = {"lowest": 0.98, "highest": 1.02}

FIGURES: Final = (
    Figure(name="tcp_latency_vs_hand", says="4 KiB read over NVMe/TCP, weft's export / by hand", **_SAME),
    Figure(name="rdma_latency_vs_hand", says="4 KiB read over NVMe/RDMA (siw), weft's export / by hand", **_SAME),
    Figure(name="attach_vs_shell", says="export and attach, weft's code / shell script", highest=1.0),
    Figure(name="attach_vs_os_brick", says="API call to device / os-brick's attach of a made export", highest=1.0),
    Figure(name="restore_1000_vs_configfs", says="1000 exports after a restart / plain writes", highest=1.2),
    Figure(name="export_at_1000_vs_10", says="one more export beside 1000 / beside 10", highest=1.2),
    Figure(name="restore_lvm_vs_configfs", says="100 exports of thin volumes after a restart / plain writes"),
)  # fmt: skip


def table(measured: Sequence[Measured]) -> str:
    """For a person: each figure, its limit and whether it holds."""
    lines = [f"{'figure':<26} {'value':>7}  {'spread':<15} {'limit':<13} holds"]
    for each in measured:
        spread = f"{min(each.ratios):.3f}-{max(each.ratios):.3f}"
        verdict = "" if each.figure.highest is None else "yes" if each.holds else "NO"
        lines.append(
            f"{each.figure.name:<26} {each.value:>7.3f}  {spread:<15} {each.figure.limit:<13} {verdict:<4} {each.figure.says}"
        )
    return "\n".join(lines)


def save(measured: Sequence[Measured], path: Path, method: Mapping[str, str]) -> None:
    """Write them beside those of earlier runs that were not measured anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figures, rounds = _earlier(path)
    figures |= {each.figure.name: round(each.value, 4) for each in measured}
    rounds |= {each.figure.name: [dict(one) for one in each.rounds] for each in measured}
    content = {"figures": figures, "method": {**method, "rounds": rounds}}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _earlier(path: Path) -> tuple[dict[str, float], dict[str, list[dict[str, float]]]]:
    try:
        content = json.loads(path.read_text("utf-8"))
        return dict(content["figures"]), dict(content["method"]["rounds"])
    except (FileNotFoundError, ValueError, KeyError):
        return {}, {}
