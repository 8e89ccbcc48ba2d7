"""Checkpoints of earlier Keras versions, read without Keras."""
