"""kdlib.models.precision: what the processor says decides, and the generator draws in it."""

import pytest
import torch

from kdlib.models import precision
from kdlib.models.condition import Condition
from kdlib.models.continuous.backbone import ContinuousBackbone
from kdlib.models.discrete.backbone import DiscreteBackbone
from kdlib.models.precision import native_precision  # the fixture of conftest.py puts another in its module's place
from tests.models.continuous.test_backbone import make_unet
from tests.test_pipeline import ColourTokenizer, make_denoiser

EACH = pytest.mark.parametrize("native, dtype", [("fp32", torch.float32), ("bf16", torch.bfloat16)])


@pytest.mark.parametrize("features, wanted", [
    ({"avx2", "fma"}, "fp32"), ({"avx2", "avx512f"}, "fp32"), ({"avx512f", "avx512_bf16"}, "bf16"),
    ({"amx_tile", "amx_bf16"}, "bf16"), ({"asimd", "bf16"}, "bf16")])
def test_bfloat16_is_taken_where_the_processor_has_it(features, wanted, monkeypatch):
    monkeypatch.setattr(precision, "processor_features", lambda: features)
    assert native_precision() == wanted


def test_the_processor_tells_what_it_can_do():
    known = {"fpu", "sse2", "fp", "asimd"}
    assert precision.processor_features() & known


@EACH
def test_networks_compute_in_it(native, dtype, monkeypatch):
    monkeypatch.setattr(precision, "native_precision", lambda: native)
    with precision.native_autocast(torch.device("cpu")):
        assert torch.nn.Linear(3, 5)(torch.ones(2, 3)).dtype == dtype


def dtypes_of(network, kind):
    """Fills with the dtypes of what the layers of a kind give."""
    seen = set()
    for layer in network.modules():
        if isinstance(layer, kind):
            layer.register_forward_hook(lambda layer, given, out: seen.add(out.dtype))
    return seen


@EACH
def test_the_discrete_generator_draws_in_it(native, dtype, monkeypatch):
    monkeypatch.setattr(precision, "native_precision", lambda: native)
    denoiser = make_denoiser()
    seen = dtypes_of(denoiser, torch.nn.Linear)
    drawn = DiscreteBackbone(denoiser, ColourTokenizer()).draw(Condition(torch.ones(2, 5), torch.ones(2, 3, 5)), 2, 2.0,
                                                               torch.Generator().manual_seed(0))
    assert seen == {dtype} and len(drawn) == 2
    assert {parameter.dtype for parameter in denoiser.parameters()} == {torch.float32}


@EACH
def test_the_continuous_generators_network_computes_in_it_and_its_process_in_float32(native, dtype, monkeypatch):
    monkeypatch.setattr(precision, "native_precision", lambda: native)
    denoiser, told = make_unet(), []
    seen = dtypes_of(denoiser, torch.nn.Conv2d)
    denoiser.register_forward_hook(lambda network, given, out: told.append(given[0].dtype))
    drawn = ContinuousBackbone(denoiser).draw(Condition(torch.ones(2, 5), torch.ones(2, 3, 5)), 3, 2.0,
                                              torch.Generator().manual_seed(0))
    assert seen == {dtype} and told == [torch.float32] * 3 and len(drawn) == 2
    assert {parameter.dtype for parameter in denoiser.parameters()} == {torch.float32}
