"""What calls share beyond their chain, and processes with one database: budgets, limits, answers."""
