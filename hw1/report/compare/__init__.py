"""Any runs side by side: what differs between their recipes, their curves, and each variant against a baseline. No torch."""
