"""The resources of storagemirror.io as pydantic models, their conditions, and the CRDs generated from them."""
