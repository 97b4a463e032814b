"""Bad input of every kind: one line with the place, what was found, what is accepted and what to do; and the exit code.

``where: found; accepted. Action`` is on stderr and stdout is empty. The exit code is 1 for an error in a file or a
size, and 2 for an error in the command line. An expected text is the beginning of the line.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command import MESSAGE, check_message, check_refused, perfmodel
from many import for_each

from perfmodel import api
from perfmodel.errors import InputError, NoDeviceError, UsageError, ValidationError, did_you_mean, near_or_known, shown

WORKLOAD = """\
title: A network
sources: [a book]
notes: [a note]

dtype: fp16
sizes: {B: 1, N: 2048, D: 4096, F: 4*D}
phases: {prefill: {}, decode: {N: 1}, train: {}}

steps:
  - {name: mlp, op: mlp, kernels: apart, flow: {x: x, y: y}}
"""
ROOT = Path(__file__).parent.parent
CARD = (ROOT / "hardware" / "t4.yaml").read_text(encoding="utf-8")
SIZES = "a size is a whole number from 1 to 10^15, such as 8192, 8k (8000), 8Ki (8192) or 1M (1,000,000)."
EXPRESSION = "an expression of sizes is accepted"


def test_the_files_that_are_spoiled_below_are_sound(tmp_path):
    workload, card = tmp_path / "workload.yaml", tmp_path / "card.yaml"
    workload.write_text(WORKLOAD)
    card.write_text(CARD)
    ran = perfmodel("flops", "--config", str(workload), "--gpu", str(card))
    assert (ran.code, ran.err) == (0, "")
    assert "A network" in ran.out


# --- the command line

FLOPS = ("flops", "--config", "gpt2-124m")
ARGUMENTS = [
    ((), 2, "perfmodel: "),
    (("roofline",), 2, "perfmodel roofline: "),
    (("flop",), 2, "perfmodel: there is no command 'flop'; one of flops, compare, "),
    (("flops",), 2, "perfmodel flops: no workload is named; --config NAME or FILE, --op OP, or --module PACKAGE.MODULE:CALLABLE, is required."),
    (("flops", "--config"), 2, "perfmodel: "),
    ((*FLOPS, "--bogus"), 2, "perfmodel flops: there is no option '--bogus';"),
    ((*FLOPS, "extra"), 2, "perfmodel flops: "),
    ((*FLOPS, "--format", "xml"), 2, "perfmodel flops: "),
    ((*FLOPS, "--set", "N=1", "--set", "N=2"), 2, "--set N: it is set twice; each name has one value. Remove one of them."),
    ((*FLOPS, "--phase", "decod"), 2, "perfmodel flops: "),
    ((*FLOPS, "--dtype", "fp12"), 2, "perfmodel flops: "),
    (("explain",), 2, "perfmodel explain: argument 'OP' is missing;"),
    (("solve", "--op", "matmul", "--for", "n"), 2, "perfmodel solve: option '--gpu' is missing;"),
    (("solve", "--gpu", "t4", "--for", "n"), 2, "perfmodel solve: neither --op nor --config is given; exactly one"),
    (
        ("solve", "--op", "matmul", "--config", "mlp-4096", "--gpu", "t4", "--for", "n"), 2,
        "perfmodel solve: --op and --config are both given; exactly one of them is accepted.",
    ),
    (("roofline", "show"), 2, "perfmodel roofline: no GPU is named; --gpu GPU is required"),
    (("predict", "--gpu", "t4"), 2, "perfmodel predict: option '--cases' is missing;"),
    (("sweep", "--op", "matmul", "--gpu", "t4"), 2, "perfmodel sweep: no range is given; --over SYMBOL=FROM:TO"),
    # names
    (("flops", "--config", "gpt2-125m"), 1, "model 'gpt2-125m': no file has this name; a path, or a name"),
    (("flops", "--config", ""), 1, "model '': no file has this name;"),
    (("flops", "--config", "."), 1, "model '.': no file has this name;"),
    (("flops", "--config", "x" * 5000), 1, "model 'xxxxx"),
    (("flops", "--config", "a\nb"), 1, r"model 'a\nb': no file has this name;"),
    (("flops", "--config", "a\x1b[31mb"), 1, r"model 'a\x1b[31mb': no file has this name;"),
    (("flops", "--config", "a\0b"), 1, r"model 'a\x00b': no file has this name;"),
    (("explain", "matmul", "--time", "--gpu", "h100"), 2, "perfmodel explain: --time is followed by --gpu, not by a value; --time CASE is accepted."),
    (("flops", "--set", "--gpu", "h100"), 2, "perfmodel flops: --set is followed by --gpu, not by a value; --set SYMBOL=VALUE is accepted."),
    (("flops", "--config", "a\0b.yaml"), 1, r"a\x00b.yaml: it cannot be read"),
    (("flops", "--config", "a\nb.yaml"), 1, r"a\nb.yaml: there is no such file;"),
    (("flops", "--config", "x" * 5000 + ".yaml"), 1, "xxxxx"),
    (("flops", "--config", "nowhere/x.yaml"), 1, "nowhere/x.yaml: there is no such file; an existing file is accepted."),
    ((*FLOPS, "--gpu", "a1000"), 1, "gpu 'a1000': no file has this name; a path, or a name that 'perfmodel gpus'"),
    ((*FLOPS, "--gpu", ""), 1, "gpu '': no file has this name;"),
    ((*FLOPS, "--gpu", ".."), 1, "gpu '..': no file has this name;"),
    (("explain", "atention"), 1, "operation: there is no operation 'atention'; a name of 'perfmodel ops' is accepted"),
    (("explain", "attention", "--set", "K=4"), 1, "attention: set K: it is not a size of this operation; its sizes are B, H, H_kv,"),
    (("solve", "--op", "matmul", "--gpu", "t4", "--for", "N"), 1, "--for N: it is not a symbol of matmul;"),
    (("roofline", "--gpu", "t44", "show"), 1, "gpu 't44': no file has this name;"),
    (
        ("flops", "--config", "conv1d-8192", "--phase", "decode"), 1,
        "configs/conv1d-8192.yaml: this workload has no phase 'decode'; prefill, train are accepted.",
    ),
]  # fmt: skip

SETTINGS = [
    ("N", "--set 'N': it is not of the form SYMBOL=VALUE;"),
    ("N=", "--set 'N=': it is not of the form SYMBOL=VALUE;"),
    ("=5", "--set '=5': it is not of the form SYMBOL=VALUE;"),
    ("", "--set '': it is not of the form SYMBOL=VALUE;"),
    ("Q=5", "--set Q: it is not a symbol; the letters of 'perfmodel symbols' are accepted."),
    ("n=5", "gpt2-124m: set n: it is not a symbol of this workload; its symbols are B, H, H_kv, N, S, D,"),
    ("N=0", f"--set N: 0 is out of range; {SIZES}"),
    ("N=-1", f"--set N: -1 is out of range; {SIZES}"),
    ("N=1.5", f"--set N: '1.5' is not a whole number; {SIZES}"),
    ("N=1e-3", f"--set N: '1e-3' is not a whole number; {SIZES}"),
    ("N=nan", f"--set N: 'nan' is not a size; {SIZES}"),
    ("N=inf", f"--set N: 'inf' is not a size; {SIZES}"),
    ("N=-inf", f"--set N: '-inf' is not a size; {SIZES}"),
    ("N=1e16", f"--set N: 1e16 is out of range; {SIZES}"),
    ("N=1e400", f"--set N: 1e400 is out of range; {SIZES}"),
    (f"N={10**30}", f"--set N: {10**30} is out of range; {SIZES}"),
    ("N=" + "9" * 5000, "--set N: '99999"),
    ("N=8kk", f"--set N: '8kk' is not a size; {SIZES}"),
    ("N=8K", f"--set N: '8K' is not a size; {SIZES}"),
    ("N=1,000", f"--set N: '1,000' is not a size; {SIZES}"),
    ("N=0x10", f"--set N: '0x10' is not a size; {SIZES}"),
    ("N=\u0663", "--set N: '\u0663' is not a size;"),
    ("W=0", f"--set W: 0 is out of range; {SIZES}"),
    ("causal=2", "--set causal: '2' is not a flag; 0 or 1 is accepted."),
    ("D=4095", "configs/gpt2-124m.yaml:8: sizes.d: 'D/H' is 4095 / 12, which does not divide; '/' between sizes"),
    ("N=D/7", "--set N: 'D/7' is 768 / 7, which does not divide; '/' between sizes must come out whole."),
    (
        "H_kv=5",
        "layers.attention: attention: H % H_kv == 0 does not hold at H = 12, H_kv = 5; each group of query heads",
    ),
    ("N=1//0", f"--set N: '1//0' divides by zero; {EXPRESSION}"),
    ("N=D % 0", f"--set N: 'D % 0' divides by zero; {EXPRESSION}"),
    ("N=T", "--set N: 'T' in 'T' has no value; a size may use the other sizes of its place."),
    ("S=N+", f"--set S: 'N+' is not an expression of sizes; {EXPRESSION}"),
    ("N=(1", f"--set N: '(1' is not an expression of sizes; {EXPRESSION}"),
    ("N=2**3", f"--set N: '2**3' is not an expression of sizes; {EXPRESSION}"),
    ("N=D*1.5", f"--set N: 'D*1.5' is not an expression of sizes; {EXPRESSION}"),
    ("N=D if 1 else 2", f"--set N: 'D if 1 else 2' is not an expression of sizes; {EXPRESSION}"),
    ("N=__import__('os')", "--set N: \"__import__('os')\" is not an expression of sizes;"),
    ("N=" + "(" * 90 + "D" + ")" * 90 + "+" * 50, "--set N: '((((("),
    ("N=" + "D*" * 200 + "D", "--set N: 'D*D*D*"),
    ("N=N", "gpt2-124m: the sizes N, S depend on each other; sizes without circular dependencies are accepted."),
    ("N=S", "gpt2-124m: the sizes N, S depend on each other;"),
    ("N=D*D*D*D*D*D", "gpt2-124m: N: 205195258022068224 is out of range;"),
    ("N=D-D", "gpt2-124m: N: 0 is out of range;"),
    ("N=D<5", "--set N: 'D<5' is not an expression of sizes"),
    ("B=1e15", "embed.add: add: numel: 786432000000000000000 is out of range;"),
    ("N=1e15", "embed.positions: positions: T <= V does not hold at T = 1000000000000000, V = 1024; a learned table"),
]

COMMAND_LINES = [*ARGUMENTS, *(((*FLOPS, "--set", text), 1, start) for text, start in SETTINGS)]


def line_id(case):
    return " ".join(case[0]).encode("unicode_escape").decode()[:60]


@for_each(("arguments", "code", "start"), COMMAND_LINES)
def test_a_bad_command_line_is_refused_in_one_line(arguments, code, start):
    ran = perfmodel(*arguments)
    check_refused(ran, code)
    assert ran.err.removeprefix(f"{ROOT}{os.sep}").startswith(start)


@for_each(
    ("arguments", "words"),
    [
        (("flops", "--config"), ["--config"]),
        ((*FLOPS, "extra"), ["extra"]),
        ((*FLOPS, "--format", "xml"), ["--format", "xml", "table"]),
        ((*FLOPS, "--phase", "decod"), ["--phase", "decod", "decode"]),
        ((*FLOPS, "--dtype", "fp12"), ["--dtype", "fp12", "fp16"]),
        (("validate", "--limit", "0"), ["--limit", "0"]),
    ],
)
def test_a_message_of_the_option_parser_names_the_word_that_is_wrong(arguments, words):
    """The wording of the option parser differs between versions, so only the words of the command line are tested."""
    found = check_refused(perfmodel(*arguments), 2)["found"]
    assert [word for word in words if word not in found] == []


# --- a workload file: old text, new text, and the beginning of the message after the file name

SPOILED = [
    # keys
    ("dtype: fp16", "dtyp: fp16", ":5: dtyp: 'dtyp' is not a key here; the keys are count, dtype, "),
    ("dtype: fp16", "dtype: fp16\ndtype: fp32", ":6: the key 'dtype' is repeated (first on line 5); one value per key is accepted."),
    ("B: 1, N: 2048", "B: 1, B: 2", ":6: sizes: the key 'B' is repeated (first on line 6); one value per key is accepted."),
    ("op: mlp", "op: mlp, opp: mlp", ":10: steps.opp: 'opp' is not a key here; the keys are"),
    ("F: 4*D", "zz: 3", ":6: sizes.zz: 'zz' is not a symbol; the letters of 'perfmodel symbols' are accepted."),
    ("flow: {x: x, y: y}", "sizes: {K: 3}", ":10: steps.sizes.K: 'K' is not a size of mlp; its sizes are B, N, D, F, act,"),
    ("flow: {x: x, y: y}", "flow: {x: x, zz: y}", ":10: steps.flow.zz: 'zz' is not a tensor of mlp;"),
    ("decode: {N: 1}", "decod: {N: 1}", ":7: phases.decod: 'decod' is not a phase; one of prefill, decode, train"),
    ("title: A network\n", "", ":1: 'title' is missing; 'title' is required here. Add 'title: …'."),
    ("op: mlp, ", "", ":10: steps: 'op' is missing; 'op' is required here."),
    ("steps:", "stages:", ":1: 'steps' is missing; 'steps' is required here."),
    ("dtype: fp16", "dtypes: {weight: fp16}", ":5: dtypes: 'activation' is missing; 'activation' is required here."),
    ("dtype: fp16", '"a\\nb": 3\ndtype: fp16', ":5: "),
    ("dtype: fp16", '"a\\e[31m": 3\ndtype: fp16', ":5: "),
    ("dtype: fp16", '"": 3\ndtype: fp16', ":5: "),
    ("dtype: fp16", "<<: {B: 1}\ndtype: fp16", ":5: <<: '<<' is not a key here;"),
    ("dtype: fp16", "? [a]\n: b\ndtype: fp16", ":5: a list or a mapping as a key was found;"),
    # kinds of values
    ("title: A network", "title: [a]", ":1: title: a list was found; a single value is accepted. Write one value."),
    ("N: 2048", "N: [1]", ":6: sizes.N: a list was found; a single value is accepted."),
    ("N: 2048", "N: {a: 1}", ":6: sizes.N: a mapping was found; a single value is accepted."),
    ("N: 2048", "N: ", ":6: sizes.N: the value is empty; a value is required. Add one, or remove the key."),
    ("sizes: {B: 1, N: 2048, D: 4096, F: 4*D}", "sizes: 3", ":6: sizes: the single value '3' was found; a mapping"),
    ("dtype: fp16", "dtypes: fp16", ":5: dtypes: the single value 'fp16' was found; a mapping is accepted."),
    ("prefill: {}, ", "prefill: 3, ", ":7: phases.prefill: the single value '3' was found; a mapping is accepted."),
    ("phases: {prefill: {}, decode: {N: 1}, train: {}}", "phases: {}", ":7: phases: "),
    ("sources: [a book]", "sources: a book", ":2: sources: the single value 'a book' was found; a list is accepted."),
    ("notes: [a note]", "notes: [[a]]", ":3: notes: a list was found; a single value is accepted."),
    ("  - {name: mlp, op: mlp, kernels: apart, flow: {x: x, y: y}}", "  - mlp", ":10: steps: the single value 'mlp'"),
    ("  - {name: mlp, op: mlp, kernels: apart, flow: {x: x, y: y}}", "  []", ": steps: the list is empty; at least one step"),
    # words
    ("dtype: fp16", "dtype: fp17", ":5: dtype: 'fp17' is not known; one of fp64, fp32, tf32, fp16, bf16, fp8, int8, fp4, int4 is"),
    ("kernels: apart", "kernels: sometimes", ":10: steps.kernels: 'sometimes' is not known; one of either, together,"),
    ("op: mlp", "op: mpl", ":10: steps.op: there is no operation 'mpl'; a name of 'perfmodel ops' is accepted."),
    ("dtype: fp16", "count: some\ndtype: fp16", ":5: count: 'some' is not known; one of all, leading is accepted."),
    # sizes
    ("N: 2048", "N: 0", r":6: sizes.N: 0 is out of range;"),
    ("N: 2048", "N: -4", r":6: sizes.N: -4 is out of range;"),
    ("N: 2048", "N: 1.5", r":6: sizes.N: '1.5' is not a whole number;"),
    ("N: 2048", "N: .nan", r":6: sizes.N: '.nan' is not a size;"),
    ("N: 2048", "N: .inf", r":6: sizes.N: '.inf' is not a size;"),
    ("N: 2048", f"N: {10**30}", f":6: sizes.N: {10**30} is out of range;"),
    ("N: 2048", "N: " + "9" * 5000, ":6: sizes.N: '99999"),
    ("N: 2048", "N: ten", ":6: sizes.N: 'ten' in 'ten' has no value; a size may use the other sizes of its place."),
    ("N: 2048", "N: yes", ":6: sizes.N: 'yes' in 'yes' has no value;"),
    ("N: 2048", "N: 2020-01-01", ":6: sizes.N: '2020-01-01' is not a size;"),
    ("N: 2048", "N: D/7", ":6: sizes.N: 'D/7' is 4096 / 7, which does not divide;"),
    ("N: 2048", "N: D/", ":6: sizes.N: 'D/' is not an expression of sizes;"),
    ("N: 2048", "N: F, F: N, S: 1", ":6: sizes: the key 'F' is repeated"),
    ("N: 2048, D: 4096, F: 4*D", "N: F, D: 4096, F: N", "workload: the sizes F, N depend on each other; sizes without"),
    ("flow: {x: x, y: y}", "repeat: 0", "mlp: repeat: 0 is out of range;"),
    ("flow: {x: x, y: y}", "repeat: L", ":10: steps: repeat: 'L' in 'L' has no value;"),
    ("N: 2048, D: 4096, F: 4*D", "B: 1", ":6: sizes: the key 'B' is repeated"),
    # YAML that the reader refuses
    ("dtype: fp16", "dtype: &a fp16", ":5: dtype: an anchor (&) was found; plain keys, values and lists are accepted."),
    ("dtype: fp16", "dtype: *a", ":5: dtype: an alias (*) was found;"),
    ("dtype: fp16", "dtype: !!str fp16", ":5: dtype: the tag 'tag:yaml.org,2002:str' was found;"),
    (
        "dtype: fp16", "dtype: !!python/object/apply:os.system [echo hello]",
        ":5: dtype: the tag 'tag:yaml.org,2002:python/object/apply:os.system' was found;",
    ),
    ("dtype: fp16", "dtype: " + "[" * 5000 + "]" * 5000, ":5: dtype: nesting deeper than 12 levels was found;"),
    ("dtype: fp16", "dtype: " + "{a: " * 5000, ":5: dtype.a.a.a.a.a.a.a.a.a.a.a: nesting deeper than 12 levels was found;"),
    ("dtype: fp16", "---\ndtype: fp16", ":5: a second document (---) was found;"),
    ("dtype: fp16", "dtype:\n\t- fp16", ":6: the indentation has a tab"),
    ("dtype: fp16", "dtype: [fp16", ":6: the text is not valid YAML"),
    ("dtype: fp16", "dtype: 'fp16", ":"),
    ("dtype: fp16", "dtype: a: b", ":5: the text is not valid YAML"),
]  # fmt: skip


def spoiled_id(case):
    return case[1].encode("unicode_escape").decode()[:50] or f"no {case[0][:40]}"


@for_each(("sound", "spoiled", "start"), SPOILED)
def test_a_spoiled_workload_is_refused_in_one_line(tmp_path, sound, spoiled, start):
    assert WORKLOAD.count(sound) == 1 or sound == "op: mlp"
    file = tmp_path / "workload.yaml"
    file.write_text(WORKLOAD.replace(sound, spoiled, 1), encoding="utf-8")
    ran = perfmodel("flops", "--config", str(file))
    check_refused(ran, 1)
    assert ran.err.startswith(f"{file}{start}" if start.startswith(":") else start)


BOMB = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]\n" for i in range(9))
WHOLE_FILES = [
    ("empty", b"", ": the file is empty; a mapping of keys is accepted. Write 'key: value' lines."),
    ("comments", b"# nothing\n", ": the file is empty;"),
    ("spaces", b"  \n \n", ": the file is empty;"),
    ("binary", b"\x7fELF\x02\x01\x01\x00\xff\xfe" * 50, ": the file is not UTF-8 text; UTF-8 text is accepted."),
    ("zeros", bytes(100), ":1: "),
    ("latin", "title: caf\xe9".encode("latin-1"), ": the file is not UTF-8 text; UTF-8 text is accepted."),
    ("utf-16", WORKLOAD.encode("utf-16"), ": the file is not UTF-8 text; UTF-8 text is accepted."),
    ("2 MB", WORKLOAD.encode() + b"#" * 2_000_000, ": the file is larger than 1 MB; a smaller file is accepted."),
    ("a list", b"- a\n- b\n", ":1: a list was found; a mapping is accepted. Write it as 'key: value' lines."),
    ("a word", b"hello\n", ":1: the single value 'hello' was found; a mapping is accepted."),
    ("null", b"null\n", ":1: the single value 'null' was found;"),
    ("two documents", WORKLOAD.encode() * 2, ":11: the key 'title' is repeated (first on line 1);"),
    (
        "a second document",
        WORKLOAD.encode() + b"---\n" + WORKLOAD.encode(),
        ":11: a second document (---) was found;",
    ),
    ("an alias bomb", BOMB.encode(), ":1: a0: an anchor (&) was found;"),
    ("a python object", b"!!python/object:os.system {}\n", ":1: the tag 'tag:yaml.org,2002:python/object:os.system'"),
    (
        "depth by indent",
        "\n".join(" " * i + "a:" for i in range(400)).encode(),
        ":13: a.a.a.a.a.a.a.a.a.a.a.a: nesting",
    ),
    ("depth by dashes", b"- " * 3000 + b"a", ":1: nesting deeper than 12 levels was found;"),
    ("a file of the other kind", CARD.encode(), ":"),
]


@pytest.mark.parametrize("option", ["--config", "--gpu"])
@pytest.mark.parametrize(
    ("content", "start"), [case[1:] for case in WHOLE_FILES], ids=[case[0] for case in WHOLE_FILES]
)
def test_a_file_that_is_something_else_is_refused_in_one_line(tmp_path, option, content, start):
    file = tmp_path / "file.yaml"
    file.write_bytes(content if option == "--config" or content != CARD.encode() else WORKLOAD.encode())
    ran = perfmodel("flops", *(("--config", "mlp-4096") if option == "--gpu" else ()), option, str(file))
    check_refused(ran, 1)
    assert ran.err.startswith(f"{file}{start}")


@pytest.mark.parametrize("ending", ["", ".yaml"])
def test_a_folder_is_no_file(tmp_path, ending):
    folder = tmp_path / f"folder{ending}"
    folder.mkdir()
    ran = perfmodel("flops", "--config", str(folder))
    check_refused(ran, 1)
    assert ran.err == f"{folder}: it is a folder; a file is accepted. Name a file in the folder.\n"


def test_a_file_without_permission_is_refused_in_one_line(shared_folder, without_rights):
    file = shared_folder / "closed.yaml"
    file.write_text(WORKLOAD)
    assert perfmodel("flops", "--config", str(file)).code == 0  # every module is loaded with the rights of this user
    file.chmod(0)
    with without_rights():
        ran = perfmodel("flops", "--config", str(file))
    check_refused(ran, 1)
    assert f"it cannot be read ({os.strerror(errno.EACCES)}); a readable file is accepted." in ran.err


# --- a card's file

SPOILED_CARD = [
    (
        "320 GB/s",
        "320",
        "memory.bandwidth.value: '320' is not in B/s; a quantity in B/s is accepted (bytes per second)",
    ),
    ("320 GB/s", "320 GB", "memory.bandwidth.value: '320 GB' is not in B/s;"),
    ("320 GB/s", "320 GT/s", "memory.bandwidth.value: '320 GT/s' is not in B/s;"),
    ("320 GB/s", "320 gb/s", "memory.bandwidth.value: '320 gb/s' is not in B/s;"),
    ("320 GB/s", "320 GFLOP/s", "memory.bandwidth.value: '320 GFLOP/s' is not in B/s;"),
    ("320 GB/s", "0 GB/s", "memory.bandwidth.value: '0 GB/s' is not positive and finite;"),
    ("320 GB/s", "-1 GB/s", "memory.bandwidth.value: '-1 GB/s' is not positive and finite;"),
    ("320 GB/s", "1e400 GB/s", "memory.bandwidth.value: '1e400 GB/s' is not positive and finite;"),
    ("320 GB/s", "1e308 EB/s", "memory.bandwidth.value: '1e308 EB/s' is not positive and finite;"),
    ("320 GB/s", "nan GB/s", "memory.bandwidth.value: 'nan GB/s' is not a quantity with a unit;"),
    ("320 GB/s", "fast", "memory.bandwidth.value: 'fast' is not a quantity with a unit;"),
    ("320 GB/s", "[1]", "memory.bandwidth.value: a list was found; a single value is accepted."),
    ("from: product_page", "from: nowhere", "memory.bandwidth.from: 'nowhere' is not known; one of datasheet,"),
    ("value: 40,", "value: 0,", "multiprocessors.value: 0 is out of range;"),
    ("value: 40,", "value: 1.5,", "multiprocessors.value: '1.5' is not a whole number;"),
    ("{value: 40,", "{valu: 40,", "multiprocessors: 'value' is missing; 'value' is required here."),
    ("  base: {", "  bas: {", "clocks.bas: 'bas' is not a key here; the keys are base, boost, tensor."),
    (
        "vendor: NVIDIA",
        "vendor: NVIDIA\nvendor: AMD",
        "the key 'vendor' is repeated (first on line 2); one value per key is accepted.",
    ),
    ("vendor: NVIDIA", "vender: NVIDIA", "'vendor' is missing; 'vendor' is required here."),
    ("vendor: NVIDIA", "vendor: NVIDIA\nprice: 1", "price: 'price' is not a key here; the keys are"),
]


@for_each(("sound", "spoiled", "found"), SPOILED_CARD)
def test_a_spoiled_card_is_refused_in_one_line(tmp_path, sound, spoiled, found):
    assert sound in CARD
    file = tmp_path / "card.yaml"
    file.write_text(CARD.replace(sound, spoiled, 1), encoding="utf-8")
    ran = perfmodel("flops", "--config", "mlp-4096", "--gpu", str(file))
    check_refused(ran, 1)
    line, _, rest = ran.err.removeprefix(f"{file}:").partition(": ")
    assert line.isdigit()
    assert rest.startswith(found)


# --- cases: a bad line is reported with its place, and the others are answered

MATMUL = '{"op": "matmul", "shape": {"m": 8, "k": 8, "n": 8}}'
BAD_LINES = [
    ("x", "the text is not valid JSON from column 1; one JSON object per line is accepted."),
    ("[" * 100_000, "it is nested deeper than 64 levels; one JSON object per line is accepted."),
    ("[]", "[] was found; one JSON object per line is accepted."),
    ("{}", "'op' is missing; one of matmul, softmax,"),
    ('{"op": "matmull"}', "op: 'matmull' is not known; one of matmul, softmax,"),
    ('{"op": "matmul"}', "'shape' is missing; an object of sizes is accepted. Add m, k, n"),
    ('{"op": "matmul", "shape": {"m": 8, "k": 8}}', "shape: 'n' is missing;"),
    (
        '{"op": "matmul", "shape": {"m": 8, "k": 8, "n": 8, "z": 8}}',
        "shape: 'z' is not a size of matmul; its sizes are m, k, n",
    ),
    ('{"op": "matmul", "shape": {"m": 8, "k": 8, "n": 0}}', f"n: 0 is out of range; {SIZES}"),
    ('{"op": "matmul", "shape": {"m": 8, "k": 8, "n": 1.5}}', f"n: 1.5 is not a whole number; {SIZES}"),
    ('{"op": "matmul", "shape": {"m": 8, "k": 8, "n": "eight"}}', f"n: 'eight' is not a size; {SIZES}"),
    ('{"op": "matmul", "shape": {"m": 8, "k": 8, "n": NaN}}', "the number NaN was found; JSON numbers are accepted."),
    (
        '{"op": "matmul", "shape": {"m": 8, "k": 8, "n": 1e999}}',
        "the number 1e999 was found; JSON numbers are accepted.",
    ),
    (
        '{"op": "matmul", "shape": {"m": 8, "k": 8, "n": ' + "9" * 5000 + "}}",
        "a number has 5000 digits, more than 400;",
    ),
    ('{"op": "matmul", "op": "matmul"}', "the key 'op' is repeated; one value per key is accepted."),
    (MATMUL[:-1] + ', "dtype": "fp17"}', "dtype: 'fp17' is not known; one of fp64, fp32,"),
    (
        MATMUL[:-1] + ', "protocol": "hot"}',
        "protocol: 'hot' is not known; one of cold, warm, rotating, eager is accepted.",
    ),
    (
        '{"op": "attention", "shape": {"B": 1, "H": 3, "H_kv": 2, "N": 4, "d": 8}}',
        "attention: H % H_kv == 0 does not hold at H = 3, H_kv = 2; each group of query heads shares one key-value head",
    ),
    ('{"op": "qkv", "shape": {"B": 1, "N": 4, "D": 7, "H": 2}}', "d: 'D / H' is 7 / 2, which does not divide;"),
    (
        '{"op": "softmax_backward", "shape": {"rows": 8, "cols": 8}, "direction": "backward"}',
        "direction: 'backward' is given, but",
    ),
    (
        MATMUL[:-1] + ', "kind": "gelu"}',
        "kind: 'gelu' is given, but matmul does not accept this key; matmul accepts op,",
    ),
    (MATMUL[:-1] + ', "activation": null}', "activation: null is given, but matmul does not accept this key;"),
    ('{"op": "matmul", "shape": []}', "shape: [] is not an object; an object of sizes is accepted. Add m, k, n"),
    ('{"op": "matmul", "shape": [1, 2, 3]}', "shape: [1, 2, 3] is not an object; an object of sizes is accepted."),
    ('{"op": "matmul", "shape": null}', "shape: null is not an object; an object of sizes is accepted."),
    ('{"op": null}', "op: null is not known; one of matmul, softmax,"),
    (MATMUL[:-1] + ', "dtype": null}', "dtype: null is not known; one of fp64, fp32,"),
    ('{"op": "matmul", "shape": {"m": null, "k": 8, "n": 8}}', f"m: null is not a whole number; {SIZES}"),
    ('{"op": "softmax", "shape": {"rows": 8, "cols": 8}, "causal": true}', "causal: "),
    ('{"op": "elementwise", "kind": "rope", "shape": {"numel": 8}}', "kind: 'rope' is not known; one of add, mul,"),
]


@for_each(("line", "found"), BAD_LINES)
def test_a_bad_case_is_told_with_its_line_and_does_not_stop_the_others(tmp_path, line, found):
    file = tmp_path / "cases.jsonl"
    file.write_text(f"{MATMUL}\n{line}\n{MATMUL}\n", encoding="utf-8")
    ran = perfmodel("predict", "--cases", str(file), "--gpu", "t4", "--format", "csv")
    assert ran.code == 1
    check_message(ran.err)
    assert ran.err.startswith(f"{file}:2: {found}")
    assert ran.out.count("\nmatmul,") == 2


def test_words_that_say_what_is_so_anyhow_may_stand(tmp_path):
    words = ', "direction": "forward", "causal": false, "median_us": 3.5, "comment": "anything"}'
    assert perfmodel("predict", "--cases", "-", "--gpu", "t4", "--format", "csv", stdin=MATMUL[:-1] + words).code == 0


def test_a_direction_counts_for_whatever_has_gradients():
    """A product of 8 x 8 x 8: 1024 FLOP forward, and two products of that size backward."""
    lines = "".join(f'{MATMUL[:-1]}, "direction": "{way}"}}\n' for way in ("forward", "backward", "forward_backward"))
    ran = perfmodel("predict", "--cases", "-", "--gpu", "t4", "--format", "json", stdin=lines)
    assert [case["flops"] for case in json.loads(ran.out)["cases"]] == [1024, 2048, 3072]


def test_cases_may_come_from_standard_input():
    ran = perfmodel("predict", "--cases", "-", "--gpu", "t4", "--format", "csv", stdin=f"{MATMUL}\n{{}}\n")
    assert ran.code == 1
    assert ran.out.count("\nmatmul,") == 1
    assert ran.err.startswith("standard input:2: 'op' is missing;")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "{}: it contains no case; one JSON object per line is accepted."),
        (b"\n \n", "{}: it contains no case;"),
        (b"\xff\xfe", "{}:1: the line is not UTF-8 text; UTF-8 text is accepted. Convert it, or check the path."),
        (MATMUL.encode() + b"\n\xff\n", "{}:2: the line is not UTF-8 text;"),
    ],
)
def test_a_file_without_cases_is_refused_in_one_line(tmp_path, content, found):
    file = tmp_path / "cases.jsonl"
    file.write_bytes(content)
    ran = perfmodel("predict", "--cases", str(file), "--gpu", "t4")
    check_refused(ran, 1)
    assert ran.err.startswith(found.format(file))


def test_cases_in_a_folder_or_nowhere_are_refused_in_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "none.jsonl"):
        ran = perfmodel("predict", "--cases", str(path), "--gpu", "t4")
        check_refused(ran, 1)
        assert ran.err.startswith(f"{path}: ")


@for_each(
    ("over", "found"),
    [
        ("n", "--over 'n': it is not a range; SYMBOL=FROM:TO"),
        ("n=1:0", "--over n: to: 0 is out of range;"),
        ("n=8:4", "--over n: FROM = 8 is larger than TO = 4;"),
        ("q=1:4", "--over q: it is not a symbol;"),
        ("n=1:4:x", "--over n: count: 'x' is not a size;"),
        ("n=1:64:x4", "--over n: 'x4' is a factor, which 'perfmodel scale' takes; "),
        ("n=nan:4", "--over n: from: 'nan' is not a size;"),
        ("n=1:1e400", "--over n: to: 1e400 is out of range;"),
        ("N=1:4", "matmul: sweep over N: it is not a size of this workload; its sizes are m, k, n, batch, act."),
    ],
)
def test_a_bad_range_is_refused_in_one_line(over, found):
    ran = perfmodel("sweep", "--op", "matmul", "--gpu", "t4", "--over", over)
    check_refused(ran, 1)
    assert ran.err.startswith(found)


# --- every message ends with an action


def test_every_message_ends_with_what_to_do():
    told = {perfmodel(*arguments).err.strip() for arguments, _, _ in COMMAND_LINES}
    silent = {text for text in told if (found := MESSAGE.fullmatch(text)) and not found["action"]}
    assert sorted(silent) == []


# --- in a separate process


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("flops", "--config", "nope"), 1),
        (("flops", "--config", "gpt2-124m", "--set", "N=-1"), 1),
        (("flops", "--nope"), 2),
    ],
)
def test_the_installed_command_ends_with_the_code_and_the_line(arguments, code):
    ran = subprocess.run(
        [sys.executable, "-m", "perfmodel", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (code, "")
    check_message(ran.stderr)


def test_pythons_own_warnings_do_not_stand_beside_the_line():
    """A number directly followed by a word makes Python's parser warn, visibly from 3.12 on."""
    command = ("-W", "always", "-m", "perfmodel", *FLOPS, "--set", "N=D*5in D")
    ran = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    check_message(ran.stderr)


def test_a_reader_of_a_pipe_may_leave_early():
    command = f"{sys.executable} -m perfmodel ops | head -n 1"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stderr == ""
    assert "name" in ran.stdout


def test_an_interruption_is_told_in_one_line(monkeypatch):
    def interrupted(*_, **__):
        raise click.exceptions.Abort

    monkeypatch.setattr("perfmodel.cli.cli.main", interrupted)
    ran = perfmodel("ops")
    assert (ran.code, ran.out) == (130, "")
    check_message(ran.err)


def test_help_is_no_error():
    for arguments in (("--help",), ("-h",), ("flops", "--help"), ("--version",)):
        ran = perfmodel(*arguments)
        assert (ran.code, ran.err) == (0, ""), arguments
        assert ran.out


# --- the exceptions themselves


@pytest.mark.parametrize(
    ("error", "code"), [(InputError, 1), (UsageError, 2), (ValidationError, 3), (NoDeviceError, 4)]
)
def test_each_exception_has_its_exit_code_and_the_form(error, code):
    raised = error("x.yaml:9", "'kv_head' is not a key", "the keys are kv_heads", "Did you mean 'kv_heads'?")
    assert raised.exit_code == code
    assert str(raised) == "x.yaml:9: 'kv_head' is not a key; the keys are kv_heads. Did you mean 'kv_heads'?"
    assert (raised.where, raised.found) == ("x.yaml:9", "'kv_head' is not a key")


def test_the_nearest_word_is_proposed_whatever_its_case():
    assert did_you_mean("kv_head", ["kv_heads", "heads"]) == "Did you mean 'kv_heads'?"
    assert did_you_mean("h_KV", ["H_kv", "N"]) == "Did you mean 'H_kv'?"
    assert did_you_mean("zzz", ["a", "b"]) == ""
    assert did_you_mean("fp8", ["fp8-b", "fp8-a", "int8"]) == "Did you mean 'fp8-a' or 'fp8-b'?"
    assert did_you_mean("fp8", [f"fp8-{end}" for end in "abcd"]).count(" or ") == 3
    assert did_you_mean("fp8", [f"fp8-block-{end}" for end in "abcde"]) == ""
    assert near_or_known("kv_head", ["kv_heads", "heads"]) == "Did you mean 'kv_heads'?"
    assert near_or_known("zzz", ["a", "b"]) == "Known: a, b."
    cards = ["a10", "a100", "a100-sxm4-40gb", "a100-sxm4-80gb", "b300-sxm"]
    assert did_you_mean("A100-sxm", cards) == "Did you mean 'a100-sxm4-40gb' or 'a100-sxm4-80gb'?"
    assert did_you_mean("a1000", cards) == "Did you mean 'a100'?"


@pytest.mark.parametrize("arguments", [
    ("solve", "--op", "matmul", "--gpu", "t4", "--for", "zzz"), ("explain", "attention", "--set", "K=4"),
    (*FLOPS, "--set", "K=5"), ("flops", "--config", "conv1d-8192", "--phase", "decode"),
])  # fmt: skip
def test_choices_are_listed_once(arguments):
    found = check_refused(perfmodel(*arguments))
    assert "Known:" not in (found["action"] or "")


def test_a_data_type_that_is_none_is_told_by_the_library_too():
    with pytest.raises(InputError, match=r"^dtype 'fp17': it is not a data type; one of fp64, fp32, .* is accepted."):
        api.bounds("matmul", "t4", dtype="fp17", m=8, k=8, n=8)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb\x1b[31m", r"'a\nb\x1b[31m'"),
        ("x" * 100, "'" + "x" * 58 + "…"),
        (10**5000, "a number of thousands of digits"),
        (3, "3"),
    ],
    ids=["unprintable", "long", "huge", "plain"],
)
def test_a_quoted_value_is_one_short_printable_line(value, text):
    assert shown(value) == text
