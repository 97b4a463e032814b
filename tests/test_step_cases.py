"""Cases of whole steps: what is read and refused, and predictions of layers and of programs under a plan."""

from __future__ import annotations

import json

import pytest
from command import check_refused, perfmodel
from many import for_each

import perfmodel as library
from perfmodel import records, validation
from perfmodel.errors import InputError
from perfmodel.hardware import gpu
from perfmodel.measure import parallel
from perfmodel.measure.pipeline import Pipeline
from perfmodel.plans.plan import Plan
from perfmodel.prediction import predictions
from perfmodel.step_cases import step_case

H100 = gpu("h100")
LAYER = {
    "op": "step", "config": "llama-2-7b-layer", "phase": "prefill", "shape": {"B": 1, "N": 2048}, "dtype": "bf16",
    "impl": "layers", "protocol": "warm",
}  # fmt: skip
TRAINED = {
    "op": "step", "config": "gpt2", "phase": "train", "shape": {"B": 16, "N": 1024}, "dtype": "bf16",
    "impl": "transformers", "protocol": "eager", "plan": {"dp": 2, "zero": 3},
}  # fmt: skip


def predicted(line, card=H100):
    (found,) = predictions([step_case(line)], card)
    assert not found.error, found.error
    return found


def test_a_step_is_read():
    found = step_case(TRAINED)
    assert (found.phase, found.shape, found.plan) == ("train", {"B": 16, "N": 1024}, Plan(dp=2, zero=3))
    assert found.file.endswith("gpt2.json")
    assert step_case(LAYER).plan == Plan()


@for_each(
    ("changes", "told"),
    [
        ({"config": "gtp2"}, "no file has this name"),
        ({"config": "llama-2-7b-layer"}, "needs the config.json"),
        ({"config": 3}, "is not a name"),
        ({"phase": None}, "phase"),
        ({"phase": "training"}, "'training' is not known"),
        ({"impl": "torch"}, "one of layers, transformers is accepted"),
        ({"protocol": "warm"}, "one of eager is accepted"),
        ({"dtype": "int4"}, "one of bf16, fp16, fp32 is accepted"),
        ({"causal": True}, "'causal' is not a key of a step"),
        ({"shape": {"B": 16}}, "'N' is missing"),
        ({"shape": {"B": 16, "N": 1024, "D": 512}}, "'D' is not a size"),
        ({"shape": {"B": 16, "N": -1}}, "N"),
        ({"shape": [16]}, "is not an object"),
        ({"plan": [2]}, "is not an object"),
        ({"plan": {"tp": 2}}, "dp and zero are accepted"),
        ({"plan": {"dpp": 2}}, "it is not a field of a plan"),
        ({"plan": {"dp": 3}}, "dp 3 does not divide the global batch B = 16"),
        ({"plan": {"dp": 0}}, "0 is not a value of it"),
        ({"plan": {"dp": True}}, "true is not a value of it"),
        ({"plan": {"dp": 2, "zero": 4}}, "4 is not a value of it"),
        ({"plan": {"schedule": "2f2b"}}, "'2f2b' is not known"),
        ({"system": ""}, "is not a name"),
    ],
)
def test_what_is_refused(changes, told):
    with pytest.raises(InputError) as error:
        step_case({**TRAINED, **changes}, "cases.jsonl:3")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_key_is_named():
    for name in ("config", "phase", "dtype", "impl", "protocol"):
        with pytest.raises(InputError, match=f"'{name}' is missing"):
            step_case({key: value for key, value in TRAINED.items() if key != name})


def test_a_layer_has_the_time_of_its_plan():
    """The case asks what ``perfmodel.divide`` answers."""
    shape = {"B": 2, "N": 1024, "D": 8192, "H": 64, "H_kv": 8, "F": 28672}
    found = predicted({**LAYER, "shape": shape, "plan": {"tp": 4}})
    plan = library.divide(
        "llama-2-7b-layer", "h100", phase="prefill", dtype="bf16", causal=True, plan={"tp": 4}, **shape
    ).estimate
    assert found.expected.expected_s == plan.expected_s
    assert found.total.lower_s == plan.lower_s
    assert sum(term.seconds for term in found.expected.terms) == pytest.approx(plan.expected_s)
    assert found.expected.low_s < plan.expected_s < found.expected.high_s


def test_tensor_parallelism_divides_the_products():
    """FLOPs of products of one GPU: 2 x 1024 tokens x 202,375,168 weights, and the causal half of 4 N N D."""
    whole, part = (
        predicted({**LAYER, "shape": {"B": 1, "N": 1024}, "plan": {"tp": tp}}).total.contraction_flops for tp in (1, 4)
    )
    weights = 2 * 1024 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert weights < whole <= weights + 4 * 1024 * 1025 // 2 * 4096
    assert part == pytest.approx(whole / 4)


def test_a_stack_has_its_layers():
    shape = {"B": 4, "N": 512, "L": 8}
    words = {"phase": "train", "protocol": "eager", "shape": shape}
    found = [predicted({**LAYER, **words, "plan": {"pp": pp, "microbatch": 1, "optimizer": "none"}}) for pp in (1, 2)]
    one, two = (prediction.expected.expected_s for prediction in found)
    assert found[0].total.contraction_flops == 2 * found[1].total.contraction_flops
    assert one / 2 * (4 + 1) / 4 == pytest.approx(two, rel=0.1), "4 microbatches and a bubble of one"


def test_decoding_reads_the_cache_without_a_mask():
    words = {"phase": "decode"}
    short, long = (predicted({**LAYER, **words, "shape": {"B": 16, "S": S}}).total for S in (2048, 4096))
    added = 2 * 16 * 2048 * 4096 * 2  # keys and values of 2048 tokens more, of 2 bytes
    assert long.traffic_byte - short.traffic_byte == pytest.approx(added, rel=0.01)


def test_programs_need_torch_to_be_captured():
    (found,) = predictions([step_case(TRAINED, "cases.jsonl:1")], H100)
    assert "a program of transformers is captured by torch" in found.error


def test_a_training_step_of_replicas_is_predicted(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed")
    path = tmp_path / "cases.jsonl"
    shape = {"B": 4, "N": 64, "L": 2}
    plans = [{}, {"dp": 2}, {"dp": 2, "zero": 3}]
    path.write_text("".join(json.dumps({**TRAINED, "shape": shape, "plan": plan}) + "\n" for plan in plans))
    ran = perfmodel("predict", "--cases", str(path), "--gpu", "h100", "--format", "json")
    assert ran.code == 0, ran.err
    one, replicated, sharded = json.loads(ran.out)["cases"]
    assert replicated["flops"] < one["flops"]
    assert one["contraction_flops"] == 2 * replicated["contraction_flops"]
    weights = 50257 * 768 + 1024 * 768 + 2 * 12 * 768**2
    states_byte = 4 * 2 * weights  # weights, gradients and two moments in bf16
    assert states_byte < one["expected_peak_byte"] < replicated["expected_peak_byte"], (
        "buckets hold the gradients again"
    )
    assert sharded["expected_peak_byte"] > states_byte / 2
    assert all(0 < case["lower_s"] < case["expected_s"] for case in (one, replicated, sharded))
    path.write_text(json.dumps({**TRAINED, "shape": {**shape, "L": 13}}) + "\n")
    assert "gpt2" in perfmodel("predict", "--cases", str(path), "--gpu", "h100").err


def test_a_record_of_a_step_is_compared(tmp_path):
    """A stored run shows the model, the plan and the errors in 80 columns."""
    path = tmp_path / "run.jsonl"
    times = {"median_us": 1000.0, "p25_us": 990.0, "p75_us": 1010.0, "n": 7, "peak_byte": 1 << 30}
    lines = [
        {"schema": 1, "environment": {"gpu": "NVIDIA H100 80GB HBM3", "torch": "2.11"}},
        {**LAYER, "plan": {"tp": 4}, **times},
    ]
    path.write_text("".join(records.text(line) for line in lines))
    ran = perfmodel("validate", "--from", str(path))
    assert ran.code == 0, ran.err
    assert "llama-2-7b-layer prefill" in ran.out
    assert "tp 4 layers warm" in " ".join(ran.out.split())
    assert all(len(line) <= 120 for line in ran.out.splitlines())
    (case,) = json.loads(perfmodel("validate", "--from", str(path), "--format", "json").out)["cases"]
    assert case["peak_byte"] == 1 << 30
    assert case["expected_peak_byte"] > 0
    assert validation.described(case).startswith("llama-2-7b-layer prefill B=1 N=2048 tp 4 bf16 layers warm")
    assert records.key(case) != records.key({**case, "plan": {"tp": 2}})


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("cuda", [True, False])
def test_the_suite_has_cases_that_ranks_measure(ranks, cuda):
    lines = parallel.suite(ranks, cuda=cuda)
    cases = [step_case(line) for line in lines]
    assert len({records.key(line) for line in lines}) == len(lines)
    assert {case.plan.gpus for case in cases} == {1, ranks}
    assert [
        parallel.refused(case, ranks) for case in cases if case.config == parallel.LAYER and "H_kv" not in case.shape
    ] == []
    whole = [case for case in cases if parallel.refused(case, ranks)]
    assert all(case.plan.tp == 8 and case.shape["H_kv"] == 4 for case in whole), (
        "a processor of 8 ranks has too few heads"
    )


@for_each(
    ("changes", "told"),
    [
        ({"plan": {"tp": 4}}, "plans of 1 GPU and of 2 are accepted"),
        ({"plan": {"pp": 2, "microbatch": 1}}, "tp is accepted"),
        ({"shape": {"B": 1}}, "a shape without N"),
        ({"shape": {"B": 1, "N": 64, "L": 2}}, "one layer is accepted"),
        ({"phase": "train", "protocol": "warm"}, "eager is accepted"),
        ({"phase": "train", "protocol": "eager"}, "B, N and L are required"),
        (
            {"phase": "train", "protocol": "eager", "shape": {"B": 1, "N": 64, "L": 3}, "plan": {"pp": 2}},
            "unequal stages",
        ),
        ({"dtype": "int8"}, "bf16, fp16, fp32 are accepted"),
    ],
)
def test_what_two_ranks_do_not_measure(changes, told):
    assert told in str(parallel.refused(step_case({**LAYER, **changes}), 2))


def test_one_process_measures_no_step(tmp_path):
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps(LAYER) + "\n")
    told = check_refused(perfmodel("validate", "--gpu", "cpu", "--suite", str(path)), 1)
    assert "torchrun --nproc_per_node 2" in told["action"]
    check_refused(perfmodel("validate", "--suite", "parallel"), 2)


def exchanges(stages, stage, m, schedule):
    """The messages of a stage in order: sets of (sends or receives, stage at the other end), and its passes."""
    found, passes, pipeline = [], [], Pipeline.__new__(Pipeline)
    pipeline.stages, pipeline.stage, pipeline.count, pipeline.weights = stages, stage, m, []
    pipeline.case = step_case({**LAYER, "plan": {"pp": stages, "schedule": schedule}})

    def exchange(send_next=None, send_previous=None, receive_next=False, receive_previous=False):
        ends = {
            ("sends", stage + 1): send_next is not None, ("sends", stage - 1): send_previous is not None,
            ("receives", stage + 1): receive_next, ("receives", stage - 1): receive_previous,
        }  # fmt: skip
        found.append({key for key, wanted in ends.items() if wanted and 0 <= key[1] < stages})
        return 1, 1

    pipeline._exchange = exchange
    pipeline._forward = lambda number, x, waiting: passes.append(("forward", number)) or 1
    pipeline._backward = lambda number, gradient, waiting: passes.append(("backward", number)) or 1
    pipeline.passes()
    return [one for one in found if one], passes


@for_each("schedule", ["1f1b", "gpipe"])
@for_each("stages", [1, 2, 4, 8])
@for_each("m", [1, 3, 4, 8])
def test_no_stage_waits_for_a_message_that_never_comes(stages, m, schedule):
    """Messages without buffers: a stage goes on when the other end of each of its messages has come to it too."""
    made = [exchanges(stages, stage, m, schedule) for stage in range(stages)]
    waiting = [exchange for exchange, _ in made]
    other = {"sends": "receives", "receives": "sends"}
    for _ in range(4 * m * stages + 1):
        met = [
            (stage, (way, end))
            for stage, left in enumerate(waiting)
            for way, end in (left[0] if left else ())
            if waiting[end] and (other[way], stage) in waiting[end][0]
        ]
        for stage, message in met:
            waiting[stage][0].discard(message)
        waiting = [left[1:] if left and not left[0] else left for left in waiting]
    assert not any(waiting)
    for stage, (_, passes) in enumerate(made):
        ahead = m if schedule == "gpipe" else min(m, stages - stage)
        assert [number for way, number in passes if way == "forward"] == list(range(m))
        assert [number for way, number in passes if way == "backward"] == list(range(m))
        held = [sum(1 if way == "forward" else -1 for way, _ in passes[:n]) for n in range(2 * m + 1)]
        assert max(held) == ahead, "activations of as many microbatches are held as there are stages from here on"
