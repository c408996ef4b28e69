"""The recipe: its keys as types, and how YAML files are loaded and checked."""
