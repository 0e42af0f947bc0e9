"""Put the stored plan into docs/scaling.md, between its markers: `python -m benchmarks.capacity page`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.capacity.tiers import MIX
from benchmarks.markers import with_table
from benchmarks.peers.environment import REPOSITORY, RESULTS

PAGE = REPOSITORY / "docs" / "scaling.md"
STORED = RESULTS / "capacity.json"


def write(page: Path = PAGE, stored: Path = STORED) -> None:
    page.write_text(rendered(page.read_text(encoding="utf-8"), json.loads(stored.read_text())), encoding="utf-8")


def rendered(text: str, results: Mapping) -> str:
    """The page with every table made anew from the results."""
    tables = {
        "cost": cost(results),
        "answering": answering(results),
        "storing": storing(results),
        "burst": burst(results),
        "loads": loads(results),
        "needs": needs(results),
        "growth": growth(results),
    }
    for name, lines in tables.items():
        below = [_origin(results)] if name == "cost" else [f"The run of {results['date'][:10]} above."]
        if name == "burst":
            below = [f"{results['burst']['date'][:10]}, load {results['burst']['load_before']} before."]
        if name in ("loads", "needs", "growth"):
            below.append(_mix(results))
        text = with_table(text, name, "\n".join([*lines, "", " ".join(below), ""]))
    return text


def cost(results: Mapping) -> Iterable[str]:
    yield from _head(
        "checkpoint",
        "parameters",
        "checkpoints",
        "processor seconds, median",
        "least to most",
        "products",
        "ms a product",
        "method",
    )
    for network in results["networks"].values():
        found = network["analyses"]
        seconds, products = [one["cpu_seconds"] for one in found], [one["num_matvecs"] for one in found]
        yield _row(
            network["title"],
            f"{found[0]['num_parameters']:,}",
            len(found),
            _short(statistics.median(seconds)),
            f"{_short(min(seconds))} to {_short(max(seconds))}",
            f"{min(products)} to {max(products)}" if min(products) < max(products) else products[0],
            _short(1e3 * sum(seconds) / sum(products)),
            ", ".join(dict.fromkeys(f"{one['method']}, {one['dtype']}" for one in found)),
        )


def answering(results: Mapping) -> Iterable[str]:
    databases = results["answering"]
    yield from _head("", *databases)
    for what, label, unit in (
        ("submission_seconds", "a submission, ms", 1e3),
        ("poll_seconds", "a poll, ms", 1e3),
        ("report_seconds", "a report, ms", 1e3),
        ("upload_seconds_per_byte", "a GiB uploaded, s", 2**30),
    ):
        yield _row(f"API processor: {label}", *(_short(unit * each[what]) for each in databases.values()))
    yield _row("broker: a job that waits, bytes", *(f"{each['ring_bytes']:.0f}" for each in databases.values()))
    writes = next(iter(results["databases"].values()))["write_seconds"]
    for what in writes:
        row = (1e3 * each["write_seconds"][what] for each in results["databases"].values())
        yield _row(f"database: {what}, ms", *map(_short, row))
    ledgers = results["databases"].values()
    for num_processes in next(iter(ledgers))["renewals_per_second"]:
        yield _row(
            f"renewals a second by {num_processes} at a time",
            *(_short(each["renewals_per_second"][num_processes]) for each in ledgers),
        )
    spent = [each["server_seconds_per_renewal"] for each in ledgers]
    yield _row(
        "processor of the server: a renewal, ms", *(_short(1e3 * each) if each else "in the client" for each in spent)
    )
    mixed = [sum(share * each["server_seconds"][name] for name, share in MIX.items()) for each in ledgers]
    yield _row(
        "processor of the server: all other writes of a job, ms",
        *(_short(1e3 * each) if each else "in the client" for each in mixed),
    )


def storing(results: Mapping) -> Iterable[str]:
    yield from _head(
        "of one job",
        "rows",
        *(f"{name}, kB" for name in results["databases"]),
        "checkpoint",
        "ways out",
        "landscape",
        "spectrum",
    )
    for name, network in results["networks"].items():
        rows = next(iter(results["databases"].values()))["rows"][name]
        sizes = (
            statistics.fmean(one[f"{what}_bytes"] for one in network["analyses"])
            for what in ("checkpoint", "vector", "landscape", "spectrum")
        )
        yield _row(
            network["title"],
            f"{sum(rows.values()):.0f}",
            *(f"{each['job_bytes'][name] / 1e3:.1f}" for each in results["databases"].values()),
            *map(_bytes, sizes),
        )


def burst(results: Mapping) -> Iterable[str]:
    found = results["burst"]
    yield from _head(
        f"{found['num_jobs']} toy jobs at once, one worker",
        "measured, s",
        "predicted from jobs alone, s",
        "predicted from half of the burst, s",
    )
    ways = [found["from_before_and_after"], found["from_half_of_it"]]
    for label, what, bounds in (
        ("first POST to last verdict", "makespan", "makespan"),
        ("mean wait", "mean_wait", "wait"),
    ):
        predicted = (f"{way[what]:.2f} ({way[f'{bounds}_low']:.2f} to {way[f'{bounds}_high']:.2f})" for way in ways)
        yield _row(label, f"{found[what]:.2f}", *predicted)


def loads(results: Mapping) -> Iterable[str]:
    tiers = results["tiers"]
    yield from _head("asked of", *(f"{tier['per_day']:,} a day" for tier in tiers))
    for what, label in (
        ("workers", "worker cores"),
        ("API processes", "API processes"),
        ("databases", "databases: SQLite, or PostgreSQL on 16 cores"),
        ("links", "links of 1 Gbit/s to the blobs"),
    ):
        yield _row(label, *(_short(tier["loads"][what]) for tier in tiers))
    yield _row("what gives way first, and next", *(", ".join(tier["first"]) for tier in tiers))
    yield _row("Hessian products a second", *(_short(tier["matvecs_per_second"]) for tier in tiers))
    yield _row("database writes a second", *(_short(tier["writes_per_second"]) for tier in tiers))
    yield _row("of which renewals of leases", *(f"{100 * tier['renewals_share']:.0f} %" for tier in tiers))


def needs(results: Mapping) -> Iterable[str]:
    tiers = results["tiers"]
    yield from _head("", *(f"{tier['per_day']:,} a day" for tier in tiers))
    yield _row("database", *(tier["database"] for tier in tiers))
    for situation, label in (
        ("even", "evenly"),
        ("bursts", "on the hour, the same workers"),
        ("prompt", "on the hour, within 15 minutes"),
        ("calm", "the same, leases renewed every 15 s"),
    ):
        each = [tier[situation] for tier in tiers]
        yield _row(f"**{label}**", *("" for _ in tiers))
        yield _row("worker cores", *(f"{need['num_workers']:,}" for need in each))
        yield _row("API processes", *(f"{need['num_api_processes']:,}" for need in each))
        yield _row("databases", *(need["num_shards"] for need in each))
        yield _row("POST to verdict, median", *(_duration(need["median_seconds"]) for need in each))
        yield _row("POST to verdict, p95", *(_duration(need["p95_seconds"]) for need in each))
        busy = (tier["loads"]["workers"] / tier[situation]["num_workers"] for tier in tiers)
        yield _row("workers busy, on average", *(f"{100 * share:.0f} %" for share in busy))


def growth(results: Mapping) -> Iterable[str]:
    tiers = results["tiers"]
    yield from _head("", *(f"{tier['per_day']:,} a day" for tier in tiers))
    yield _row("database, a year", *(_bytes(tier["database_bytes_per_year"]) for tier in tiers))
    yield _row("blobs, a day", *(_bytes(tier["blob_bytes_per_day"]) for tier in tiers))
    yield _row("blobs, thirty days", *(_bytes(30 * tier["blob_bytes_per_day"]) for tier in tiers))
    yield _row("broker, at the end of a burst", *(_bytes(tier["broker_bytes"]) for tier in tiers))


def _origin(results: Mapping) -> str:
    machine, versions = results["machine"], results["versions"]
    return (
        f"{results['date'][:10]}, {machine['processor']}, {machine['threads']} thread of {machine['cores']} cores, load "
        f"{machine['load_before']} before; Python {versions['python']}, torch {versions['torch']}, "
        f"SQLite {versions['SQLite']}, PostgreSQL {versions['PostgreSQL']}."
    )


def _mix(results: Mapping) -> str:
    shares = (f"{100 * share:.0f} % {results['networks'][name]['title']}" for name, share in MIX.items())
    return f"Checkpoints: {', '.join(shares)}."


def _head(*titles: str) -> Sequence[str]:
    return _row(*titles), f"|---|{'--:|' * (len(titles) - 1)}"


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _short(value: float) -> str:
    """Two or three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{_short(count)} {unit}"
        count /= 1000
    return f"{_short(count)} PB"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
