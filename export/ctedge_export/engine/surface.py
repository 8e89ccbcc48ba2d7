"""Every name of TensorRT's Python API that ctedge uses, here and in its runtime, by class.

Tests hold this list against the code (nothing else is used, nothing here is unused) and against
the bindings of each TensorRT that is served: a name that went away fails there, at no customer.
In the code, the variables below are what the list calls by class.
"""

from __future__ import annotations

#: The variable of each class; "trt" is the module itself.
VARIABLES = {
    "trt": "",
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "layer": "ILayer",
    "tensor": "ITensor",
    "timings": "ITimingCache",
    "deserialiser": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "running": "IRuntimeConfig",
    "inspector": "EngineInspector",
}

#: What every TensorRT has, from 8.5 to 11 and TensorRT-RTX.
REQUIRED = {
    "": {"Builder", "BuilderFlag", "IBuilderConfig", "ILogger", "LayerInformationFormat"}
    | {"MemoryPoolType", "NetworkDefinitionCreationFlag", "OnnxParser", "ProfilingVerbosity"}
    | {"Runtime", "TacticSource", "TensorIOMode", "__version__"},
    "Builder": {"build_serialized_network", "create_builder_config", "create_network"}
    | {"create_optimization_profile"},
    "BuilderFlag": {"TF32"},
    "IBuilderConfig": {"add_optimization_profile", "clear_flag", "create_timing_cache"}
    | {"get_tactic_sources", "get_timing_cache", "profiling_verbosity", "set_flag"}
    | {"set_memory_pool_limit", "set_tactic_sources", "set_timing_cache"},
    "INetworkDefinition": {"get_input", "get_layer", "get_output", "num_inputs", "num_layers"}
    | {"num_outputs"},
    "IOptimizationProfile": {"set_shape"},
    "ITimingCache": {"serialize"},
    "LayerInformationFormat": {"JSON"},
    "MemoryPoolType": {"WORKSPACE"},
    "OnnxParser": {"get_error", "num_errors", "parse"},
    "ProfilingVerbosity": {"DETAILED"},
    "ILayer": {"get_input", "get_output", "name", "num_outputs", "type"},
    "ITensor": {"dtype", "name", "shape"},
    "Runtime": {"deserialize_cuda_engine"},
    "ICudaEngine": {"create_engine_inspector", "create_execution_context", "get_tensor_dtype"}
    | {"get_tensor_mode", "get_tensor_name", "get_tensor_shape", "num_io_tensors"},
    "IExecutionContext": {"active_optimization_profile", "execute_async_v3", "get_tensor_shape"}
    | {"set_input_shape", "set_tensor_address"},
    "EngineInspector": {"get_engine_information"},
    "TacticSource": {"__members__"},
    "TensorIOMode": {"INPUT"},
}

_UNTYPED = "not STRONGLY_TYPED"
_KERNELS = "DynamicShapesKernelSpecializationStrategy"

#: What some have, each with the name that the code asks for with hasattr before it takes it.
OPTIONAL = {
    "": {
        "ComputeCapability": "ComputeCapability",
        "DynamicShapesKernelSpecializationStrategy": _KERNELS,
        "HardwareCompatibilityLevel": "HardwareCompatibilityLevel",
        "IProgressMonitor": "IProgressMonitor",
    },
    "BuilderFlag": {
        "FP16": _UNTYPED,
        "INT8": _UNTYPED,
        "VERSION_COMPATIBLE": "VERSION_COMPATIBLE",
    },
    "ComputeCapability": {"__members__": "ComputeCapability"},
    "DynamicShapesKernelSpecializationStrategy": {"EAGER": _KERNELS},
    "HardwareCompatibilityLevel": {"AMPERE_PLUS": "HardwareCompatibilityLevel"},
    "IBuilderConfig": {
        "builder_optimization_level": "builder_optimization_level",
        "hardware_compatibility_level": "HardwareCompatibilityLevel",
        "num_compute_capabilities": "ComputeCapability",
        "progress_monitor": "IProgressMonitor",
        "set_compute_capability": "ComputeCapability",
    },
    "ICudaEngine": {"create_runtime_config": _KERNELS},
    "IRuntimeConfig": {"dynamic_shapes_kernel_specialization_strategy": _KERNELS},
    "NetworkDefinitionCreationFlag": {
        "EXPLICIT_BATCH": _UNTYPED,
        "STRONGLY_TYPED": "STRONGLY_TYPED",
    },
    "Runtime": {"engine_host_code_allowed": "VERSION_COMPATIBLE"},
}
