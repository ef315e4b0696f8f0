"""What all decisions share: items, filters, indexes, tables, placements; pure values."""
