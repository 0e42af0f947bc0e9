"""The service's tables of docs/performance.md, from what its benchmarks stored."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.cells import Stored, head, row, short

DATABASES = ("SQLite", "PostgreSQL")


def toy_latency(results: Stored) -> Iterable[str]:
    yield from head(f"{results['num_jobs']} jobs, seconds", "median", "p90", "p99")
    for part, cuts in results["seconds"].items():
        yield row(part, *(f"{cuts[cut]:.3f}" for cut in ("median", "p90", "p99")))


def load(results: Stored) -> Iterable[str]:
    yield from head("", "target", *DATABASES, *(f"processor a request, ms: {database}" for database in DATABASES))
    by_database = [[line for line in results["lines"] if line["what"].endswith(database)] for database in DATABASES]
    others = [line for line in results["lines"] if not line["what"].endswith(DATABASES)]
    for lines in zip(*by_database, strict=True):
        what = lines[0]["what"].removesuffix(f", {DATABASES[0]}")
        processor = (short(line["microseconds"], 1e-3) for line in lines)
        measured = (short(line["value"]) for line in lines)
        yield row(f"{what}, {lines[0]['unit']}", short(lines[0]["target"]), *measured, *processor)
    for line in others:
        yield row(f"{line['what']}, {line['unit']}", short(line["target"]), short(line["value"]), "", "", "")


def pages(results: Stored) -> Iterable[str]:
    yield from head("", "median, ms", "p95, ms", "first paint, kB")
    for page in results["pages"]:
        cells = (page["median_seconds"] * 1e3, page["p95_seconds"] * 1e3, page["first_paint_bytes"] / 1e3)
        yield row(page["page"], *(f"{cell:.0f}" for cell in cells))


def scrape(results: Stored) -> Iterable[str]:
    tables = results["tables"]
    shares = (f"{100 / table['one_in']:.0f} % alive, ms" for table in tables)
    yield from head(f"{results['num_jobs']:,} jobs in SQLite", *shares)
    for what in tables[0]["each_time_seconds"]:
        yield row(f"`{what}`", *(short(table["each_time_seconds"][what], 1e3) for table in tables))
    together = (short(sum(table["each_time_seconds"].values()), 1e3) for table in tables)
    yield row("together, at every scrape", *together)
    yield row("`count_by_status`, now and then", *(short(table["by_status_seconds"], 1e3) for table in tables))


def uploads(results: Stored) -> Iterable[str]:
    plain, resumable, memory = results["plain"], results["resumable"], results["memory"]
    more = (memory["peak_bytes"] - memory["idle_bytes"]) / 2**20
    yield "| | MB/s | |"
    yield "|---|--:|---|"
    spent = f"{plain['cpu_seconds_per_gibibyte']:.1f} s of processor time per GiB"
    yield row(f"one PUT, {_size(plain['bytes'])}", short(plain["megabytes_per_second"]), spent)
    cut = f"resumable, {_size(resumable['bytes'])}, cut {resumable['num_cuts']} times"
    yield row(cut, short(resumable["megabytes_per_second"]), f"{resumable['seconds']:.1f} s until the artifact exists")
    yield row("write and fsync alone", short(results["disk_megabytes_per_second"]), "")
    held = f"{memory['peak_bytes'] / 2**20:.0f} MiB, {more:.0f} MiB more than idle"
    yield row("memory of the API at most", "", held)


def start_up(results: Stored) -> Iterable[str]:
    yield from head("a new process", "median, s", "slowest, s", "target, s")
    for start in results["starts"]:
        seconds = (f"{start[which]:.3f}" for which in ("median_seconds", "slowest_seconds"))
        yield row(f"`{start['what']}`", *seconds, "" if start["most_seconds"] is None else start["most_seconds"])


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:g} GiB"
