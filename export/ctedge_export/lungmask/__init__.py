"""The published U-Net R231, from its weights to a bundle that runs without torch."""
