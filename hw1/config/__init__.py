"""The recipe: its keys as types, and the YAML that holds them."""
