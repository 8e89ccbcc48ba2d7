"""`python -m ctedge` is the command `ctedge`."""

from ctedge.cli import main

main()
