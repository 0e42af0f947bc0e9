"""The settings that each peer is tried with, in the order of trying (`calibrate`)."""

from benchmarks.peers.subject import Setting

REFERENCE: Setting = {"which": "BE", "num_basis": 60, "tol": 1e-4}
"""For `curvlinops_pairs`: tighter than asked, so that a missed eigenvalue is noticed."""

CANDIDATES: dict[str, tuple[Setting, ...]] = {
    "eigenthings_pairs": tuple(
        {"num_steps": steps, "reorthogonalize": again}
        for steps in (25, 30, 35, 40, 45, 50, 60, 70, 80, 100, 120, 150, 200, 300)
        for again in (False, True)
    ),
    "curvlinops_pairs": (
        *({"which": "BE", "num_basis": basis, "tol": tol} for basis in (20, 40) for tol in (1e-2, 3e-3, 1e-3)),
        *({"which": "LA+SA", "num_basis": 20, "tol": tol} for tol in (1e-2, 3e-3, 1e-3)),
    ),
    "pyhessian_pairs": tuple(
        {"top_n": top, "max_iterations": 1000, "tol": tol} for tol in (1e-3, 1e-5) for top in (4, 8)
    ),
}
"""Ascending in cost where one number is the cost: there the first that is accepted is the best."""

ASCENDING = ("eigenthings_pairs", "pyhessian_pairs")
