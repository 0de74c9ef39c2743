"""Pure builders of the child objects; names and labels in one place each."""
