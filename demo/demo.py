"""The main job, end to end: make a volume, export it over NVMe/TCP, attach it, use it, take it away again.

Needs no root, no kernel module and no hardware. Ends with a summary, and with exit code 0 only if every step held.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from content import TarArchive, best_content
from stage import Demo
from story import Story
from weft_under_demo import WeftUnderDemo


def main() -> int:
    arguments = _arguments()
    directory = Path(tempfile.mkdtemp(prefix="weft-demo-"))
    console = Console(highlight=False)
    weft = WeftUnderDemo(directory)
    demo = Demo(console=console, weft=weft, content=best_content(), use_fuse=not arguments.without_fuse)
    if arguments.without_e2fsprogs:
        demo.content = TarArchive()
    started = time.monotonic()
    failure = ""
    try:
        Story(demo).run()
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
        if os.environ.get("WEFT_DEMO_DEBUG"):
            raise
    finally:
        weft.stop()
        left = weft.end_what_is_left()
        if failure or left:
            console.print(f"[red]{failure or 'left behind: ' + ', '.join(left)}[/]")
            console.print(f"logs are in {directory}")
        else:
            shutil.rmtree(directory)
    demo.summarise("weft demo")
    console.print(f"in {time.monotonic() - started:.1f} s, as user {os.geteuid()}, {_how(demo)}")
    return 1 if failure or left else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--without-fuse", action="store_true", help="use the Volume object as if there were no FUSE"
    )
    parser.add_argument(
        "--without-e2fsprogs", action="store_true", help="use tar as if there were no e2fsprogs"
    )
    return parser.parse_args()


def _how(demo: Demo) -> str:
    return f"through {'the FUSE file' if demo.use_fuse else 'the Volume object'}, with {demo.content.name}"


if __name__ == "__main__":
    sys.exit(main())
