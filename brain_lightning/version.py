"""The package's version, read by the build and compared with the changelog by a test."""

__version__ = "0.1.0"
