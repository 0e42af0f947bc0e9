"""What the service is told by its environment; every variable begins with SADDLESCOPE_."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.destinations import Allowance
from service.rates import parsed_rate


class Auth(StrEnum):
    """Whether requests need an API key."""

    NONE = "none"
    KEYS = "keys"


def _destinations(text: str) -> str:
    Allowance.parse(text)  # what cannot be read is told at the start, not at the first message
    return text


def _rate(text: str) -> str:
    parsed_rate(text)
    return text


class Settings(BaseSettings):
    """The service's one settings class."""

    model_config = SettingsConfigDict(env_prefix="SADDLESCOPE_", extra="ignore", use_attribute_docstrings=True)

    data: Path = Path("data")
    """Folder of everything that is embedded: database, broker, blobs, logs, secrets."""
    database_url: str | None = None
    """`sqlite:///…` or `postgresql+psycopg://…`; by default SQLite in the data folder."""
    broker_url: str | None = None
    """`redis://…`; by default an embedded Valkey."""
    blobs_url: str | None = None
    """A folder or the URL of an object store; by default a folder in the data folder."""
    auth: Auth = Auth.NONE
    """`none` is for loopback addresses only; `keys` wants `Authorization: Bearer <key>`."""
    key_pepper: SecretStr | None = None
    """Keyed hash of API keys; by default a random file in the data folder."""
    max_artifact_bytes: int = Field(default=8 * 2**30, ge=1)
    """Larger uploads are answered 413."""
    project_quota_bytes: int | None = Field(default=None, ge=0)
    """What a project may store that has no quota of its own; without limit when absent."""
    reference_roots: str = ""
    """Folders, separated by colons, in which a request may name checkpoints by path; by default none."""
    reference_buckets: str = ""
    """Buckets, separated by colons, in which a request may name checkpoints; by default none."""
    upload_lifetime_seconds: float = Field(default=86_400, gt=0)
    """How long a resumable upload is kept after its last byte."""
    min_body_bytes_per_second: int = Field(default=1024, ge=0)
    """A body that stays slower than this over its patience is answered 408; 0 waits for ever."""
    body_patience_seconds: float = Field(default=20, gt=0)
    """How long a body may stall, and how long it may stay under the minimum rate."""
    body_deadline_seconds: float = Field(default=21_600, gt=0)
    """A body that takes longer is answered 408, however steadily it comes; a resumable upload goes on from there."""
    request_rate: Annotated[str, AfterValidator(_rate)] = "60000/minute"
    """Requests of one project, with keys in force; more are answered 429."""
    max_queued_jobs: int = Field(default=10_000, ge=1)
    """Jobs of one project that wait, with keys in force; a further one is answered 429."""
    embedded_workers: int = Field(default=1, ge=0, le=64)
    """Worker processes that the embedded service starts."""
    worker_metrics_port: int | None = Field(default=None, ge=1, le=65_000)
    """Where the first embedded worker serves its metrics; each further one takes the next port."""

    public_url: str | None = Field(default=None, pattern=r"^https?://[!-~]+$")
    """Where callers reach the service, for the addresses in webhook messages; without it they are paths."""
    webhook_allow: Annotated[str, AfterValidator(_destinations)] = ""
    """Hosts and networks, separated by commas, that webhooks may reach although they are not public; also over http."""
    webhook_ca_file: Path | None = None
    """Certificates that webhook receivers may be signed by, beside the system's."""

    def destinations(self) -> Allowance:
        return Allowance.parse(self.webhook_allow)

    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data.resolve() / 'saddlescope.db'}"

    def blobs(self) -> str:
        return self.blobs_url or str(self.data.resolve() / "blobs")
