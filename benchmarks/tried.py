"""What was tried to make the discrete model faster: each idea beside the same code without it. See README.md."""

from __future__ import annotations

import argparse
import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.contenders import OURS, Contender, make_contender
from benchmarks.machine import measured_now, seconds, write_table
from benchmarks.shapes import SHAPES, Shape
from kdlib.models import attention
from kdlib.models.condition import concatenate
from kdlib.models.discrete import process as discrete
from kdlib.models.discrete.transformer import Block

STEPS_TIMED = 3  # consecutive sampling steps of one measurement


@dataclass(frozen=True)
class Idea:
    """One change, and how to have the code the other way.

    changes  what it changes
    works    what it is timed in: "train", "sample"
    swap     contender -> context manager, inside which that contender works the way that kdlib does not
    kept     kdlib does it, so `swap` takes it away; otherwise `swap` brings it in
    """

    changes: str
    works: tuple[str, ...]
    swap: Callable[[Contender], AbstractContextManager]
    kept: bool = False


# ------------------------------------------------------------------------------------------- what kdlib does: without


def fused_attention(contender: Contender) -> AbstractContextManager:
    return mock.patch.object(attention, "attend", F.scaled_dot_product_attention)


def selected_adaln(contender: Contender) -> AbstractContextManager:
    return mock.patch.object(Tensor, "unbind", lambda x, dim=0: [x.select(dim, i) for i in range(x.shape[dim])])


@contextmanager
def tanh_gelu(contender: Contender) -> Iterator[None]:
    layers = [module for module in contender.model.modules() if isinstance(module, nn.GELU)]
    were = [layer.approximate for layer in layers]
    for layer in layers:
        layer.approximate = "tanh"
    yield
    for layer, approximate in zip(layers, were, strict=True):
        layer.approximate = approximate


def two_passes(contender: Contender) -> AbstractContextManager:
    """Guidance with a pass for the condition and another for the null condition."""
    def predict(denoise, x_t, t, condition, where, guidance_scale, truncation):
        logits = denoise(x_t, t, condition), contender.model(x_t, t, condition.null())
        given, null = (discrete._log_softmax(half[where]) for half in logits)
        return (null + guidance_scale * (given - null)).log_softmax(-1)

    return mock.patch.object(discrete, "predict_x0", predict)


def separate_sums(contender: Contender) -> AbstractContextManager:
    return mock.patch.object(torch, "addcmul", lambda x, one, other: x + one * other)


# ------------------------------------------------------------------------------------------ what kdlib does not: with


@contextmanager
def fused_adamw(contender: Contender) -> Iterator[None]:
    groups = contender.optimizer.param_groups
    settings = [group["fused"] for group in groups]
    for group in groups:
        group["fused"] = True
    yield
    for group, setting in zip(groups, settings, strict=True):
        group["fused"] = setting


def plain_attention(contender: Contender) -> AbstractContextManager:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v

    return mock.patch.object(attention, "attend", attend)


def bf16_sums(contender: Contender) -> AbstractContextManager:
    """What runs from block to block in bfloat16."""
    def forward(block: nn.Module, x: Tensor, context: Tensor, adaln: Tensor) -> Tensor:
        x, adaln = x.bfloat16(), (adaln + block.adaln_offset)[:, :, None].bfloat16().unbind(1)
        for i, layer in enumerate((block.self_attention, block.cross_attention, block.feed_forward)):
            shift, scale, gate = adaln[3 * i:3 * i + 3]
            normed = torch.addcmul(shift, block.norm(x), 1 + scale)
            x = torch.addcmul(x, gate, layer(normed, context) if i == 1 else layer(normed))
        return x

    return mock.patch.object(Block, "forward", forward)


def kept_casts(contender: Contender) -> AbstractContextManager:
    forward = torch.autocast("cpu", torch.bfloat16)(contender.model.forward)
    return mock.patch.object(contender.model, "forward", forward)


@contextmanager
def bf16_weights(contender: Contender) -> Iterator[None]:
    parameters = list(contender.model.parameters())
    exact = [parameter.data for parameter in parameters]
    for parameter in parameters:
        parameter.data = parameter.data.bfloat16()
    yield
    for parameter, data in zip(parameters, exact, strict=True):
        parameter.data = data


@contextmanager
def kept_keys(contender: Contender) -> Iterator[None]:
    """Context tokens, and each block's keys and values of them, from the first call on."""
    def once(forward: Callable) -> Callable:
        made: list[Tensor] = []
        return lambda *inputs: made[0] if made else made.append(forward(*inputs)) or made[0]

    layers = [block.cross_attention.kv for block in contender.model.transformer.blocks]
    with ExitStack() as stack:
        for module in [contender.model.conditioner, *layers]:
            stack.enter_context(mock.patch.object(module, "forward", once(module.forward)))
        yield


@contextmanager
def null_rows_skipped(contender: Contender) -> Iterator[None]:
    def conditioned_only(forward: Callable) -> Callable:
        def cross_attention(x: Tensor, context: Tensor) -> Tensor:
            conditioned = context.flatten(1).any(1)
            result = forward(x[conditioned], context[conditioned])
            return result.new_zeros(x.shape).index_put_((conditioned,), result)

        return cross_attention

    with ExitStack() as stack:
        for block in contender.model.transformer.blocks:
            layer = block.cross_attention
            stack.enter_context(mock.patch.object(layer, "forward", conditioned_only(layer.forward)))
        yield


def head_where_unmasking(contender: Contender) -> AbstractContextManager:
    head = contender.model.transformer.head

    def predict(denoise, x_t, t, condition, where, guidance_scale, truncation):
        logits = []

        def chosen(x: Tensor) -> Tensor:
            logits.append(F.linear(x[torch.cat([where, where])], head.weight, head.bias))
            return logits[0].new_zeros(()).expand(*x.shape[:2], len(head.weight))

        with mock.patch.object(head, "forward", chosen):
            denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), concatenate(condition, condition.null()))
        given, null = discrete._log_softmax(logits[0]).chunk(2)
        return (null + guidance_scale * (given - null)).log_softmax(-1)

    return mock.patch.object(discrete, "predict_x0", predict)


@contextmanager
def head_where_masked(contender: Contender) -> Iterator[None]:
    head, q_sample, seen = contender.model.transformer.head, discrete.q_sample, {}

    def note(schedule, x_0, t, num_codes, generator):
        seen["x_t"] = q_sample(schedule, x_0, t, num_codes, generator)
        return seen["x_t"]

    def chosen(x: Tensor) -> Tensor:
        seen["logits"] = F.linear(x[seen["x_t"] == len(head.weight)], head.weight, head.bias)
        return seen["logits"].new_zeros(()).expand(*x.shape[:2], len(head.weight))

    def loss_terms(schedule, logits, x_0, x_t, t):
        masked = x_t == len(head.weight)
        nll = F.cross_entropy(seen["logits"].float(), x_0[masked], reduction="none")
        x0_term = nll.new_zeros(x_0.shape).index_put((masked,), nll).mean(1)
        mask_t, mask_s = schedule.mask[t], schedule.mask[t - 1]
        return ((mask_t - mask_s) / mask_t).to(x0_term.dtype) * x0_term, x0_term

    with (mock.patch.object(discrete, "q_sample", note), mock.patch.object(head, "forward", chosen),
          mock.patch.object(discrete, "loss_terms", loss_terms)):
        yield


@contextmanager
def denormals_flushed(contender: Contender) -> Iterator[None]:
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@functools.cache
def compiled_forward(contender: Contender) -> Callable:
    return torch.compile(contender.model.transformer.forward)


def compiled(contender: Contender) -> AbstractContextManager:
    return mock.patch.object(contender.model.transformer, "forward", compiled_forward(contender))


COMPILED = "torch.compile"
BOTH = ("train", "sample")
IDEAS = {
    "plain attention": Idea("few keys: matrix products in bfloat16, not the fused kernel", BOTH, fused_attention, True),
    "AdaLN in one piece": Idea("one unbind, not nine selections with a gradient each", BOTH, selected_adaln, True),
    "exact GELU": Idea("the error function, not its approximation by tanh", BOTH, tanh_gelu, True),
    "gate and sum in one": Idea("x + gate * y in one call; likewise shift and scale", BOTH, separate_sums, True),
    "guidance in one batch": Idea("one pass of 2b rows, not two of b", ("sample",), two_passes, True),
    "plain attention always": Idea("matrix products for any number of keys", BOTH, plain_attention),
    "fused AdamW": Idea("one kernel for a parameter's whole step", ("train",), fused_adamw),
    "bfloat16 from block to block": Idea("the sum over blocks, too, is rounded to 8 bits", BOTH, bf16_sums),
    "kept casts": Idea("weights are cast once a run; memory for a second copy", ("sample",), kept_casts),
    "bfloat16 weights": Idea("weights and all sums in bfloat16", ("sample",), bf16_weights),
    "kept keys": Idea("keys and values of the condition once a run", ("sample",), kept_keys),
    "null rows skipped": Idea("no cross-attention where it gives zero", ("sample",), null_rows_skipped),
    "head where unmasking": Idea("logits only of positions that get a code now", ("sample",), head_where_unmasking),
    "head where masked": Idea("logits only of positions that the loss counts", ("train",), head_where_masked),
    "denormals flushed": Idea("tiny numbers become 0", BOTH, denormals_flushed),
    COMPILED: Idea("the transformer compiled by inductor; needs a C++ compiler", BOTH, compiled),
}


# -------------------------------------------------------------------------------------------------------- measurement


def outcome(contender: Contender, work: str) -> list[Tensor]:
    """What the work comes to from equal random numbers: the probabilities that one sampling step draws codes from; or
    the gradients of a batch, and AdamW's first update of all weights from random gradients."""
    torch.manual_seed(1)
    if work == "sample":
        with mock.patch.object(discrete, "sample_categorical", wraps=discrete.sample_categorical) as draw:
            contender.sample(1)
        return [draw.call_args.args[0].float()]
    contender.loss().backward()
    parameters = [parameter for parameter in contender.model.parameters() if parameter.grad is not None]
    gradients, before = [p.grad for p in parameters], [p.detach().clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    contender.optimizer.step()
    updates = [p.detach() - b for p, b in zip(parameters, before, strict=True)]
    for parameter, data in zip(parameters, before, strict=True):
        parameter.data.copy_(data)
    contender.optimizer.state.clear()
    contender.optimizer.zero_grad(set_to_none=True)
    return gradients + updates


def difference(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest difference in a tensor over that tensor's largest value; the worst tensor counts."""
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-30)) for a, b in zip(one, other, strict=True))


def measure(idea: Idea, contender: Contender, work: str, repetitions: int) -> dict[str, float]:
    """Median milliseconds of a training or sampling step without and with the idea, in turns; how many times as fast
    it is with it, with the quartiles of that ratio over the turns; and the difference that it makes."""
    steps = STEPS_TIMED if work == "sample" else 1
    run = contender.train if work == "train" else functools.partial(contender.sample, steps)
    as_is, swapped, weights = [], [], {n: p.clone() for n, p in contender.model.state_dict().items()}
    here = outcome(contender, work)
    with idea.swap(contender):
        apart = difference(here, outcome(contender, work))
        run()
    run()
    for _ in range(repetitions):
        as_is.append(seconds(run))
        with idea.swap(contender):
            swapped.append(seconds(run))
    contender.model.load_state_dict(weights)
    contender.optimizer.state.clear()
    before, after = (swapped, as_is) if idea.kept else (as_is, swapped)
    times = pd.DataFrame({"before_ms": before, "after_ms": after}) / steps * 1e3
    ratios = times.before_ms / times.after_ms
    return {**times.median(), "ratio": ratios.median(), "ratio_low": ratios.quantile(0.25),
            "ratio_high": ratios.quantile(0.75), "difference": apart}


def try_ideas(shapes: dict[str, Shape], names: list[str], repetitions: int) -> pd.DataFrame:
    """A row for each shape, idea and kind of step. What needs a C++ compiler is left out where there is none."""
    if COMPILED in names and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        tqdm.write(f"no C++ compiler here, so {COMPILED} is left out")
        names = [name for name in names if name != COMPILED]
    rows, jobs = [], [(name, work) for name in names for work in IDEAS[name].works]
    with tqdm(total=len(shapes) * len(jobs)) as bar:
        for label, shape in shapes.items():
            contender = make_contender(OURS, shape, None)
            for name, work in jobs:
                bar.set_description(f"{label} {name}")
                idea = IDEAS[name]
                rows.append({"shape": label, "step": work, "idea": name, "changes": idea.changes, "kept": idea.kept,
                             **measure(idea, contender, work, repetitions)})
                bar.update()
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tried", description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE",
                        help=f"blocks x width / tokens / codes; all of {', '.join(SHAPES)}")
    parser.add_argument("--ideas", nargs="+", choices=IDEAS, default=list(IDEAS), metavar="IDEA",
                        help=f"all of {', '.join(map(repr, IDEAS))}")
    parser.add_argument("--repetitions", type=int, default=9, help="measurements of each time; medians are told")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the table there, too")
    arguments = parser.parse_args()
    table = try_ideas({label: SHAPES[label] for label in arguments.shapes}, arguments.ideas, arguments.repetitions)
    print(table.drop(columns="changes").to_string(index=False, float_format="{:.4g}".format))
    if arguments.out:
        write_table(table, measured_now("python -m benchmarks.tried"), arguments.out)


if __name__ == "__main__":
    main()
