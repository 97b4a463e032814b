"""``perfmodel serve``: a model behind a queue of requests."""

from __future__ import annotations

from typing import Any

import click

from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.scale import named
from perfmodel.cli.screen import echo
from perfmodel.config_files import workload
from perfmodel.errors import UsageError
from perfmodel.hardware import gpu as read_gpu
from perfmodel.units import size_from_text

LOAD = ("B", "N", "S")  # sizes that a load of requests gives
WHERE = "perfmodel serve"
SIZES = ("prompt", "output", "chunk", "batch", "block", "draft_length")


@command()
@options.config
@options.gpu
@options.system
@click.option(
    "--tp",
    type=click.IntRange(1, 10**7),
    default=1,
    help="Tensor parallelism: GPUs that divide each layer. [default: 1]",
)
@click.option("--prompt", metavar="N", help="Mean length of prompts in tokens. [default: 512]")
@click.option(
    "--prompt-cv", type=float, help="Standard deviation of the prompt lengths divided by their mean. [default: 0]"
)
@click.option("--output", metavar="N", help="Mean length of outputs in tokens. [default: 128]")
@click.option("--rate", type=float, help="Requests per second.")
@click.option(
    "--chunk",
    metavar="N",
    help="Chunked prefill: prompt tokens in one decoding step. [default: whole prompts, before decoding]",
)
@click.option("--prefix", type=float, help="Share of each prompt that is found in the cache. [default: 0]")
@click.option("--draft", metavar="NAME|FILE", help="Model that proposes tokens (speculative decoding).")
@click.option("--draft-length", metavar="N", help="Tokens that the draft model proposes. [default: 4]")
@click.option("--acceptance", type=float, help="Probability that a proposed token is accepted. [default: 0.7]")
@click.option(
    "--disaggregated",
    type=click.Choice(("scale-up", "network")),
    help="Prefill and decode on different GPUs; this link moves the cache.",
)
@click.option("--block", metavar="N", help="Tokens of a block of the cache. [default: 16]")
@click.option(
    "--batch", metavar="N", help="Largest number of sequences that decode together. [default: what memory allows]"
)
@click.option("--host-gap", type=float, help="Seconds of the host between two steps. [default: 6 calls of the host]")
@click.option("--ttft", type=float, help="Target in seconds: mean time to the first token.")
@click.option("--tpot", type=float, help="Target in seconds: mean time per output token.")
@options.dtype
@options.settings
@options.decode_form
@options.knowledge
@options.reserve
@options.verbose
@options.formats("table", "json")
def serve(
    config: str | None, gpu: str | None, system: str | None, tp: int, rate: float | None, draft: str | None,
    ttft: float | None, tpot: float | None, dtype: str | None, settings: tuple[str, ...], decode_form: str | None, knowledge: str | None,
    reserve: str | None, verbose: bool, form: str, **given: Any,
) -> None:  # fmt: skip
    """Time to the first token, time per token, throughput and memory of a model that serves requests.

    With --rate, waits follow from queueing laws. With --ttft or --tpot, goodput is the highest rate that meets them.

    \b
    perfmodel serve --config llama-2-70b --gpu h100 --tp 4 --prompt 1Ki --output 256 --rate 2
    perfmodel serve --config llama-3-8b --gpu h100 --prompt 2Ki --prompt-cv 1 --chunk 512 --rate 5 --ttft 0.5 --tpot 0.02
    perfmodel serve --config llama-2-70b --gpu h100 --tp 8 --draft llama-2-7b --draft-length 4 --acceptance 0.7 --verbose
    """
    from perfmodel import given as values
    from perfmodel.report import service as report
    from perfmodel.service.answer import Targets, service
    from perfmodel.service.request import Request

    options.refuse_without(WHERE, "--draft", draft, {
        "--draft-length": given["draft_length"], "--acceptance": given["acceptance"],
    }, "it has an effect on speculative decoding only")  # fmt: skip
    chosen, card = named(WHERE, config, gpu, dtype)
    sizes = options.read_settings(settings)
    for name in LOAD:
        if name in sizes:
            raise UsageError(
                f"{WHERE}: --set {name}", "this size follows from the load",
                "sizes of the model, such as routing, are accepted", "Use --prompt, --output or --batch instead.",
            )  # fmt: skip
    asked: dict[str, Any] = {
        name: _size(name, value) if name in SIZES else value for name, value in given.items() if value is not None
    }
    drafter = workload(draft) if draft is not None else None
    found = service(
        chosen, read_gpu(card), system=system, tp=tp, request=Request(**asked), rate=rate, targets=Targets(ttft, tpot),
        draft=drafter.with_dtype(dtype) if drafter and dtype else drafter, form=decode_form, knowledge=knowledge,
        settings=sizes, reserve=values.reserve(reserve),
    )  # fmt: skip
    echo(report.render(report.view(found, verbose), form), nl=False)


def _size(name: str, text: str) -> int:
    return size_from_text(text, f"--{name.replace('_', '-')}")
