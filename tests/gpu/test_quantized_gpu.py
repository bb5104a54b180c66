"""NF4 on a GPU: the Triton kernel, loading in little memory, training against the dequantised weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from ocrsmith.model import nf4
from ocrsmith.model.lora import add_lora
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.quantized import Nf4GroupedExperts, Nf4Linear, quantize_model, weight_bytes
from ocrsmith.model.weights import load_model
from ocrsmith.settings import LoraSettings

from ..parity.tiny import tiny_model

pytestmark = pytest.mark.gpu

SHAPES = [(1,), (2,), (63,), (64,), (65,), (5, 7), (130, 64), (3, 100, 77), (8, 160, 256), (64, 896, 1280)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def packed(*shape: int) -> nf4.Nf4Tensor:
    torch.manual_seed(0)
    return nf4.quantize(torch.randn(shape, device="cuda") * 0.02, backend="torch")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_gives_what_plain_torch_gives(shape, dtype):
    tensor = packed(*shape)
    plain = nf4.dequantize(tensor, dtype, backend="torch")
    assert torch.equal(nf4.dequantize(tensor, dtype, backend="triton"), plain)


def test_the_kernel_is_what_runs():
    assert nf4._backend_for(torch.device("cuda", 0)) == "triton"


def test_gpu_and_cpu_pack_alike():
    x = torch.randn(64, 96, 128, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    here, there = nf4.quantize(x), nf4.quantize(x.cuda(), backend="torch")
    assert torch.equal(here.codes, there.codes.cpu())
    torch.testing.assert_close(nf4.block_scales(here), nf4.block_scales(there).cpu(), rtol=0, atol=0.02)
    assert (here.scales != there.scales.cpu()).float().mean() < 0.001  # the mean is summed in another order


def test_packing_needs_little_more_than_the_tensor():
    x = torch.randn(64, 896, 1280, device="cuda", dtype=torch.bfloat16)
    nf4.tables(x.device)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    nf4.quantize(x, backend="torch")
    assert torch.cuda.max_memory_allocated() - before < 250 * 2**20


def test_loading_never_holds_the_dense_model():
    for _ in range(2):  # the first time libraries take memory of their own
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        model = load_model("nano", dtype=torch.bfloat16, device="cuda", quantization="nf4")
        peak = torch.cuda.max_memory_allocated() - before
        size, largest = weight_bytes(model), 8 * 160 * 256
        del model
    assert peak < size * 1.02 + largest * 40 + 2**20  # float32 copies and indices of one tensor


def with_dense_weights(quantised: OcrModel, original: OcrModel) -> OcrModel:
    dense = copy.deepcopy(original)
    with torch.no_grad():
        for name, module in quantised.named_modules():
            if isinstance(module, Nf4Linear | Nf4GroupedExperts):
                for key in module.packed_weights():
                    getattr(dense.get_submodule(name), key).copy_(module.dense_weight(key))
    return dense


def gradients_of(model: OcrModel, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(0)
    peft_model = add_lora(model, LoraSettings(r=4)).train()
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    loss = peft_model(input_ids=rows, labels=rows).loss
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in peft_model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_those_of_the_dequantised_weights(dtype):
    original = tiny_model().to("cuda", dtype)
    quantised = quantize_model(copy.deepcopy(original))
    rows = torch.randint(3, 90, (2, 40), device="cuda")
    dense = with_dense_weights(quantised, original)
    loss, gradients = gradients_of(quantised, rows)
    wanted_loss, wanted = gradients_of(dense, rows)
    # The same products of the same numbers; only sums that run in no fixed order may differ.
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(loss, wanted_loss, rtol=bound, atol=0)
    assert gradients.keys() == wanted.keys()
    assert wanted
    for name, gradient in gradients.items():
        assert (gradient - wanted[name]).abs().max() <= bound * wanted[name].abs().max(), name


def test_moving_to_the_gpu_keeps_the_codes():
    model = quantize_model(tiny_model())
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if ".packed." in name}
    model.to("cuda", torch.bfloat16)
    after = {name: buffer for name, buffer in model.named_buffers() if ".packed." in name}
    assert before.keys() == after.keys()
    for name, buffer in after.items():
        assert buffer.is_cuda
        assert torch.equal(buffer.cpu(), before[name])
