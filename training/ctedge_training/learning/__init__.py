"""What turns stored volumes into a trained network: recipe, batches, epochs, checkpoint."""
