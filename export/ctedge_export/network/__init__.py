"""Keras networks as ONNX graphs: converted, folded, named, and able to explain themselves."""
