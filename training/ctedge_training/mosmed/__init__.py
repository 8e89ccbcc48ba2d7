"""The Keras example's data: download, checks, unpacking, and the labels of MosMedData."""
