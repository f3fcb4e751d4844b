"""Speech recognisers, one file a vendor."""
