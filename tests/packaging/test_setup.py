"""Set-up finds a Python that really runs, or says in one line what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIB = ROOT / "scripts" / "lib.sh"


def shell(script: str, *arguments: str, path: str = os.environ["PATH"]) -> str:
    """What a line that uses scripts/lib.sh prints."""
    done = subprocess.run(
        ["/bin/sh", "-euc", f'lib=$1; shift; . "$lib"; {script}', "sh", str(LIB), *arguments],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def program(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_a_python_that_only_pretends_to_be_there_is_passed_over(tmp_path: Path) -> None:
    shims, real = tmp_path / "shims", tmp_path / "a folder with spaces"
    shims.mkdir()
    real.mkdir()
    program(shims / "python3.14", "echo 'pyenv: python3.14: command not found' >&2; exit 127")
    program(shims / "python3.12", "exit 1  # an older Python answers so to the question for its version")
    (shims / "python3.13").mkdir()
    (real / "python3.11").symlink_to(sys.executable)

    found = shell("find_pythons", path=f"{shims}:{real}:{os.environ['PATH']}").splitlines()

    assert str(real / "python3.11") in found
    assert not [python for python in found if python.startswith(str(shims))]


def test_a_newer_python_comes_first(tmp_path: Path) -> None:
    for name in ("python3", "python3.11", "python3.14"):
        (tmp_path / name).symlink_to(sys.executable)
    found = shell("find_pythons", path=f"{tmp_path}:{os.environ['PATH']}").splitlines()
    assert [Path(python).name for python in found if python.startswith(str(tmp_path))] == [
        "python3.14",
        "python3.11",
        "python3",
    ]


@pytest.mark.parametrize(
    ("release", "line"),
    [
        (
            'ID=debian\nVERSION_ID="12"\n',
            "apt-get update && apt-get install --yes --no-install-recommends python3-venv fuse3 e2fsprogs",
        ),
        (
            "ID=ubuntu\nID_LIKE=debian\n",
            "apt-get update && apt-get install --yes --no-install-recommends python3-venv fuse3 e2fsprogs",
        ),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install --assumeyes python3.12 fuse3 e2fsprogs"),
        (
            'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n',
            "zypper --non-interactive install python312 fuse3 e2fsprogs",
        ),
        ("ID=arch\n", "pacman --sync --noconfirm python fuse3 e2fsprogs"),
        ("ID=alpine\n", "apk add python3 fuse3 e2fsprogs"),
        ("ID=other\n", "install with this system's package manager: python3 fuse3 e2fsprogs"),
    ],
)
def test_what_is_missing_is_one_line_of_this_system(tmp_path: Path, release: str, line: str) -> None:
    (tmp_path / "os-release").write_text(release)
    script = 'install_line "$(system_family "$1")" python fuse e2fsprogs'
    assert shell(script, str(tmp_path / "os-release")) == line


def test_the_limit_of_open_files_is_raised_for_the_command_and_never_lowered(tmp_path: Path) -> None:
    limited = [
        "/bin/sh",
        "-c",
        'ulimit -S -n 64 && exec "$0" sh -c "ulimit -S -n"',
        str(ROOT / "scripts" / "with-limits.sh"),
    ]
    raised = subprocess.run(limited, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=30)
    assert int(raised.stdout) > 64


def test_a_low_limit_of_open_files_is_said_and_lived_with() -> None:
    limited = [
        "/bin/sh",
        "-c",
        'ulimit -n 64 && exec "$0" sh -c "ulimit -n"',
        str(ROOT / "scripts" / "with-limits.sh"),
    ]
    done = subprocess.run(limited, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "64\n"
    assert "may open only 64 files at once" in done.stderr


def test_set_up_refuses_an_argument_that_it_does_not_know() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "setup.sh", "--help-me"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "--help-me" in done.stderr


def test_make_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    listed = subprocess.run(
        ["make", "--no-print-directory", "-C", ROOT], capture_output=True, text=True, check=True, timeout=30
    )
    assert [line.split()[1] for line in listed.stdout.splitlines() if line.startswith("  make ")] == phony
    assert set(phony) == {
        line.split(":")[0] for line in makefile.splitlines() if line[:1].isalpha() and ":" in line
    }


@pytest.mark.parametrize(
    "script", [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"], ids=lambda file: file.name
)
def test_every_script_can_be_read_by_its_shell_and_run(script: Path) -> None:
    shell_name = "bash" if "bash" in script.read_text().splitlines()[0] else "sh"
    subprocess.run([shell_name, "-n", script], check=True, timeout=30)
    assert os.access(script, os.X_OK) == (script.name != "lib.sh")
