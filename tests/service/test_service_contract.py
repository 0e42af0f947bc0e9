"""The service holds to its own OpenAPI document, whatever a generator thinks up. `make contract` tries a hundred times as much."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from api_process import Api, running_api
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

EXAMPLES = int(os.environ.get("SADDLESCOPE_CONTRACT_EXAMPLES", "4"))
# What JSON Schema cannot say (names that fit each other, artifacts that exist) is refused although it fits the schema,
# and without keys there is no credential to ignore.
NOT_PROMISED = [positive_data_acceptance, negative_data_rejection, ignored_auth]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("contract")) as started:
        yield started


def broken_promises(operation: APIOperation) -> list[str]:
    """What answers to generated requests say otherwise than the document."""
    told: list[str] = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def hold(case: Case) -> None:
        answer = case.call(timeout=60)
        try:
            case.validate_response(answer, excluded_checks=NOT_PROMISED)
        except FailureGroup as broken:
            told.extend(f"{operation.label} {answer.status_code}: {failure}" for failure in broken.exceptions)

    hold()
    return told


schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


def test_every_operation_answers_as_it_is_described(api: Api) -> None:
    document = schemathesis.openapi.from_url(f"{api.url}/v1/openapi.json")
    # A stream ends with its job, and is not waited for.
    operations = [found.ok() for found in document.exclude(path_regex=r"/events$").get_all_operations()]
    assert len(operations) > 35
    assert [told for operation in operations for told in broken_promises(operation)] == []
