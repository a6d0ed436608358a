"""The matmuls by llama.cpp: graphs of `ggml_mul_mat`, through the C interface of its libraries.

    ggml_kernels.py vulkan|cpu f16|bf16|q8|q4 1536/qkv/1 1536/qkv/8 …

prints a line of JSON per matmul. The amount of work per measurement is that of pool.rs.
"""

import ctypes
import json
import os
import sys
import time
from ctypes import byref, c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p

import numpy as np

import ggml_libraries

POOL = 640 << 20
WORK = 4e9
WIDTHS = {1536: 5120, 5280: 17920}
# enum ggml_type in ggml.h.
TYPES = {"f32": 0, "f16": 1, "bf16": 30, "q8": 8, "q4": 2}
# Largest storage binding on lavapipe; larger matrices are split along n, as by the other peers.
BINDING = 128 << 20


class Parameters(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


class Ggml:
    """The functions that are used, with their types."""

    def __init__(self, kind):
        self.libraries = ggml_libraries.load(kind)
        p = c_void_p
        for name, result, arguments in [
            ("ggml_init", p, [Parameters]),
            ("ggml_free", None, [p]),
            ("ggml_tensor_overhead", c_size_t, []),
            ("ggml_graph_overhead_custom", c_size_t, [c_size_t, c_bool]),
            ("ggml_new_tensor_2d", p, [p, c_int, c_int64, c_int64]),
            ("ggml_mul_mat", p, [p, p, p]),
            ("ggml_nbytes", c_size_t, [p]),
            ("ggml_new_graph_custom", p, [p, c_size_t, c_bool]),
            ("ggml_build_forward_expand", None, [p, p]),
            ("ggml_quantize_chunk", c_size_t, [c_int, p, p, c_int64, c_int64, c_int64, p]),
            ("ggml_backend_alloc_ctx_tensors", p, [p, p]),
            ("ggml_backend_alloc_ctx_tensors_from_buft", p, [p, p]),
            ("ggml_backend_buffer_free", None, [p]),
            ("ggml_backend_buffer_set_usage", None, [p, c_int]),
            ("ggml_backend_buft_name", c_char_p, [p]),
            ("ggml_backend_tensor_set", None, [p, p, c_size_t, c_size_t]),
            ("ggml_backend_graph_compute", c_int, [p, p]),
            ("ggml_backend_synchronize", None, [p]),
            ("ggml_backend_get_device", p, [p]),
            ("ggml_backend_dev_backend_reg", p, [p]),
            ("ggml_backend_reg_get_proc_address", p, [p, c_char_p]),
            ("ggml_backend_dev_supports_op", c_bool, [p, p]),
        ]:
            function = self.find(name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        if kind == "vulkan":
            init = self.find("ggml_backend_vk_init")
            init.restype, init.argtypes = p, [c_size_t]
            self.backend = init(0)
        else:
            init = self.find("ggml_backend_cpu_init")
            init.restype = p
            self.backend = init()
            threads = self.find("ggml_backend_cpu_set_n_threads")
            threads.argtypes = [p, c_int]
            threads(self.backend, len(os.sched_getaffinity(0)))
        self.kind = kind

    def find(self, name):
        for library in self.libraries:
            if hasattr(library, name):
                return getattr(library, name)
        raise SystemExit(f"missing in llama.cpp's libraries: {name}")

    def context(self, tensors):
        size = tensors * self.ggml_tensor_overhead() + self.ggml_graph_overhead_custom(tensors, False)
        return self.ggml_init(Parameters(size, None, True))

    def extra_buffers(self):
        """Kinds of memory with layouts of the backend's own (AMX, interleaved blocks), best first, in the order in which llama.cpp tries them."""
        device = self.ggml_backend_get_device(self.backend)
        registry = self.ggml_backend_dev_backend_reg(device)
        address = self.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
        if not address:
            return []
        listed = ctypes.CFUNCTYPE(ctypes.POINTER(c_void_p), c_void_p)(address)(device)
        kinds = []
        while listed and listed[len(kinds)]:
            kinds.append(listed[len(kinds)])
        return kinds


class Matrices:
    """Matrices [n, k] in memory of the backend, in pieces."""

    def __init__(self, ggml, dtype, n, k, count):
        self.ggml, self.n, self.k, self.count = ggml, n, k, count
        kind = TYPES[dtype]
        per_row = k * {"f32": 32, "f16": 16, "bf16": 16, "q8": 8.5, "q4": 4.5}[dtype] / 8
        pieces = int(-(-n * per_row // BINDING)) if ggml.kind == "vulkan" else 1
        width = -(-n // pieces // 32) * 32
        self.widths = [min(width, n - first) for first in range(0, n, width)]
        self.bytes = int(n * per_row)
        for place in [*ggml.extra_buffers(), None]:
            self.context = ggml.context(count * len(self.widths) + 8)
            self.tensors = [
                [ggml.ggml_new_tensor_2d(self.context, kind, k, width) for width in self.widths] for _ in range(count)
            ]
            if place is None:
                self.place = "default"
                self.buffer = ggml.ggml_backend_alloc_ctx_tensors(self.context, ggml.backend)
                break
            self.place = ggml.ggml_backend_buft_name(place).decode()
            self.buffer = ggml.ggml_backend_alloc_ctx_tensors_from_buft(self.context, place)
            if self.buffer and self.supported():
                break
            self.free()
        # Marks the buffer as weights, as llama.cpp does.
        ggml.ggml_backend_buffer_set_usage(self.buffer, 1)
        draw = np.random.default_rng(1)
        values = draw.standard_normal((self.widths[0], k), dtype=np.float32) * np.float32(0.02)
        data = ctypes.create_string_buffer(ggml.ggml_nbytes(self.tensors[0][0]) if self.place == "default" else self.bytes)
        ggml.ggml_quantize_chunk(kind, values.ctypes.data, data, 0, self.widths[0], k, None)
        for matrix in self.tensors:
            for tensor, width in zip(matrix, self.widths):
                ggml.ggml_backend_tensor_set(tensor, data, 0, int(width * per_row))

    def supported(self):
        scratch = self.ggml.context(8)
        x = self.ggml.ggml_new_tensor_2d(scratch, TYPES["f32"], self.k, 8)
        y = self.ggml.ggml_mul_mat(scratch, self.tensors[0][0], x)
        device = self.ggml.ggml_backend_get_device(self.ggml.backend)
        supported = self.ggml.ggml_backend_dev_supports_op(device, y)
        self.ggml.ggml_free(scratch)
        return supported

    def free(self):
        if self.buffer:
            self.ggml.ggml_backend_buffer_free(self.buffer)
        self.ggml.ggml_free(self.context)

    def time(self, rows, count):
        """Seconds of a pass over the first `count` matrices."""
        ggml = self.ggml
        nodes = count * len(self.widths) + 8
        context = ggml.context(2 * nodes)
        x = ggml.ggml_new_tensor_2d(context, TYPES["f32"], self.k, rows)
        graph = ggml.ggml_new_graph_custom(context, nodes, False)
        for matrix in self.tensors[:count]:
            for tensor in matrix:
                ggml.ggml_build_forward_expand(graph, ggml.ggml_mul_mat(context, tensor, x))
        buffer = ggml.ggml_backend_alloc_ctx_tensors(context, ggml.backend)
        values = np.linspace(-1, 1, self.k * rows, dtype=np.float32)
        ggml.ggml_backend_tensor_set(x, values.ctypes.data, 0, values.nbytes)

        def once():
            if ggml.ggml_backend_graph_compute(ggml.backend, graph) != 0:
                raise SystemExit("llama.cpp could not compute the graph")
            ggml.ggml_backend_synchronize(ggml.backend)

        seconds = median_time(once)
        ggml.ggml_backend_buffer_free(buffer)
        ggml.ggml_free(context)
        return seconds


def median_time(once):
    """Median time, as in pool.rs: the first one does not count."""
    once()
    begin, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - begin < 0.6:
        start = time.perf_counter()
        once()
        times.append(time.perf_counter() - start)
        if time.perf_counter() - begin > 3:
            break
    return sorted(times)[len(times) // 2]


def main():
    kind, dtype, *cells = sys.argv[1:]
    ggml = Ggml(kind)
    matrices = None
    for cell in cells:
        n_embd, site, rows = cell.split("/")
        n_embd, rows = int(n_embd), int(rows)
        mlp = WIDTHS[n_embd]
        n, k = {"qkv": (3 * n_embd, n_embd), "fc": (2 * mlp, n_embd), "proj": (n_embd, mlp)}[site]
        bits = {"f32": 32, "f16": 16, "bf16": 16, "q8": 8.5, "q4": 4.5}[dtype]
        flops = 2.0 * n * k * rows
        pool = int(-(-POOL // int(n * k * bits / 8)))
        count = pool if rows <= 8 else min(max(int(WORK / flops), 1), pool)
        if matrices is None or (matrices.n, matrices.k) != (n, k) or matrices.count < count:
            if matrices:
                matrices.free()
            matrices = Matrices(ggml, dtype, n, k, count)
            print(f"{cell}: {count} matrices in {matrices.place} memory", file=sys.stderr)
        seconds = matrices.time(rows, count) / count
        figure = {"work": cell, "seconds": seconds, "bytes": matrices.bytes, "flops": flops}
        print(json.dumps(figure), flush=True)


main()
