"""``perfmodel flops``: FLOPs, bytes and times of a workload."""

from __future__ import annotations

from typing import Any

import click

from perfmodel import limits
from perfmodel.analysis import analyse
from perfmodel.cli import options
from perfmodel.cli.command import command
from perfmodel.cli.screen import echo
from perfmodel.errors import UsageError
from perfmodel.hardware import gpu as read_gpu

COMMAND = "perfmodel flops"


@command()
@options.config
@options.operation
@options.module
@options.inputs
@options.via
@options.run
@options.gpu
@options.system
@options.plan_options
@options.phase
@options.settings
@options.dtype
@options.fused
@options.causal
@options.count
@options.decode_form
@options.logits
@options.knowledge
@click.option("--steps", is_flag=True, help="Show one line per kernel instead of one per block.")
@options.verbose
@options.columns
@click.option("--symbolic", is_flag=True, help="Show formulas in the workload's symbols instead of numbers.")
@click.option("--products", is_flag=True, help="Count matrix products: as they run, and one for each head.")
@options.formats("table", "json", "csv", "markdown")
def flops(
    config: str | None,
    operation: str | None,
    module: str | None,
    inputs: str | None,
    via: str | None,
    run: str | None,
    gpu: str | None,
    phase: str | None,
    settings: tuple[str, ...],
    dtype: str | None,
    fused: bool | None,
    causal: bool | None,
    count: str | None,
    decode_form: str | None,
    logits: str | None,
    knowledge: str | None,
    steps: bool,
    verbose: bool,
    columns: str,
    symbolic: bool,
    products: bool,
    form: str,
    system: str | None,
    **planned: Any,
) -> None:
    """FLOPs, bytes, bottleneck and time of a workload, an operation or a program.

    Tables and Markdown show one line per block, or per kernel with --steps. JSON and CSV contain every kernel.

    \b
    perfmodel flops --config llama-2-7b-layer --gpu a100
    perfmodel flops --config llama-3-8b --gpu h100 --phase decode --set S=32Ki --set B=64
    perfmodel flops --config gpt2-124m --gpu t4 --set N=512 --causal --format json
    perfmodel flops --op attention --gpu h100 --set N=8Ki --causal
    perfmodel flops --config llama-3-8b --via torch --gpu h100 --run compiled --phase decode --set S=4Ki
    perfmodel flops --config llama-3-70b --gpu h100 --system dgx-h100 --tp 8 --phase decode --set B=64 --set S=8Ki
    perfmodel flops --config tinyllama-1.1b --via torch --gpu h100 --phase train --dp 8 --zero 3 --set B=32
    perfmodel flops --module mypackage.model:build --input "x=bf16[8,1024]" --gpu h100 --run eager

    With --via torch, transformers runs the model of the config on tensors without data, and every operator that it
    calls is priced. --module does the same for any torch module or function. Neither needs weights or a GPU. --dp runs
    a program's training step on several GPUs, under DistributedDataParallel, or with --zero 2 or 3 under FSDP.
    """
    if config is None and operation is None and module is None:
        accepted, action = (
            "--config NAME or FILE, --op OP, or --module PACKAGE.MODULE:CALLABLE, is required",
            "See 'perfmodel models' and 'perfmodel ops'.",
        )
        raise UsageError(COMMAND, "no workload is named", accepted, action)
    fields = options.plan_fields(planned)
    if (fields or system) and not (module or via):
        from perfmodel.cli import scale

        scale.estimate(COMMAND, config, gpu, system, fields, {
            "--op": operation, "--run": run, "--count": count, "--symbolic": symbolic,
            "--products": products, "--steps": steps, "--columns": columns or None,
        }, phase=phase, settings=settings, dtype=dtype, fused=fused, causal=causal, form=decode_form, logits=logits,
            knowledge=knowledge, output=form)  # fmt: skip
        return
    if module or via:
        from perfmodel.cli import programs

        first = "--module" if module else "--via torch"
        others = {"--op": operation, **({"--config": config, "--via": via} if module else {"--input": inputs})}
        options.refuse_together(
            COMMAND, first, others, "one program is accepted, of --module or of --config with --via torch"
        )
        options.refuse_together(COMMAND, first, {
            "--fused/--unfused": None if fused is None else "given", "--causal": causal, "--count": count, "--form": decode_form,
            "--logits": logits, "--symbolic": symbolic, "--products": products,
        }, "it changes formulas, and a program runs the code as it is")  # fmt: skip
        programs.show(
            COMMAND, module, config, inputs, run, gpu, phase=phase, dtype=dtype, settings=options.read_settings(settings),
            knowledge=knowledge, form=form, steps=steps, verbose=verbose, columns=options.column_keys(columns, form),
            fields=fields, system=system,
        )  # fmt: skip
        return
    options.refuse_without(COMMAND, "--module", module, {"--input": inputs}, "it gives the inputs of a module")
    if run not in (None, "ideal"):
        raise UsageError(
            f"--run {run}", "a config describes an ideal program", "it is accepted with --module and --via torch",
            "Add --via torch, or remove it.",
        )  # fmt: skip
    card = read_gpu(gpu) if gpu is not None else None
    chosen = options.chosen(operation, config, dtype, COMMAND, card)
    given = options.read_settings(settings)
    options.check_form(COMMAND, [chosen], phase, fused, causal, given)
    options.refuse_without(COMMAND, "--gpu", gpu, {"--knowledge": knowledge}, "expected times need a GPU")
    wanted: dict[str, Any] = {"phase": phase, "settings": given, "fused": fused, "causal": causal}
    chosen = chosen.with_logits(logits) if logits else chosen
    keys = options.column_keys(columns, form)
    if products:
        from perfmodel.products import products as counted
        from perfmodel.report.products import render as rendered

        unused: dict[str, Any] = {
            "--gpu": gpu, "--symbolic": symbolic, "--steps": steps, "--columns": columns or None, "--count": count,
            "--causal": causal, "--fused": fused, "--unfused": None if fused is None else not fused,
        }  # fmt: skip
        because = "--products counts the matrix products of the unfused form, without times"
        options.refuse_together(COMMAND, "--products", unused, because)
        echo(rendered(counted(chosen, phase=phase, settings=given, form=decode_form), form), nl=False)
        return
    if symbolic and keys:
        raise UsageError(
            "--columns", "it has no effect with --symbolic", "it is accepted for numbers", "Remove one of the two."
        )
    if symbolic:
        from perfmodel.formulas import of_workload
        from perfmodel.report import formulas

        others = {"--gpu": gpu, "--count": count, "--columns": columns or None}
        options.refuse_together(COMMAND, "--symbolic", others, "formulas hold for every GPU and count every operation")
        with limits.algebra("perfmodel flops --symbolic"):
            text = formulas.render(of_workload(chosen, **wanted, form=decode_form), form)
        echo(text, nl=False)
        return
    from perfmodel.report.answer import render

    answer = analyse(chosen, gpu=card, count=count, form=decode_form, knowledge=knowledge, **wanted)
    echo(render(answer, form, steps=steps, verbose=verbose, columns=keys), nl=False)
