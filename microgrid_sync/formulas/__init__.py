"""Totals over components: expressions, and the loop that evaluates them."""
