"""Operators whose result or shape only data can tell: the true value where it is known, else a stated guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from perfmodel.capture.storages import host_operand

if TYPE_CHECKING:
    from perfmodel.capture.dispatch import Plan, Recorder

_Tensor = torch.Tensor
_aten = torch.ops.aten
_PARTS = 5040  # a share of a size that is a symbol is a multiple of one in so many
_ROWS_KNOWN = 1 << 16  # rows of a guessed nonzero whose positions are made up as well


def number(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """``item()``, and ``bool(tensor)``: the host waits for the value."""
    tensor = args[0]
    if not tensor.is_meta:
        return func(tensor)
    recorder.tape.views += 1
    recorder.tape.waits = True
    real = recorder.values.of(tensor)
    if real is not None:
        return real.item()
    estimate = recorder.estimate(tensor)
    if recorder.tape.truth or tensor.dtype == torch.bool:
        return bool(recorder.guesses.answer("bool", "bool(tensor)", estimate is not None and estimate.share >= 0.5))
    guess = estimate.number if estimate else 1
    if tensor.dtype.is_floating_point:
        return float(recorder.guesses.answer("float", "a number from a tensor", float(guess)))
    return int(recorder.guesses.answer("int", "an integer from a tensor", round(guess)))


def copy(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """``_to_copy``: between host and card it is a transfer, named in its keywords."""
    tensor, target = args[0], kwargs.get("device")
    if target is None or tensor.is_meta == (target.type == "meta"):
        return recorder.call(plan, func, args, kwargs)
    if target.type == "meta":
        result = func(*args, **kwargs)
        recorder.values.follow(plan.name, False, func, args, kwargs, result)
        _transfer(recorder, plan, args, kwargs, result, "cuda")
        return result
    real = recorder.values.of(tensor)
    result = real.clone() if real is not None else func(tensor, **{**kwargs, "device": tensor.device})
    _transfer(recorder, plan, args, kwargs, result, "cpu")
    return result.to(kwargs["dtype"]) if real is not None and kwargs.get("dtype") else result


def _transfer(recorder: Recorder, plan: Plan, args: Any, kwargs: Any, result: Any, target: str) -> None:
    recorder.tape.waits |= target == "cpu" and not kwargs.get("non_blocking")
    arguments, keywords = recorder.described(args, kwargs)
    results = recorder.results(result) if target == "cuda" else (host_operand(result),)
    recorder.tape.record(plan.name, arguments, {**keywords, "device": target}, results, plan.overload)


def overwrite(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """``copy_``: into a tensor of the host the result is known, or left as it is."""
    target, origin = args[0], args[1]
    if target.is_meta or not origin.is_meta:
        if target.is_meta and not origin.is_meta:
            arguments, keywords = recorder.described(args, kwargs)
            result = func(target, recorder.twin(origin))
            keywords["device"] = "cuda"
            recorder.tape.record(plan.name, arguments, keywords, recorder.results(result), plan.overload)
            return result
        return recorder.call(plan, func, args, kwargs)
    real = recorder.values.of(origin)
    _transfer(recorder, plan, args, {}, target, "cpu")
    return target if real is None else func(target, real)


def nonzero(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """The positions of a mask's ones. Guessed ones are spread evenly."""
    mask = args[0]
    if not mask.is_meta:
        return func(mask)
    real = recorder.values.of(mask)
    found = func(real) if real is not None else None
    rows = found.shape[0] if found is not None else selected(recorder, mask, "nonzero")
    result = torch.empty((mask.dim(), rows), dtype=torch.int64, device="meta").t()
    if found is None and type(rows) is int and rows <= _ROWS_KNOWN:
        flat = torch.arange(rows) * mask.numel() // max(rows, 1)
        found = torch.stack(torch.unravel_index(flat, mask.shape), 1) if mask.dim() else torch.empty(rows, 0)
    if found is not None:
        recorder.values.learn(result, found.to(torch.int64))
    return _finished(recorder, plan, args, result)


def selected(recorder: Recorder, mask: Any, what: str) -> Any:
    """Returns the assumed number of ones in an unknown mask: its expected share, else a half; at least one."""
    estimate, count = recorder.estimate(mask), mask.numel()
    if type(count) is torch.SymInt:
        share = estimate.share if estimate else 0.5
        return count * round(share * _PARTS) // _PARTS
    guess = max(1, round((estimate.share if estimate else 0.5) * count)) if count else 0
    rows = recorder.guesses.answer("rows", f"{what} of {count} elements", guess)
    return round(rows * count) if isinstance(rows, float) and rows < 1 else int(rows)


def _finished(recorder: Recorder, plan: Plan, args: Any, result: Any) -> Any:
    """Records a call after which the host waits for the number of results."""
    recorder.tape.waits = True
    recorder.tape.record(plan.name, recorder.described(args, {})[0], {}, recorder.results(result), plan.overload)
    return result


def masked_select(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """The elements of a tensor where a mask is one."""
    x, mask = args
    if not x.is_meta and not mask.is_meta:
        return func(x, mask)
    real = recorder.values.of(mask)
    rows = int(real.sum()) if real is not None else selected(recorder, mask, "masked_select")
    return _finished(recorder, plan, args, torch.empty(rows, dtype=x.dtype, device="meta"))


def index(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """``x[mask]``: a mask is turned into positions first."""
    if not any(_is_mask(x) for x in args[1]) or not (args[0].is_meta or any(_is_meta(x) for x in args[1])):
        return recorder.call(plan, func, args, kwargs)
    return recorder.call(plan, func, (args[0], _positions(recorder, args[1])), kwargs)


def index_put(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """``x[mask] = y``: with a number of the host it is a masked fill, else positions first, as many as ``y`` has rows."""
    x, indices, values = args[:3]
    masks = [i for i in indices if _is_mask(i)]
    if not masks or not x.is_meta:
        return recorder.call(plan, func, args, kwargs)
    if len(indices) == 1 and values.numel() == 1 and not values.is_meta and not any(args[3:4]):
        with recorder:
            return x.masked_fill_(masks[0], values.item())
    rows = values.shape[0] if len(masks) == 1 and values.dim() and values.shape[0] > 1 else None
    if rows is not None and values.dim() != x.dim() - masks[0].dim() + 1:
        rows = None
    return recorder.call(plan, func, (x, _positions(recorder, indices, rows), *args[2:]), kwargs)


def _positions(recorder: Recorder, indices: Any, rows: int | None = None) -> list[Any]:
    """Indices with every mask replaced by the positions of its ones."""
    found: list[Any] = []
    for entry in indices:
        if not _is_mask(entry):
            found.append(entry)
            continue
        with recorder, recorder.guesses.told(rows):
            found += entry.to("meta").nonzero().unbind(1)
    return found


def _is_mask(x: Any) -> bool:
    return isinstance(x, _Tensor) and x.dtype in (torch.bool, torch.uint8)


def _is_meta(x: Any) -> bool:
    return isinstance(x, _Tensor) and x.is_meta


def unique(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """The distinct elements of a tensor, with the positions and counts that are asked for."""
    x = args[0]
    if not x.is_meta:
        return func(*args, **kwargs)
    real = recorder.values.of(x)
    if real is not None:
        found = func(real, *args[1:], **kwargs)
        result = tuple(torch.empty_like(part, device="meta") for part in found)
        for part, value in zip(result, found, strict=True):
            recorder.values.learn(part, value)
        return _finished(recorder, plan, args, result)
    along = x.shape[args[1]] if plan.name.startswith("unique_dim") else x.numel()
    rows = int(recorder.guesses.answer("rows", f"unique of {along} elements", max(1, along // 2)))
    first = [*x.shape] if plan.name.startswith("unique_dim") else [rows]
    first[args[1] if plan.name.startswith("unique_dim") else 0] = rows
    whole = {"dtype": torch.int64, "device": "meta"}
    result = (
        torch.empty(first, dtype=x.dtype, device="meta"),
        torch.empty(x.shape, **whole),
        torch.empty(rows, **whole),
    )
    return _finished(recorder, plan, args, result)


def repeat_interleave(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """Positions, each as often as a tensor says."""
    repeats, size = args[0], kwargs.get("output_size")
    if not repeats.is_meta:
        return func(*args, **kwargs)
    real = recorder.values.of(repeats)
    if size is None:
        count = repeats.numel()
        size = (
            int(real.sum())
            if real is not None
            else int(recorder.guesses.answer("rows", f"repeat_interleave of {count} elements", count))
        )
    result = torch.empty(size, dtype=repeats.dtype, device="meta")
    if real is not None:
        recorder.values.learn(result, func(real))
    return _finished(recorder, plan, args, result)


def bincount(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """Counts of integers: as many as the largest is, at least ``minlength``."""
    x = args[0]
    if not x.is_meta:
        return func(*args, **kwargs)
    real = recorder.values.of(x)
    least = args[2] if len(args) > 2 else kwargs.get("minlength", 0)
    if real is not None:
        found = func(real, None, least)
    else:
        estimate = recorder.estimate(x)
        bins = least or (
            estimate.value
            if estimate and estimate.kind == "classes"
            else recorder.guesses.answer("rows", "bincount", 1)
        )
        found = None
    result = torch.empty(found.shape if found is not None else int(bins), dtype=torch.int64, device="meta")
    if found is not None:
        recorder.values.learn(result, found)
    else:
        recorder.expect(result, "count", x.numel() / max(result.numel(), 1))
    return _finished(recorder, plan, args, result)


def equal(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """``torch.equal``: the host waits for the answer."""
    one, other = (recorder.values.of(x) for x in args[:2])
    if not args[0].is_meta and not args[1].is_meta:
        return func(*args)
    recorder.tape.waits = True
    recorder.tape.record(plan.name, recorder.described(args, {})[0], {}, ())
    if one is not None and other is not None:
        return func(one, other)
    return bool(recorder.guesses.answer("bool", "torch.equal", False))


def nested(recorder: Recorder, plan: Plan, func: Any, args: Any, kwargs: Any) -> Any:
    """Whether a padding mask lets an encoder work on a nested tensor, which has no form on the meta device: it does not."""
    return bool(recorder.guesses.answer("bool", "a mask that fits a nested tensor", False)) and func(*args, **kwargs)


SPECIALS = {
    "_nested_tensor_from_mask_left_aligned": nested,
    "_local_scalar_dense": number,
    "_to_copy": copy,
    "copy_": overwrite,
    "nonzero": nonzero,
    "masked_select": masked_select,
    "index": index,
    "index_put": index_put,
    "index_put_": index_put,
    "_index_put_impl_": index_put,
    "_unique": unique,
    "_unique2": unique,
    "unique_dim": unique,
    "unique_consecutive": unique,
    "unique_dim_consecutive": unique,
    "repeat_interleave.Tensor": repeat_interleave,
    "bincount": bincount,
    "equal": equal,
}
