"""The spaces of the conformance kit, for all tests of the search service."""

from keeptune.search.conformance.spaces import CATEGORICAL, INTEGERS, MIXED, NUMERIC, SPACES, loss

__all__ = ["CATEGORICAL", "INTEGERS", "MIXED", "NUMERIC", "SPACES", "loss"]
