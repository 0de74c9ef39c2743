"""kopf, thin: events become keys in a queue of our own, and a pass decides from live reads."""
