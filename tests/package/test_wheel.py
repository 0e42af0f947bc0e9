"""The wheel as a training cluster installs it: alone with what it declares, in an environment that has no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import saddlescope

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
    ]
    subprocess.run([*build, REPOSITORY], check=True, capture_output=True)
    [built] = folder.glob("saddlescope-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a new environment: the wheel, and of this environment what its metadata asks for."""
    home = tmp_path_factory.mktemp("cluster")
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    [packages] = home.glob("lib/python*/site-packages")
    for needed in required_by(distribution("saddlescope"), seen=set()):
        copy_into(packages, needed)
    return home / "bin"


def required_by(package: Distribution, *, seen: set[str]) -> list[Distribution]:
    """What a package declares without extras, and what that declares."""
    found = []
    for line in package.requires or ():
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        extras = {"extra": ""} | default_environment()
        if name in seen or (requirement.marker is not None and not requirement.marker.evaluate(extras)):
            continue
        seen.add(name)
        found += [distribution(name), *required_by(distribution(name), seen=seen)]
    return found


def copy_into(packages: Path, package: Distribution) -> None:
    for file in package.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue  # programs of the environment, and what Python makes itself
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), target)


def run(*command: str | Path, folder: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_library_with_its_type_marker_and_nothing_of_the_service(wheel) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "saddlescope/py.typed" in names
    sources = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "saddlescope").rglob("*.py")}
    assert sources <= set(names)
    assert {name.partition("/")[0] for name in names} == {
        "saddlescope",
        f"saddlescope-{saddlescope.__version__}.dist-info",
    }


def test_the_wheel_works_without_torch_from_what_it_declares(installed, tmp_path) -> None:
    script = """
import importlib.util, sys
import saddlescope
from saddlescope.contract.jobs import JobRequest
with saddlescope.Client("http://127.0.0.1:9", retries=0) as client:
    assert client.url == "http://127.0.0.1:9"
for absent in ("torch", "numpy", "fastapi"):
    assert importlib.util.find_spec(absent) is None, absent
print(saddlescope.__version__, saddlescope.__file__)
"""
    version, file = run(installed / "python", "-c", script, folder=tmp_path).split()
    assert version == saddlescope.__version__
    assert Path(file).is_relative_to(installed.parent)


def test_the_command_line_answers_where_there_is_no_torch(installed, tmp_path) -> None:
    said = run(installed / "saddlescope", "--help", folder=tmp_path)
    for command in ("submit", "watch", "show", "escape"):
        assert command in said


def test_importing_the_library_loads_neither_torch_nor_the_http_client() -> None:
    script = "import saddlescope, sys; print(sorted({'torch', 'numpy', 'httpx2', 'pydantic'} & set(sys.modules)))"
    assert run(sys.executable, "-c", script, folder=REPOSITORY) == "[]\n"


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    headings = [
        line for line in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line[:3] == "## "
    ]
    assert headings[0] == "## [Unreleased]"
    assert headings[1].startswith(f"## [{saddlescope.__version__}] - ")
    assert project["version"] == saddlescope.__version__
