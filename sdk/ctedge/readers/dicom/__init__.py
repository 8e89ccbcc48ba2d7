"""Reading one regular axial CT series of DICOM, or saying why there is none.

gather    what the caller gave -> DICOM objects
series    headers -> series; what is no CT slice is left out and named
volume    slices of one series -> evenly spaced planes and their affine
planes    decoded in threads, and only when they are asked for
"""
