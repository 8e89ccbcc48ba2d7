"""The folder `NAME.ctedge/`: a model and everything needed to trust and run it."""
