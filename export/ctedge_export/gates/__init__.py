"""The gates of a conversion: structural, numeric, and of the task.

A result belongs to a file, a runtime and a precision. `ctedge_export.gate` holds the FP32 file
against Keras; the numeric gate here holds another precision, or another runtime, against FP32.
"""
