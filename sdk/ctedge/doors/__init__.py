"""What the doors of the three tasks share, and which door is a bundle's."""
