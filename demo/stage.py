"""What the demos are shown on: their steps, each with its time, and a summary."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from content import Content
from weft_under_demo import WeftUnderDemo


@dataclass
class Step:
    title: str
    result: str = ""
    seconds: float = 0.0
    held: bool = False


@dataclass
class Stage:
    """What one run has shown so far."""

    console: Console
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        step = Step(title)
        self.steps.append(step)
        self.console.print(f"[bold]{len(self.steps):2}.[/] {title} ...", highlight=False)
        started = time.monotonic()
        try:
            yield step
            step.held = True
        except Exception as error:
            step.result = str(error)
            raise
        finally:
            step.seconds = time.monotonic() - started
            mark = "[green]ok[/]" if step.held else "[red]FAILED[/]"
            self.console.print(f"    {mark} {step.seconds:5.1f} s  {escape(step.result)}", highlight=False)

    def summarise(self, name: str) -> None:
        held = sum(each.held for each in self.steps)
        table = Table(title=f"{name}: {held} of {len(self.steps)} steps held", box=None, title_justify="left")
        table.add_column("", justify="right")
        table.add_column("s", justify="right")
        table.add_column("step")
        for number, step in enumerate(self.steps, 1):
            mark = "[green]ok[/]" if step.held else "[red]FAILED[/]"
            table.add_row(f"{number} {mark}", f"{step.seconds:.1f}", step.title)
        self.console.print(table)


@dataclass(kw_only=True)
class Demo(Stage):
    """One run of the demo without machines of its own: where it happens, and what it uses."""

    weft: WeftUnderDemo
    content: Content
    use_fuse: bool
