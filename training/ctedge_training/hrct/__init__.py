"""The HRCT study's data: DICOM studies, reference numbers, lung masks, HDF5 files."""
