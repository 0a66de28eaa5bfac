"""How it is shown: tables for terminals."""
