"""TensorRT engines: built from a bundle's ONNX file, identified, inspected, gated on a device."""
