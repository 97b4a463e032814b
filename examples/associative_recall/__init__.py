"""A small Transformer that recalls values by their keys: trained, set by hand, and priced."""
