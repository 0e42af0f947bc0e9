"""What the supervisor, the fork server and the runner say to each other: closed models, one JSON object a message."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from saddlescope.contract.strict import Closed
from saddlescope.contract.vocabulary import FailureCode, Stage

MAX_MESSAGE_BYTES = 64 * 2**10
MAX_DETAIL_CHARS = 2_000

REQUEST_FILE = "request.json"
REPORT_FILE = "report.json"
SPECTRUM_FILE = "spectrum.json"
LANDSCAPE_FILE = "landscape.json"
OUTCOME_FILE = "outcome.json"
STATE_FILE = "state.safetensors"
STDERR_FILE = "stderr.txt"
OUTPUT_FOLDER = "output"


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
    device: str
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


class Ready(Closed):
    """First words of a fork server: the device that `auto` stands for here."""

    device: str


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
    """One line on the progress pipe: the state in the output folder is whole and new, or was too much to write."""

    saved_matvecs: int = Field(ge=0)
    num_bytes: int = Field(ge=0)
    is_written: bool


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
