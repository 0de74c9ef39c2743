"""Pure decisions: what was observed in, what to do and what to say out."""
