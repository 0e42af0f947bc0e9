"""The engine's tables of docs/performance.md, from what its benchmarks stored."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.cells import Stored, head, row, short


def extreme_pairs(results: Stored) -> Iterable[str]:
    yield from head("workload", "contestant", "seconds", "products", "times ours", num_left=2)
    for workload in results["workloads"]:
        ours = workload["contestants"][0]["median_seconds"]
        title = f"{workload['workload']}, n = {workload['num_parameters']:,}"
        for contestant in workload["contestants"]:
            seconds, failure = contestant["median_seconds"], contestant["failure"]
            if seconds is None or ours is None or failure is not None:
                yield row(title, contestant["contestant"], f"no: {failure}", "", "")
            else:
                products = sorted(contestant["num_products"])[len(contestant["num_products"]) // 2]
                yield row(title, contestant["contestant"], f"{seconds:.2f}", products, f"{seconds / ours:.2f}")
            title = ""
    ratios = [workload["ratio"] for workload in results["workloads"]]
    words = ", ".join("no comparison" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
    yield from ("", f"Our time over the best peer's, in the order of the workloads: {words}.")


def dense_verdict(results: Stored) -> Iterable[str]:
    yield from head(f"{results['workload']}, n = {results['num_parameters']:,}", "seconds")
    for contestant in results["contestants"]:
        yield row(contestant["contestant"], f"{contestant['median_seconds']:.2f}")
    yield row("ratio", f"{results['ratio']:.2f}")


def peers_fail(results: Stored) -> Iterable[str]:
    yield from head("case", "library", "its documented default", "the best documented setting", num_left=4)
    for case in results["cases"]:
        title = f"{case['title']}: {case['num_eigenvalues']} eigenvalues"
        attempts = [attempt for attempt in results["attempts"] if attempt["case"] == case["name"]]
        for library in dict.fromkeys(attempt["library"] for attempt in attempts):
            ways = sorted((a for a in attempts if a["library"] == library), key=lambda a: not a["is_default"])
            yield row(title, library, *(f"`{way['call']}`: {way['words']}" for way in ways))
            title = ""


def products(results: Stored) -> Iterable[str]:
    yield from head("", "mode", "gradient, ms", "product, ms", "measured", "target", num_left=2)
    for one in results["products"]:
        times = (short(one[f"{what}_seconds"], 1e3) for what in ("gradient", "product"))
        most = f"{one['most_gradients']:.2f}"
        yield row(f"a product in gradients: {one['network']}", one["mode"], *times, f"{one['gradients']:.2f}", most)
    lanczos = results["lanczos"]
    beyond = f"{lanczos['num_steps']} Lanczos steps beyond their products, n = {lanczos['num_parameters']:,}"
    yield row(beyond, "", "", "", f"{100 * lanczos['overhead']:.0f} %", f"{100 * results['most_overhead']:.0f} %")
    above = f"{lanczos['vectors_above']:.1f}"
    yield row("vectors above basis and one gradient", "", "", "", above, f"{results['most_vectors_above']:.0f}")


def callback(results: Stored) -> Iterable[str]:
    share = f"{100 * results['idle_share']:.2g} % of the step"
    copy = f"{results['snapshot_bytes'] / 2**20:.1f} MiB ({short(results['copy_seconds'], 1e3)} ms)"
    most = f"{short(results['most_beyond_copy_seconds'], 1e3)} ms"
    slowest = f"the slowest of {results['num_shadowed']} steps while the snapshot is hashed and written"
    device = "" if results["device"] == "cpu" else f" on {results['device']}"
    yield from head(f"{results['num_parameters']:,} parameters{device}", "measured", "at most", num_left=3)
    yield row("a step of training", f"{short(results['step_seconds'], 1e3)} ms", "")
    idle = f"{short(results['idle_seconds'], 1e6)} µs, {share}"
    yield row("the callback at a step where nothing happens", idle, f"{100 * results['most_idle_share']:.0f} %")
    yield row(f"a snapshot beyond the copy of {copy}", f"{short(results['beyond_copy_seconds'], 1e3)} ms", most)
    yield row(slowest, f"{short(results['slowest_shadowed_seconds'], 1e3)} ms", "")
