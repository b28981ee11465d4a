"""What the teams spend against their budgets, and what a leaver's keys cost after access had ended."""
