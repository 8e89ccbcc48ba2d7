"""TensorRT engines: their files, who they are, and the machine that they must fit."""
