"""What it costs: charges, plans, periods, subscriptions and the bill at any moment."""
