"""Hand-written traces of a few events, as torch.profiler writes them. Times are in microseconds."""

from __future__ import annotations

import gzip
import json

DEVICE = {"id": 0, "name": "NVIDIA H100 80GB HBM3"}
ADD = "void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul> >(int)"
COPY = ("void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::direct_copy_kernel_cuda("
        "at::TensorIteratorBase&)::{lambda(c10::BFloat16)#1} >(int)")  # fmt: skip
GEMM = "nvjet_sm90_tst_192x192_64x4_2x1_v_bz_coopB_TNN"
CUTLASS = "void cutlass::Kernel2<cutlass_75_tensorop_bf16_s1688gemm_bf16_128x128_tn_align1>(Params)"
NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"


class Written:
    """A trace in the making. Every launch has the correlation of its kernel."""

    def __init__(self, rank=None, device=DEVICE):
        self.events = []
        self.header = {"schemaVersion": 1, "deviceProperties": [device] if device else []}
        if rank is not None:
            self.header["distributedInfo"] = {"rank": rank, "world_size": 2}
        self.count = 0

    def _event(self, cat, name, start, length, pid, tid, **args):
        self.events.append(
            {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": start, "dur": length, "args": args}
        )

    def operator(
        self, name, start, length, shapes=None, types=None, values=None, number=-1, thread=1, strides=None, **args
    ):
        """An operator; ``shapes`` of bf16 tensors unless ``types`` says otherwise."""
        if shapes is not None:
            args["Input Dims"] = shapes
            args["Input type"] = types or ["c10::BFloat16" if shape else "Scalar" for shape in shapes]
            args["Input Strides"] = strides or [compact(shape) for shape in shapes]
            args["Concrete Inputs"] = values or ["" for _ in shapes]
        if number >= 0:
            args["External id"] = number
        self._event("cpu_op", name, start, length, 1, thread, **args)

    def kernel(self, name, start, length, launched=None, stream=7, number=-1, grid=(1, 1, 1), block=(128, 1, 1),
               thread=1, call="cudaLaunchKernel", correlation=None, took=4, cat="kernel", **args):  # fmt: skip
        """A kernel and, where ``launched`` is a time, the call of the host that launched it."""
        if correlation is None:
            self.count += 1
            correlation = self.count
        if launched is not None:
            self._event("cuda_runtime", call, launched, took, 1, thread, correlation=correlation)
        if number >= 0:
            args["External id"] = number
        shape = {"grid": list(grid), "block": list(block)} if cat == "kernel" else {}
        self._event(
            cat, name, start, length, 0, stream, device=0, stream=stream, correlation=correlation, **shape, **args
        )
        return correlation

    def collective(self, start, length, launched, elements, gpus=2, stream=17):
        """An all-reduce of bf16 numbers."""
        details = {"Collective name": "allreduce", "In msg nelems": elements, "Out msg nelems": elements, "Group size": gpus,
                   "dtype": "BFloat16", "Process Group Name": "0", "Process Group Ranks": "[0, 1]"}  # fmt: skip
        self.kernel(NCCL, start, length, launched, stream=stream, grid=(24, 1, 1), **details)

    def named(self, name, start, length, thread=1):
        self._event("user_annotation", name, start, length, 1, thread)

    def module(self, name, start, length, thread=1):
        self._event("python_function", f"nn.Module: {name}", start, length, 1, thread)

    def text(self):
        return json.dumps({**self.header, "traceEvents": self.events, "traceName": "x"})

    def save(self, folder, name="trace.json"):
        """Writes the trace, compressed if the name ends in .gz; returns its path."""
        path = folder / name
        path.write_bytes(gzip.compress(self.text().encode()) if name.endswith(".gz") else self.text().encode())
        return str(path)


def compact(shape):
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return list(reversed(strides))


def product(trace, start, m, k, n, launched=None, length=100.0, name=GEMM, number=1):
    """A product of (m, k) by (k, n) with its operators and its launch."""
    launched = start - 10 if launched is None else launched
    trace.operator("aten::matmul", launched - 3, 12, [[m, k], [k, n]], number=number)
    trace.operator("aten::mm", launched - 1, 8, [[m, k], [k, n]], number=number + 1)
    trace.kernel(name, start, length, launched, number=number + 1, grid=(2, 66, 1), block=(384, 1, 1))
