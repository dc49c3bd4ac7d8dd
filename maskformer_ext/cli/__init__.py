"""What the commands share: arguments, early checks, output and exit statuses."""
