"""A synthetic chest: seeded CT phantoms whose class and severity are known exactly.

    patient = draw_patient(7, lesion_share=0.2)
    phantom = render(patient)               # 512 x 512 x slices, int16 HU
    write_nifti(phantom, "synthetic_7.nii.gz")

Nothing here was ever a patient, and nothing made here may be shown as one.
"""

from ctedge.phantom.dataset import write_dataset
from ctedge.phantom.patient import Patient, draw_patient
from ctedge.phantom.render import Phantom, render
from ctedge.phantom.studies import write_studies
from ctedge.phantom.write import write_dicom, write_lung_mask, write_nifti

__all__ = [
    "Patient",
    "Phantom",
    "draw_patient",
    "render",
    "write_dataset",
    "write_dicom",
    "write_lung_mask",
    "write_nifti",
    "write_studies",
]
