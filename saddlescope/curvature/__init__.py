"""The mathematics: from an objective through Hessian products and spectra to a verdict and an escape."""
