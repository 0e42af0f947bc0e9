"""The iterator of events over connections that break, against a scripted server."""

from __future__ import annotations

import pytest
from scripted_server import Answer, ScriptedServer, problem_json

from saddlescope import Client
from saddlescope.client import NotFound
from saddlescope.client.following import read_messages


def event(number: int, kind: str = "job.progress", detail: str = "") -> bytes:
    data = (
        f'{{"object":"event","id":"evt_{number}","type":"{kind}","job":"job_1",'
        f'"created_at":"2026-01-01T00:00:00.000Z","data":{{"detail":"{detail}"}}}}'
    )
    return f"event: {kind}\ndata: {data}\nid: evt_{number}\n\n".encode()


def test_a_stream_that_breaks_is_resumed_after_the_last_whole_event(scripted: ScriptedServer) -> None:
    torn = event(3)[:40]
    scripted.script += [
        Answer(200, b"retry: 1000\n\n" + event(1) + b": ping\n\n" + event(2) + torn),
        Answer(200, drop=True),
        Answer(503, problem_json(503)),
        Answer(200, event(3) + event(4, "job.succeeded")),
        Answer(204),
    ]
    with Client(scripted.url) as client:
        assert [one.id for one in client.events("job_1")] == ["evt_1", "evt_2", "evt_3", "evt_4"]
    resumed = [seen.headers.get("Last-Event-ID") for seen in scripted.seen]
    assert resumed == [None, "evt_2", "evt_2", "evt_2", "evt_4"]
    assert {seen.headers["Accept"] for seen in scripted.seen} == {"text/event-stream"}


def test_a_refusal_is_told_at_once(scripted: ScriptedServer) -> None:
    scripted.script.append(Answer(404, problem_json(404)))
    with Client(scripted.url) as client, pytest.raises(NotFound):
        next(client.events("job_x"))
    assert len(scripted.seen) == 1


def test_a_projects_events_go_on_from_what_is_known(scripted: ScriptedServer) -> None:
    scripted.script += [Answer(200, event(8)), Answer(200, event(9))]
    with Client(scripted.url) as client:
        events = client.events(run="mlp", after="evt_7")
        assert [next(events).id, next(events).id] == ["evt_8", "evt_9"]
    assert [seen.path for seen in scripted.seen] == ["/v1/events?run=mlp"] * 2
    assert [seen.headers["Last-Event-ID"] for seen in scripted.seen] == ["evt_7", "evt_8"]


def test_line_breaks_that_only_python_knows_stay_in_the_text() -> None:
    stream = "data: a\u2028b\x85c\r\ndata: d\n\n".encode()
    for size in (1, 2, 5, 100):
        chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [message.data for message in read_messages(chunks)] == ["a\u2028b\x85c\nd"]
