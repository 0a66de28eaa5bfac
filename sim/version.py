"""The version of the program, recorded in every manifest."""

__version__ = "0.1.0"
