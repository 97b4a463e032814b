"""Products in fp32 that could run in tf32 or bf16."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perfmodel.aten import launched
from perfmodel.aten.calls import Operand
from perfmodel.traces.advice.finding import Advice, Context, call_of, measured, ms, near, total
from perfmodel.traces.pricing import Priced


def shorter(found: Context) -> Iterable[Advice]:
    """All fp32 products, as tf32 and as bf16."""
    wide = [one for one in found.known if one.group.main.op.contraction_flops() and one.group.main.dtype == "fp32"]
    if not wide:
        return
    before_s = total(wide)
    tf32_s = sum(_in_type(found, one, "tf32") for one in wide)
    bf16_s = sum(_in_type(found, one, "bf16") for one in wide)
    best_s, how = (tf32_s, "tf32") if tf32_s <= 1.2 * bf16_s else (bf16_s, "bf16")
    doing = {
        "tf32": "Call torch.set_float32_matmul_precision('high'), and compare the results: products keep 10 bits of mantissa.",
        "bf16": "Run it under torch.autocast('cuda', torch.bfloat16), and compare the results.",
    }
    yield Advice(
        f"Multiply in {how}", before_s - best_s,
        f"{len(wide)} products and attention kernels run in fp32 and take {ms(measured(wide))}. Expected are {ms(before_s)} in "
        f"fp32, {ms(tf32_s)} in tf32 and {ms(bf16_s)} in bf16.",
        doing[how], before_s, best_s, measured(wide), "precision",
    )  # fmt: skip


def _in_type(found: Context, one: Priced, dtype: str) -> float:
    """The expected time of a group whose products run in another type; bf16 halves the bytes of its tensors too."""
    call = call_of(one)
    made = one.group.launched
    if dtype == "bf16" and call is not None:
        made = launched(call._replace(arguments=_converted(call.arguments)))
    return found.model.price(
        [each._replace(dtype=dtype) if each.dtype == "fp32" else each for each in made], near(one)
    ).expected_s


def _converted(value: Any) -> Any:
    if isinstance(value, Operand):
        return value._replace(dtype="bf16") if value.dtype == "fp32" else value
    return tuple(map(_converted, value)) if type(value) is tuple else value
