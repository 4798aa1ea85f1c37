"""What the demo is shown on: its steps, each with its time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

from content import Content
from weft_under_demo import WeftUnderDemo


@dataclass
class Step:
    title: str
    result: str = ""
    seconds: float = 0.0
    held: bool = False


@dataclass
class Demo:
    """One run: where it happens, what it uses, what it has shown so far."""

    weft: WeftUnderDemo
    console: Console
    content: Content
    use_fuse: bool
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
            self.console.print(f"    {mark} {step.seconds:5.1f} s  {step.result}", highlight=False)
