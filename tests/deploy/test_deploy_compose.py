"""docker-compose.yml is what the Compose Specification says, and its parts fit each other and the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from service.settings import Settings
from workers.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
OURS = ("migrate", "api", "worker", "worker-gpu")


def test_it_is_valid_by_the_schema_of_the_specification() -> None:
    schema = json.loads((ROOT / "deploy/schemas/compose-spec.json").read_text(encoding="utf-8"))
    # `x-` fields hold the anchors; the schema allows them at the top only by pattern, which is checked with the rest.
    jsonschema.Draft201909Validator(schema).validate(COMPOSE)
    broken = COMPOSE | {"services": COMPOSE["services"] | {"api": {"imagee": "x"}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft201909Validator(schema).validate(broken)


def test_every_name_in_it_leads_somewhere() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), mount
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])


def test_our_containers_get_settings_that_exist_and_no_rights() -> None:
    known = {f"SADDLESCOPE_{name.upper()}" for name in (*Settings.model_fields, *WorkerSettings.model_fields)}
    for name in OURS:
        service = COMPOSE["services"][name]
        ours = {variable for variable in service["environment"] if variable.startswith("SADDLESCOPE_")}
        assert ours <= known
        assert {"SADDLESCOPE_DATABASE_URL", "SADDLESCOPE_BROKER_URL", "SADDLESCOPE_BLOBS_URL"} <= ours
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_no_secret_is_written_into_it() -> None:
    variables = [pair for service in COMPOSE["services"].values() for pair in service.get("environment", {}).items()]
    secret = [value for name, value in variables if re.search("PASSWORD|SECRET|KEY|PEPPER", name)]
    assert secret
    assert all(value.startswith("${") for value in secret)
    assert all(re.search(r"://\w+:\$\{", value) for _, value in variables if "@" in value)


def test_nothing_is_published_beyond_this_host() -> None:
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
