"""What the service is told by its environment; every variable begins with SADDLESCOPE_."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Auth(StrEnum):
    """Whether requests need an API key."""

    NONE = "none"
    KEYS = "keys"


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
    min_body_bytes_per_second: int = Field(default=1024, ge=0)
    """A body that stays slower than this over its patience is answered 408; 0 waits for ever."""
    body_patience_seconds: float = Field(default=20, gt=0)
    """How long a body may stall, and how long it may stay under the minimum rate."""
    embedded_workers: int = Field(default=1, ge=0, le=64)
    """Worker processes that the embedded service starts."""
    worker_metrics_port: int | None = Field(default=None, ge=1, le=65_000)
    """Where the first embedded worker serves its metrics; each further one takes the next port."""

    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data.resolve() / 'saddlescope.db'}"

    def blobs(self) -> str:
        return self.blobs_url or str(self.data.resolve() / "blobs")
