"""ONNX files, read from their bytes before any native library sees them."""
