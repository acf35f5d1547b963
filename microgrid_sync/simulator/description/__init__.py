"""Makes a site of its description, in TOML or as a mapping."""
