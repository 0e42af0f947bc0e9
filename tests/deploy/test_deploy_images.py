"""What the Dockerfiles copy and install is enough to run, and the API's image holds no torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILES = ["api", "worker"]


def dockerfile(name: str) -> str:
    return (ROOT / f"deploy/{name}.Dockerfile").read_text(encoding="utf-8")


def extras_of(name: str) -> list[str]:
    found = re.search(r'"\.\[([a-z0-9,]+)\]"', dockerfile(name))
    assert found is not None
    return found[1].split(",")


def closure(first: list[str]) -> Iterator[str]:
    """Every distribution that the requirements bring along, by the metadata of what is installed here."""
    waiting, seen = [Requirement(text) for text in first], set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = tuple(sorted(requirement.extras))
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        yield name
        try:
            below = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue  # an optional backend for another platform
        for one in below:
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                waiting.append(one)


def test_what_the_api_image_installs_brings_no_torch_along() -> None:
    extras = extras_of("api")
    assert "service" in extras
    wanted = PROJECT["dependencies"] + [text for extra in extras for text in PROJECT["optional-dependencies"][extra]]
    brought = set(closure(wanted))
    assert {"fastapi", "celery", "sqlalchemy", "starlette", "opentelemetry-sdk"} <= brought
    assert not {name for name in brought if name.startswith(("torch", "nvidia-", "triton"))}


def test_the_closure_would_see_torch() -> None:
    assert "torch" in set(closure([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["torch"]]))


@pytest.mark.parametrize(
    ("name", "modules"),
    [("api", "service.__main__, service.embedded, service.doctor, store.__main__"),
     ("worker", "workers.__main__, workers.forkserver, workers.answer, workers.selfcheck")],
)  # fmt: skip
def test_what_an_image_copies_is_all_that_its_processes_import(tmp_path: Path, name: str, modules: str) -> None:
    copied = re.findall(r"^COPY ([a-z]+) [a-z]+$", dockerfile(name), flags=re.MULTILINE)
    for folder in copied:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    script = (
        f"import sys, {modules}\n"
        "ours = [m for n, m in sys.modules.items() if n.split('.')[0] in "
        "('saddlescope', 'service', 'store', 'telemetry', 'workers') and m.__file__]\n"
        f"strangers = [m.__file__ for m in ours if not m.__file__.startswith({str(tmp_path)!r})]\n"
        "assert len(ours) > 30 and not strangers, strangers\n"
        f"assert ('torch' in sys.modules) is {name == 'worker'}\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_runs_as_a_numbered_user_and_says_whether_it_is_well(name: str) -> None:
    lines = dockerfile(name).splitlines()
    [user] = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert int(user) > 0
    assert any(line.startswith("HEALTHCHECK ") for line in lines)
    assert lines.index(f"USER {user}") < next(i for i, line in enumerate(lines) if line.startswith("CMD "))
