"""Pure wire formats: bytes to nouns and back."""
