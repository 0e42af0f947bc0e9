"""Objects of buckets that are not our own store: read in one request, so that the bytes are of one version."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.store import S3Store

from store.blob_bucket import CLIENT, failure_named

if TYPE_CHECKING:
    from obstore.store import RetryConfig

CHUNK_BYTES = 8 * 2**20


def read_object(bucket: str, key: str) -> Iterator[bytes]:
    """The bytes of an object; address and credentials of the store come from the AWS_* variables or the machine's role.

    Raises:
        FileNotFoundError: if there is no such object.
        StorageUnavailable: if the store does not answer, or refuses.
    """
    retry: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=10)}
    with failure_named():
        found = obstore.get(S3Store(bucket, client_options=CLIENT, retry_config=retry), key)
        for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)
