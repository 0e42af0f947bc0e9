"""A spectrum as a table and as a NumPy archive."""

from __future__ import annotations

import csv
import io

import numpy as np

from saddlescope.contract.reports import Spectrum


def spectrum_csv(spectrum: Spectrum) -> str:
    """One eigenvalue or Ritz pair a row. Exact eigenvalues have no residual."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("index", "value", "residual_norm", "weight", "kind"))
    if spectrum.eigenvalues is not None:
        writer.writerows((index, value, 0.0, None, "eigenvalue") for index, value in enumerate(spectrum.eigenvalues))
    else:
        writer.writerows(
            (index, pair.value, pair.residual_norm, pair.weight, "ritz") for index, pair in enumerate(spectrum.ritz)
        )
    return text.getvalue()


def spectrum_npz(spectrum: Spectrum) -> bytes:
    """Arrays for `numpy.load`; those that the spectrum lacks are empty. A missing weight is NaN."""
    density = spectrum.density
    archive = io.BytesIO()
    np.savez(
        archive,
        allow_pickle=False,
        exact=np.array(spectrum.exact),
        num_parameters=np.array(spectrum.num_parameters),
        zero_tol=np.array(spectrum.zero_tol),
        spectral_scale=np.array(spectrum.spectral_scale),
        eigenvalues=np.array(spectrum.eigenvalues or (), dtype=np.float64),
        ritz_values=np.array([pair.value for pair in spectrum.ritz], dtype=np.float64),
        ritz_residual_norms=np.array([pair.residual_norm for pair in spectrum.ritz], dtype=np.float64),
        ritz_weights=np.array(
            [np.nan if pair.weight is None else pair.weight for pair in spectrum.ritz], dtype=np.float64
        ),
        density_grid=np.array(() if density is None else density.grid, dtype=np.float64),
        density=np.array(() if density is None else density.density, dtype=np.float64),
        cumulative_low=np.array(() if density is None else density.cumulative_low, dtype=np.float64),
        cumulative_high=np.array(() if density is None else density.cumulative_high, dtype=np.float64),
    )
    return archive.getvalue()
