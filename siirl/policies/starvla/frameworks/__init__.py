"""StarVLA's frameworks, one file each."""
