"""The gates of a conversion: structural, numeric, and of the task.

A result belongs to a file, a runtime and a precision. `against_keras` holds the FP32 file against
Keras; `numeric` holds another precision, or another runtime, against FP32.
"""
