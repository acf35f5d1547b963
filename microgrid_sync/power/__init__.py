"""Who may use how much power: proposals, and their distribution to the chargers."""
