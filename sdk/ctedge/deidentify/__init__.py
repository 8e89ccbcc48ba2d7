"""De-identification of CT in DICOM: PS3.15 Annex E, and a check of what was de-identified."""

from ctedge.deidentify.actions import Options
from ctedge.deidentify.check import check_folder
from ctedge.deidentify.findings import Finding
from ctedge.deidentify.folder import Summary, deidentify_folder

__all__ = ["Finding", "Options", "Summary", "check_folder", "deidentify_folder"]
