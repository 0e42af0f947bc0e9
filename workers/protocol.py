"""What the supervisor, the fork server and the runner say to each other: closed models, one JSON object a message."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from saddlescope.contract.reports import Provenance
from saddlescope.contract.strict import Closed
from saddlescope.contract.vocabulary import FailureCode, SandboxLevel, Stage

MAX_MESSAGE_BYTES = 64 * 2**10
MAX_DETAIL_CHARS = 2_000

REQUEST_FILE = "request.json"
REFERENCE_FILE = "checkpoint"
REPORT_FILE = "report.json"
SPECTRUM_FILE = "spectrum.json"
LANDSCAPE_FILE = "landscape.json"
OUTCOME_FILE = "outcome.json"
STATE_FILES = ("state-0.safetensors", "state-1.safetensors")
"""Written in turn, so that one is whole while the other is written."""
STDERR_FILE = "stderr.txt"
OUTPUT_FOLDER = "output"


def output_files(num_escapes: int) -> tuple[str, ...]:
    """The files of an answer with up to so many escape vectors, and those of the states on the way to it."""
    files = (OUTCOME_FILE, REPORT_FILE, SPECTRUM_FILE, LANDSCAPE_FILE)
    return (*files, *STATE_FILES, *map(escape_file, range(num_escapes)))


def escape_file(index: int) -> str:
    return f"escape-{index}.safetensors"


class Limits(Closed):
    """What one runner may take."""

    memory_bytes: int | None = Field(default=None, ge=1)
    """Address space beyond what the fork server had mapped already; None on a GPU, where CUDA maps terabytes."""
    file_bytes: int = Field(ge=1)
    open_files: int = Field(default=256, ge=16)
    threads: int = Field(default=1, ge=1)


class Task(Closed):
    """Everything that a runner is told; it finds the request beside its output folder."""

    job: str
    folder: str
    artifacts: dict[str, str]
    """Local files by the names that the request has for them (artifact, path or address); opened before the runner locks
    itself in."""
    provenance: Provenance
    outputs: tuple[str, ...]
    """Files that the runner may write; opened likewise, in the output folder. What it leaves empty is not there."""
    device: str
    sandbox: SandboxLevel
    """How the runner will be isolated, for its report."""
    limits: Limits
    saved: str | None = None
    """Where the state of an earlier attempt lies, to go on from."""
    save_seconds: float = Field(default=60.0, gt=0)
    max_saved_bytes: int = Field(default=0, ge=0)
    """A larger state is not written."""
    deadline: float | None = None
    """The moment of `time.monotonic` by which the best answer so far is better than none."""


class Spawn(Closed):
    """Start a runner. Beside it travel three descriptors: exit status, progress, standard error."""

    kind: Literal["spawn"] = "spawn"
    number: int
    task: Task


class Kill(Closed):
    """Kill the process group of a runner that this server started and has not reaped yet."""

    kind: Literal["kill"] = "kill"
    number: int


Order = Annotated[Spawn | Kill, Field(discriminator="kind")]
ORDER: TypeAdapter[Spawn | Kill] = TypeAdapter(Order)


class Attempt(Closed):
    """One forbidden action, tried by a locked process."""

    action: str
    is_stopped: bool
    how: str


class Sandbox(Closed):
    """What the fork server found out about its runners' isolation by attacking it."""

    level: SandboxLevel
    layers: tuple[str, ...]
    """Layers that hold, in the order in which they are applied."""
    missing: dict[str, str]
    """Layers that this machine refuses, and with what words."""
    attempts: tuple[Attempt, ...]


class Ready(Closed):
    """First words of a fork server: the device that `auto` stands for here, and how its runners are isolated."""

    device: str
    sandbox: Sandbox


class Exit(Closed):
    """How a runner ended, as `wait4` tells it."""

    wait_status: int
    max_rss_bytes: int


class ProgressLine(Closed):
    """One line on the progress pipe."""

    stage: Stage
    fraction: float = Field(ge=0, le=1)
    matvecs: int = Field(ge=0)
    eta_seconds: float | None = Field(default=None, ge=0)
    lambda_min: float | None = None
    residual_norm: float | None = None


class SavedLine(Closed):
    """One line on the progress pipe: a state is whole in one of the files for it, or was too much to write."""

    saved_matvecs: int = Field(ge=0)
    num_bytes: int = Field(ge=0)
    file: str | None = Field(default=None, max_length=64)
    digest: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    """Of the file's bytes: whoever copies them while the runner goes on must see whether they are of one state."""


Line = ProgressLine | SavedLine
LINE: TypeAdapter[ProgressLine | SavedLine] = TypeAdapter(Line)


class Succeeded(Closed):
    """The runner's word that its output folder is complete."""

    status: Literal["succeeded"] = "succeeded"
    device: str
    num_escapes: int = Field(ge=0)


class Failed(Closed):
    """The runner's word why there is no report."""

    status: Literal["failed"] = "failed"
    code: FailureCode
    detail: str = Field(max_length=MAX_DETAIL_CHARS)
    pointer: str | None = None


RunnerOutcome = Annotated[Succeeded | Failed, Field(discriminator="status")]
RUNNER_OUTCOME: TypeAdapter[Succeeded | Failed] = TypeAdapter(RunnerOutcome)
