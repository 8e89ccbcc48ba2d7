"""The gates of a conversion: structural, numeric, and of the task.

A result belongs to a file, a runtime and a precision. `conversion` holds the FP32 file against
Keras, in its answers (`against_keras`) and its decisions; `numeric` and `task` hold another
precision, another runtime or an engine against the answers of Keras that were `recorded` then.
"""
