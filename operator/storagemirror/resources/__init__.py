"""Pure builders of the objects that a pair owns, one module per kind; names and labels in one place each."""
