"""Other precisions of a bundle's network: FP16, BF16 and INT8, each gated.

trunk             which part of a graph is converted
half              FP32 graph to a half-precision convolution trunk
rounded           the same for a CPU without half-precision arithmetic, to gate it there
seen              what calibration scans show of every convolution's input
calibration       ranges from that, by four methods
channels          every channel on a scale of its own, before anything is rounded
weights           rounded so that a layer's results change least
bias_correction   what INT8 shifts on average, given back to the biases
quantised         these in turn
int8              FP32 graph to explicit QuantizeLinear and DequantizeLinear
bisect            which layer breaks a gate
variant           one precision, from FP32 file to gated file
precision         the whole: bundle to bundle
"""
