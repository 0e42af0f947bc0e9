"""The HTTP client: submit from a training cluster, wait, and apply the way out. Errors are drawn in `errors`."""

from saddlescope.client.errors import (
    ApiError,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    NotFound,
    RateLimited,
    SaddlescopeError,
    ServerError,
    Spooled,
    TooLarge,
    Unauthorized,
    UnreadableAnswer,
    WaitTimeout,
    WebhookInvalid,
)
from saddlescope.client.job import Job
from saddlescope.client.session import Client

__all__ = [
    "ApiError",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobFailed",
    "NotFound",
    "RateLimited",
    "SaddlescopeError",
    "ServerError",
    "Spooled",
    "TooLarge",
    "Unauthorized",
    "UnreadableAnswer",
    "WaitTimeout",
    "WebhookInvalid",
]
