"""Records in, tensors out, and back."""
