"""The pictures of reports, runs and projects, drawn on the server: data in, `Picture` out, None when there is nothing to draw."""

from service.charts.checkpoints import Bracket, Checkpoint, Series
from service.charts.contours import contour_chart
from service.charts.escapes import escape_chart
from service.charts.histories import history_charts
from service.charts.overlays import overlay_chart
from service.charts.ratios import Against, ratio_chart
from service.charts.shares import shares_chart
from service.charts.spectra import spectrum_chart
from service.charts.surfaces import surface_chart

__all__ = [
    "Against",
    "Bracket",
    "Checkpoint",
    "Series",
    "contour_chart",
    "escape_chart",
    "history_charts",
    "overlay_chart",
    "ratio_chart",
    "shares_chart",
    "spectrum_chart",
    "surface_chart",
]
