"""Language models, one file a vendor."""
