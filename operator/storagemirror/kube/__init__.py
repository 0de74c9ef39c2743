"""The only Kubernetes I/O: read everything, write what was decided, and nothing else."""
