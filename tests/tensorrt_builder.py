"""TensorRT's builder, played for the versions that cannot be had here: 8.5, and 10.3 on a stage."""

from __future__ import annotations

import enum
from types import SimpleNamespace
from typing import Any

import onnx

from ctedge_export.engine.flavours import Flavour

_KINDS = {"Conv": "CONVOLUTION", "Gemm": "MATRIX_MULTIPLY", "Cast": "CAST"}
_TYPES = {1: "FLOAT", 10: "HALF"}
#: What TensorRT says of a timing cache that is none; it then works with an empty one.
NO_CACHE = "Failed to deserialize timing cache. Returning an empty timing cache."

#: Of 8.5 and 10, which choose these bits themselves. Source: their bindings' documentation.
SOURCES = {"CUBLAS": 0, "CUBLAS_LT": 1, "CUDNN": 2}
SOURCES |= {"EDGE_MASK_CONVOLUTIONS": 3, "JIT_CONVOLUTIONS": 4}
EXTERNAL, OWN = 0b00111, 0b11000


class Network:
    """The layers of an ONNX file, by onnx."""

    def read(self, data: bytes) -> bool:
        graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(data)).graph
        values = (*graph.input, *graph.value_info, *graph.output)
        types = {one.name: one.type.tensor_type.elem_type for one in values}

        def tensor(name: str) -> Any:
            return SimpleNamespace(name=name, dtype=SimpleNamespace(name=_TYPES[types[name]]))

        def layer(node: onnx.NodeProto) -> Any:
            kind = SimpleNamespace(name=_KINDS.get(node.op_type, "ACTIVATION"))
            return SimpleNamespace(
                name=node.name,
                type=kind,
                num_outputs=1,
                get_input=lambda index: tensor(node.input[index]),
                get_output=lambda index: tensor(node.output[index]),
            )

        layers, entry = [layer(node) for node in graph.node], graph.input[0]
        sizes = [size.dim_value for size in entry.type.tensor_type.shape.dim[1:]]
        source = SimpleNamespace(name=entry.name, shape=(-1, *sizes))
        self.num_layers, self.get_layer = len(layers), layers.__getitem__
        self.num_inputs, self.get_input = 1, lambda index: source
        self.num_outputs = len(graph.output)
        self.get_output = lambda index: tensor(graph.output[index].name)
        return True


class Config:
    """What a builder was told. A cache is text that begins with "timings"."""

    def __init__(self, log: Any, sources: int) -> None:
        self.log, self.flags, self.cache = log, {"TF32"}, b""
        self.sources = sources

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def set_memory_pool_limit(self, pool: Any, limit: int) -> None:
        self.limit = limit

    def get_tactic_sources(self) -> int:
        return self.sources

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        self.sources = tactic_sources
        return True

    def add_optimization_profile(self, profile: Any) -> None:
        self.profile = profile

    def create_timing_cache(self, data: bytes) -> bytes:
        if data and not data.startswith(b"timings"):
            self.log.log(2, NO_CACHE)
            return b""
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"timings" + self.cache)


def play_builder(trt: Any, *, strongly_typed: bool, configs: list[Config]) -> Any:
    """Give a module what builds engines; each build's config goes into `configs`."""

    class Builder:
        def __init__(self, log: Any) -> None:
            self.log = log

        def create_network(self, flags: int) -> Network:
            assert flags == 1  # the first flag of either kind
            return Network()

        def create_builder_config(self) -> Config:
            configs.append(Config(self.log, OWN if strongly_typed else OWN | EXTERNAL))
            return configs[-1]

        def create_optimization_profile(self) -> Any:
            profile = SimpleNamespace()
            profile.set_shape = lambda name, *shapes: setattr(profile, "shapes", shapes)
            return profile

        def build_serialized_network(self, network: Network, config: Config) -> bytes:
            return b"an engine"

    flag = "STRONGLY_TYPED" if strongly_typed else "EXPLICIT_BATCH"
    trt.NetworkDefinitionCreationFlag = enum.IntEnum("Flag", {flag: 0})
    trt.BuilderFlag = enum.IntEnum("BuilderFlag", {"FP16": 0, "INT8": 1, "TF32": 7})
    trt.TacticSource = enum.IntEnum("TacticSource", SOURCES)
    trt.ProfilingVerbosity = enum.IntEnum("Verbosity", {"DETAILED": 2})
    trt.MemoryPoolType = enum.IntEnum("Pool", {"WORKSPACE": 0})
    trt.Builder, trt.IBuilderConfig = Builder, Config
    trt.OnnxParser = lambda network, log: SimpleNamespace(parse=network.read, num_errors=0)
    return trt


def old_tensorrt(configs: list[Config]) -> Flavour:
    """8.5: types are hints, and there is no monitor."""

    class Log:
        pass

    trt = SimpleNamespace(__version__="8.5.3.1", ILogger=Log)
    return Flavour(runtime="tensorrt", trt=play_builder(trt, strongly_typed=False, configs=configs))
