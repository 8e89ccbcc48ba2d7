"""A bundle as models of a Triton Inference Server: preprocessing, network, and both as one."""
