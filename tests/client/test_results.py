from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from known_reports import report_with
from torch import nn

import saddlescope
from saddlescope.contract.jobs import Options
from saddlescope.contract.reports import Report


class TiedAutoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 2, bias=False)
        self.decoder = nn.Linear(2, 3, bias=False)
        self.decoder.weight = nn.Parameter(torch.zeros(3, 2))
        self.twin = nn.Linear(2, 3, bias=False)
        self.twin.weight = self.decoder.weight
        self.register_buffer("counter", torch.tensor(3))


def test_a_module_moves_by_step_times_direction_in_place() -> None:
    model = nn.Linear(2, 2).double()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    direction = {"weight": torch.randn(2, 2).double(), "bias": torch.randn(2).double()}
    parameter = model.weight
    loss = report_with([direction], step=-0.5).escapes[0].apply_(model)
    assert loss == 0.25
    assert model.weight is parameter
    assert parameter.requires_grad
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, start[name] - 0.5 * direction[name], rtol=0, atol=0)


def test_the_sum_is_rounded_once() -> None:
    weight = torch.full((64,), 1.0, dtype=torch.bfloat16)
    direction = {"w": torch.linspace(-1, 1, 64, dtype=torch.bfloat16)}
    tensors = {"w": weight.clone()}
    report_with([direction], step=0.3).escapes[0].apply_(tensors)
    exact = weight.double() + 0.3 * direction["w"].double()
    assert torch.equal(tensors["w"], exact.to(torch.bfloat16))


@pytest.mark.parametrize("names", [["decoder.weight"], ["twin.weight"], ["decoder.weight", "twin.weight"]])
def test_tied_weights_move_once_under_any_of_their_names(names) -> None:
    model = TiedAutoencoder()
    report_with([{name: torch.ones(3, 2) for name in names}]).escapes[0].apply_(model)
    assert torch.equal(model.decoder.weight, torch.ones(3, 2))
    assert model.twin.weight is model.decoder.weight


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        ({"encoder.weight": torch.ones(2, 3), "head.weight": torch.ones(1)}, "'head.weight', which the model does not"),
        ({"encoder.weight": torch.ones(2, 3), "twin.weight": torch.ones(2, 3)}, r"\(3, 2\) in the model and \(2, 3\)"),
        ({"encoder.weight": torch.ones(2, 3), "counter": torch.tensor(1)}, "only floating-point"),
        (
            {
                "encoder.weight": torch.ones(2, 3),
                "decoder.weight": torch.ones(3, 2),
                "twin.weight": -torch.ones(3, 2),
            },
            "moves them apart",
        ),
    ],
)
def test_nothing_moves_when_the_direction_does_not_fit(direction, message) -> None:
    model = TiedAutoencoder()
    start = model.encoder.weight.detach().clone()
    with pytest.raises(ValueError, match=message):
        report_with([direction]).escapes[0].apply_(model)
    assert torch.equal(model.encoder.weight, start)
    assert not model.decoder.weight.any()


def test_json_is_the_report_of_the_contract() -> None:
    result = report_with([{"w": torch.ones(1)}])
    assert Report.model_validate_json(result.to_json()) == result.report
    assert json.loads(result.to_json())["object"] == "report"


def test_every_field_of_the_report_can_be_read_from_the_result() -> None:
    result = report_with([{"w": torch.ones(1)}])
    fields = set(Report.model_fields) - {"object", "schema_version", "escapes"}
    assert {name: getattr(result, name) for name in fields} == {name: getattr(result.report, name) for name in fields}
    escape = result.report.escapes[0]
    fields = set(type(escape).model_fields) - {"vector"}
    assert {name: getattr(result.escapes[0], name) for name in fields} == {
        name: getattr(escape, name) for name in fields
    }


def test_a_notebook_shows_the_summary_escaped() -> None:
    assert "negative &lt;b&gt;" in report_with([])._repr_html_()


@pytest.mark.parametrize("num_escapes", [0, 1])
def test_a_plot_has_a_panel_for_each_thing_there_is(num_escapes) -> None:
    figure = report_with([{"w": torch.ones(1)}] * num_escapes).plot()
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["Spectrum (exact)", *["Escape 0, curvature −2"] * num_escapes, "Loss around θ"]
    figure.canvas.draw()


def test_every_option_of_the_contract_is_an_option_of_submit() -> None:
    from saddlescope.client.requests import OptionValues  # noqa: PLC0415

    assert set(OptionValues.__annotations__) == set(Options.model_fields)


def test_the_version_is_the_one_that_is_installed() -> None:
    from importlib.metadata import version  # noqa: PLC0415

    assert saddlescope.__version__ == version("saddlescope")


@pytest.mark.parametrize("module", ["saddlescope", "saddlescope.client", "saddlescope.client.command_line"])
def test_importing_needs_no_torch_and_no_numpy(module) -> None:
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'analyse'"):
        _ = saddlescope.analyse
