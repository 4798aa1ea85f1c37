"""weft installs into a bare environment as any package does, and the package holds weft alone."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import weft

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(list(command), cwd=cwd, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the source archive, made from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return folder


def test_the_wheel_holds_weft_its_units_and_its_man_page_and_nothing_else(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    data = f"weft-{weft.__version__}.data"
    assert {name.split("/")[0] for name in names} == {"weft", f"weft-{weft.__version__}.dist-info", data}
    assert [name for name in names if name.startswith(data)] == [f"{data}/data/share/man/man1/weft.1"]
    units = {f"weft/units/{file.name}" for file in (ROOT / "src" / "weft" / "units").glob("*.service")}
    assert len(units) > 5
    assert units - set(names) == set()
    assert "weft/py.typed" in names
    assert f"weft-{weft.__version__}.dist-info/licenses/LICENSE" in names
    sources = {str(file.relative_to(ROOT / "src")) for file in (ROOT / "src" / "weft").rglob("*.py")}
    assert sources - set(names) == set()


def test_the_source_archive_can_be_built_again(archives: Path, tmp_path: Path) -> None:
    (archive,) = archives.glob("*.tar.gz")
    run("tar", "-xf", archive, cwd=tmp_path)
    (folder,) = tmp_path.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again", cwd=folder)
    (first,), (second,) = archives.glob("*.whl"), (tmp_path / "again").glob("*.whl")
    assert zipfile.ZipFile(first).namelist() == zipfile.ZipFile(second).namelist()


def test_plain_pip_installs_a_weft_that_starts(tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "bare", cwd=tmp_path)
    python = tmp_path / "bare" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ROOT, cwd=tmp_path)
    assert (
        run(python, "-I", "-c", "import weft; print(weft.__version__)", cwd=tmp_path).strip()
        == weft.__version__
    )
    assert "Usage" in run(tmp_path / "bare" / "bin" / "weft", "--help", cwd=tmp_path)
    run(python, "-m", "pip", "check", cwd=tmp_path)
